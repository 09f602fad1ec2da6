"""`status`, `pause`, `resume`, `flush`, and what the service does by itself meanwhile."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest

from firehose.clock import HOUR_MS
from firehose.delivery.events import BufferSpilled, StepFailed
from firehose.delivery.worker import StreamWorker
from firehose.errors import ConflictError, FirehoseError, InvalidError, NotFoundError, StaleEpochError, UnavailableError
from firehose.executors import InlineExecutor
from firehose.operations import VERBS, bound_verbs
from firehose.service import Service
from firehose.service.events import WorkerFailed
from firehose.service.runner import STEADY_MS
from firehose.stores.sqlite import SqliteStateStore
from firehose.telemetry import UnexpectedError
from tests.service_world import ServiceWorld, ask, break_lake, open_objects, put, runner_of, total

SLOW = {"buffer": {"interval": "900s"}}


async def state_of(service, name: str = "clicks"):  # type: ignore[no-untyped-def]
    (found,) = (await ask(service, "status", stream=name))["streams"]
    return found


async def test_status_shows_backlog_and_the_age_of_the_oldest_undelivered_record(world: ServiceWorld) -> None:
    async with world.running(clicks=world.config(**SLOW)) as service:
        found = await state_of(service)
        assert found["backlog_records"] == found["backlog_bytes"] == 0 and found["freshness_ms"] is None
        await put(service, "clicks", b"12345", b"123")
        await world.clock.advance(70_000)
        await put(service, "clicks", b"1")
        found = await state_of(service)
        assert (found["backlog_records"], found["backlog_bytes"], found["freshness_ms"]) == (3, 9, 70_000)
        assert (found["state"], found["origin"], found["version"], found["paused"]) == (
            "delivering",
            "config",
            1,
            False,
        )
        assert found["last_error"] is None
    async with world.opened() as service:
        found = await state_of(service)
        assert (found["state"], found["backlog_records"], found["freshness_ms"]) == ("stopped", 3, 70_000)
        whole = await ask(service, "status")
        assert whole["data_dir"] == str(world.data) and whole["log_bytes"] > 0
        assert whole["memory_used_bytes"] == 0


async def test_status_does_not_count_what_is_done_out_of_order(world: ServiceWorld) -> None:
    async with world.running(clicks=world.checked(failed={"buffer": {"interval": "900s"}, "prefix": "f/"})) as service:
        await put(service, "clicks", b"bad 1", *(b"good %d" % number for number in range(9)))
        await world.until(lambda: world.records().total() == 9)

        async def is_one_left() -> bool:
            return (await state_of(service))["backlog_records"] == 1

        await world.until(is_one_left, "only the one that waits for the error output is left")


async def test_status_shows_what_keeps_a_stream_from_delivering_until_it_does(world: ServiceWorld) -> None:
    repair = break_lake(world)
    async with world.running(clicks=world.config(), visits=world.config("visits", **SLOW)) as service:
        await put(service, "clicks", b"one")
        await world.until(lambda: runner_of(service).last_error)
        found = await state_of(service)
        assert (found["state"], found["open_objects"]) == ("failing", 1)
        assert found["last_error"]["code"] == "File.Conflict" and "lake" in found["last_error"]["message"]
        assert (await state_of(service, "visits"))["state"] == "delivering"
        repair()
        await world.delivered(service, "clicks")
        found = await state_of(service)
        assert (found["state"], found["last_error"]) == ("delivering", None)


async def test_a_paused_stream_takes_puts_and_stays_paused_over_restarts(world: ServiceWorld) -> None:
    async with world.running(clicks=world.config()) as service:
        assert await ask(service, "pause", stream="clicks") == {"streams": ["clicks"], "paused": True}
        await put(service, "clicks", b"one")
        await world.clock.advance(60_000)
        assert (await state_of(service))["state"] == "paused"
    async with world.opened() as service:
        assert (await state_of(service))["state"] == "paused"
    async with world.running(clicks=world.config()) as service:
        await put(service, "clicks", b"two")
        await world.clock.advance(60_000)
        assert not world.records() and await total(service) == {"accepted": 2, "pending": 2}
        with pytest.raises(ConflictError, match="stream 'clicks' is paused; `firehose resume clicks` first"):
            await ask(service, "flush", stream="clicks")
    async with world.opened() as service:
        assert await ask(service, "resume", stream="clicks") == {"streams": ["clicks"], "paused": False}
    async with world.running(clicks=world.config()) as service:
        await world.delivered(service)
    assert world.records() == {b"one": 1, b"two": 1}


async def test_a_stream_that_was_edited_stays_paused(world: ServiceWorld) -> None:
    async with world.running(clicks=world.config()) as service:
        await ask(service, "pause", stream="clicks")
    async with world.running(clicks=world.config(compression="gzip")) as service:
        assert (await state_of(service))["state"] == "paused"


async def flushed(world: ServiceWorld, service: Service, stream: str) -> None:
    """Flush as the command does. No time passes: a buffer's interval cannot help."""
    answer = await ask(service, "flush", stream=stream)
    while not answer["done"]:
        await world.clock.advance(0)
        await asyncio.sleep(0.002)  # threads need real time
        answer = await ask(service, "flush", stream=stream, heads=answer["heads"])


