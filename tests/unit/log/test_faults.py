"""A disk that fails or is full: what was acknowledged stays, what was refused is never delivered."""

from __future__ import annotations

import asyncio
import copy
import errno
import random

import pytest

from firehose.errors import ThrottledError, UnavailableError
from firehose.log.events import LogFull, LogHasRoom, LogWriteFailed, SidecarFailed
from firehose.telemetry import UnexpectedError


def failing(verb: str, *, ending: str = ".log", code: int = errno.EIO, room: int | None = None, times: int = 10**9):
    """Return a plan that fails a verb on files with this ending; a write takes `room` bytes before it does."""
    left = times

    def plan(asked, path):
        nonlocal left
        if asked == verb and path.name.endswith(ending) and left:
            left -= 1
            if room is not None:
                return room
            raise OSError(code, "the disk says no")

    return plan


@pytest.mark.parametrize("verb", ["sync", "write"])
@pytest.mark.parametrize("kept", [0.0, 0.5, 1.0])
async def test_a_failed_group_is_refused_and_never_seen_again(bench, verb: str, kept: float) -> None:
    log = await bench.open()
    await bench.put(log, [b"before"])
    bench.disk.plan = failing(verb, times=1)
    answers = await asyncio.gather(bench.put(log, [b"no"]), bench.put(log, [b"nor this"], "t"), return_exceptions=True)
    assert [type(answer) for answer in answers] == [UnavailableError, UnavailableError]
    assert "the disk says no" in str(answers[0])

    assert (await bench.put(log, [b"after"])).first_sequence == 1
    assert await bench.records(log) == [b"before", b"after"]
    assert len(bench.telemetry.of(LogWriteFailed)) == 1
    bench.disk = bench.disk.crash(kept=kept)
    again = await bench.open()
    assert await bench.records(again) == [b"before", b"after"]
    assert await bench.records(again, "t") == []


async def test_the_abandoned_file_is_never_written_or_synced_again(bench) -> None:
    log = await bench.open()
    await bench.put(log, [b"before"])
    (abandoned,) = bench.disk.files(".log")
    bench.disk.plan = failing("sync", times=1)
    with pytest.raises(UnavailableError):
        await bench.put(log, [b"no"])

    def forbid(verb, path):
        assert path != abandoned or verb not in ("write", "sync", "truncate")

    bench.disk.plan = forbid
    await bench.put(log, [b"after"])
    await log.close()
    assert len(bench.disk.files(".log")) == 2


@pytest.mark.parametrize("kept", [0.0, 1.0])
async def test_a_crash_right_after_the_refusal_does_not_bring_the_rows_back(bench, kept: float) -> None:
    log = await bench.open()
    await bench.put(log, [b"before"])
    bench.disk.plan = failing("sync", times=1)
    with pytest.raises(UnavailableError):
        await bench.put(log, [b"no"])
    bench.disk = bench.disk.crash(kept=kept)
    assert await bench.records(await bench.open()) == [b"before"]


async def test_the_next_header_cuts_the_abandoned_segment_where_no_sidecar_could(bench) -> None:
    log = await bench.open()
    await bench.put(log, [b"before"])
    bench.disk.plan = failing("sync", times=1)
    steps = bench.disk.plan

    def no_sidecars_either(verb, path):
        steps(verb, path)
        if path.name.endswith(".idx.tmp"):
            raise OSError(errno.EIO, "no sidecar")

    bench.disk.plan = no_sidecars_either
    with pytest.raises(UnavailableError):
        await bench.put(log, [b"refused"])
    assert bench.telemetry.of(SidecarFailed)
    await bench.put(log, [b"after"])
    bench.disk = bench.disk.crash(kept=1.0)
    assert not bench.disk.files(".idx")
    again = await bench.open()
    assert await bench.records(again) == [b"before", b"after"]
    assert again.accepted_unbanked() == {"s": {bench.clock.now_ms(): 2}}


@pytest.mark.parametrize("verb", ["append", "write", "sync", "sync_folder"])
async def test_a_first_write_that_fails_leaves_no_segment(bench, verb: str) -> None:
    log = await bench.open()
    bench.disk.plan = failing(verb, ending="" if verb == "sync_folder" else ".log", times=1)
    with pytest.raises(UnavailableError):
        await bench.put(log, [b"no"])
    crashed = bench.disk.crash(kept=1.0)
    await bench.put(log, [b"yes"])
    assert await bench.records(log) == [b"yes"]
    bench.disk = crashed
    assert await bench.records(await bench.open()) == []


