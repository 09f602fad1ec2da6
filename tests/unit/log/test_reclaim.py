"""Giving space back: nothing that is still needed goes, everything else does."""

from __future__ import annotations

import asyncio
import random

import pytest

from firehose.errors import UnavailableError
from firehose.log.events import ReclaimFailed, SegmentCompacted, SegmentMissing, SegmentSetAside
from firehose.records import RowSet

MINUTE = 60_000


async def filled(bench, puts: int = 40):
    """Return a log with ten segments of 64 KiB: mostly stream `fast`, a few rows of `slow` in each."""
    log = await bench.open(segment_bytes=64 * 1024)
    for number in range(puts):
        await bench.put(log, [random.Random(number).randbytes(17_000)], "fast")
        if number % 4 == 0:
            await bench.put(log, [b"slow-%d" % number], "slow")
    return log


async def test_a_segment_goes_once_it_is_done_and_banked(bench) -> None:
    log = await filled(bench)
    before = len(bench.disk.files(".log"))
    log.release("fast", log.shard("put"), 39)
    log.release("slow", log.shard("put"), 9)
    await bench.reclaim(log)
    assert len(bench.disk.files(".log")) == before  # not banked
    bench.bank(log)
    gone = await bench.reclaim(log)
    assert len(bench.disk.files(".log")) == 1 == before - len(gone)  # the open one stays
    assert len(bench.disk.files(".idx")) == 0
    assert log.stats().segments == 1


async def test_a_segment_stays_while_one_row_of_one_stream_is_not_done(bench) -> None:
    log = await filled(bench)
    bench.bank(log)
    log.release("fast", log.shard("put"), 39)
    log.release("slow", log.shard("put"), 8)
    await bench.reclaim(log)
    assert await bench.records(log, "slow") == [b"slow-36"]
    log.release("slow", log.shard("put"), 4)  # back is ignored
    assert not log.is_pending("fast")
    assert log.is_pending("slow")
    assert log.is_pending("slow", log.shard("put"))


async def test_every_row_is_banked_once(bench) -> None:
    log = await filled(bench)
    banked = bench.bank(log)
    assert bench.bank(log) == {}
    live = {stream: sum(hours.values()) for stream, hours in log.accepted_unbanked().items()}
    assert {stream: banked[stream] + live.get(stream, 0) for stream in banked} == {"fast": 40, "slow": 10}

    names = [segment.name for segment in log._backlog.segments.values() if segment.is_banked]
    bench.disk = bench.disk.crash()
    again = await bench.open(banked=dict.fromkeys(names, ""))
    live = bench.bank(again)
    assert {stream: banked[stream] + live.get(stream, 0) for stream in banked} == {"fast": 40, "slow": 10}


async def test_the_replay_lane_is_not_accepted(bench) -> None:
    log = await bench.open()
    await bench.put(log, [b"r"], lane="replay")
    await log.close()
    again = await bench.open()
    assert (again.accepted_unbanked(), [account.accepted for account in again.unbanked()]) == ({}, [{}])
    bench.bank(again)
    again.release("s", again.shards("s")[0], 0)
    assert len(await bench.reclaim(again)) == 1


async def test_a_forgotten_stream_keeps_nothing_whatever_comes(bench) -> None:
    log = await filled(bench)
    bench.bank(log)
    log.release("fast", log.shard("put"), 39)
    log.forget_stream("slow")
    log.forget_stream("unknown")
    await bench.put(log, [b"late"], "slow")
    await bench.put(log, [b"late"], "unknown")
    assert not log.is_pending("slow")
    assert not log.is_pending("unknown")
    bench.bank(log)
    await bench.reclaim(log)
    assert log.stats().segments == 1


async def test_an_idle_segment_is_sealed(bench) -> None:
    log = await bench.open()
    await bench.put(log, [b"x"])
    await bench.reclaim(log)
    assert log.unbanked() == []
    await bench.clock.advance(10 * MINUTE)
    await bench.reclaim(log)
    assert bench.bank(log) == {"s": 1}
    log.release("s", log.shard("put"), 0)
    await bench.reclaim(log)
    assert bench.disk.files(".log") == bench.disk.files(".idx") == []
    assert log.shards("s") == []
    answer = await bench.put(log, [b"y"])
    assert answer.first_sequence == 1
    assert await bench.records(log) == [b"y"]


async def test_a_shard_is_known_until_its_last_segment_is_gone_for_good(bench) -> None:
    log = await bench.open()
    await bench.put(log, [b"x"])
    await log.close()
    log = await bench.open()
    (name,) = log.shards("s")
    log.release("s", name, 0)
    assert log.shards("s") == [name]
    bench.bank(log)
    await bench.reclaim(log)
    assert log.shards("s") == []
    bench.disk = bench.disk.crash()
    assert (await bench.open()).shards("s") == []


