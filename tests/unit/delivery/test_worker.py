from __future__ import annotations

import asyncio

from firehose.delivery.events import (
    DeliveryFailed,
    RecordsExpired,
)
from firehose.errors import AccessDeniedError, UnavailableError
from firehose.records import Outcome
from tests.unit.delivery.failing import FailOdd, records


async def test_a_cell_is_delivered_when_its_first_record_reached_the_interval(world):
    async with world.worker():
        world.source.put("s", records(3), arrival_ms=world.clock.now_ms())
        await world.clock.advance(59_999)
        assert not world.sink.objects
        await world.clock.advance(1)
        assert await world.delivered() == records(3)
        assert await world.account() == {"delivered": 3}
        assert world.source.released["s"] == 2


async def test_a_cell_is_delivered_when_it_reaches_its_size_without_waiting(world):
    async with world.worker():
        world.source.put("s", records(250), arrival_ms=world.clock.now_ms())
        await world.clock.settle()
        assert sorted(len(body) for _, body in world.sink.objects.values()) == [1100, 1100]
        await world.clock.advance(60_000)
        assert sorted(await world.delivered()) == records(250)


async def test_a_key_says_stream_version_and_arrival_of_the_oldest_record(world):
    async with world.worker():
        world.source.put("s", records(1), arrival_ms=1_783_951_509_000)
        await world.clock.advance(60_000)
    (key,) = world.sink.objects
    assert key.startswith("good/2026/07/13/14/clicks-1-2026-07-13-14-05-09-")


async def test_a_failing_sink_gets_the_same_bytes_under_the_same_key_until_it_heals(world):
    failures = iter([UnavailableError("down")] * 3 + [AccessDeniedError("no", code="S3.AccessDenied")])
    world.sink.fault = lambda step, delivery: next(failures, None) if step == "before" else None
    async with world.worker() as worker:
        world.source.put("s", records(3), arrival_ms=world.clock.now_ms())
        await world.clock.advance(60_000)
        assert worker.last_error is not None
        await world.clock.advance(120_000)
        assert worker.last_error is None
        assert len(set(world.sink.attempts)) == 1 and len(world.sink.attempts) == 5
        assert await world.delivered() == records(3)
    assert [event.code for event in world.telemetry.of(DeliveryFailed)][-1] == "S3.AccessDenied"


async def test_a_lost_reply_after_success_does_not_deliver_twice(world):
    lost = iter([UnavailableError("reset")])
    world.sink.fault = lambda step, delivery: next(lost, None) if step == "after" else None
    async with world.worker():
        world.source.put("s", records(3), arrival_ms=world.clock.now_ms())
        await world.clock.advance(120_000)
        assert await world.delivered() == records(3)
        assert await world.account() == {"delivered": 3}


async def test_records_beyond_retention_expire_loudly(world):
    world.retention_ms = 100_000
    async with world.worker():
        await world.clock.advance(100_000)
        world.source.put("s", records(5), arrival_ms=world.clock.now_ms() - 100_001)
        world.source.put("s", records(5), arrival_ms=world.clock.now_ms())
        await world.clock.advance(61_000)
        assert await world.account() == {"expired": 5, "delivered": 5}
    assert [event.records for event in world.telemetry.of(RecordsExpired)] == [5]


async def test_time_in_which_nothing_could_be_delivered_expires_nothing(world):
    world.retention_ms = 100_000
    world.source.put("s", records(5), arrival_ms=world.clock.now_ms())
    await world.clock.advance(200_000)  # the service is stopped
    async with world.worker() as worker:
        await world.clock.advance(1_000)
        worker.pause(True)
        world.source.put("s", records(5), arrival_ms=world.clock.now_ms())
        await world.clock.advance(200_000)
        worker.pause(False)
        await world.clock.advance(61_000)
        assert await world.account() == {"delivered": 10}
    assert not world.telemetry.of(RecordsExpired)


async def test_a_closed_shard_is_remembered_until_the_source_has_reclaimed_it(world):
    world.source.put("s", records(5), arrival_ms=world.clock.now_ms())
    world.source.end("s")
    async with world.worker():
        await world.clock.advance(61_000)
    async with world.worker():  # the source hands it out again
        await world.clock.advance(61_000)
    assert await world.delivered() == records(5)
    world.source.reclaim()
    async with world.worker():
        await world.clock.settle()
    state = await world.open_state()
    assert (await state.load("u1")).done == ()
    await state.close()


async def test_a_paused_worker_reads_and_seals_nothing(world):
    async with world.worker() as worker:
        worker.pause(True)
        world.source.put("s", records(5), arrival_ms=world.clock.now_ms())
        await world.clock.advance(120_000)
        assert not world.sink.objects
        worker.pause(False)
        await world.clock.advance(60_000)
        assert await world.delivered() == records(5)


async def test_a_paused_worker_sends_nothing_that_is_finished_already(world):
    world.sink.fault = lambda step, delivery: UnavailableError("down")
    async with world.worker() as worker:
        world.source.put("s", records(5), arrival_ms=world.clock.now_ms())
        await world.clock.advance(70_000)
        assert worker.open_objects == 1
        worker.pause(True)
        world.sink.fault = lambda step, delivery: None
        await world.clock.advance(600_000)
        assert not world.sink.objects
        worker.pause(False)
        await world.clock.advance(60_000)
        assert await world.delivered() == records(5)


