"""Puts that are sent under a name, and a log that is opened again after a crash."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

from firehose.log import IngestLog

MINUTE = 60_000
WINDOW = 15 * MINUTE


def key(number: int) -> bytes:
    return blake2b(b"%d" % number, digest_size=16).digest()


async def opened(bench: Any, **options: Any) -> IngestLog:
    log: IngestLog = await bench.open(**{"retry_window_ms": WINDOW} | options)
    return log


async def crashed(bench: Any, **options: Any) -> IngestLog:
    bench.kill()
    bench.disk = bench.disk.crash()
    return await opened(bench, **options)


async def send(bench: Any, log: IngestLog, number: int, **options: Any) -> tuple[str, int, bool]:
    answer = await bench.put(log, [b"a%d" % number, b"b%d" % number], token=key(number), **options)
    assert answer.rows == 2
    return answer.shard, answer.first_sequence, answer.is_repeat
