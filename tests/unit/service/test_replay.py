"""Failed records lie in the error output with their reason, and enter their stream again, each once."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any

import pybase64
import pytest

from firehose.errors import InvalidError, NotFoundError
from tests.service_world import ServiceWorld, ask, put, total
from tests.unit.service.replaying import BAD, fail, replay_all


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
        (
            "failed_ls",
            {"stage": "lunch"},
            "no stage 'lunch'; stages: decompress, validate, transform, partition, active-partitions, convert",
        ),
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
