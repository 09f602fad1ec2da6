"""A put that is sent again under the same key is stored once, whatever happened in between."""

from __future__ import annotations

import asyncio
import errno
import random
from collections import Counter
from typing import Any

import pytest

from firehose.errors import ThrottledError, UnavailableError
from firehose.executors import InlineExecutor
from firehose.log import IngestLog
from firehose.log.pages import Place
from firehose.log.receipts import PAGE_PUTS, SAVE_EVERY_MS, Receipts
from firehose.testing import FakeClock, RecordingTelemetry
from tests.disk import FOLDER, MemoryDisk
from tests.unit.log.sending import MINUTE, WINDOW, crashed, key, opened, send

# --- while the log is open -------------------------------------------------------------------------------------------


async def test_attempts_of_one_put_get_one_answer_and_other_puts_their_own(bench) -> None:
    log = await opened(bench)
    shard = log.shard("put")
    first, together, other = await asyncio.gather(*(send(bench, log, number) for number in (1, 1, 2)))
    assert (first, together, other) == ((shard, 0, False), (shard, 0, True), (shard, 2, False))
    assert await send(bench, log, 1) == (shard, 0, True)
    assert await bench.records(log) == [b"a1", b"b1", b"a2", b"b2"]


async def test_puts_without_a_key_and_replays_are_all_stored(bench) -> None:
    log = await opened(bench)
    for token in (b"", b"shorter"):
        for _ in range(2):
            assert not (await bench.put(log, [b"x"], token=token)).is_repeat
    for _ in range(2):
        assert not (await bench.put(log, [b"y"], token=key(1), lane="replay")).is_repeat
    assert sorted(await bench.records(log)) == [b"x"] * 4 + [b"y"] * 2


async def test_an_attempt_after_one_that_failed_is_stored(bench) -> None:
    log = await opened(bench, quota_bytes=64 * 1024)
    await bench.put(log, [random.Random(1).randbytes(64 * 1024)])
    for _ in range(2):
        with pytest.raises(ThrottledError):
            await send(bench, log, 1)
    log = await opened(bench)

    def plan(verb: str, path: Any) -> int | None:
        if verb == "sync":
            raise OSError(errno.EIO, "Input/output error")
        return None

    bench.disk.plan = plan
    found = await asyncio.gather(*(send(bench, log, 1) for _ in range(2)), return_exceptions=True)
    assert [type(each) for each in found] == [UnavailableError] * 2, "who waited for the first fails with it"
    bench.disk.plan = None
    assert (await send(bench, log, 1))[2] is False


async def test_a_put_whose_caller_went_away_is_found_by_its_next_attempt(bench) -> None:
    log = await opened(bench)
    task = asyncio.create_task(send(bench, log, 1))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert (await send(bench, log, 1))[2] is True
    assert await bench.records(log) == [b"a1", b"b1"]


