"""Segments that somebody removed, and those that the disk refuses: noticed, counted to the row, in nobody's way."""

from __future__ import annotations

import random

import pytest

from firehose.errors import UnavailableError
from firehose.log.events import SegmentMissing, SegmentUnavailable, SidecarFailed
from firehose.records import RowSet

HOUR = 3_600_000


async def three_segments(bench, *, banked: bool = True):
    """Write three segments with rows of streams `a` and `b` in each, and one of `c` alone in the last; return a log."""
    log = await bench.open()
    for number in range(3):
        hour = number * HOUR
        await bench.put(log, [b"a%d" % row for row in range(5)], "a", arrival_ms=hour)
        await bench.put(log, [b"a5"], "a", arrival_ms=hour + 2 * HOUR)
        await bench.put(log, [b"b%d" % number], "b", lane="replay", arrival_ms=hour + HOUR)
        await bench.clock.advance(600_000)
        if number == 2:
            await bench.put(log, [b"c"], "c")
        await log._writer.seal(open_since_ms=bench.clock.now_ms())
    if banked:
        bench.bank(log)
    await log.close()
    return log


def lose(bench, path) -> None:
    bench.disk.lose(path)
    bench.disk.lose(path.with_suffix(".idx"))


async def summed(bench, log, stream, *, after: int = -1) -> tuple[dict[int, int], list[int]]:
    """Return the unreadable rows by hour and the sequences of the others; spans follow each other."""
    (shard,) = [each for each in log.shards(stream) if log.last(stream, each) >= 0]
    unreadable: dict[int, int] = {}
    sequences, at = [], after
    for read in await bench.reads(log, stream, shard, after=after):
        assert read.span.first == at + 1
        at = read.span.last
        sequences += read.batch.sequence.tolist()
        for hour, rows in read.unreadable.items():
            unreadable[hour] = unreadable.get(hour, 0) + rows
    assert at == log.last(stream, shard)
    return unreadable, sequences


async def test_a_banked_segment_that_is_gone_is_told_and_its_rows_are_counted(bench) -> None:
    await three_segments(bench)
    _, second, _ = bench.disk.files(".log")
    lose(bench, second)
    log = await bench.open(banked=bench.banked)
    (event,) = bench.telemetry.of(SegmentMissing)
    assert (event.path, event.streams, event.rows) == (str(second), 2, 7)
    assert log.troubles() == [f"{second} is missing: its records that were not done are unreadable"]
    unreadable, sequences = await summed(bench, log, "a")
    assert unreadable == {HOUR: 5, 3 * HOUR: 1}
    assert sequences == [*range(6), *range(12, 18)]
    assert await summed(bench, log, "b") == ({2 * HOUR: 1}, [0, 2])
    assert await summed(bench, log, "c") == ({}, [0])
    assert await summed(bench, log, "a", after=8) == ({HOUR: 2, 3 * HOUR: 1}, [*range(12, 18)])
    shard = log.open_shard("a", log.shards("a")[0], after=-1)
    assert len(await shard.fetch(RowSet.of_range(shard.name, 0, 17))) == 12
    assert (await log.lag("a", shard.name, 7)).rows == 10
    assert (await log.lag("a", shard.name, 7)).oldest_ms is not None
    assert await log.tokens("a") == []
    assert log.accepted_unbanked() == {}


@pytest.mark.parametrize("gone", [[2], [0, 1, 2], [0]])
async def test_it_is_forgotten_once_its_rows_are_done(bench, gone: list[int]) -> None:
    await three_segments(bench)
    paths = bench.disk.files(".log")
    for number in gone:
        lose(bench, paths[number])
    log = await bench.open(banked=bench.banked)
    assert len(bench.telemetry.of(SegmentMissing)) == len(gone)
    assert await bench.reclaim(log) == []
    for stream in "abc":
        (shard,) = log.shards(stream)
        log.release(stream, shard, log.last(stream, shard))
    assert len(await bench.reclaim(log)) == 3
    assert (bench.banked, bench.disk.files(""), log.troubles()) == ({}, [], [])
    bench.telemetry.events.clear()
    await bench.open(banked=bench.banked)
    assert not bench.telemetry.of(SegmentMissing)


async def test_a_new_segment_does_not_take_the_number_of_one_that_is_gone(bench) -> None:
    await three_segments(bench)
    third = bench.disk.files(".log")[2]
    lose(bench, third)
    log = await bench.open(banked=bench.banked)
    await bench.put(log, [b"new"], "a")
    (new,) = set(bench.disk.files(".log")) - {third} - set(bench.disk.files(".log")[:2])
    assert new.name.startswith("000000000004-")