async def test_a_flush_delivers_what_was_accepted_before_it(world: ServiceWorld) -> None:
    async with world.running(clicks=world.config(**SLOW), visits=world.config("visits", **SLOW)) as service:
        await put(service, "visits", b"two")
        for number in range(20):
            await put(service, "clicks", b"%d" % number)
            await flushed(world, service, "clicks")
            assert world.records() == {b"%d" % each: 1 for each in range(number + 1)}
        assert not world.records("visits")
        with pytest.raises(InvalidError, match="flush needs the name of a stream"):
            await ask(service, "flush")


async def test_a_flush_without_a_worker_says_what_to_do(world: ServiceWorld) -> None:
    async with world.running(clicks=world.config(**SLOW)) as service:
        await put(service, "clicks", b"one")
    async with world.opened() as service:
        with pytest.raises(UnavailableError, match=r"no service runs, so nothing of .clicks. was flushed"):
            await ask(service, "flush", stream="clicks")


@pytest.mark.parametrize("verb", ["status", "pause", "resume", "flush", "replay", "failed_ls", "failed_stats", "audit"])
async def test_a_stream_that_is_not_there_is_told_with_those_that_are(world: ServiceWorld, verb: str) -> None:
    async with world.running(clicks=world.config()) as service:
        with pytest.raises(NotFoundError, match="no delivery stream 'klicks'; there are: clicks"):
            await ask(service, verb, stream="klicks")
    async with world.running() as service:
        await world.until(lambda: not service.runners)
        with pytest.raises(NotFoundError, match="there are: none"):
            await ask(service, verb, stream="klicks")


async def test_the_admin_door_hands_on_what_is_wrong_in_our_words(world: ServiceWorld) -> None:
    async with world.opened() as service:
        verbs = bound_verbs(service)
        assert verbs.keys() == VERBS.keys()
        with pytest.raises(FirehoseError, match="no delivery stream 'klicks'") as caught:
            await verbs["status"]({"stream": "klicks"})
        assert caught.value.code == "NotFound"


# --- what must not stop the others -----------------------------------------------------------------------------------