async def test_the_name_of_a_failed_segment_is_taken_only_once_it_is_gone(bench) -> None:
    log = await bench.open()
    steps = failing("sync", times=1)

    def plan(verb, path):
        steps(verb, path)
        if verb == "remove" and path in bench.disk.names:
            raise OSError(errno.EIO, "cannot remove")

    bench.disk.plan = plan
    for _ in range(2):
        with pytest.raises(UnavailableError):
            await bench.put(log, [b"no"])
    bench.disk.plan = None
    assert (await bench.put(log, [b"yes"])).first_sequence == 0
    bench.disk = bench.disk.crash()
    assert await bench.records(await bench.open()) == [b"yes"]


async def test_a_full_disk_throttles_and_heals(bench) -> None:
    log = await bench.open()
    await bench.put(log, [b"before"])
    bench.disk.plan = failing("write", code=errno.ENOSPC, room=10)
    for _ in range(3):
        with pytest.raises(ThrottledError, match=r"^Slow down\.$"):
            await bench.put(log, [b"no"])
    bench.disk.plan = None
    assert (await bench.put(log, [b"after"])).first_sequence == 1
    bench.disk = bench.disk.crash(kept=1.0)
    assert await bench.records(await bench.open()) == [b"before", b"after"]
    assert len(bench.telemetry.of(LogFull)) == len(bench.telemetry.of(LogHasRoom)) == 1


async def test_the_reserve_of_the_disk_is_not_touched(bench) -> None:
    log = await bench.open(reserve_bytes=1_000)
    await bench.put(log, [b"before"])
    bench.disk.free = 1_100
    writes = bench.disk.counts["write"]
    with pytest.raises(ThrottledError):
        await bench.put(log, [b"x" * 50])
    assert bench.disk.counts["write"] == writes
    bench.disk.free = 10_000
    assert (await bench.put(log, [b"after"])).first_sequence == 1
    assert not log.stats().is_full


async def test_the_quota_throttles_until_rows_are_done_and_deletes_nothing(bench) -> None:
    log = await bench.open(quota_bytes=2**20)
    record = bytes(range(256)) * 40
    count = 0
    with pytest.raises(ThrottledError, match=r"^Slow down\.$"):
        while True:
            await bench.put(log, [record + count.to_bytes(4, "big")], token=b"t" * 60_000)
            count += 1
    assert log.stats().disk_bytes <= 2**20
    assert log.stats().is_full
    await bench.reclaim(log)
    assert len(await bench.records(log)) == count

    log.release("s", log.shard("put"), count - 1)
    log.mark_banked([account.name for account in log.unbanked()])
    await bench.reclaim(log)
    assert log.stats().disk_bytes < 100_000
    assert (await bench.put(log, [b"again"])).first_sequence == count


async def test_a_put_larger_than_the_quota_is_taken_into_an_empty_log_only(bench) -> None:
    log = await bench.open(quota_bytes=2**20)
    large = [random.Random(1).randbytes(3 * 2**20)]
    await bench.put(log, large)
    with pytest.raises(ThrottledError):
        await bench.put(log, [b"x"])
    assert await bench.records(log) == large


async def test_a_stream_quota_throttles_that_stream_alone(bench) -> None:
    log = await bench.open()
    log.limit_stream("s", 1_000)
    await bench.put(log, [b"x" * 300] * 3)
    with pytest.raises(ThrottledError):
        await bench.put(log, [b"x" * 101])
    await bench.put(log, [b"x" * 101], "t")
    log.release("s", log.shard("put"), 0)
    await bench.put(log, [b"x" * 101])
    log.limit_stream("s", None)
    await bench.put(log, [b"x" * 5_000])


async def test_producers_faster_than_the_disk_are_throttled(bench) -> None:
    log = await bench.open()
    puts = [asyncio.create_task(bench.put(log, [b"x" * 10 * 2**20])) for _ in range(8)]
    answers = await asyncio.gather(*puts, return_exceptions=True)
    assert sum(isinstance(answer, ThrottledError) for answer in answers) == 2
    assert len(await bench.records(log)) == 6