async def test_a_compacted_segment_that_is_gone_is_missed_for_what_was_left_in_it(bench, monkeypatch) -> None:
    monkeypatch.setattr("firehose.log.backlog._COMPACT_MIN_BYTES", 1_000)
    log = await bench.open()
    await bench.put(log, [random.Random(1).randbytes(50_000)], "fast")
    await bench.put(log, [b"slow"] * 3, "slow")
    await bench.clock.advance(600_000)
    await bench.reclaim(log)
    bench.bank(log)
    log.release("fast", log.shard("put"), 0)
    await bench.reclaim(log)
    (path,) = bench.disk.files(".1.log")
    await log.close()
    lose(bench, path)
    again = await bench.open(banked=bench.banked)
    assert len(bench.telemetry.of(SegmentMissing)) == 1
    again.release("fast", again.shards("fast")[0], 0)
    assert not again.is_pending("fast")
    unreadable, sequences = await summed(bench, again, "slow")
    assert (list(unreadable.values()), sequences) == ([3], [])


async def test_a_segment_cut_to_nothing_or_to_a_part_is_known_by_its_books(bench) -> None:
    await three_segments(bench)
    first, second, _ = bench.disk.files(".log")
    del bench.disk.names[first].data[30:]
    del bench.disk.names[second].data[200:]
    for path in (first, second):
        bench.disk.lose(path.with_suffix(".idx"))
    log = await bench.open(banked=bench.banked)
    assert [event.path for event in bench.telemetry.of(SegmentMissing)] == [str(first)]
    unreadable, sequences = await summed(bench, log, "a")
    assert unreadable == {0: 5, 2 * HOUR: 1, 3 * HOUR: 1}
    assert sequences == [*range(6, 11), *range(12, 18)]
    assert await summed(bench, log, "b") == ({HOUR: 1, 2 * HOUR: 1}, [2])
    again = await bench.open(banked=bench.banked)
    assert await summed(bench, again, "b") == ({HOUR: 1, 2 * HOUR: 1}, [2])


async def test_rows_that_were_never_banked_are_noticed_where_later_ones_are_there(bench) -> None:
    await three_segments(bench, banked=False)
    _, second, third = bench.disk.files(".log")
    lose(bench, second)
    log = await bench.open()
    unreadable, sequences = await summed(bench, log, "a")
    assert unreadable == {2 * HOUR: 6}, "by the hour of what follows"
    assert sequences == [*range(6), *range(12, 18)]
    lose(bench, third)
    log = await bench.open()
    assert await summed(bench, log, "a") == ({}, [*range(6)]), "nobody knows of an end that is gone"


# --- a disk that refuses ---------------------------------------------------------------------------------------------


def refusing(*paths):
    def plan(verb, path):
        if verb == "read" and path in paths:
            raise OSError(5, "Input/output error")

    return plan


async def test_a_banked_segment_the_disk_refuses_holds_up_its_streams_until_it_can_be_read(bench) -> None:
    await three_segments(bench)
    *_, third = bench.disk.files(".log")
    bench.disk.plan = refusing(third, third.with_suffix(".idx"))
    log = await bench.open(banked=bench.banked)
    assert [event.path for event in bench.telemetry.of(SegmentUnavailable)] == [str(third)]
    assert not bench.telemetry.of(SegmentMissing)
    assert not log.has_unknown and log.troubles() == []
    (name,) = log.shards("a")
    shard = log.open_shard("a", name, after=-1)
    reads = [await shard.read(max_bytes=2**20, max_wait_ms=0) for _ in range(2)]
    assert [read.span.last for read in reads] == [5, 11]
    for _ in range(3):
        with pytest.raises(UnavailableError, match=rf"cannot read {third}: Input/output error; check the disk; to go"):
            await shard.read(max_bytes=2**20, max_wait_ms=0)
    assert (await log.lag("a", name, 13)).rows == 4
    bench.disk.plan = None
    assert (await shard.read(max_bytes=2**20, max_wait_ms=0)).batch.sequence.tolist() == [*range(12, 18)]
    assert await summed(bench, log, "c") == ({}, [0])
    for stream in "abc":
        (each,) = log.shards(stream)
        log.release(stream, each, log.last(stream, each))
    assert len(await bench.reclaim(log)) == 3
    assert bench.banked == {}


async def test_a_compacted_segment_the_disk_refuses_is_read_whole_once_it_can_be(bench, monkeypatch) -> None:
    monkeypatch.setattr("firehose.log.backlog._COMPACT_MIN_BYTES", 1_000)
    log = await bench.open()
    await bench.put(log, [b"slow"] * 3, "slow")
    await bench.put(log, [random.Random(1).randbytes(50_000)], "fast")
    await bench.clock.advance(600_000)
    await bench.reclaim(log)
    bench.bank(log)
    log.release("fast", log.shard("put"), 0)
    await bench.reclaim(log)
    await log.close()
    (path,) = bench.disk.files(".1.log")
    bench.disk.plan = refusing(path, path.with_suffix(".idx"))
    again = await bench.open(banked=bench.banked)
    bench.disk.plan = None
    assert await bench.records(again, "slow") == [b"slow"] * 3
    await bench.reclaim(again)  # it gets its sidecar
    third = await bench.open(banked=bench.banked)
    assert await bench.records(third, "slow") == [b"slow"] * 3