async def test_a_bug_in_one_stream_is_told_and_tried_again(
    world: ServiceWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    works = StreamWorker.run

    async def broken(self: StreamWorker) -> None:
        if self.plan.identity.name == "clicks":
            raise AssertionError("a bug of ours")
        await works(self)

    monkeypatch.setattr(StreamWorker, "run", broken)
    async with world.running(clicks=world.config(), visits=world.config("visits")) as service:
        await put(service, "clicks", b"one")
        await put(service, "visits", b"two")
        await world.delivered(service, "visits")
        await world.until(lambda: len(world.telemetry.of(WorkerFailed)) > 3)
        assert "AssertionError: a bug of ours" in (await state_of(service))["last_error"]["message"]
        waits = [event.retry_in_ms for event in world.telemetry.of(WorkerFailed)]
        assert waits[0] < waits[3], "each time it waits for longer"
        monkeypatch.undo()
        await world.delivered(service)
    assert world.records() == {b"one": 1}
    assert {event.where for event in world.telemetry.of(UnexpectedError)} == {"stream clicks"}


async def test_a_worker_that_ran_well_for_long_starts_again_quickly(
    world: ServiceWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def runs_and_fails(self: StreamWorker) -> None:
        await world.clock.sleep_ms(STEADY_MS)
        raise UnavailableError("after a while")

    monkeypatch.setattr(StreamWorker, "run", runs_and_fails)
    async with world.running(clicks=world.config()):
        await world.until(lambda: len(world.telemetry.of(WorkerFailed)) > 12)
    assert max(event.retry_in_ms for event in world.telemetry.of(WorkerFailed)) < 1_000


async def test_housekeeping_that_fails_is_tried_again(world: ServiceWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world.running(clicks=world.config()) as service:
        errors: list[BaseException] = [UnavailableError("disk"), OSError(5, "disk"), AssertionError("a bug")]
        reclaim, done = service.log.reclaim, asyncio.Event()

        async def failing(*given: Any) -> list[str]:
            if errors:
                raise errors.pop(0)
            done.set()
            return await reclaim(*given)

        monkeypatch.setattr(service.log, "reclaim", failing)
        await world.until(done.is_set)
        await put(service, "clicks", b"one")
        await world.delivered(service)
    assert [event.code for event in world.telemetry.of(StepFailed)] == ["ServiceUnavailable", "InternalError"]
    assert [event.where for event in world.telemetry.of(UnexpectedError)] == ["housekeeping"]


async def test_a_service_whose_state_was_taken_over_ends(world: ServiceWorld) -> None:
    async with world.opened(world.configuration(clicks=world.config())) as service:
        started = asyncio.Event()
        task = asyncio.create_task(service.run(started))
        await started.wait()
        successor = await SqliteStateStore.open(world.data / "state.db", InlineExecutor())
        await put(service, "clicks", b"one")
        await world.until(task.done)
        with pytest.raises(BaseExceptionGroup) as caught:
            task.result()
        assert caught.group_contains(StaleEpochError)
        await successor.close()


async def test_stopping_a_stream_ends_it_even_where_it_fails_at_that_moment(
    world: ServiceWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task group that meets an error while it is cancelled raises the error alone, and the cancellation is lost."""

    async def fails_when_cancelled(self: StreamWorker) -> None:
        async with asyncio.TaskGroup() as tasks:

            async def work() -> None:
                try:
                    await asyncio.Event().wait()
                finally:
                    raise UnavailableError("while it stops")

            tasks.create_task(work())

    monkeypatch.setattr(StreamWorker, "run", fails_when_cancelled)
    async with world.running() as service:
        await service.create_stream("clicks", world.config(), definition={})
        await world.until(lambda: runner_of(service).worker)
        await service.delete_stream("clicks")
        await world.until(lambda: not service.runners)


# --- memory ----------------------------------------------------------------------------------------------------------


async def test_streams_give_up_memory_one_after_another_until_there_is_enough(world: ServiceWorld) -> None:
    names = [f"s{number}" for number in range(6)]
    async with world.running(**{name: world.config(name, **SLOW) for name in names}) as service:
        await world.until(lambda: all(runner.worker for runner in service.runners.values()))
        for name in names:
            await put(service, name, os.urandom(300_000))
        await world.until(lambda: service.budget.used_bytes > 6 * 300_000)
        service.budget.limit_bytes = 5 * 2**20 // 4
        await put(service, "s0", b"one more")
        await world.until(lambda: service.budget.used_bytes < 2 * 300_000)
        assert len({event.stream for event in world.telemetry.of(BufferSpilled)}) > 4
        assert all(event.spilled_bytes for event in world.telemetry.of(BufferSpilled)), "nobody is asked in vain"
        for name in names:
            await ask(service, "flush", stream=name)
        await world.delivered(service)
        assert (await ask(service, "audit"))["closes"]


# --- the rest of the state -------------------------------------------------------------------------------------------


async def test_segments_are_banked_and_go_once_everything_in_them_is_done(world: ServiceWorld) -> None:
    async with world.running(clicks=world.config()) as service:
        for _ in range(3):
            await put(service, "clicks", b"x" * 1_000)
            await world.delivered(service)
            await world.leap(HOUR_MS)
        await world.until(lambda: not list((world.data / "log").glob("*.log")))
        assert await total(service) == {"accepted": 3, "delivered": 3}
        assert open_objects(service) == 0
    async with world.running(clicks=world.config()) as service:
        assert await total(service) == {"accepted": 3, "delivered": 3}
        assert (await service.state.load(runner_of(service).record.uid)).intents == ()