async def test_a_damaged_segment_is_set_aside(bench) -> None:
    log = await bench.open()
    await bench.put(log, [b"a"])
    await bench.put(log, [b"b"])
    (path,) = bench.disk.files(".log")
    bench.disk.flip(path, 44 + 120)
    log = await bench.open()
    bench.bank(log)
    log.release("s", log.shards("s")[0], 1)
    await bench.reclaim(log)
    aside = bench.folder / "set-aside" / path.name
    assert aside in bench.disk.names
    assert bench.disk.files(".log") == bench.disk.files(".idx") == []
    assert [event.path for event in bench.telemetry.of(SegmentSetAside)] == [str(aside)]


async def test_a_segment_found_damaged_by_a_reader_is_set_aside(bench) -> None:
    log = await bench.open()
    await bench.put(log, [b"a"])
    await log.close()
    (path,) = bench.disk.files(".log")
    bench.disk.flip(path, 44 + 120)
    log = await bench.open()
    bench.bank(log)
    (name,) = log.shards("s")
    await bench.reads(log, "s", name)
    log.release("s", name, 0)
    await bench.reclaim(log)
    assert bench.folder / "set-aside" / path.name in bench.disk.names


async def test_a_segment_is_kept_while_its_header_cuts_the_one_before(bench) -> None:
    log = await bench.open()
    await bench.put(log, [b"before"])

    def no_sync_and_no_sidecars(verb, path):
        if verb == "sync":
            raise OSError(5, "Input/output error")

    bench.disk.plan = no_sync_and_no_sidecars
    with pytest.raises(UnavailableError):
        await bench.put(log, [b"refused"])
    bench.disk.plan = lambda verb, path: no_sync_and_no_sidecars(verb, path) if path.suffix == ".tmp" else None
    await bench.put(log, [b"after"])
    await bench.clock.advance(10 * MINUTE)
    bench.disk.plan = None
    first, second = log._backlog.segments.values()
    async with log._writer._busy:
        await log._writer._close_segment()
    bench.bank(log)
    assert first.tables is not None
    assert second.is_banked
    log.release("s", log.shard("put"), 1)
    assert log._backlog.finished() == []
    await bench.reclaim(log)  # the first one gets its sidecar
    bench.bank(log)
    assert len(await bench.reclaim(log)) == 1