@pytest.mark.parametrize("banked", [True, False])
async def test_a_segment_that_nobody_knows_is_not_passed_over(bench, banked: bool) -> None:
    """Its rows are of streams unknown: a shard waits before the gap, and what is known of shards is kept."""
    await three_segments(bench, banked=False)
    first, second, third = bench.disk.files(".log")
    if banked:
        bench.banked = dict.fromkeys((path.name.split(".")[0] for path in (first, second, third)), "")
    bench.disk.plan = refusing(second, second.with_suffix(".idx"))
    log = await bench.open(banked=bench.banked)
    assert log.has_unknown
    assert log.troubles() == [f"{second} cannot be read: its records are not in these numbers; check the disk"]
    name = log.shards("a")[0]
    assert log.shards("nobody") == log.shards("a"), "it may have rows of any stream"
    assert (log.last("nobody", name), log.is_pending("nobody")) == (-1, False)
    shard = log.open_shard("a", name, after=-1)
    assert (await shard.read(max_bytes=2**20, max_wait_ms=0)).span.last == 5
    with pytest.raises(UnavailableError, match=r"segment 0+2-0+1, which may hold rows 6 to 11 of log-0+1-put; check"):
        await shard.read(max_bytes=2**20, max_wait_ms=0)
    with pytest.raises(UnavailableError, match=r"may hold 2 rows of log-0+1-put"):
        await shard.fetch(RowSet.of_whole(name, [1, 7, 8]))
    assert len(await shard.fetch(RowSet.of_whole(name, [1, 13]))) == 2
    with pytest.raises(UnavailableError, match=f"cannot read {second}; check the disk"):
        await log.tokens("b")
    assert await summed(bench, log, "c") == ({}, [0])
    bench.disk.plan = None
    healed = await bench.open(banked=bench.banked)
    assert not healed.has_unknown and healed.troubles() == []
    assert (await summed(bench, healed, "a"))[1] == [*range(18)]


@pytest.mark.parametrize("moment", ["when it is opened", "while it is open"])
async def test_an_index_the_disk_refuses_is_made_anew(bench, moment: str) -> None:
    await three_segments(bench)
    refused = refusing(*bench.disk.files(".idx"))
    if moment == "when it is opened":
        bench.disk.plan = refused
    log = await bench.open(banked=bench.banked)
    bench.disk.plan = refused
    assert (await summed(bench, log, "a"))[1] == [*range(18)]
    assert bench.telemetry.of(SidecarFailed)
    assert not bench.telemetry.of(SegmentUnavailable)


# --- no false alarm --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
async def test_no_crash_makes_a_segment_missed(bench, monkeypatch, seed: int) -> None:
    """A model of the service: positions are saved before they are released, and everything may stop at any step."""
    monkeypatch.setattr("firehose.log.backlog._COMPACT_MIN_BYTES", 1_000)
    chance = random.Random(seed)
    streams = ("fast", "slow", "idle")
    saved: dict[tuple[str, str], int] = {}
    expected: dict[str, int] = dict.fromkeys(streams, 0)
    removed = crashes = 0
    for _ in range(25):
        log = await bench.open(banked=bench.banked, segment_bytes=2_000)
        assert not bench.telemetry.of(SegmentMissing)
        left = dict.fromkeys(streams, 0)
        for stream in streams:
            for shard in log.shards(stream):
                after = saved.get((stream, shard), -1)
                log.release(stream, shard, after)
                for read in await bench.reads(log, stream, shard, after=after):
                    assert not read.unreadable
                    left[stream] += len(read.batch)
        assert left == expected
        stop = bench.disk.steps + chance.randrange(5, 80)

        def plan(verb, path, stop=stop):
            if bench.disk.steps > stop:
                raise bench.Crash

        for _ in range(chance.randrange(1, 12)):
            stream = chance.choice(streams)
            rows = [chance.randbytes(chance.randrange(900)) for _ in range(chance.randrange(1, 4))]
            await bench.put(log, rows, stream, lane=chance.choice(["put", "put", "replay"]))
            expected[stream] += len(rows)
        bench.disk.plan = plan
        try:
            for _ in range(3):
                await bench.clock.advance(300_000)
                bench.disk.step("bank", bench.folder)
                bench.bank(log)
                for stream in streams[: chance.randrange(3)]:
                    for shard in log.shards(stream):
                        before, last = saved.get((stream, shard), -1), log.last(stream, shard)
                        if (to := chance.choice([before, last, last])) > before:
                            bench.disk.step("save", bench.folder)
                            saved[stream, shard] = to
                            expected[stream] -= to - before
                            log.release(stream, shard, to)
                removed += len(await bench.reclaim(log))
        except bench.Crash:
            crashes += 1
        bench.kill()
        bench.disk = bench.disk.crash(kept=chance.choice([0.0, 1.0]))
    assert removed and crashes
