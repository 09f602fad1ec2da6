"""What `status` says of functions, of producers that are throttled, of record ids, and of what waits."""

from __future__ import annotations

import asyncio
import random

import pytest

from firehose.config.models import Configuration
from firehose.delivery.events import PartitionsMeasured, RecordIdsMeasured
from firehose.errors import ThrottledError
from firehose.state import Change, FinishIntent
from tests.service_world import ServiceWorld, ask, put


async def test_a_function_that_fails_is_the_last_error_until_it_answers(world: ServiceWorld) -> None:
    right = (world.folder / "check.py").read_text()
    (world.folder / "check.py").write_text("def handler(event, context):\n")
    config = world.config(transforms=[{"type": "lambda", "function": "check", "retries": 0}])
    async with world.running(clicks=config) as service:
        await put(service, "clicks", b"one")
        await world.delivered(service)
        (stream,) = (await ask(service, "status"))["streams"]
        assert stream["state"] == "delivering", "its records fail, the stream goes on"
        assert stream["last_error"]["code"] == "Lambda.FunctionError"
        assert stream["last_error"]["message"].startswith("function 'check': ")
        assert f"({world.folder}/check.py:1)" in stream["last_error"]["message"]
        (world.folder / "check.py").write_text(right)
        await put(service, "clicks", b"two")
        await world.delivered(service)
        assert (await ask(service, "status"))["streams"][0]["last_error"] is None


async def test_a_full_log_is_told(world: ServiceWorld) -> None:
    words = world.configuration(clicks=world.config()).model_dump(mode="json", by_alias=True)
    words["server"]["log_quota"] = "1MiB"
    configuration = type(world.configuration()).model_validate(words)
    chance = random.Random(0)
    async with world.running_as(configuration) as service:
        assert (await ask(service, "status"))["log_is_full"] is False
        await ask(service, "pause", stream="clicks")
        with pytest.raises(ThrottledError):
            for _ in range(100):
                await put(service, "clicks", chance.randbytes(500_000))
        assert (await ask(service, "status"))["log_is_full"] is True


async def test_a_record_waits_until_it_is_saved_that_its_object_stands(world: ServiceWorld) -> None:
    """A failed record has left the log by then; who asks for failed records next must find it."""
    async with world.running(clicks=world.checked()) as service:
        apply, may_go, is_asked = service.state.apply, asyncio.Event(), asyncio.Event()

        async def slow(*changes: Change) -> None:
            if any(isinstance(change, FinishIntent) for change in changes):
                is_asked.set()
                await may_go.wait()
            await apply(*changes)

        service.state.apply = slow  # type: ignore[method-assign] # a disk that takes its time
        await put(service, "clicks", b"bad one")
        await world.until(is_asked.is_set, "the end of the object")
        (found,) = (await ask(service, "status"))["streams"]
        assert (found["open_objects"], found["backlog_records"], found["failed_records"]) == (0, 1, 0)
        may_go.set()
        await world.delivered(service)
        (found,) = (await ask(service, "status"))["streams"]
        assert (found["backlog_records"], found["failed_records"]) == (0, 1)


async def test_what_is_known_of_record_ids_is_shown_and_measured(world: ServiceWorld) -> None:
    def of(stream: str) -> list[RecordIdsMeasured]:
        return [each for each in world.telemetry.of(RecordIdsMeasured) if each.stream == stream]

    streams = {"ids": world.config("ids", deduplicate={"record_id": "id"}), "plain": world.config("plain")}
    async with world.running(**streams) as service:
        await put(service, "ids", b'{"id": 1}', b'{"id": 2}', b'{"id": 1}', b"{}")
        await put(service, "plain", b'{"id": 1}', b'{"id": 1}')
        await world.delivered(service)
        await world.clock.advance(60_000)
        shown = {each["name"]: each for each in (await ask(service, "status"))["streams"]}
        known = shown["ids"]["deduplicate"]
        assert shown["plain"]["deduplicate"] is None
        assert (known["ids"], known["without_id"]) == (2, 1) and known["bytes"] > 0
        assert 60_000 <= known["window_ms"] < 3_600_000, "since the first of them came"
        assert not shown["ids"]["failed_quota_is_full"]
        await world.until(lambda: of("ids") and of("ids")[-1].reach_ms >= 60_000, "measuring")
        assert (of("ids")[-1].ids, of("ids")[-1].file_bytes) == (2, known["bytes"])
        assert not of("plain")


async def test_a_stream_that_may_fail_no_more_records_says_so(world: ServiceWorld) -> None:
    failed = world.folder / "failed"
    failed.touch()  # a file where the sink's folder should be
    words = world.configuration(
        clicks=world.checked(
            failed={"prefix": "!{firehose:error-output-type}/", "sink": {"type": "file", "path": str(failed)}}
        )
    ).model_dump(mode="json", by_alias=True)
    words["server"]["failed_quota"] = "1MiB"
    async with world.running_as(Configuration.model_validate(words)) as service:

        async def is_full() -> bool:
            await put(service, "clicks", b"bad" + random.Random(0).randbytes(400_000))
            return bool((await ask(service, "status"))["streams"][0]["failed_quota_is_full"])

        await world.until(is_full, "a full quota")
        failed.unlink()
        await world.delivered(service)
        assert not (await ask(service, "status"))["streams"][0]["failed_quota_is_full"]


async def test_active_partitions_are_shown_and_measured(world: ServiceWorld) -> None:
    sink = {"type": "file", "path": str(world.lake), "prefix": "visits/!{partitionKeyFromQuery:c}/"}
    partitioned = {"partition": {"query": "{c: .c}"}, "sink": sink, "buffer": {"interval": "900s"}}
    async with world.running(visits=world.config("visits", **partitioned), plain=world.config("plain")) as service:
        await put(service, "visits", b'{"c":1}', b'{"c":2}', b'{"c":1}')

        async def is_measured() -> bool:
            return any(event.active == 2 for event in world.telemetry.of(PartitionsMeasured))

        await world.until(is_measured, "measuring")
        shown = {each["name"]: each["active_partitions"] for each in (await ask(service, "status"))["streams"]}
        assert shown == {"visits": 2, "plain": None}
        await ask(service, "flush", stream="visits")
        await world.delivered(service)
        shown = {each["name"]: each["active_partitions"] for each in (await ask(service, "status"))["streams"]}
        assert shown == {"visits": 0, "plain": None}