async def test_hurry_tries_a_step_that_waits_at_once(world):
    is_away = True

    class Away:
        async def apply(self, batch):
            if is_away:
                raise UnavailableError("the function is away")
            return Outcome(batch)

        async def close(self):
            pass

    world.transforms = (Away(),)
    async with world.worker() as worker:
        world.source.put("s", records(5), arrival_ms=world.clock.now_ms())
        await world.clock.advance(300_000)
        is_away = False
        await world.clock.settle()
        assert worker.last_error
        worker.hurry()
        await worker.flush(await worker.heads())  # no time passes
        assert await world.delivered() == records(5)


async def test_a_flush_ends_when_everything_up_to_its_heads_is_delivered(world):
    world.transforms = (FailOdd(),)
    async with world.worker() as worker:
        world.source.put("s", records(5), arrival_ms=world.clock.now_ms())
        heads = await worker.heads()  # before anything of it was read
        await worker.flush(heads)
        assert heads == {"s": 4}
        assert await world.account() == {"delivered": 1, "failed": 2, "dropped": 2}


async def test_a_flush_leaves_what_came_after_it_in_the_buffer(world):
    async with world.worker() as worker:
        world.source.put("s", records(5), arrival_ms=world.clock.now_ms())
        heads = await worker.heads()
        await worker.flush(heads)
        world.source.put("s", records(3), arrival_ms=world.clock.now_ms())
        await world.clock.settle()
        await worker.flush(heads)
        await world.clock.settle()
        assert await world.delivered() == records(5)


async def test_a_flush_waits_for_a_sink_that_fails_and_tries_it_at_once(world):
    world.sink.fault = lambda step, delivery: UnavailableError("down")
    async with world.worker() as worker:
        world.source.put("s", records(5), arrival_ms=world.clock.now_ms())
        flush = asyncio.create_task(worker.flush(await worker.heads()))
        await world.clock.advance(600_000)
        assert not flush.done() and not world.sink.objects
        world.sink.fault = lambda step, delivery: None
        worker.hurry()
        await worker.flush(await worker.heads())  # no time passes
        await world.clock.settle()
        assert flush.done() and await world.delivered() == records(5)


async def test_a_flush_of_a_backlog_fills_its_objects(world):
    world.source.put("s", [b"%09d" % number for number in range(1_000)], arrival_ms=world.clock.now_ms())
    async with world.worker() as worker:
        await worker.flush(await worker.heads())
        assert len(await world.delivered()) == 1_000
        assert len(world.sink.objects) <= 12, "9,000 bytes in objects of 1,000"


async def test_a_flush_of_a_shard_that_ended_ends(world):
    async with world.worker() as worker:
        world.source.put("s", records(5), arrival_ms=world.clock.now_ms())
        flush = asyncio.create_task(worker.flush(await worker.heads()))
        world.source.end("s")
        await flush
        assert await world.delivered() == records(5)


async def test_a_restart_does_not_postpone_what_waited_long_enough(world):
    world.source.put("s", records(5), arrival_ms=world.clock.now_ms() - 50_000)
    async with world.worker():
        await world.clock.advance(9_000)
        assert not world.sink.objects
    async with world.worker():
        await world.clock.advance(1_000)
        assert await world.delivered() == records(5)


async def test_objects_finished_before_a_crash_are_sent_again_not_made_again(world):
    world.sink.fault = lambda step, delivery: UnavailableError("down")
    async with world.worker():
        world.source.put("s", records(5), arrival_ms=world.clock.now_ms())
        await world.clock.advance(60_000)
    world.sink.fault = lambda step, delivery: None
    world.transforms = (FailOdd(),)  # another answer the second time changes nothing
    async with world.worker():
        await world.clock.advance(60_000)
    assert await world.delivered() == records(5)
    assert await world.account() == {"delivered": 5}


async def test_an_object_that_stands_although_its_bytes_are_gone_is_not_made_again(world):
    lost = iter([UnavailableError("reset")] * 100)
    world.sink.fault = lambda step, delivery: next(lost) if step == "after" else None
    async with world.worker():
        world.source.put("s", records(5), arrival_ms=world.clock.now_ms())
        await world.clock.advance(60_000)
    for path in (world.folder / "streams" / "u1" / "outbox").iterdir():
        path.unlink()
    world.sink.fault = lambda step, delivery: None
    world.transforms = (FailOdd(),)
    async with world.worker():
        await world.clock.advance(120_000)
    assert await world.delivered() == records(5)
    assert await world.account() == {"delivered": 5}


async def test_an_object_whose_bytes_are_gone_is_made_again_under_its_key(world):
    world.sink.fault = lambda step, delivery: UnavailableError("down")
    async with world.worker():
        world.source.put("s", records(8), arrival_ms=world.clock.now_ms())
        await world.clock.advance(60_000)
    for path in (world.folder / "streams" / "u1" / "outbox").iterdir():
        path.unlink()
    world.sink.fault = lambda step, delivery: None
    world.transforms = (FailOdd(),)
    async with world.worker():
        await world.clock.advance(180_000)
    assert set(world.sink.attempts) == set(world.sink.objects) and len(world.sink.objects) == 1
    assert await world.account() == {"delivered": 2, "dropped": 2, "failed": 4}


async def test_memory_asked_for_spills_the_largest_cell_and_nothing_is_lost(world):
    async with world.worker() as worker:
        world.source.put("s", records(20), arrival_ms=world.clock.now_ms())
        await world.clock.settle()
        held = world.budget.used_bytes
        worker.ask_to_spill()
        await world.clock.settle()
        assert world.budget.used_bytes < held - 500
        world.source.put("s", records(20), arrival_ms=world.clock.now_ms())
        await world.clock.advance(60_000)
        assert await world.delivered() == records(20) * 2
    assert world.budget.used_bytes == 0