class Gate:
    """An executor whose calls wait at a gate when they are told to."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.opened.set()
        self.waiting = 0

    async def run(self, call):
        self.waiting += 1
        await self.opened.wait()
        self.waiting -= 1
        return call()


async def test_files_stay_while_they_are_read(bench, monkeypatch) -> None:
    monkeypatch.setattr("firehose.log.backlog._COMPACT_MIN_BYTES", 1_000)
    log = await filled(bench, 16)
    bench.bank(log)
    log.release("fast", log.shard("put"), 15)
    before = bench.disk.files(".log")
    gate = log._access._executor = Gate()
    shard = log.open_shard("slow", log.shard("put"), after=-1)
    await shard.fetch(RowSet.of_range(shard.name, 0, 3))  # the tables are known from now on
    gate.opened.clear()
    reading = asyncio.create_task(shard.read(max_bytes=1, max_wait_ms=0))
    await bench.clock.settle()
    assert gate.waiting == 1
    log._access._cache.clear()
    log._access._executor = bench.executor
    await bench.reclaim(log)
    assert before[0] in bench.disk.names
    assert before[1] not in bench.disk.names
    gate.opened.set()
    assert (await reading).batch.data.to_pylist() == [b"slow-0"]
    await bench.reclaim(log)
    assert before[0] not in bench.disk.names
    log.release("slow", shard.name, 3)
    again = log.open_shard("slow", shard.name, after=-1)
    log._access._executor = gate
    gate.opened.clear()
    reading = asyncio.create_task(again.read(max_bytes=1, max_wait_ms=0))
    await bench.clock.settle()
    await bench.reclaim(log)
    gate.opened.set()
    assert (await reading).batch.data.to_pylist() == [b"slow-0"]


async def test_a_segment_stays_until_its_losses_are_told(bench) -> None:
    log = await bench.open()
    await bench.put(log, [b"lost"], "unlucky")
    (path,) = bench.disk.files(".log")
    await bench.put(log, [b"kept"], "unlucky")
    await bench.put(log, [b"other"], "done")
    begin = bench.disk.names[path].data.index(b"\xf5\xa7Fr", 45)
    for offset in (44 + 120, begin + 120):  # both bodies of the unlucky stream: all it has here is a hole
        bench.disk.flip(path, offset)
    log = await bench.open()
    (name,) = log.shards("unlucky")
    bench.bank(log)
    log.release("done", name, 0)
    assert await bench.reclaim(log) == []
    (read,) = await bench.reads(log, "unlucky", name)
    assert (len(read.batch), sum(read.unreadable.values()), read.span.last) == (0, 2, 1)
    log.release("unlucky", name, 1)
    assert len(await bench.reclaim(log)) == 1


async def test_slow_streams_do_not_hold_the_disk_of_the_others(bench, monkeypatch) -> None:
    monkeypatch.setattr("firehose.log.backlog._COMPACT_MIN_BYTES", 1_000)
    log = await filled(bench)
    bench.bank(log)
    before = log.stats().disk_bytes
    log.release("fast", log.shard("put"), 39)
    opened = log.open_shard("slow", log.shard("put"), after=-1)
    first = await opened.read(max_bytes=1, max_wait_ms=0)
    await bench.reclaim(log)
    assert log.stats().disk_bytes < before / 5
    assert len(bench.disk.files(".log")) == log.stats().segments
    assert all(event.after_bytes < event.before_bytes / 10 for event in bench.telemetry.of(SegmentCompacted))
    slow = [b"slow-%d" % number for number in range(0, 40, 4)]
    assert await bench.records(log, "slow") == slow
    assert first.batch.data.to_pylist() == slow[:1]
    assert (await opened.read(max_bytes=1, max_wait_ms=0)).batch.data.to_pylist() == slow[1:2]
    for _ in range(2):
        bench.disk = bench.disk.crash()
        log = await bench.open()
        (read, *_) = await bench.reads(log, "slow", log.shards("slow")[0])
        assert read.batch.sequence.tolist() == [0]
        assert await bench.records(log, "slow") == slow
        for path in bench.disk.files(".idx"):
            bench.disk.lose(path)  # and without sidecars
    assert sum(log.accepted_unbanked()["slow"].values()) == 1  # of the segment that was never sealed


async def test_unbanked_segments_are_not_compacted(bench, monkeypatch) -> None:
    monkeypatch.setattr("firehose.log.backlog._COMPACT_MIN_BYTES", 1_000)
    log = await filled(bench)
    log.release("fast", log.shard("put"), 39)
    await bench.reclaim(log)
    assert not bench.telemetry.of(SegmentCompacted)


@pytest.mark.parametrize("kept", [0.0, 1.0])
async def test_a_crash_at_any_step_of_reclaiming_loses_nothing(bench, monkeypatch, kept: float) -> None:
    monkeypatch.setattr("firehose.log.backlog._COMPACT_MIN_BYTES", 1_000)
    slow = [b"slow-%d" % number for number in range(0, 16, 4)]
    step, crashed = 0, True
    while crashed:
        bench.begin_anew()
        log = await filled(bench, 16)
        bench.bank(log)
        log.release("fast", log.shard("put"), 15)
        log.release("slow", log.shard("put"), 0)
        stop = bench.disk.steps + step

        def plan(verb, path, stop=stop):
            if bench.disk.steps > stop:
                raise bench.Crash

        bench.disk.plan = plan
        try:
            await bench.reclaim(log)
            crashed = False
        except bench.Crash:
            pass
        bench.disk = bench.disk.crash(kept=kept)
        again = await bench.open(banked=bench.banked)
        assert not bench.telemetry.of(SegmentMissing)
        shard = again.shards("slow")[0]
        assert not any(read.unreadable for read in await bench.reads(again, "slow", shard, after=0))
        assert (await bench.records(again, "slow"))[-3:] == slow[-3:]
        assert {stream: sum(hours.values()) for stream, hours in again.accepted_unbanked().items()} == {
            "fast": 4,
            "slow": 1,
        }
        again.release("slow", again.shards("slow")[0], 3)
        again.forget_stream("fast")
        bench.bank(again)
        await bench.reclaim(again)
        assert again.stats().segments == 0
        assert (bench.disk.files(""), bench.banked) == ([], {})
        step += 1
    assert step > 30


async def test_compaction_that_fails_leaves_everything_as_it_was(bench, monkeypatch) -> None:
    monkeypatch.setattr("firehose.log.backlog._COMPACT_MIN_BYTES", 1_000)
    log = await filled(bench)
    bench.bank(log)
    log.release("fast", log.shard("put"), 39)

    def refuse(verb, path):
        if verb == "write":
            raise OSError(28, "No space left on device")

    bench.disk.plan = refuse
    await bench.reclaim(log)
    assert bench.telemetry.of(ReclaimFailed)
    assert await bench.records(log, "slow") == [b"slow-%d" % number for number in range(0, 40, 4)]
    bench.disk.plan = None
    await bench.reclaim(log)
    assert bench.telemetry.of(SegmentCompacted)
    assert not bench.disk.files(".tmp")


async def test_a_removal_that_fails_is_tried_again(bench) -> None:
    log = await filled(bench)
    bench.bank(log)
    log.forget_stream("slow")
    log.forget_stream("fast")

    def refuse(verb, path):
        if verb == "remove":
            raise OSError(5, "Input/output error")

    bench.disk.plan = refuse
    assert await bench.reclaim(log) == []
    bench.disk.plan = None
    assert len(await bench.reclaim(log)) == 9
