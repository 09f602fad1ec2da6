"""Streams that the API makes stay beside those of files; what is deleted is counted to the last row."""

from __future__ import annotations

import asyncio

import pytest

from firehose.config.models import StreamConfig
from firehose.errors import ConfigError, ConflictError, InvalidError, NotFoundError, ThrottledError
from firehose.service.events import StreamRemoved
from firehose.service.service import MAX_STREAMS
from firehose.state import PutStream, RemoveStream
from tests.service_world import ServiceWorld, ask, break_lake, open_objects, put, runner_of, total


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


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("{c: ", "jq cannot read the query"),
        # computed while it is read, at which jq ends its process
        ('{c: (["0" * 400000000, "1" * 400000000, "2" * 400000000] | length)}', "partition: "),
        ("{c: ([range(1000000000)] | length)}", None),  # computed only when it is asked
    ],
)
async def test_a_query_is_read_in_a_process_of_its_own_before_a_stream_is_made(
    world: ServiceWorld, monkeypatch: pytest.MonkeyPatch, query: str, why: str | None
) -> None:
    monkeypatch.setattr("firehose.service.resources.KERNEL_MEMORY_BYTES", 2**29)
    sink = {"type": "file", "path": str(world.lake), "prefix": "!{partitionKeyFromQuery:c}/"}
    config = world.config(partition={"query": query}, sink=sink)
    async with world.running() as service:
        if why is None:
            await service.create_stream("clicks", config, definition={})
        else:
            with pytest.raises(InvalidError) as refused:
                await service.create_stream("clicks", config, definition={})
            assert why in str(refused.value) and "clicks" not in service.runners