async def test_puts_of_many_pages_are_known(bench) -> None:
    log = await opened(bench)
    numbers = range(3 * PAGE_PUTS + 1)
    for number in numbers:
        log._receipts.add(key(number), 2 * number, 2, bench.clock.now_ms())
    for number in (*numbers[:: PAGE_PUTS // 7], numbers[-1]):
        assert (await send(bench, log, number))[1:] == (2 * number, True)
    unknown = [key(-number) for number in range(1, 20_000)]
    assert not any(log._receipts.find(each) for each in unknown)
    assert sum(log._receipts._slots.may_hold(each) for each in unknown) < len(unknown) / 20


# --- after a crash ---------------------------------------------------------------------------------------------------


async def test_after_a_crash_a_put_is_known_by_its_frame(bench) -> None:
    log = await opened(bench)
    answers = [await send(bench, log, number) for number in range(3)]
    log = await crashed(bench)
    assert [await send(bench, log, number) for number in range(3)] == [(*each[:2], True) for each in answers]
    log = await crashed(bench)
    assert (await send(bench, log, 1))[2] is True, "and is known on"
    assert sorted(await bench.records(log)) == [b"a0", b"a1", b"a2", b"b0", b"b1", b"b2"]


@pytest.mark.parametrize("is_clean", [True, False])
async def test_a_put_is_known_when_its_frame_is_gone(bench, is_clean: bool) -> None:
    log = await opened(bench, segment_bytes=1_000)
    await bench.reclaim(log)  # and saves: it is not due again for a while
    for number in range(50):
        await send(bench, log, number)
    bench.bank(log)
    log.release("s", log.shard("put"), 99)
    assert await bench.reclaim(log)
    if is_clean:
        await log.close()
    log = await crashed(bench)
    assert [(await send(bench, log, number))[1:] for number in range(50)] == [(2 * n, True) for n in range(50)]


async def test_compaction_takes_no_key_away(bench) -> None:
    log = await opened(bench, segment_bytes=300_000)
    for number in range(40):
        await bench.put(log, [random.Random(number).randbytes(17_000)], "fast", token=key(number))
    await bench.put(log, [b"slow"], "slow")
    bench.clock._now_ms += 20 * MINUTE // 2
    await bench.reclaim(log)
    bench.bank(log)
    log.release("fast", log.shard("put"), 39)
    await bench.reclaim(log)
    log = await crashed(bench)
    for number in range(40):
        assert (await bench.put(log, [b"?"], "fast", token=key(number))).is_repeat


async def test_only_what_was_not_saved_is_read_again(bench) -> None:
    log = await opened(bench)
    for number in range(100):
        await bench.put(log, [random.Random(number).randbytes(10_000)], token=key(number) if number % 2 else b"")
    await bench.reclaim(log)
    await bench.put(log, [b"after"], token=key(100))
    bench.kill()
    await bench.open()
    path = bench.disk.files(".log")[0]
    before = bench.disk.read_bytes[path]
    await bench.open()
    scanned = bench.disk.read_bytes[path] - before
    log = await opened(bench)
    assert bench.disk.read_bytes[path] - before - 2 * scanned < 2_000, "one million bytes need not be read"
    assert (await bench.put(log, [b"?"], token=key(99))).is_repeat
    assert (await bench.put(log, [b"?"], token=key(100))).is_repeat


async def test_a_log_without_keys_is_not_read_again_either(bench) -> None:
    log = await opened(bench)
    for number in range(100):
        await bench.put(log, [random.Random(number).randbytes(10_000)])
    await log.close()
    bench.kill()
    path = bench.disk.files(".log")[0]
    before = bench.disk.read_bytes[path]
    await opened(bench)
    assert bench.disk.read_bytes[path] - before < 2_000


async def test_keys_are_forgotten_after_the_window(bench) -> None:
    log = await opened(bench)
    await send(bench, log, 1)
    await log.close()
    bench.clock._now_ms += WINDOW + 2_000
    log = await crashed(bench)
    assert (await send(bench, log, 1))[2] is False
    bench.clock._now_ms += WINDOW + 2_000
    await bench.reclaim(log)
    assert (await send(bench, log, 1))[2] is False
    await bench.reclaim(log)
    names = bench.disk.list(FOLDER / "receipts")
    assert len(names) == 1, "old pages are removed"


async def test_without_a_window_nothing_is_known_or_written(bench) -> None:
    log = await opened(bench, retry_window_ms=0)
    assert [(await send(bench, log, 1))[2] for _ in range(2)] == [False, False]
    await log.close()
    assert bench.disk.list(FOLDER / "receipts") == []


async def test_whenever_the_machine_stops_each_put_is_stored_once(bench) -> None:
    """Puts, saves and reclaiming, cut off at any step of the disk; then every put is sent again."""
    chance = random.Random(20261121)
    for _ in range(200):
        bench.begin_anew()
        #: Every record that was ever read, by where it lies.
        stored: dict[tuple[str, int], bytes] = {}
        numbers: set[int] = set()
        for life in range(4):
            log = await opened(bench, segment_bytes=chance.choice((500, 5_000)), banked=bench.banked)
            end = bench.disk.steps + chance.randint(1, 80) if life < 3 else None
            await _live(bench, log, chance, numbers, stored, end)
            if life < 3:
                bench.kill()
                bench.disk = bench.disk.crash(kept=chance.choice((0.0, 0.5, 1.0)))
        for number in numbers:
            await send(bench, log, number)
        for shard in log.shards("s"):
            await _read(bench, log, shard, stored)
        assert Counter(stored.values()) == {b"%c%d" % (letter, each): 1 for each in numbers for letter in b"ab"}


async def _live(
    bench: Any,
    log: IngestLog,
    chance: random.Random,
    numbers: set[int],
    stored: dict[tuple[str, int], bytes],
    end: int | None,
) -> None:
    """Send new puts and old ones, and give space back now and then, until the disk has made its last step."""

    def plan(verb: str, path: Any) -> int | None:
        if end is not None and bench.disk.steps >= end:
            raise bench.Crash
        return None

    bench.disk.plan = plan
    try:
        for _ in range(15):
            number = chance.choice([len(numbers), len(numbers), *numbers])
            numbers.add(number)
            await send(bench, log, number)
            bench.clock._now_ms += chance.choice((0, 0, 100, SAVE_EVERY_MS))
            if chance.random() < 0.3:
                bench.bank(log)
                for shard in log.shards("s"):
                    await _read(bench, log, shard, stored)
                    log.release("s", shard, log.last("s", shard))
                await bench.reclaim(log)
    except (bench.Crash, UnavailableError):
        assert end is not None
    finally:
        bench.disk.plan = None


async def _read(bench: Any, log: IngestLog, shard: str, stored: dict[tuple[str, int], bytes]) -> None:
    for read in await bench.reads(log, "s", shard):
        sequences, records = read.batch.sequence.tolist(), read.batch.data.to_pylist()
        stored |= {(shard, sequence): record for sequence, record in zip(sequences, records, strict=True)}


# --- pages -----------------------------------------------------------------------------------------------------------


def receipts(**options: Any) -> Receipts:
    given = {"window_ms": WINDOW, "max_puts": 800} | options
    disk, clock = MemoryDisk(), FakeClock()
    return Receipts(
        FOLDER / "receipts",
        opening=f"{1:016x}",
        files=disk,
        executor=InlineExecutor(),
        clock=clock,
        telemetry=RecordingTelemetry(),
        **given,
    )


async def test_so_many_puts_are_known_and_the_window_says_how_long_that_is() -> None:
    found = receipts()
    clock: Any = found._clock
    assert found.window_ms == WINDOW
    for number in range(1_600):
        found.add(key(number), number, 1, clock.now_ms())
        found.reached(Place(1, number))
        clock._now_ms += 100
    await found.save()
    known = [number for number in range(1_600) if found.find(key(number)) is not None]
    assert 700 <= len(known) <= 800 and known == list(range(known[0], 1_600))
    assert found.find(key(1_599)) == ("log-0000000000000001-put", 1_599, 1)
    assert found.window_ms == pytest.approx(len(known) * 100, abs=1_100)


async def test_keys_with_the_same_beginning_are_told_apart() -> None:
    found = receipts(max_puts=80)
    keys = [b"same-----" + b"%07d" % number for number in range(30)] + [b"\x00" * 16, b"\xff" * 16]
    for number, each in enumerate(keys):
        found.add(each, number, 1, 0)
    assert [found.find(each) for each in keys] == [("log-0000000000000001-put", n, 1) for n in range(len(keys))]
    assert found.find(b"same-----" + b"9" * 7) is None
