"""Streams come from files and from the API, stay when they are edited, and go only when nothing waits or on request."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from firehose.config.loader import load
from firehose.config.models import StreamConfig
from firehose.errors import ConfigError, ConflictError, InvalidError, NotFoundError, ThrottledError
from firehose.service.events import RowsOfNobody, StreamDefined, StreamOrphaned, StreamRemoved, WorkerFailed
from firehose.service.runner import config_of, definition_of
from firehose.service.service import MAX_STREAMS
from firehose.state import PutStream, RemoveStream, StreamRecord
from tests.service_world import ServiceWorld, ask, break_lake, open_objects, put, runner_of, total

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
        await world.until(lambda: open_objects(service) == 1)
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


# --- streams made by the API -----------------------------------------------------------------------------------------


async def create(service, name: str, config: StreamConfig):  # type: ignore[no-untyped-def]
    return await service.create_stream(name, config, definition={"DeliveryStreamName": name})


async def test_a_stream_made_by_the_api_stays_beside_those_of_files(world: ServiceWorld) -> None:
    async with world.running(clicks=world.config()) as service:
        await create(service, "visits", world.config("visits"))
        await put(service, "visits", b"one")
        await world.delivered(service)
    for streams in ({"clicks": world.config()}, {}):
        async with world.running(**streams) as service:
            view = service.stream("visits")
            assert (view.origin, view.status, view.definition) == ("api", "ACTIVE", {"DeliveryStreamName": "visits"})
            assert [each.name for each in service.streams()] == ["clicks", "visits"] if streams else ["visits"]
            await put(service, "visits", b"more")
            await world.delivered(service)
    assert world.records("visits") == {b"one": 1, b"more": 2}


async def test_one_name_in_a_file_and_in_the_api_is_an_error_that_says_what_to_do(world: ServiceWorld) -> None:
    async with world.running() as service:
        await create(service, "clicks", world.config())
    with pytest.raises(ConfigError, match=r"stream 'clicks' is defined in a file, but was made by the API.*rename it"):
        async with world.running(clicks=world.config()):
            pass
    async with world.running() as service:
        assert service.stream("clicks").origin == "api", "nothing was changed"
        await service.delete_stream("clicks")
        await world.until(lambda: not service.runners)
    async with world.running(clicks=world.config()) as service:
        assert service.stream("clicks").origin == "config"


async def test_a_name_is_given_once(world: ServiceWorld) -> None:
    async with world.running(clicks=world.config()) as service:
        with pytest.raises(ConflictError, match="'clicks' exists already"):
            await create(service, "clicks", world.config())
        both = await asyncio.gather(
            *(create(service, "visits", world.config("visits")) for _ in range(2)), return_exceptions=True
        )
        assert sorted(type(each).__name__ for each in both) == ["ConflictError", "StreamView"]
        assert len(await service.state.streams()) == 2


async def test_what_names_something_that_is_not_there_is_refused_with_all_of_it(world: ServiceWorld) -> None:
    words = {"transforms": [{"type": "lambda", "function": "gone"}], "convert": {"format": "parquet", "table": "a.b"}}
    async with world.running() as service:
        with pytest.raises(InvalidError, match=r"(?s)transforms.0.function: no function .*; convert.catalog: "):
            await create(service, "clicks", world.config(**words))
        assert not service.runners and not await service.state.streams()


async def test_there_is_an_end_to_how_many(world: ServiceWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_STREAMS >= 5_000
    monkeypatch.setattr("firehose.service.service.MAX_STREAMS", 1)
    async with world.running(clicks=world.config()) as service:
        with pytest.raises(InvalidError) as caught:
            await create(service, "visits", world.config("visits"))
        assert caught.value.code == "LimitExceededException"


async def test_a_stream_that_could_not_be_saved_does_not_exist(world: ServiceWorld) -> None:
    async with world.running() as service:
        failing = FailingState(service.state, PutStream)
        service.state = failing  # type: ignore[assignment]
        with pytest.raises(ThrottledError):
            await create(service, "clicks", world.config())
        assert not service.runners
        failing.left = 0
        await create(service, "clicks", world.config())


class FailingState:
    """A state that refuses changes of one kind, as a full disk does; `left`: how often."""

    def __init__(self, state, kind: type, left: int = 1_000) -> None:  # type: ignore[no-untyped-def]
        self._state, self._kind, self.left = state, kind, left

    async def apply(self, *changes) -> None:  # type: ignore[no-untyped-def]
        if self.left and any(isinstance(each, self._kind) for each in changes):
            self.left -= 1
            raise ThrottledError("no room to write state.db; free some disk space")
        await self._state.apply(*changes)

    def __getattr__(self, name: str):  # type: ignore[no-untyped-def]
        return getattr(self._state, name)


# --- deleting --------------------------------------------------------------------------------------------------------


async def test_a_deleted_stream_is_counted_to_the_last_row(world: ServiceWorld) -> None:
    async with world.running() as service:
        await create(service, "clicks", world.config())
        await put(service, "clicks", b"one", b"two")
        await world.delivered(service)
        repair = break_lake(world)
        await put(service, "clicks", b"three")
        await world.until(lambda: open_objects(service) == 1)
        await put(service, "clicks", b"four", b"five")
        uid = runner_of(service).record.uid
        await service.delete_stream("clicks")
        assert service.stream("clicks").status == "DELETING"
        await service.delete_stream("clicks")  # a second call changes nothing
        with pytest.raises(NotFoundError):
            await put(service, "clicks", b"six")
        await world.until(lambda: not service.runners)
        assert await total(service) == {"accepted": 5, "delivered": 2, "discarded": 3}
        (account,) = (await ask(service, "audit"))["streams"]
        assert (account["uid"], account["kind"]) == (uid, "removed")
    repair()
    assert not (world.data / "streams" / uid).exists()
    async with world.running() as service:
        await world.until(lambda: service.log.stats().unbanked == 0)
        assert await total(service) == {"accepted": 5, "delivered": 2, "discarded": 3}
    assert world.records() == {b"one": 1, b"two": 1}
    assert [(event.stream, event.discarded) for event in world.telemetry.of(StreamRemoved)] == [("clicks", 3)]


async def test_a_stream_made_anew_never_meets_the_rows_of_the_old_one(world: ServiceWorld) -> None:
    async with world.running() as service:
        for number in range(3):
            await create(service, "clicks", world.config())
            runner_of(service).worker and runner_of(service).worker.pause(True)
            await put(service, "clicks", b"old %d" % number)
            await service.delete_stream("clicks")
            await world.until(lambda: not service.runners)
        await create(service, "clicks", world.config())
        await put(service, "clicks", b"new")
        await world.delivered(service)
        assert world.records()[b"new"] == 1
        audit = await ask(service, "audit", stream="clicks")
        assert audit["closes"]
        kinds = [(each["kind"], each["total"]["accepted"]) for each in audit["streams"]]
        assert kinds == [("defined", 1), ("removed", 1), ("removed", 1), ("removed", 1)]
    async with world.running() as service:
        await world.delivered(service)
        assert world.records()[b"new"] == 1


async def test_puts_under_way_while_a_stream_is_deleted_are_accounted_for(world: ServiceWorld) -> None:
    async with world.running() as service:
        await create(service, "clicks", world.config(buffer={"interval": "900s"}))
        puts = [asyncio.create_task(put(service, "clicks", b"%d" % number)) for number in range(50)]
        await asyncio.sleep(0)
        await service.delete_stream("clicks")
        puts += [asyncio.create_task(put(service, "clicks", b"late"))]
        answers = await asyncio.gather(*puts, return_exceptions=True)
        await world.until(lambda: not service.runners)
        accepted = sum(each is None for each in answers)
        assert accepted == 50
        assert await total(service) == {"accepted": accepted, "discarded": accepted}


async def test_a_deletion_that_a_crash_interrupted_is_finished_at_the_next_start(world: ServiceWorld) -> None:
    async with world.running() as service:
        await create(service, "clicks", world.config(buffer={"interval": "900s"}))
        await put(service, "clicks", b"one")
    async with world.opened() as service:
        record = runner_of(service).record
        await service._save(record, is_deleted=True)
    async with world.opened() as service:
        assert (await ask(service, "status"))["streams"][0]["state"] == "deleting"
        assert await total(service) == {"accepted": 1, "pending": 1}
    async with world.running() as service:
        await world.until(lambda: not service.runners)
        assert await total(service) == {"accepted": 1, "discarded": 1}


async def test_a_file_may_take_the_name_of_a_stream_that_is_being_deleted(world: ServiceWorld) -> None:
    async with world.running() as service:
        await create(service, "clicks", world.config(buffer={"interval": "900s"}))
        await put(service, "clicks", b"old")
    async with world.opened() as service:
        await service._save(runner_of(service).record, is_deleted=True)
    async with world.running(clicks=world.config()) as service:
        await put(service, "clicks", b"new")
        await world.delivered(service)
        audit = await ask(service, "audit")
        assert [each["total"]["discarded"] for each in audit["streams"]] == [0, 1] and audit["closes"]
    assert world.records() == {b"new": 1}


async def test_a_deletion_that_fails_is_tried_again_and_stops_nobody(world: ServiceWorld) -> None:
    async with world.running(visits=world.config("visits")) as service:
        await create(service, "clicks", world.config(buffer={"interval": "900s"}))
        await put(service, "clicks", b"one")
        state = FailingState(service.state, RemoveStream, left=3)
        service.state = state  # type: ignore[assignment]
        await service.delete_stream("clicks")
        await world.until(lambda: not state.left)
        await world.until(lambda: "clicks" not in service.runners)
        await put(service, "visits", b"goes on")
        await world.delivered(service)
        assert await total(service) == {"accepted": 1, "discarded": 1}
    assert world.records("visits") == {b"goes on": 1}


async def test_a_crash_between_the_state_and_the_log_leaves_nothing_behind(world: ServiceWorld) -> None:
    async with world.running() as service:
        await create(service, "clicks", world.config(buffer={"interval": "900s"}))
        await put(service, "clicks", b"one")
        uid = runner_of(service).record.uid
    async with world.opened() as service:  # all that discard does, but the last two steps
        await service.state.apply(RemoveStream(uid))
    (world.data / "streams" / uid / "outbox").mkdir(parents=True, exist_ok=True)
    (world.data / "scratch").mkdir()
    (world.data / "scratch" / "left.plain").touch()
    async with world.running() as service:
        await world.until(lambda: not service.log.stream_uids())
    assert not (world.data / "streams" / uid).exists()
    assert not (world.data / "scratch").exists()


async def test_a_stream_of_a_file_cannot_be_deleted_but_its_orphan_can(world: ServiceWorld) -> None:
    repair = break_lake(world)
    async with world.running(clicks=world.config()) as service:
        await put(service, "clicks", b"one")
        with pytest.raises(ConflictError, match="'clicks' is defined in a file; remove it there and restart"):
            await service.delete_stream("clicks")
        with pytest.raises(NotFoundError, match="no delivery stream 'gone'"):
            await service.delete_stream("gone")
    async with world.running() as service:
        await service.delete_stream("clicks")
        await world.until(lambda: not service.runners)
        assert await total(service) == {"accepted": 1, "discarded": 1}
    repair()


async def test_pausing_a_stream_while_it_is_deleted_does_not_bring_it_back(world: ServiceWorld) -> None:
    async with world.running() as service:
        await create(service, "clicks", world.config())
        runner = runner_of(service)
        await service.delete_stream("clicks")
        await asyncio.gather(*(runner.pause(True) for _ in range(3)), return_exceptions=True)
        await world.until(lambda: not service.runners)
        with pytest.raises(NotFoundError, match="'clicks' was removed"):
            await runner.pause(False)
        assert await service.state.streams() == []


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
