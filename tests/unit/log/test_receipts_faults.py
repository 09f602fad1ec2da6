"""Receipts that the disk refuses or damages: no put is lost, and what may come twice is told."""

from __future__ import annotations

import asyncio
import errno
from typing import Any

import pytest

from firehose.errors import DataDirectoryError
from firehose.log.events import ReceiptsForgotten, ReceiptsNotSaved, ReceiptsUnreadable
from firehose.log.receipts import SAVE_EVERY_MS
from tests.disk import FOLDER
from tests.unit.log.sending import crashed, opened, send


async def test_receipts_that_cannot_be_saved_are_told_and_saved_later(bench) -> None:
    log = await opened(bench)
    await send(bench, log, 1)

    def plan(verb: str, path: Any) -> int | None:
        if path.name.endswith(".rcp") and verb in ("write", "sync"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return None

    bench.disk.plan = plan
    for _ in range(2):
        bench.clock._now_ms += SAVE_EVERY_MS
        await bench.reclaim(log)
    assert len(bench.telemetry.of(ReceiptsNotSaved)) == 2
    assert (await send(bench, log, 1))[2] is True
    bench.disk.plan = None
    await send(bench, log, 2)
    bench.clock._now_ms += SAVE_EVERY_MS
    await bench.reclaim(log)
    assert len(bench.disk.list(FOLDER / "receipts")) == 1
    for path in bench.disk.files(".log"):
        bench.disk.lose(path)
    log = await crashed(bench)
    assert [(await send(bench, log, number))[2] for number in (1, 2)] == [True, True]


@pytest.mark.parametrize("fault", ["flipped", "cut", "missing", "refused"])
async def test_the_puts_of_an_opening_with_damage_are_taken_again(bench, fault: str) -> None:
    log = await opened(bench, segment_bytes=1_000)
    for number in range(50):
        await send(bench, log, number)
    bench.bank(log)
    await bench.reclaim(log)
    await log.close()
    bench.kill()
    path, last = bench.disk.files(".log")[0], bench.disk.files(".log")[-1]
    match fault:
        case "flipped":
            bench.disk.flip(path, 200)
            bench.disk.lose(path.with_suffix(".idx"))
        case "cut":
            bench.disk.truncate(last, bench.disk.size(last) - 10)
            bench.disk.lose(last.with_suffix(".idx"))
        case "missing":
            bench.disk.lose(path)
        case "refused":

            def plan(verb: str, place: Any) -> int | None:
                if (verb == "read" and place == path) or place == path.with_suffix(".idx"):
                    raise OSError(errno.EIO, "Input/output error")
                return None

            bench.disk.plan = plan
    log = await opened(bench, banked=bench.banked)
    assert [event.puts for event in bench.telemetry.of(ReceiptsForgotten)] == [50]
    assert not any([(await send(bench, log, number))[2] for number in range(50)])


async def test_a_damaged_page_costs_what_stands_behind_the_damage(bench) -> None:
    log = await opened(bench)
    for number in range(3):
        await send(bench, log, number)
        bench.clock._now_ms += SAVE_EVERY_MS
        await bench.reclaim(log)
    (name,) = bench.disk.list(FOLDER / "receipts")
    path = FOLDER / "receipts" / name
    bench.disk.flip(path, len(bench.disk.names[path].data) - 60)
    for each in bench.disk.files(".log"):
        bench.disk.lose(each)
    bench.disk.append(FOLDER / "receipts" / "notes.txt").write(b"not ours")
    bench.disk.append(FOLDER / "receipts" / "000000000009.rcp").write(b"nor this")
    bench.kill()
    log = await opened(bench)
    assert [(await send(bench, log, number))[2] for number in range(3)] == [True, True, False]


async def test_a_page_that_the_disk_refuses_keeps_nobody_from_starting(bench) -> None:
    log = await opened(bench)
    await send(bench, log, 1)
    await log.close()
    bench.kill()

    def plan(verb: str, path: Any) -> int | None:
        if verb == "read" and path.name.endswith(".rcp"):
            raise OSError(errno.EIO, "Input/output error")
        return None

    bench.disk.plan = plan
    log = await opened(bench)
    assert len(bench.telemetry.of(ReceiptsUnreadable)) == 1
    assert (await send(bench, log, 1))[2] is True, "its frame is there yet"
    assert (await send(bench, log, 2))[2] is False
    await log.close()


async def test_receipts_of_a_newer_version_are_refused(bench) -> None:
    log = await opened(bench)
    await send(bench, log, 1)
    await log.close()
    (name,) = bench.disk.list(FOLDER / "receipts")
    from firehose.log.segment import preamble

    bench.disk.names[FOLDER / "receipts" / name].data[: len(preamble())] = preamble(9)
    bench.kill()
    with pytest.raises(DataDirectoryError, match="format 9"):
        await opened(bench)


async def test_what_a_killed_process_left_is_on_the_disk_before_it_is_believed(bench) -> None:
    """Killed between write and sync: the next process finds the put in memory, answers its next attempt, and then the
    power is cut."""
    log = await opened(bench)
    await send(bench, log, 1)

    def killed_while_it_syncs(verb: str, path: Any) -> None:
        if verb == "sync" and path.name.endswith(".log"):
            raise bench.Crash

    bench.disk.plan = killed_while_it_syncs
    unanswered = asyncio.ensure_future(send(bench, log, 2))
    await asyncio.wait((unanswered, log._writer._task), return_when=asyncio.FIRST_COMPLETED)
    unanswered.cancel()
    bench.disk.plan = None
    bench.kill()
    log = await opened(bench)
    assert (await send(bench, log, 2))[-1], "it is there, so that it counts as durable"
    again = await crashed(bench)
    assert b"a2" in await bench.records(again)
