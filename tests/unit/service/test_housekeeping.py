"""What the service does beside delivering: measuring what waits, forgetting what is old."""

from __future__ import annotations

import pytest
from prometheus_client import generate_latest

from firehose.clock import HOUR_MS
from firehose.delivery.events import PartitionsMeasured, RecordIdsMeasured
from firehose.delivery.plan import DESTINATION, FAILED
from firehose.service import Service
from firehose.service.backlog import waiting
from firehose.service.events import BacklogMeasured, LogMeasured, StreamRemoved
from firehose.service.housekeeping import MEASURING_MS
from firehose.telemetry import Metrics, Telemetry
from tests.service_world import ServiceWorld, ask, break_lake, put, runner_of

SLOW = {"buffer": {"interval": "900s"}}


def latest(world: ServiceWorld, stream: str) -> tuple[int, int]:
    event = [each for each in world.telemetry.of(BacklogMeasured) if each.stream == stream][-1]
    return event.records, event.oldest_ms


async def remeasure(world: ServiceWorld) -> None:
    count = len(world.telemetry.of(LogMeasured))
    await world.until(lambda: len(world.telemetry.of(LogMeasured)) > count + 1, "measuring")


async def test_what_waits_is_measured(world: ServiceWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world.running(clicks=world.config(**SLOW), visits=world.config("visits")) as service:
        await put(service, "clicks", b"old")
        await world.clock.advance(60_000)
        await put(service, "clicks", b"new", b"newer")
        begun_ms = world.clock.now_ms()
        await remeasure(world)
        records, oldest_ms = latest(world, "clicks")
        assert records == 3 and 0 <= oldest_ms - 60_000 - (world.clock.now_ms() - begun_ms) + MEASURING_MS < 20_000
        assert latest(world, "visits") == (0, 0)
        event = world.telemetry.of(LogMeasured)[-1]
        assert event.quota_bytes == 10 * 2**30 and event.disk_bytes == service.log.stats().disk_bytes > 0
        shown = await ask(service, "status")
        assert (shown["log_is_full"], shown["log_bytes"], shown["problems"]) == (False, event.disk_bytes, [])
        monkeypatch.setattr(service.log._writer, "is_full", True)
        assert (await ask(service, "status"))["log_is_full"], "for want of disk, below its quota"
        await ask(service, "flush", stream="clicks")
        await world.delivered(service)
        await remeasure(world)
        assert latest(world, "clicks") == (0, 0)


async def test_what_was_delivered_out_of_order_does_not_wait(world: ServiceWorld) -> None:
    """A row that fails waits for the error output; those behind it are done."""
    failed = world.folder / "failed"
    failed.touch()  # a file where the sink's folder should be
    sink = {"type": "file", "path": str(failed)}
    prefix = "clicks-failed/!{firehose:error-output-type}/"
    async with world.running(clicks=world.checked(failed={"prefix": prefix, "sink": sink})) as service:
        await put(service, "clicks", b"bad", *(b"%d" % number for number in range(9)))

        async def is_one_left() -> bool:
            return (
                await waiting(service.log, service.state, runner_of(service).record.uid, has_objects=True)
            ).rows == 1

        await world.until(is_one_left)
        assert (await ask(service, "status"))["streams"][0]["backlog_records"] == 1


def text(telemetry: Telemetry) -> str:
    return generate_latest(telemetry.metrics.registry).decode()


def test_a_stream_that_is_no_more_is_in_no_gauge() -> None:
    telemetry = Telemetry(Metrics())
    telemetry.emit(StreamRemoved("clicks", 0))
    for stream in ("clicks", "visits"):
        telemetry.emit(BacklogMeasured(stream, 3, 1_500))
        telemetry.emit(RecordIdsMeasured(stream, 7, 4_096, 2_500))
        telemetry.emit(PartitionsMeasured(stream, 12, 500))
    assert 'firehose_backlog_records{stream="clicks"} 3.0' in text(telemetry)
    assert 'firehose_oldest_record_seconds{stream="clicks"} 1.5' in text(telemetry)
    assert 'firehose_active_partitions{stream="clicks"} 12.0' in text(telemetry)
    assert 'firehose_active_partitions_limit{stream="clicks"} 500.0' in text(telemetry)
    assert 'firehose_record_ids{stream="clicks"} 7.0' in text(telemetry)
    assert 'firehose_record_id_bytes{stream="clicks"} 4096.0' in text(telemetry)
    assert 'firehose_record_id_window_seconds{stream="clicks"} 2.5' in text(telemetry)
    telemetry.emit(StreamRemoved("clicks", 0))
    assert 'stream="clicks"' not in text(telemetry)
    assert 'firehose_backlog_records{stream="visits"} 3.0' in text(telemetry)


async def manifests(service: Service, outlet: str) -> int:
    return len(await service.state.manifests(runner_of(service).record.uid, outlet))


async def test_manifests_of_the_destination_go_when_they_are_old_and_failed_records_stay(world: ServiceWorld) -> None:
    async with world.running(clicks=world.checked()) as service:
        await put(service, "clicks", b"bad old", b"old")
        await world.delivered(service)
        await world.until(lambda: world.failures())
        await world.leap(service.configuration.server.manifest_retention_ms - HOUR_MS)
        await put(service, "clicks", b"bad new", b"new")
        await world.delivered(service)
        assert (await manifests(service, DESTINATION), await manifests(service, FAILED)) == (2, 2)
        await world.leap(2 * HOUR_MS)

        async def is_tidy() -> bool:
            return await manifests(service, DESTINATION) == 1

        await world.until(is_tidy)
        assert await manifests(service, FAILED) == 2
        assert len((await ask(service, "failed_ls"))["records"]) == 2
        world.mark.touch()
        assert (await ask(service, "replay"))["replayed"] == 2
        await world.delivered(service)
        assert world.records() == {b"old": 1, b"new": 1, b"bad old": 1, b"bad new": 1}


async def test_an_outage_leaves_nothing_out(world: ServiceWorld) -> None:
    repair = break_lake(world)
    async with world.running(clicks=world.config()) as service:
        await put(service, "clicks", b"waits")
        await world.leap(HOUR_MS)
        await remeasure(world)
        records, oldest_ms = latest(world, "clicks")
        assert records == 1 and oldest_ms >= HOUR_MS
        repair()
        await world.delivered(service)
