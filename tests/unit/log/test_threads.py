"""The log as a service runs it: threads, a real file system, many producers and readers at once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Collection
from pathlib import Path

import pytest

from firehose import arrow
from firehose.clock import SystemClock
from firehose.executors import ThreadExecutor
from firehose.filesystem import OsFileSystem
from firehose.log import IngestLog, inspect
from firehose.protocols import Read
from firehose.testing import RecordingTelemetry

STREAMS, PUTS = ("a", "b", "c"), 60


@pytest.fixture
async def executor() -> AsyncIterator[ThreadExecutor]:
    made = ThreadExecutor(threads=2, name="log")
    yield made
    made.close()


async def open_log(folder: Path, executor: ThreadExecutor) -> IngestLog:
    return await IngestLog.open(
        folder,
        files=OsFileSystem(),
        executor=executor,
        clock=SystemClock(),
        telemetry=RecordingTelemetry(),
        quota_bytes=2**30,
        segment_bytes=200_000,
    )


async def let_go(names: Collection[str]) -> None:
    """Remember nothing: the log is not opened again."""


async def test_producers_readers_and_reclaiming_at_once(tmp_path: Path, executor: ThreadExecutor) -> None:
    log = await open_log(tmp_path, executor)
    found: dict[str, list[bytes]] = {stream: [] for stream in STREAMS}
    accepted: dict[str, int] = {}

    async def produce(stream: str) -> None:
        chance = random.Random(stream)
        for number in range(PUTS):
            records = [b"%d" % number, chance.randbytes(chance.randrange(20_000))]
            await log.append(stream, arrow.binary_column(records), arrival_ms=number)

    async def consume(stream: str) -> None:
        shard = log.open_shard(stream, log.shard("put"), after=-1)
        while len(found[stream]) < PUTS * 2:
            got = await shard.read(max_bytes=50_000, max_wait_ms=10_000)
            assert isinstance(got, Read)
            found[stream] += got.batch.data.to_pylist()
            log.release(stream, shard.name, got.span.last)
            accounts = log.unbanked()
            for account in accounts:
                for each, hours in account.accepted.items():
                    accepted[each] = accepted.get(each, 0) + sum(hours.values())
            log.mark_banked([account.name for account in accounts])
            await log.reclaim(let_go)

    async with asyncio.TaskGroup() as tasks:
        for stream in STREAMS:
            tasks.create_task(produce(stream))
            tasks.create_task(consume(stream))
    for stream in STREAMS:
        chance = random.Random(stream)
        expected = [(b"%d" % number, chance.randbytes(chance.randrange(20_000))) for number in range(PUTS)]
        assert found[stream] == [record for pair in expected for record in pair]
    live = log.accepted_unbanked()
    assert {each: accepted.get(each, 0) + sum(live.get(each, {}).values()) for each in STREAMS} == dict.fromkeys(
        STREAMS, PUTS * 2
    )
    assert log.stats().segments <= 2
    await log.close()


async def test_what_one_process_leaves_the_next_one_finds(tmp_path: Path, executor: ThreadExecutor) -> None:
    log = await open_log(tmp_path, executor)
    await log.append("a", arrow.binary_column([b"x", b"y"]), arrival_ms=5)
    assert inspect(tmp_path, OsFileSystem()).lag("a", log.shard("put"), 0).rows == 1
    await log.close()
    again = await open_log(tmp_path, executor)
    shard = again.open_shard("a", log.shard("put"), after=-1)
    got = await shard.read(max_bytes=100, max_wait_ms=0)
    assert isinstance(got, Read)
    assert got.batch.data.to_pylist() == [b"x", b"y"]
    await again.close()
