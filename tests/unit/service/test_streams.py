"""Streams come from files, stay when they are edited, and go only when nothing waits."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from firehose.config.loader import load
from firehose.errors import NotFoundError
from firehose.service.events import RowsOfNobody, StreamDefined, StreamOrphaned, StreamRemoved, WorkerFailed
from firehose.service.runner import config_of, definition_of
from firehose.state import StreamRecord
from tests.service_world import ServiceWorld, ask, break_lake, put, runner_of, total

EXAMPLES = sorted((Path(__file__).parents[3] / "configs").glob("*.yaml"))

ENVIRONMENT = {"BUCKET": "bucket", "MASK_KEY": "k", "QUICKSTART_HOME": "/tmp"}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_a_definition_is_read_back_as_it_was(example: Path, tmp_path: Path) -> None:
    """Whatever a stream was defined with: orphans are delivered by what is kept of them."""
    key = tmp_path / "key"
    key.touch(0o600)
    key.write_bytes(bytes(range(32)))
    environment = {**ENVIRONMENT, "KEY_FILE": str(key)}
    for config in load([example], environment=environment).configuration.streams.values():
        record = StreamRecord("u1", "s", "config", definition_of(config), 1, 0)
        assert config_of(record) == config
        assert definition_of(config_of(record)) == record.definition


async def test_a_stream_keeps_its_identity_over_restarts_and_its_version_follows_its_definition(
    world: ServiceWorld,
) -> None:
    async with world.running(clicks=world.config()) as service:
        first = runner_of(service).record
    async with world.running(clicks=world.config()) as service:
        assert runner_of(service).record == first
    await world.clock.advance(5)
    async with world.running(clicks=world.config(compression="gzip")) as service:
        second = runner_of(service).record
        assert (second.uid, second.version, second.updated_ms) == (first.uid, 2, world.clock.now_ms())
    assert [event.version for event in world.telemetry.of(StreamDefined)] == [1, 1, 2]


async def test_an_edited_stream_delivers_its_backlog_as_it_is_defined_now(world: ServiceWorld) -> None:
    repair = break_lake(world)
    async with world.running(clicks=world.config()) as service:
        await put(service, "clicks", b"before")

        async def is_sealed() -> bool:
            return bool((await service.state.load(runner_of(service).record.uid)).intents)

        await world.until(is_sealed)
        runner_of(service).worker.pause(True)
        await put(service, "clicks", b"waiting")
    repair()
    prefix = {"type": "file", "path": str(world.lake), "prefix": "later/"}
    async with world.running(clicks=world.config(sink=prefix)) as service:
        await world.delivered(service)
        assert world.records("clicks") + world.records("later") == {b"before": 1, b"waiting": 1}
        assert world.records("later") == {b"waiting": 1}, "what was sealed keeps its key"
        assert await total(service) == {"accepted": 2, "delivered": 2}


@pytest.mark.parametrize("change", ["removed", "renamed"])
async def test_an_orphan_is_delivered_to_its_end_and_then_gone(world: ServiceWorld, change: str) -> None:
    repair = break_lake(world)
    async with world.running(clicks=world.config()) as service:
        await put(service, "clicks", b"one", b"two")
    now = {"visits": world.config("visits")} if change == "renamed" else {}
    async with world.running(**now) as service:
        (found,) = [each for each in (await ask(service, "status"))["streams"] if each["name"] == "clicks"]
        assert (found["state"], found["backlog_records"]) == ("orphaned", 2)
        assert service.stream("clicks").status == "DELETING", "the nearest word that the API has"
        with pytest.raises(NotFoundError, match="'clicks' is orphaned: no file defines it"):
            await put(service, "clicks", b"three")
        repair()
        await world.until(lambda: "clicks" not in service.runners)
        assert await total(service) == {"accepted": 2, "delivered": 2}, "its account stays"
    assert world.records() == {b"one": 1, b"two": 1}
    assert len(world.telemetry.of(StreamOrphaned)) == 1
    assert [(event.stream, event.discarded) for event in world.telemetry.of(StreamRemoved)] == [("clicks", 0)]


async def test_an_orphan_without_a_backlog_goes_even_if_it_could_not_work_any_more(world: ServiceWorld) -> None:
    async with world.running(clicks=world.checked()) as service:
        await put(service, "clicks", b"one")
        await world.delivered(service)
    configuration = world.configuration().model_copy(update={"functions": {}})
    async with world.opened(configuration) as service:
        task = asyncio.create_task(service.run(asyncio.Event()))
        await world.until(lambda: not service.runners)
        task.cancel()
        await asyncio.wait([task])


async def test_an_orphan_stays_while_failed_records_of_its_wait_for_a_replay(world: ServiceWorld) -> None:
    async with world.running(clicks=world.checked()) as service:
        await put(service, "clicks", b"good", b"bad one", b"bad two")
        await world.delivered(service)
        uid = runner_of(service).record.uid
    async with world.running(klicks=world.checked("klicks")) as service:  # as after a slip of the pen
        await world.clock.advance(60_000)
        (found,) = [each for each in (await ask(service, "status"))["streams"] if each["name"] == "clicks"]
        assert (found["state"], found["backlog_records"], found["failed_records"]) == ("orphaned", 0, 2)
    async with world.running(clicks=world.checked()) as service:
        assert runner_of(service).record.uid == uid
    world.mark.touch()  # the function is repaired
    async with world.running() as service:
        assert (await ask(service, "replay"))["replayed"] == 2
        await world.until(lambda: not service.runners)
        assert await total(service) == {"accepted": 3, "delivered": 3}
    assert world.records() == {b"good": 1, b"bad one": 1, b"bad two": 1}


async def test_an_orphan_whose_function_is_gone_stays_and_says_so(world: ServiceWorld) -> None:
    async with world.running(clicks=world.checked()) as service:
        await service.runners["clicks"].pause(True)
        await put(service, "clicks", b"one")
    configuration = world.configuration().model_copy(update={"functions": {}})
    async with world.opened(configuration) as service:
        task = asyncio.create_task(service.run(asyncio.Event()))
        await world.until(lambda: runner_of(service).last_error)
        (found,) = (await ask(service, "status"))["streams"]
        assert (found["state"], found["paused"], found["backlog_records"]) == ("orphaned", True, 1)
        assert "check" in found["last_error"]["message"]
        assert await total(service) == {"accepted": 1, "pending": 1}
        task.cancel()
        await asyncio.wait([task])


async def test_a_stream_that_comes_back_to_its_file_is_no_orphan_any_more(world: ServiceWorld) -> None:
    repair = break_lake(world)
    async with world.running(clicks=world.config()) as service:
        await put(service, "clicks", b"one")
        uid = runner_of(service).record.uid
    async with world.running():
        pass
    repair()
    async with world.running(clicks=world.config()) as service:
        assert runner_of(service).record.uid == uid
        await put(service, "clicks", b"two")
        await world.delivered(service)
    assert world.records() == {b"one": 1, b"two": 1}


# --- what nobody owns ------------------------------------------------------------------------------------------------


async def test_rows_of_a_stream_that_the_state_does_not_know_are_kept_and_told(world: ServiceWorld) -> None:
    async with world.running(clicks=world.config(buffer={"interval": "900s"})) as service:
        uid = runner_of(service).record.uid
        await put(service, "clicks", b"one", b"two")
    connection = sqlite3.connect(world.data / "state.db")  # a state of before the stream was made
    connection.executescript("DELETE FROM streams; DELETE FROM positions; DELETE FROM account;")
    connection.close()
    async with world.running() as service:
        await world.clock.advance(5_000)
        assert [event.uid for event in world.telemetry.of(RowsOfNobody)] == [uid]
        assert service.log.stream_uids() == {uid}
        (account,) = (await ask(service, "audit"))["streams"]
        assert (account["stream"], account["kind"], account["uid"]) == ("?", "unknown", uid)
        assert account["closes"] and account["total"]["pending"] == 2


async def test_a_worker_that_cannot_be_built_says_why_and_does_not_stop_the_others(world: ServiceWorld) -> None:
    key = world.folder / "key"
    key.touch(0o600)
    key.write_bytes(bytes(range(200, 232)))
    encrypted = world.config(encryption={"type": "client_side", "key_file": str(key)})
    key.write_bytes(b"too short")
    async with world.running(clicks=encrypted, visits=world.config("visits")) as service:
        await put(service, "clicks", b"kept")
        await put(service, "visits", b"goes on")
        await world.delivered(service, "visits")
        status = await ask(service, "status", stream="clicks")
        assert status["streams"][0]["state"] == "failing"
        assert "key" in status["streams"][0]["last_error"]["message"]
        assert world.telemetry.of(WorkerFailed)
        key.write_bytes(bytes(range(200, 232)))
        await world.delivered(service, "clicks")
        assert (await ask(service, "status", stream="clicks"))["streams"][0]["last_error"] is None
