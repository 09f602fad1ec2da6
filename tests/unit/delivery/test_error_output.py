"""Failed records: where they end, and where they wait while their error output cannot be written."""

from __future__ import annotations

import orjson
import pybase64

from firehose.delivery.events import FailedQuotaFull, FailedQuotaHasRoom, RecordsUnreadable
from firehose.errors import AccessDeniedError, UnavailableError
from tests.unit.delivery.failing import FailOdd, records
from tests.world import World


async def waiting_for_the_error_output(world: World) -> None:
    """Let a worker live that delivers the good records of a shard, and cannot write where its failed ones should go."""
    world.failed_sink.fault = lambda step, delivery: AccessDeniedError("no")
    world.transforms = (FailOdd(),)
    async with world.worker():
        world.source.put("s", records(7), arrival_ms=world.clock.now_ms())
        world.source.end("s")
        await world.clock.advance(120_000)
        assert await world.account() == {"delivered": 2, "dropped": 2}


async def test_failed_and_dropped_records_end_where_they_belong_and_the_account_closes(world):
    world.transforms = (FailOdd(),)
    async with world.worker():
        world.source.put("s", records(100), arrival_ms=world.clock.now_ms())
        await world.clock.advance(61_000)
        assert await world.account() == {"delivered": 25, "dropped": 25, "failed": 50}
    (key,) = world.failed_sink.objects
    assert key.startswith("bad/processing-failed/2026/01/01/00/clicks-1-")
    entries = [orjson.loads(line) for line in world.failed_sink.objects[key][1].splitlines()]
    assert [pybase64.b64decode(entry["rawData"]) for entry in entries] == records(100)[1::2]
    assert entries[0] | {"rawData": ""} == {
        "attemptsMade": 1,
        "arrivalTimestamp": 1_767_225_600_000,
        "errorCode": "Lambda.ProcessingFailedStatus",
        "errorMessage": "no",
        "attemptEndingTimestamp": 5,
        "rawData": "",
        "sequenceNumber": "1",
        "subSequenceNumber": None,
        "shardId": "s",
    }


async def test_an_unwritable_error_output_does_not_hold_up_delivery_and_heals(world):
    world.transforms = (FailOdd(),)
    is_down = True
    world.failed_sink.fault = lambda step, delivery: AccessDeniedError("no") if is_down else None
    async with world.worker():
        world.source.put("s", records(40), arrival_ms=world.clock.now_ms())
        await world.clock.advance(61_000)
        assert len(await world.delivered()) == 10
        assert "failed" not in await world.account()
        is_down = False
        await world.clock.advance(60_000)
        assert await world.account() == {"delivered": 10, "dropped": 10, "failed": 20}


async def test_an_unwritable_error_output_keeps_nothing_of_the_source(world):
    """What was accepted after a failed record would fill the log otherwise, delivered or not."""
    await waiting_for_the_error_output(world)
    assert world.source.released["s"] == 6
    world.source.reclaim()
    for _ in range(2):
        async with world.worker() as worker:
            await world.clock.advance(60_000)
            assert worker.open_objects == 1
            assert await world.account() == {"delivered": 2, "dropped": 2}
    world.failed_sink.fault = lambda step, delivery: None
    async with world.worker() as worker:
        await world.clock.advance(120_000)
        assert worker.is_idle
    (entries,) = [body for _, body in world.failed_sink.objects.values()]
    assert sorted(pybase64.b64decode(orjson.loads(line)["rawData"]) for line in entries.splitlines()) == [
        b"0000000001",
        b"0000000003",
        b"0000000005",
    ]
    assert await world.account() == {"delivered": 2, "dropped": 2, "failed": 3}


async def test_failed_records_that_are_nowhere_any_more_are_counted_as_unreadable(world):
    """The outbox was lost that they waited in for their error output, and the source has let them go."""
    await waiting_for_the_error_output(world)
    world.source.reclaim()
    for path in (world.folder / "streams").rglob("*.objects"):
        path.unlink()
    world.failed_sink.fault = lambda step, delivery: None
    async with world.worker() as worker:
        await world.clock.advance(120_000)
        assert worker.is_idle
    assert await world.account() == {"delivered": 2, "dropped": 2, "unreadable": 3}
    assert [event.records for event in world.telemetry.of(RecordsUnreadable)] == [3]


async def test_a_full_quota_of_failed_records_stops_reading_and_drops_nothing(world):
    world.transforms, world.failed_quota_bytes = (FailOdd(),), 20_000
    is_down = True
    world.failed_sink.fault = lambda step, delivery: AccessDeniedError("no") if is_down else None
    total = 4_000
    async with world.worker() as worker:
        for _ in range(0, total, 40):
            world.source.put("s", records(40), arrival_ms=world.clock.now_ms())
            await world.clock.advance(1_000)
        await world.clock.advance(200_000)
        (full,) = world.telemetry.of(FailedQuotaFull)
        assert full.waiting_bytes >= full.quota_bytes == 20_000
        assert full.waiting_bytes < 3 * 20_000, "what was in the buffer already may be sealed"
        before = await world.account()
        assert 0 < before["delivered"] + before["dropped"] < total * 3 / 4, "reading stopped"
        assert not world.telemetry.of(FailedQuotaHasRoom) and worker.is_failed_quota_full
        is_down = False
        await world.clock.advance(600_000)
        assert await world.account() == {"delivered": total // 4, "dropped": total // 4, "failed": total // 2}
    assert len(world.telemetry.of(FailedQuotaHasRoom)) == len(world.telemetry.of(FailedQuotaFull)) >= 1


async def test_an_object_larger_than_the_quota_is_no_alarm_while_it_is_on_its_way(world):
    world.transforms, world.failed_quota_bytes = (FailOdd(),), 10
    async with world.worker():
        for _ in range(10):
            world.source.put("s", records(40), arrival_ms=world.clock.now_ms())
            await world.clock.advance(60_000)
        assert await world.account() == {"delivered": 100, "dropped": 100, "failed": 200}
    assert not world.telemetry.of(FailedQuotaFull)


async def test_many_objects_that_wait_ask_seldom_and_go_all_at_once_when_one_stands(world):
    is_down = True
    world.failed_sink.fault = lambda step, delivery: UnavailableError("down") if is_down else None
    world.transforms = (FailOdd(),)
    async with world.worker() as worker:
        for _ in range(320):
            world.source.put("s", records(4), arrival_ms=world.clock.now_ms())
            await world.clock.advance(60_000)
        assert worker.open_objects == 320
        before = len(world.failed_sink.attempts)
        await world.clock.advance(600_000)
        assert 20 * 16 / 2 <= len(world.failed_sink.attempts) - before <= 2 * 20 * 16, "not 320 every half minute"
        is_down = False
        await world.clock.advance(60_000)
        assert worker.open_objects == 0
