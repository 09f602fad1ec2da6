"""Looking into a log while another process writes it."""

from __future__ import annotations

import pytest

from firehose.errors import UnavailableError
from firehose.log import inspect
from firehose.protocols import Lag


async def test_counts_and_lag_are_seen_without_touching_anything(bench) -> None:
    log = await bench.open(segment_bytes=300)
    for number in range(20):
        await bench.put(log, [b"%d" % number] * 5, arrival_ms=number * 600_000)
    await bench.put(log, [b"r"], lane="replay")
    bench.disk.names[bench.disk.files(".log")[-1]].data += b"half a frame"
    before = {path: bytes(inode.data) for path, inode in bench.disk.names.items()}

    seen = inspect(bench.folder, bench.disk)
    assert {path: bytes(inode.data) for path, inode in bench.disk.names.items()} == before
    total: dict[int, int] = {}
    for account in seen.accepted.values():
        for hour, rows in account.get("s", {}).items():
            total[hour] = total.get(hour, 0) + rows
    assert total == log.accepted_unbanked()["s"]
    assert seen.stream_uids() == {"s"}
    assert seen.shards("s") == log.shards("s")
    for position in (-1, 3, 4, 52, 99):
        assert seen.lag("s", log.shard("put"), position) == await log.lag("s", log.shard("put"), position)
    assert seen.lag("nobody", log.shard("put"), -1) == Lag(0, 0, None)
    await bench.put(log, [b"goes on"])


async def test_a_folder_that_is_not_there_is_an_empty_log(bench) -> None:
    assert inspect(bench.folder, bench.disk).accepted == {}


async def test_segments_that_are_compacted_meanwhile_are_not_missed(bench, monkeypatch) -> None:
    monkeypatch.setattr("firehose.log.backlog._COMPACT_MIN_BYTES", 1_000)
    log = await bench.open()
    await bench.put(log, [b"slow"], "slow")
    await bench.put(log, [bytes(range(256)) * 100])
    await bench.clock.advance(600_000)
    await bench.reclaim(log)
    log.mark_banked([account.name for account in log.unbanked()])
    log.forget_stream("s")
    original = bench.disk.list
    (path,) = bench.disk.files(".log")
    moved = path.with_name(path.name.replace(".0.log", ".1.log"))

    def compacted_after_the_first_look(folder):
        names = original(folder)
        if path in bench.disk.names:
            bench.disk.names[moved] = bench.disk.names.pop(path)
        return names

    bench.disk.list = compacted_after_the_first_look
    assert inspect(bench.folder, bench.disk).stream_uids() == {"s", "slow"}


async def test_a_folder_the_disk_refuses_is_said(bench) -> None:
    def refuse(folder):
        raise OSError(5, "Input/output error")

    bench.disk.list = refuse
    with pytest.raises(UnavailableError, match="cannot be read"):
        inspect(bench.folder, bench.disk)
