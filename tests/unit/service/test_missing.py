"""Segments of the log that somebody removed, or that the disk refuses: told, counted, and in nobody else's way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from firehose.clock import HOUR_MS
from firehose.delivery.events import RecordsUnreadable, StepFailed
from firehose.errors import UnavailableError
from firehose.log.events import SegmentMissing, SegmentUnavailable
from firehose.state import Change, FinishReplay
from tests.service_world import ServiceWorld, ask, put, runner_of, total

SLOW = {"buffer": {"interval": "900s"}}


def segments(world: ServiceWorld) -> list[Path]:
    return sorted((world.data / "log").glob("*.log"))


def lose(path: Path) -> None:
    path.unlink()
    path.with_suffix(".idx").unlink(missing_ok=True)


def refuse(path: Path, *, with_index: bool) -> Callable[[], None]:
    """Let reading a segment fail, until what is returned is called: where its file was stands a folder."""
    body = path.read_bytes()
    path.unlink()
    path.mkdir()
    if with_index:
        path.with_suffix(".idx").unlink()

    def heal() -> None:
        path.rmdir()
        path.write_bytes(body)

    return heal


async def fill(world: ServiceWorld) -> None:
    """Leave a segment with three clicks of two hours, one with two visits, and one with another click."""
    await world.leap(HOUR_MS - 60_000)
    for stream, records in (("clicks", b"abc"), ("visits", b"de"), ("clicks", b"f")):
        async with world.running(clicks=world.config(**SLOW), visits=world.config("visits", **SLOW)) as service:
            for runner in service.runners.values():
                await runner.pause(True)
            for record in records:
                await put(service, stream, bytes([record]))
                if record == ord("a"):
                    await world.leap(120_000)
    async with world.running(clicks=world.config(**SLOW), visits=world.config("visits", **SLOW)) as service:
        await world.until(lambda: service.log.stats().unbanked == 0)


async def go_on(world: ServiceWorld, service) -> None:  # type: ignore[no-untyped-def] # one line of help
    for runner in service.runners.values():
        await runner.pause(False)


async def test_a_segment_that_is_gone_is_told_counted_and_passed(world: ServiceWorld) -> None:
    await fill(world)
    first = segments(world)[0]
    lose(first)
    async with world.opened() as service:
        (event,) = world.telemetry.of(SegmentMissing)
        assert (event.path, event.streams, event.rows) == (str(first), 1, 3)
        answer = await ask(service, "audit")
        assert answer["problems"] == [f"{first} is missing: its records that were not done are unreadable"]
        assert (await ask(service, "status"))["problems"] == answer["problems"]
        assert await total(service) == {"accepted": 4, "unreadable": 3, "pending": 1}, "and it closes for each hour"
    async with world.running(clicks=world.config(), visits=world.config("visits")) as service:
        await go_on(world, service)
        await put(service, "clicks", b"new")
        await world.delivered(service)
        assert await total(service) == {"accepted": 5, "unreadable": 3, "delivered": 2}
        assert await total(service, "visits") == {"accepted": 2, "delivered": 2}
        await world.until(lambda: not service.log.troubles(), "the missing segment is done with")
        assert (await ask(service, "audit"))["problems"] == []
    assert sum(event.records for event in world.telemetry.of(RecordsUnreadable)) == 3
    assert world.records() == {b"f": 1, b"new": 1} and world.records("visits") == {b"d": 1, b"e": 1}
    world.telemetry.events.clear()
    async with world.opened() as service:
        assert not world.telemetry.of(SegmentMissing), "it is told until it is accounted for"
        assert await total(service) == {"accepted": 5, "unreadable": 3, "delivered": 2}


async def test_a_copy_without_any_segment_still_accounts_for_all(world: ServiceWorld) -> None:
    await fill(world)
    for path in segments(world):
        lose(path)
    async with world.running(clicks=world.config(), visits=world.config("visits")) as service:
        await go_on(world, service)
        await world.until(lambda: not service.log.troubles())
        assert await total(service) == {"accepted": 4, "unreadable": 4}
        assert await total(service, "visits") == {"accepted": 2, "unreadable": 2}
        await world.until(lambda: not service.log.stats().segments)
        assert await service.state.banked_segments() == {}


async def test_rows_delivered_before_their_segment_went_are_not_counted_again(world: ServiceWorld) -> None:
    async with world.running(clicks=world.config()) as service:
        await put(service, "clicks", b"delivered")
        await world.delivered(service)
        await runner_of(service).pause(True)
        await put(service, "clicks", b"lost", b"lost, too")
    async with world.running(clicks=world.config()) as service:
        await world.until(lambda: service.log.stats().unbanked == 0)
    lose(segments(world)[0])
    async with world.opened() as service:
        assert await total(service) == {"accepted": 3, "delivered": 1, "unreadable": 2}


async def test_a_deleted_stream_with_a_segment_gone_still_closes(world: ServiceWorld) -> None:
    async with world.running() as service:
        await service.create_stream("clicks", world.config(**SLOW), definition={})
        await put(service, "clicks", b"a", b"b")
    async with world.running() as service:
        await world.until(lambda: service.log.stats().unbanked == 0)
        await put(service, "clicks", b"c")
    lose(segments(world)[0])
    async with world.running() as service:
        await service.delete_stream("clicks")
        await world.until(lambda: not service.runners)
        assert await total(service) == {"accepted": 3, "unreadable": 2, "discarded": 1}
    async with world.opened() as service:
        assert await total(service) == {"accepted": 3, "unreadable": 2, "discarded": 1}


async def test_a_failed_record_on_its_way_again_is_counted_when_its_segment_goes(world: ServiceWorld) -> None:
    async with world.running(clicks=world.checked()) as service:
        await put(service, "clicks", b"bad one", b"fine")
        await world.delivered(service)
        await runner_of(service).pause(True)
        await world.leap(3 * HOUR_MS)
    async with world.running(clicks=world.checked()) as service:
        assert (await ask(service, "replay"))["replayed"] == 1
        assert await total(service) == {"accepted": 2, "delivered": 1, "pending": 1}
    async with world.running(clicks=world.checked()) as service:
        await world.until(lambda: service.log.stats().unbanked == 0)
    lose(segments(world)[-1])
    async with world.opened() as service:
        assert await total(service) == {"accepted": 2, "delivered": 1, "unreadable": 1}


# --- a disk that refuses ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("with_index", [True, False])
async def test_a_segment_the_disk_refuses_keeps_its_stream_waiting_and_no_other(
    world: ServiceWorld, with_index: bool
) -> None:
    await fill(world)
    first = segments(world)[0]
    heal = refuse(first, with_index=with_index)
    async with world.opened() as service:
        answer = await ask(service, "audit")
        clicks, visits = answer["streams"]
        assert not answer["closes"] and not clicks["closes"] and clicks["total"]["difference"] == 4
        assert str(first) in clicks["problem"] and "start again" in clicks["problem"]
        assert visits["closes"] and visits["total"]["pending"] == 2
        assert {each["name"]: each["backlog_records"] for each in (await ask(service, "status"))["streams"]} == {
            "clicks": 4,
            "visits": 2,
        }
    assert len(world.telemetry.of(SegmentUnavailable)) == with_index and not world.telemetry.of(SegmentMissing)
    async with world.running(clicks=world.config(), visits=world.config("visits")) as service:
        await go_on(world, service)
        await world.delivered(service, "visits")
        await world.until(lambda: runner_of(service).last_error, "it tells")
        (shown,) = (await ask(service, "status", stream="clicks"))["streams"]
        assert str(first) in shown["last_error"]["message"]
        assert shown["backlog_records"] in (3, 4)  # what lies in a later segment may go out
        assert (await total(service, "visits"))["delivered"] == 2
        heal()
        await world.delivered(service)
        assert await total(service) == {"accepted": 4, "delivered": 4}
    assert world.records() == dict.fromkeys((b"a", b"b", b"c", b"f"), 1)
    assert not world.telemetry.of(RecordsUnreadable)


async def test_a_replay_that_broke_off_in_a_refused_segment_keeps_nobody_from_starting(world: ServiceWorld) -> None:
    async with world.running(clicks=world.checked(), visits=world.config("visits")) as service:
        await put(service, "clicks", b"bad one")
        await world.delivered(service)
        await runner_of(service).pause(True)
        apply = service.state.apply

        async def breaks_off(*changes: Change) -> None:
            if isinstance(changes[0], FinishReplay):
                raise UnavailableError("the process is killed here")
            await apply(*changes)

        service.state.apply = breaks_off  # type: ignore[method-assign] # a kill at this very moment
        with pytest.raises(UnavailableError):
            await ask(service, "replay")
    heal = refuse(segments(world)[-1], with_index=False)
    async with world.running(clicks=world.checked(), visits=world.config("visits")) as service:
        await put(service, "visits", b"goes on")
        await world.delivered(service, "visits")
        answer = await ask(service, "audit")
        assert not answer["closes"] and "whether a replay that broke off is in the log" in answer["problems"][0]
        heal()
        world.mark.touch()
        await runner_of(service).pause(False)
        await world.delivered(service)
        await world.until(lambda: world.records())
        assert await total(service) == {"accepted": 1, "delivered": 1}
    assert world.records() == {b"bad one": 1}


async def test_moving_the_segment_away_lets_the_stream_go_on(world: ServiceWorld) -> None:
    await fill(world)
    first = segments(world)[0]
    refuse(first, with_index=False)
    async with world.running(clicks=world.config(), visits=world.config("visits")) as service:
        await go_on(world, service)
        await world.until(lambda: runner_of(service).last_error)
        assert not (await ask(service, "audit"))["closes"]
    first.rename(world.folder / "moved away")
    async with world.running(clicks=world.config(), visits=world.config("visits")) as service:
        await world.delivered(service)
        assert await total(service) == {"accepted": 4, "unreadable": 3, "delivered": 1}
        assert (await ask(service, "audit"))["closes"]
    assert [event.path for event in world.telemetry.of(SegmentMissing)] == [str(first)]


async def test_a_refused_segment_that_was_never_banked_keeps_the_account_open(world: ServiceWorld) -> None:
    """Nobody knows whose rows it holds: orphans are kept until it can be read."""
    async with world.running(clicks=world.config(**SLOW)) as service:
        await put(service, "clicks", b"a", b"b")
    heal = refuse(segments(world)[0], with_index=True)
    async with world.opened() as service:
        answer = await ask(service, "audit")
        assert not answer["closes"] and "cannot be read: its records are not in these numbers" in answer["problems"][0]
    async with world.running(visits=world.config("visits")) as service:  # clicks are an orphan
        await put(service, "visits", b"c")
        await world.delivered(service)
        await world.until(lambda: not service.log.stats().unbanked)
        assert await total(service, "visits") == {"accepted": 1, "delivered": 1}
        assert "clicks" in service.runners
    heal()
    async with world.running(visits=world.config("visits")) as service:
        await world.until(lambda: "clicks" not in service.runners)
        assert (await ask(service, "audit"))["closes"]
    assert world.records() == {b"a": 1, b"b": 1}


async def test_a_stream_is_not_removed_while_nobody_knows_what_it_holds(world: ServiceWorld) -> None:
    """Found by the simulation: what could not be read just then was never counted."""
    async with world.running() as service:
        await service.create_stream("clicks", world.config(**SLOW), definition={})
        await put(service, "clicks", b"a", b"b")
    heal = refuse(segments(world)[0], with_index=True)
    async with world.running() as service:
        await service.delete_stream("clicks")
        await world.until(lambda: [each for each in world.telemetry.of(StepFailed) if each.step == "delete"])
        assert "cannot be counted" in world.telemetry.of(StepFailed)[-1].error and "clicks" in service.runners
    heal()
    async with world.running() as service:
        await world.until(lambda: not service.runners)
        assert await total(service) == {"accepted": 2, "discarded": 2}
