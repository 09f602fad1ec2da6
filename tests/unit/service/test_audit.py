"""The account closes at every moment: under load, mid-replay, after crashes, expiry, deletion and damage."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from firehose.clock import HOUR_MS
from firehose.delivery.events import RecordsExpired, RecordsUnreadable
from firehose.errors import NotFoundError
from firehose.log.events import SegmentRemoved
from firehose.service import Service
from tests.service_world import ServiceWorld, ask, break_lake, open_objects, put, runner_of, total

DAY_MS = 24 * HOUR_MS


async def test_every_term_by_hour(world: ServiceWorld) -> None:
    async with world.running(clicks=world.checked()) as service:
        first_hour = world.clock.now_ms()
        await put(service, "clicks", b"a", b"b", b"bad c")
        await world.delivered(service)
        await world.leap(HOUR_MS)
        second_hour = world.clock.now_ms() // HOUR_MS * HOUR_MS
        runner_of(service).worker.pause(True)
        await put(service, "clicks", b"d", b"e")
        answer = await ask(service, "audit")
        assert answer["closes"]
        (account,) = answer["streams"]
        assert account | {"uid": "", "hours": [], "total": {}} == {
            "stream": "clicks",
            "uid": "",
            "kind": "defined",
            "problem": None,
            "hours": [],
            "total": {},
            "closes": True,
        }
        found = {hour["hour_ms"]: {term: rows for term, rows in hour.items() if rows} for hour in account["hours"]}
        assert found == {
            first_hour: {"hour_ms": first_hour, "accepted": 3, "delivered": 2, "failed": 1},
            second_hour: {"hour_ms": second_hour, "accepted": 2, "pending": 2},
        }
        assert account["total"]["accepted"] == 5
        assert set(account["total"]) == {
            *("accepted", "created", "delivered", "failed", "dropped", "duplicate", "expired", "discarded"),
            *("unreadable", "pending", "difference"),
        }


async def test_a_stream_that_is_not_there_is_an_error_that_lists_what_is(world: ServiceWorld) -> None:
    async with world.running(clicks=world.config(), visits=world.config("visits")) as service:
        with pytest.raises(NotFoundError, match="no delivery stream 'klicks'; there are: clicks, visits"):
            await ask(service, "audit", stream="klicks")
        assert [each["stream"] for each in (await ask(service, "audit"))["streams"]] == ["clicks", "visits"]


async def test_it_closes_whenever_it_is_asked_under_load(world: ServiceWorld) -> None:
    """Puts, failures, segments that are sealed, banked and reclaimed, replays: asked in between, again and again."""
    chance = random.Random(11)
    async with world.running(clicks=world.checked(), visits=world.checked("visits")) as service:
        service.log._writer._limits = _small_segments(service)
        stop = asyncio.Event()

        async def produce(name: str) -> None:
            while not stop.is_set():
                rows = [b"bad" if chance.random() < 0.1 else b"x" * chance.randint(1, 900) for _ in range(40)]
                await put(service, name, *rows)
                await world.leap(chance.choice([0, 0, 500, 2_000, HOUR_MS // 4]))
                await asyncio.sleep(0)

        async def replay() -> None:
            while not stop.is_set():
                await ask(service, "replay", limit=chance.randint(1, 30))
                await asyncio.sleep(0.005)

        async with asyncio.TaskGroup() as tasks:
            for work in (produce("clicks"), produce("visits"), replay()):
                tasks.create_task(work)
            asked = 0
            async with asyncio.timeout(90):
                while asked < 60 or len(world.telemetry.of(SegmentRemoved)) <= 5:  # until the load has filled segments
                    answer = await ask(service, "audit")
                    assert answer["closes"], answer
                    asked += 1
                    await asyncio.sleep(chance.random() / 50)
            stop.set()
        world.mark.touch()
        await world.delivered(service)
        found = await total(service)
        assert found["accepted"] == found["delivered"] + found.get("failed", 0) > 500
        banked = len(await service.state.banked_segments())
        assert banked <= service.log.stats().segments, "the state forgets segments that are gone"


def _small_segments(service: Service):  # type: ignore[no-untyped-def] # the log's own limits
    from dataclasses import replace

    return replace(service.log._writer._limits, segment_bytes=20_000)


async def test_what_expires_is_counted_and_alarmed(world: ServiceWorld) -> None:
    repair = break_lake(world)
    async with world.running(clicks=world.config(source={"type": "direct_put", "retention": "1h"})) as service:
        await put(service, "clicks", b"sealed before it expires")
        await world.until(lambda: open_objects(service) == 1)
        await service.runners["clicks"].pause(True)
        await put(service, "clicks", b"never read", b"nor this")
        assert await total(service) == {"accepted": 3, "pending": 3}
        await world.leap(HOUR_MS + 60_000)
        await service.runners["clicks"].pause(False)
        for _ in range(3):
            await world.leap(HOUR_MS)
            await world.clock.advance(60_000)
        await world.until(lambda: open_objects(service) == 0)
        await world.delivered(service)
        assert await total(service) == {"accepted": 3, "expired": 3}
    repair()
    assert sum(event.records for event in world.telemetry.of(RecordsExpired)) == 3
    assert world.records() == {}


async def test_forever_keeps_them(world: ServiceWorld) -> None:
    repair = break_lake(world)
    async with world.running(clicks=world.config(source={"type": "direct_put", "retention": "forever"})) as service:
        await put(service, "clicks", b"kept")
        await world.leap(40 * DAY_MS)
        assert await total(service) == {"accepted": 1, "pending": 1}
        repair()
        await world.delivered(service)
        assert await total(service) == {"accepted": 1, "delivered": 1}
    assert world.records() == {b"kept": 1}


async def test_the_default_is_a_day(world: ServiceWorld) -> None:
    repair = break_lake(world)
    async with world.running(clicks=world.config()) as service:
        await put(service, "clicks", b"one")
        await world.until(lambda: open_objects(service) == 1)
        await world.leap(DAY_MS - HOUR_MS)
        assert await total(service) == {"accepted": 1, "pending": 1}
        await world.leap(3 * HOUR_MS)
        await world.delivered(service)
        assert await total(service) == {"accepted": 1, "expired": 1}
    repair()


def _flip(path: Path, chance: random.Random) -> None:
    """Damage one byte in the middle half of a file."""
    body = bytearray(path.read_bytes())
    body[chance.randrange(len(body) // 4, 3 * len(body) // 4)] ^= 0xFF
    path.write_bytes(body)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("moment", ["not read yet", "some delivered"])
@pytest.mark.parametrize("damaged", ["log", "idx"])
async def test_damaged_segments_are_counted_not_lost_from_the_books(
    world: ServiceWorld, seed: int, moment: str, damaged: str
) -> None:
    chance = random.Random(seed)
    slow = world.config(buffer={"interval": "900s", "size": "20KiB"})
    async with world.running(clicks=slow) as service:
        if moment == "not read yet":
            await service.runners["clicks"].pause(True)
        for _ in range(12):
            await put(
                service, "clicks", *(bytes(chance.choices(b"abcdefgh", k=chance.randint(10, 900))) for _ in range(9))
            )
            await world.leap(HOUR_MS // 5)
        if moment == "some delivered":
            await world.until(lambda: world.records())
        before = await total(service)
    segments = sorted((world.data / "log").glob("*.log"))
    assert segments
    for path in segments if damaged != "idx" else []:
        for _ in range(chance.randint(1, 3)):
            _flip(path, chance)
    for path in (world.data / "log").glob("*.idx") if damaged != "log" else []:
        _flip(path, chance)
    async with world.opened() as service:
        found = await total(service)
        assert found["accepted"] == before["accepted"] == 108
        assert found.get("unreadable", 0) > 0 or moment == "some delivered" or damaged == "idx"
    async with world.running(clicks=world.config()) as service:
        await service.runners["clicks"].pause(False)
        await world.delivered(service)
        after = await total(service)
    assert {**found, "pending": 0, "delivered": 0} == {**after, "pending": 0, "delivered": 0}, "as it was told before"
    assert after.get("delivered", 0) + after.get("unreadable", 0) == 108
    told = sum(event.records for event in world.telemetry.of(RecordsUnreadable))
    assert told == after.get("unreadable", 0)


async def test_rows_whose_frame_and_index_are_damaged_are_known_by_what_was_banked(world: ServiceWorld) -> None:
    async with world.running(clicks=world.config()) as service:
        await runner_of(service).pause(True)
        for number in range(3):
            await put(service, "clicks", *(b"%d" % number for _ in range(10)))
            await world.leap(HOUR_MS // 5)
            await world.until(lambda: not service.log.accepted_unbanked(), "each in a segment of its own")
    first = min((world.data / "log").glob("*.log"))
    first.write_bytes(first.read_bytes()[:44] + bytes(1_000))
    _flip(first.with_suffix(".idx"), random.Random(1))
    async with world.running(clicks=world.config()) as service:
        await runner_of(service).pause(False)
        await world.delivered(service)
        assert await total(service) == {"accepted": 30, "delivered": 20, "unreadable": 10}


async def test_a_deleted_stream_with_damaged_rows_still_closes(world: ServiceWorld) -> None:
    async with world.running() as service:
        await service.create_stream("clicks", world.config(buffer={"interval": "900s"}), definition={})
        await put(service, "clicks", *(b"%d" % number * 50 for number in range(50)))
        await world.clock.advance(2_000)
        await put(service, "clicks", *(b"%d" % number * 50 for number in range(50)))
    for path in sorted((world.data / "log").glob("*.log")):
        _flip(path, random.Random(3))
    async with world.running() as service:
        await service.delete_stream("clicks")
        await world.until(lambda: not service.runners)
        found = await total(service)
        assert found["discarded"] + found["unreadable"] == found["accepted"] == 100 and found["unreadable"]


@pytest.mark.parametrize("seed", range(3))
async def test_it_closes_after_crashes_at_any_moment(world: ServiceWorld, seed: int) -> None:
    """A stop cancels every task where it is: what was acknowledged is found by the next start."""
    chance = random.Random(seed)
    accepted = 0
    for round_ in range(8):
        async with world.running(clicks=world.checked()) as service:
            for _ in range(chance.randint(1, 6)):
                rows = [b"bad %d" % round_ if chance.random() < 0.2 else b"good %d" % round_ for _ in range(30)]
                await put(service, "clicks", *rows)
                accepted += len(rows)
                await world.clock.advance(chance.choice([0, 1, 1_000]))
                await asyncio.sleep(chance.random() / 50)
            if round_ % 2:
                replaying = asyncio.create_task(ask(service, "replay", limit=chance.randint(1, 50)))
                await asyncio.sleep(chance.random() / 50)
                replaying.cancel()
                await asyncio.wait([replaying])
            assert (await total(service))["accepted"] == accepted
        async with world.opened() as service:
            assert (await total(service))["accepted"] == accepted
    world.mark.touch()
    async with world.running(clicks=world.checked()) as service:
        await world.delivered(service)
        while not (await ask(service, "replay"))["done"]:
            pass
        await world.delivered(service)
        assert await total(service) == {"accepted": accepted, "delivered": accepted}
    assert world.records().total() == accepted
