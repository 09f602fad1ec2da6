"""Failed records lie in the error output with their reason, and enter their stream again, each once."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections import Counter
from typing import Any

import numpy as np
import pybase64
import pytest

from firehose.errors import ConflictError, InvalidError, NotFoundError, ThrottledError, UnavailableError
from firehose.service import Service
from firehose.service.events import EncryptionKeyChanged
from firehose.state import Change, FinishReplay
from tests.service_world import ServiceWorld, ask, put, runner_of, total

BAD = [b"bad %d" % number for number in range(20)]


async def fail(world: ServiceWorld, service: Service, *records: bytes, name: str = "clicks") -> None:
    """Put records and let them fail."""
    await put(service, name, *records)
    await world.delivered(service, name)


async def replay_all(service: Service, **parameters: Any) -> int:
    """Replay as the command does: call after call, until it is done."""
    moved = 0
    while True:
        answer = await ask(service, "replay", **parameters)
        moved += answer["replayed"]
        assert answer["problems"] == []
        if answer["done"]:
            return moved


async def test_an_error_entry_keeps_reason_identity_and_original_bytes(world: ServiceWorld) -> None:
    original = b"bad \xff\x00 no text\nwith a line feed"
    async with world.running(clicks=world.checked()) as service:
        await fail(world, service, original)
        (path,) = world.error_objects()
        assert path.relative_to(world.lake / "clicks-failed").parts[0] == "processing-failed"
        (line,) = path.read_bytes().splitlines()
        entry = json.loads(line)
        assert entry["errorCode"] == "Lambda.ProcessingFailedStatus"
        assert entry["attemptsMade"] == 1 and entry["arrivalTimestamp"] <= entry["attemptEndingTimestamp"]
        (listed,) = (await ask(service, "failed_ls"))["records"]
        assert listed["stage"] == "transform" and listed["code"] == "Lambda.ProcessingFailedStatus"
        assert (listed["data_bytes"], listed["replayed"], listed["attempts"]) == (len(original), False, 1)
        shown = await ask(service, "failed_show", id=listed["id"])
        assert pybase64.b64decode(shown["data"]) == original
        assert shown["text"].startswith("bad \ufffd\x00 no text")
        stats = await ask(service, "failed_stats")
        assert stats == {
            "reasons": [
                {"stream": "clicks", "stage": "transform", "code": "Lambda.ProcessingFailedStatus"}
                | {"records": 1, "replayed": 0, "open": 1}
            ],
            "problems": [],
        }


async def test_each_failed_record_is_delivered_once_however_often_it_is_replayed(world: ServiceWorld) -> None:
    async with world.running(clicks=world.checked()) as service:
        await fail(world, service, *BAD, b"good")
        world.mark.touch()
        assert await replay_all(service) == 20
        assert await replay_all(service) == 0
        assert (await ask(service, "replay"))["replayed_before"] == 20
        await world.delivered(service)
        assert await total(service) == {"accepted": 21, "delivered": 21}
        assert (await ask(service, "failed_ls"))["records"] == []
        assert {each["replayed"] for each in (await ask(service, "failed_ls", all=True))["records"]} == {True}
        assert (await ask(service, "failed_stats"))["reasons"][0]["open"] == 0
    async with world.running(clicks=world.checked()) as service:
        assert await replay_all(service) == 0, "after a restart, too"
    assert world.records() == Counter([*BAD, b"good"])


async def test_a_dry_run_moves_nothing(world: ServiceWorld) -> None:
    async with world.running(clicks=world.checked()) as service:
        await fail(world, service, *BAD)
        for _ in range(2):
            answer = await ask(service, "replay", dry_run=True)
            assert (answer["replayed"], answer["done"], answer["left"]) == (20, True, 0)
        assert await total(service) == {"accepted": 20, "failed": 20}


async def test_one_that_fails_again_is_a_new_failed_record(world: ServiceWorld) -> None:
    async with world.running(clicks=world.checked()) as service:
        await fail(world, service, *BAD)
        for turn in range(1, 4):
            await world.clock.advance(10)
            assert await replay_all(service, failed_by_ms=world.clock.now_ms()) == 20
            await world.delivered(service)
            assert await total(service) == {"accepted": 20, "failed": 20}
            (reason,) = (await ask(service, "failed_stats"))["reasons"]
            assert (reason["records"], reason["replayed"], reason["open"]) == (20 * turn + 20, 20 * turn, 20)
        world.mark.touch()
        assert await replay_all(service) == 20
        await world.delivered(service)
        assert await total(service) == {"accepted": 20, "delivered": 20}
    assert world.records() == Counter(BAD)


async def test_what_failed_again_since_it_began_is_left_for_the_next_replay(world: ServiceWorld) -> None:
    """Otherwise a replay through a function that is still broken would never end."""
    async with world.running(clicks=world.checked()) as service:
        await fail(world, service, *BAD)
        began_ms = (await ask(service, "replay", dry_run=True))["at_ms"]
        await world.clock.advance(10)
        moved = 0
        for _ in range(10):
            moved += (await ask(service, "replay", limit=5, failed_by_ms=began_ms))["replayed"]
            await world.delivered(service)
        assert moved == 20


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        ({"stream": "clicks"}, 3),
        ({"stage": "transform"}, 4),
        ({"stage": "convert"}, 0),
        ({"code": "Lambda.ProcessingFailedStatus"}, 4),
        ({"code": "Lambda.FunctionError"}, 0),
        ({"since_ms": 5_000}, 2),
        ({"until_ms": 5_000}, 2),
        ({"since_ms": 5_000, "stream": "clicks"}, 1),
        ({"since_ms": 5_001}, 0),
    ],
)
async def test_filters_mean_the_same_everywhere(world: ServiceWorld, wanted: dict[str, Any], count: int) -> None:
    begun_ms = world.clock.now_ms()
    async with world.running(clicks=world.checked(), visits=world.checked("visits")) as service:
        await put(service, "clicks", b"bad 1", b"bad 2")
        await world.clock.advance(5_000)
        await put(service, "clicks", b"bad 3")
        await put(service, "visits", b"bad 4")
        await world.delivered(service)
        world.mark.touch()
        wanted = {key: value + begun_ms if key.endswith("_ms") else value for key, value in wanted.items()}
        assert len((await ask(service, "failed_ls", **wanted))["records"]) == count
        assert sum(each["records"] for each in (await ask(service, "failed_stats", **wanted))["reasons"]) == count
        assert (await ask(service, "replay", dry_run=True, **wanted))["replayed"] == count
        assert await replay_all(service, **wanted) == count
        assert len((await ask(service, "failed_ls"))["records"]) == 4 - count


async def test_a_key_names_one_object(world: ServiceWorld) -> None:
    async with world.running(clicks=world.checked()) as service:
        for record in (b"bad 1", b"bad 2"):
            await fail(world, service, record)
        keys = [each["id"].rpartition("#")[0] for each in (await ask(service, "failed_ls"))["records"]]
        assert len(set(keys)) == 2
        assert await replay_all(service, key=keys[1]) == 1
        assert [each["id"] for each in (await ask(service, "failed_ls"))["records"]] == [f"{keys[0]}#1"]


@pytest.mark.parametrize(
    ("verb", "parameters", "says"),
    [
        ("failed_ls", {"stage": "lunch"}, "no stage 'lunch'; stages: transform, convert"),
        ("failed_ls", {"limit": -1}, "limit must be a whole number of at least 0, not -1"),
        ("replay", {"limit": "many"}, "limit must be a whole number of at least 0, not 'many'"),
        ("replay", {"since_ms": True}, "since_ms must be a whole number"),
        ("replay", {"stream": "klicks"}, "no delivery stream 'klicks'; there are: clicks"),
        ("failed_show", {"id": "nowhere#1"}, "no failed record 'nowhere#1': `firehose failed ls` shows their ids"),
        ("failed_show", {"id": ""}, "no failed record ''"),
        ("failed_show", {}, "no failed record ''"),
    ],
)
async def test_mistakes_are_told(world: ServiceWorld, verb: str, parameters: dict[str, Any], says: str) -> None:
    async with world.running(clicks=world.checked()) as service:
        with pytest.raises((InvalidError, NotFoundError)) as caught:
            await ask(service, verb, **parameters)
        assert says in str(caught.value)


async def test_a_long_list_says_that_there_is_more(world: ServiceWorld) -> None:
    async with world.running(clicks=world.checked()) as service:
        await fail(world, service, *BAD)
        answer = await ask(service, "failed_ls", limit=7)
        assert (len(answer["records"]), answer["more"]) == (7, True)
        answer = await ask(service, "failed_ls", limit=20)
        assert (len(answer["records"]), answer["more"]) == (20, False)


# --- bounds, and two at a time ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 3, 7, 19, 20, 21])
async def test_a_call_moves_as_many_as_it_may_and_the_next_goes_on(world: ServiceWorld, limit: int) -> None:
    async with world.running(clicks=world.checked()) as service:
        for start in range(0, 20, 6):
            await fail(world, service, *BAD[start : start + 6])
        world.mark.touch()
        moved = []
        while True:
            answer = await ask(service, "replay", limit=limit)
            moved.append(answer["replayed"])
            assert answer["left"] + sum(moved) == 20
            if answer["done"]:
                break
        assert sum(moved) == 20 and max(moved) <= limit and len(moved) == max(1, -(-20 // limit))
        await world.delivered(service)
    assert world.records() == Counter(BAD)


async def test_large_records_enter_in_several_puts(world: ServiceWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("firehose.operations.replay.PUT_BYTES", 50)
    async with world.running(clicks=world.checked()) as service:
        large = [b"bad" + b"x" * size for size in (10, 60, 20, 20, 200, 1)]
        await fail(world, service, *large)
        world.mark.touch()
        assert await replay_all(service) == 6
        await world.delivered(service)
        assert await total(service) == {"accepted": 6, "delivered": 6}
    assert world.records() == Counter(large)


async def test_two_replays_at_the_same_time_share_the_work(world: ServiceWorld) -> None:
    async with world.running(clicks=world.checked()) as service:
        await fail(world, service, *BAD)
        world.mark.touch()
        moved = await asyncio.gather(*(replay_all(service, limit=3) for _ in range(4)))
        assert sum(moved) == 20
        await world.delivered(service)
        assert await total(service) == {"accepted": 20, "delivered": 20}
    assert world.records() == Counter(BAD)


async def test_a_replay_without_a_service_waits_for_the_next_one(world: ServiceWorld) -> None:
    async with world.running(clicks=world.checked()) as service:
        await fail(world, service, *BAD)
    world.mark.touch()
    for moved in (7, 7, 6):
        async with world.opened() as service:
            assert (await ask(service, "replay", limit=7))["replayed"] == moved
            found = await total(service)
            assert found["accepted"] == 20 == found["pending"] + found.get("failed", 0)
    async with world.running(clicks=world.checked()) as service:
        await world.delivered(service)
        assert await total(service) == {"accepted": 20, "delivered": 20}
    assert world.records() == Counter(BAD)


# --- crashes and failures --------------------------------------------------------------------------------------------


class Breaking:
    """A log or state that fails one kind of call, before or after it worked."""

    def __init__(self, thing: Any, verb: str, error: BaseException, *, when: str, only: Any = lambda *_: True) -> None:
        self._thing, self._verb, self._error, self._when, self._only = thing, verb, error, when, only
        self.is_broken = True

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._thing, name)
        if name != self._verb or not self.is_broken:
            return found

        async def call(*arguments: Any, **more: Any) -> Any:
            if not self._only(*arguments):
                return await found(*arguments, **more)
            if self._when == "after":
                await found(*arguments, **more)
            raise self._error

        return call


def _finishes(*changes: Any) -> bool:
    return any(isinstance(each, FinishReplay) for each in changes)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", ["plan", "put", "finish"])
async def test_a_crash_at_any_step_of_a_put_neither_loses_nor_doubles(
    world: ServiceWorld, step: str, when: str
) -> None:
    async with world.running(clicks=world.checked()) as service:
        await fail(world, service, *BAD)
    world.mark.touch()
    async with world.opened() as service:
        replays, error = service.replays, UnavailableError("the process ends here")
        if step == "put":
            replays._log = Breaking(replays._log, "append", error, when=when)  # type: ignore[assignment]
        else:
            only = _finishes if step == "finish" else (lambda *changes: not _finishes(*changes))
            replays._state = Breaking(replays._state, "apply", error, when=when, only=only)  # type: ignore[assignment]
        with pytest.raises(UnavailableError):
            await ask(service, "replay")
    async with world.opened() as service:
        found = await total(service)  # closes
        has_entered = (step, when) in {("put", "after"), ("finish", "before"), ("finish", "after")}
        assert found == ({"accepted": 20, "pending": 20} if has_entered else {"accepted": 20, "failed": 20})
    async with world.running(clicks=world.checked()) as service:
        assert await replay_all(service) == (0 if has_entered else 20)
        await world.delivered(service)
        assert await total(service) == {"accepted": 20, "delivered": 20}
    assert world.records() == Counter(BAD)


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_state_that_fails_for_a_moment_heals_without_a_restart(world: ServiceWorld, when: str) -> None:
    """The put may be delivered and its segment gone before the state works again."""
    async with world.running(clicks=world.checked()) as service:
        await fail(world, service, *BAD)
        world.mark.touch()
        broken = Breaking(service.state, "apply", ThrottledError("full"), when=when, only=_finishes)
        service.replays._state = broken  # type: ignore[assignment]
        with pytest.raises(ThrottledError):
            await ask(service, "replay")
        await world.delivered(service)
        assert world.records() == Counter(BAD)
        await world.leap(3_600_000)
        await world.clock.advance(5_000)
        broken.is_broken = False
        await world.clock.advance(5_000)
        assert await replay_all(service) == 0
        await world.delivered(service)
        assert await total(service) == {"accepted": 20, "delivered": 20}
    assert world.records() == Counter(BAD)


async def test_a_full_log_is_told_and_what_was_moved_stays_moved(
    world: ServiceWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("firehose.operations.replay.PUT_BYTES", 1)
    async with world.running(clicks=world.checked()) as service:
        await fail(world, service, *BAD)
        world.mark.touch()
        puts = 0

        def third(*_: Any) -> bool:
            nonlocal puts
            puts += 1
            return puts == 3

        service.replays._log = Breaking(service.log, "append", ThrottledError("Slow down."), when="before", only=third)  # type: ignore[assignment]
        with pytest.raises(ThrottledError, match="stream 'clicks': the ingest log has no room; replay again later"):
            await ask(service, "replay")
        await world.delivered(service)
        assert await total(service) == {"accepted": 20, "delivered": 2, "failed": 18}
        assert await replay_all(service) == 18
        await world.delivered(service)
    assert world.records() == Counter(BAD)


# a file that a thread opens for a caller that has gone is closed by the garbage collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_caller_that_goes_away_leaves_a_whole_put_behind(world: ServiceWorld) -> None:
    async with world.running(clicks=world.checked()) as service:
        await fail(world, service, *BAD)
        world.mark.touch()
        for _ in range(30):
            asking = asyncio.create_task(ask(service, "replay", limit=2))
            for _ in range(30):
                await asyncio.sleep(0)
            asking.cancel()
            await asyncio.wait([asking])
            await total(service)
        await replay_all(service)
        await world.delivered(service)
        assert await total(service) == {"accepted": 20, "delivered": 20}
    assert world.records() == Counter(BAD)


async def test_a_replay_does_not_feed_a_stream_that_is_deleted_meanwhile(world: ServiceWorld) -> None:
    async with world.running() as service:
        await service.create_stream("clicks", world.checked(), definition={})
        await fail(world, service, *BAD)
        runner = runner_of(service)
        await service.delete_stream("clicks")
        assert (await ask(service, "replay"))["replayed"] == 0, "one that is going is left out"
        await world.until(lambda: not service.runners)
        with pytest.raises(ConflictError, match="'clicks' was deleted meanwhile"):
            await service.replays.put(runner, None, None, np.array([0]))  # type: ignore[arg-type]
        assert await total(service) == {"accepted": 20, "failed": 20}


# --- objects that are not what they were -----------------------------------------------------------------------------


async def _three_objects(world: ServiceWorld, service: Service) -> list[Any]:
    for record in (b"bad 0", b"bad 1", b"bad 2"):
        await fail(world, service, record, record + b" too")
    return world.error_objects()


async def test_an_object_that_was_removed_is_told_and_the_rest_goes_on(world: ServiceWorld) -> None:
    async with world.running(clicks=world.checked(), visits=world.checked("visits")) as service:
        paths = await _three_objects(world, service)
        await fail(world, service, b"bad", name="visits")
        paths[1].unlink()
        world.mark.touch()
        key = str(paths[1].relative_to(world.lake))
        for verb in ("failed_ls", "failed_stats", "replay"):
            answer = await ask(service, verb)
            (problem,) = answer["problems"]
            assert (problem["stream"], problem["key"], problem["code"]) == ("clicks", key, "File.NotFound")
            assert key in problem["message"]
            found = {
                "failed_ls": lambda answer: len(answer["records"]),
                "failed_stats": lambda answer: sum(each["records"] for each in answer["reasons"]),
                "replay": lambda answer: answer["replayed"],
            }
            assert found[verb](answer) == 5
        assert answer["done"], "what cannot be read is not waited for"
        with pytest.raises(NotFoundError, match=key):
            await ask(service, "failed_show", id=f"{key}#1")
        await world.delivered(service)
        assert (await total(service))["failed"] == 2, "those two are still failed"


@pytest.mark.parametrize("damage", ["not JSON", "a line twice", "a line of another stream", "raw data cut", "empty"])
async def test_an_object_that_was_edited_is_told_and_nothing_of_it_is_believed(
    world: ServiceWorld, damage: str
) -> None:
    async with world.running(clicks=world.checked(), visits=world.checked("visits")) as service:
        paths = await _three_objects(world, service)
        await fail(world, service, b"bad", name="visits")
        (other,) = world.error_objects("visits")
        first, second = paths[1].read_bytes().splitlines()
        lines = {
            "not JSON": [b"hello", second],
            "a line twice": [first, first],
            "a line of another stream": [other.read_bytes().splitlines()[0], second],
            "raw data cut": [first.replace(b'"rawData":"', b'"rawData":"*'), second],
            "empty": [b"", second],
        }[damage]
        paths[1].write_bytes(b"\n".join(lines) + b"\n")
        world.mark.touch()
        answer = await ask(service, "replay", stream="clicks")
        (problem,) = answer["problems"]
        assert problem["code"] == "IntegrityError" and paths[1].name in problem["message"]
        assert "line" in problem["message"]
        await world.delivered(service)
        landed = world.records()
        assert max(landed.values()) == 1, "nothing twice"
        assert set(landed) >= {b"bad 0", b"bad 0 too", b"bad 2", b"bad 2 too"}
        await total(service)


async def test_a_sink_that_moved_is_told(world: ServiceWorld) -> None:
    async with world.running(clicks=world.checked()) as service:
        await fail(world, service, b"bad")
    other = world.folder / "elsewhere"
    other.mkdir()
    moved = world.checked(sink={"type": "file", "path": str(other), "prefix": "clicks/"})
    async with world.running(clicks=moved) as service:
        (problem,) = (await ask(service, "failed_ls"))["problems"]
        assert (
            f"was written to {world.lake.as_uri()}, but failed records go to {other.as_uri()} now" in problem["message"]
        )
    back = world.checked(
        sink={"type": "file", "path": str(other), "prefix": "clicks/"},
        failed={"sink": {"type": "file", "path": str(world.lake)}},
    )
    async with world.running(clicks=back) as service:
        world.mark.touch()
        assert await replay_all(service) == 1


async def test_a_stream_whose_error_output_cannot_be_reached_does_not_hide_the_others(world: ServiceWorld) -> None:
    key = world.folder / "key"
    key.touch(0o600)
    key.write_bytes(secrets.token_bytes(32))
    encrypted = world.checked(encryption={"type": "client_side", "key_file": str(key)})
    async with world.running(clicks=encrypted, visits=world.checked("visits")) as service:
        await fail(world, service, b"bad 1")
        await fail(world, service, b"bad 2", name="visits")
        key.rename(world.folder / "lost")
        for verb in ("failed_ls", "failed_stats", "replay"):
            answer = await ask(service, verb)
            assert [each["stream"] for each in answer["problems"]] == ["clicks"], verb
            assert "key" in answer["problems"][0]["message"]
        assert answer["replayed"] == 1 and answer["done"]


# --- encryption ------------------------------------------------------------------------------------------------------


async def test_encrypted_failed_records_are_read_back_and_replayed(world: ServiceWorld) -> None:
    key = world.folder / "key"
    key.touch(0o600)
    key.write_bytes(secrets.token_bytes(32))
    encrypted = world.checked(encryption={"type": "client_side", "key_file": str(key)})
    async with world.running(clicks=encrypted) as service:
        await fail(world, service, b"bad secret", b"bad too")
        (path,) = world.error_objects()
        assert b"errorCode" not in path.read_bytes() and b"secret" not in path.read_bytes()
        records = (await ask(service, "failed_ls"))["records"]
        assert (await ask(service, "failed_show", id=records[0]["id"]))["text"] == "bad secret"
    former = key.read_bytes()
    async with world.running(clicks=encrypted) as service:
        await world.delivered(service)
    assert not world.telemetry.of(EncryptionKeyChanged)
    key.write_bytes(secrets.token_bytes(32))
    async with world.running(clicks=encrypted) as service:
        await world.until(lambda: world.telemetry.of(EncryptionKeyChanged), "the warning")
        answer = await ask(service, "replay")
        assert answer["replayed"] == 0 and answer["problems"][0]["code"] == "IntegrityError", "another key"
    assert world.telemetry.of(EncryptionKeyChanged) == [EncryptionKeyChanged("clicks", path.as_uri())]
    key.write_bytes(former)
    world.mark.touch()
    async with world.running(clicks=encrypted) as service:
        assert await replay_all(service) == 2, "the former key opens them"


async def test_encryption_may_be_switched_on_and_off_between(world: ServiceWorld) -> None:
    key = world.folder / "key"
    key.touch(0o600)
    key.write_bytes(secrets.token_bytes(32))
    encrypted = world.checked(encryption={"type": "client_side", "key_file": str(key)})
    async with world.running(clicks=encrypted) as service:
        await fail(world, service, b"bad 1")
    async with world.running(clicks=world.checked()) as service:
        await fail(world, service, b"bad 2")
        answer = await ask(service, "failed_ls")
        assert len(answer["records"]) == 1
        assert "is encrypted; give the stream its `encryption` back" in answer["problems"][0]["message"]
    async with world.running(clicks=encrypted) as service:
        world.mark.touch()
        assert await replay_all(service) == 2, "plain objects are read by an encrypting stream, too"
        await world.delivered(service)
        assert await total(service) == {"accepted": 2, "delivered": 2}


async def test_a_stream_is_removed_only_when_it_is_known_what_became_of_its_replay(world: ServiceWorld) -> None:
    """Found by the simulation: the rows of a replay that broke off were counted as failed, and as discarded."""
    async with world.running() as service:
        await service.create_stream("clicks", world.checked(), definition={})
        await put(service, "clicks", b"bad one")
        await world.delivered(service)
        await runner_of(service).pause(True)
        apply = service.state.apply

        async def breaks_off(*changes: Change) -> None:
            if isinstance(changes[0], FinishReplay):
                raise UnavailableError("the disk is busy")
            await apply(*changes)

        service.state.apply = breaks_off  # type: ignore[method-assign] # at this very moment
        with pytest.raises(UnavailableError):
            await ask(service, "replay")
        service.state.apply = apply  # type: ignore[method-assign] # it is well again
        await service.delete_stream("clicks")
        await world.until(lambda: not service.runners)
        assert await total(service) == {"accepted": 1, "discarded": 1}