async def test_a_read_the_disk_refuses_is_tried_again_by_the_worker(bench) -> None:
    log = await bench.open()
    await bench.put(log, [b"x"])
    bench.disk.plan = failing("read", times=1)
    shard = log.open_shard("s", log.shard("put"), after=-1)
    with pytest.raises(UnavailableError, match="check the disk"):
        await shard.read(max_bytes=100, max_wait_ms=0)
    assert (await shard.read(max_bytes=100, max_wait_ms=0)).batch.data.to_pylist() == [b"x"]


async def test_a_log_that_cannot_be_listed_cannot_be_opened(bench) -> None:
    bench.disk.plan = failing("make_folder", ending="")
    with pytest.raises(UnavailableError, match="cannot be opened"):
        await bench.open()


async def test_random_faults_never_lose_or_double_a_row(bench) -> None:
    for seed in range(20):
        bench.begin_anew()
        chance = random.Random(seed)
        acknowledged: list[bytes] = []
        refused: set[bytes] = set()
        for opening in range(4):
            bench.disk.plan = None
            log = await bench.open(segment_bytes=chance.choice([200, 1_000, 2**20]))

            def plan(verb, path, chance=chance):
                if verb in ("write", "sync", "append", "rename", "remove", "sync_folder") and chance.random() < 0.1:
                    raise OSError(errno.EIO, "now and then")

            bench.disk.plan = plan
            for number in range(30):
                record = b"%d-%d" % (opening, number)
                try:
                    await bench.put(log, [record])
                    acknowledged.append(record)
                except UnavailableError:
                    refused.add(record)
                if chance.random() < 0.1:
                    await bench.reclaim(log)
            bench.disk.plan = None
            assert await bench.records(log) == acknowledged
            if chance.random() < 0.5:
                await bench.put(log, [b"end-%d" % opening])  # a write that works: refused rows are out for good
                acknowledged.append(b"end-%d" % opening)
            else:
                await bench.reclaim(log)
            bench.disk = bench.disk.crash(kept=chance.choice([0.0, 0.3, 1.0]))
        assert await bench.records(await bench.open()) == acknowledged, seed


async def test_a_bug_in_the_writer_is_told_and_nobody_waits_in_vain(bench, monkeypatch) -> None:
    log = await bench.open()

    def broken(*_args: object, **_options: object) -> None:
        raise TypeError("a bug")

    monkeypatch.setattr("firehose.log.frame.FrameEncoder.encode", broken)
    with pytest.raises(UnavailableError):
        await bench.put(log, [b"x"])
    with pytest.raises(UnavailableError):
        await bench.put(log, [b"y"])
    assert [event.error for event in bench.telemetry.of(UnexpectedError)] == ["TypeError: a bug"]
    with pytest.raises(TypeError):
        await log.close()


@pytest.mark.parametrize("before", [[], [b"before"]], ids=["first write", "later write"])
async def test_once_settled_what_was_refused_is_there_for_no_restart(bench, before: list[bytes]) -> None:
    """The disk takes neither a sidecar nor a removal, until it is well again; then the process dies."""
    log = await bench.open()
    if before:
        await bench.put(log, before)

    def refuse(verb, path):
        is_there = path in bench.disk.names
        if verb in ("sync", "sync_folder") or (verb == "remove" and is_there) or path.name.endswith(".idx.tmp"):
            raise OSError(errno.EIO, "the disk says no")

    bench.disk.plan = refuse
    with pytest.raises(UnavailableError):
        await bench.put(log, [b"refused"])
    with pytest.raises(UnavailableError, match=r"the ingest log cannot write in .*; check the disk"):
        await log.settle()
    bench.disk.plan = None
    assert await _found_by_another(bench, copy.deepcopy(bench.disk)) == [*before, b"refused"], (
        "or nothing is shown here"
    )
    await log.settle()
    assert await _found_by_another(bench, copy.deepcopy(bench.disk)) == before
    assert await _found_by_another(bench, bench.disk.crash(kept=1.0)) == before


async def _found_by_another(bench, disk) -> list[bytes]:
    """Return the records that the next process finds on this disk."""
    mine, bench.disk = bench.disk, disk
    found = await bench.records(await bench.open())
    bench.disk = mine
    return found
