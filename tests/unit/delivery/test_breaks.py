"""Attempts to break a worker: its files vanish, its disk fills, its sink lies."""

from __future__ import annotations

import errno

from firehose.delivery.events import StepFailed
from firehose.errors import UnavailableError
from firehose.filesystem import OsFileSystem


def records(count: int) -> list[bytes]:
    return [f"{number:010d}".encode() for number in range(count)]


async def _finish_an_object(world) -> None:
    """Leave an object finished and not delivered."""
    world.sink.fault = lambda step, delivery: UnavailableError("down")
    async with world.worker():
        world.source.put("s", records(3), arrival_ms=world.clock.now_ms())
        await world.clock.advance(61_000)
    world.sink.fault = lambda step, delivery: None


async def test_an_outbox_that_was_emptied_is_made_again_once(world):
    await _finish_an_object(world)
    for path in (world.folder / "streams/u1/outbox").iterdir():
        path.unlink()
    async with world.worker():
        await world.clock.advance(61_000)
        assert await world.delivered() == records(3)
        assert await world.account() == {"delivered": 3}


async def test_an_outbox_that_was_damaged_is_made_again_once(world):
    await _finish_an_object(world)
    (path,) = (world.folder / "streams/u1/outbox").iterdir()
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    async with world.worker():
        await world.clock.advance(61_000)
        assert await world.delivered() == records(3)
        assert await world.account() == {"delivered": 3}


async def test_an_object_that_landed_before_the_outbox_was_lost_is_not_made_twice(world):
    lost = iter([UnavailableError("the answer was lost")] * 50)
    world.sink.fault = lambda step, delivery: next(lost, None) if step == "after" else None
    async with world.worker():
        world.source.put("s", records(3), arrival_ms=world.clock.now_ms())
        await world.clock.advance(61_000)
    for path in (world.folder / "streams/u1/outbox").iterdir():
        path.unlink()
    world.sink.fault = lambda step, delivery: None
    async with world.worker():
        await world.clock.advance(61_000)
        assert await world.delivered() == records(3)
        assert await world.account() == {"delivered": 3}


async def test_a_disk_that_is_full_while_sealing_costs_time_alone(world, monkeypatch):
    append, is_full = OsFileSystem.append, True

    def refuse(self, path):
        if is_full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return append(self, path)

    monkeypatch.setattr(OsFileSystem, "append", refuse)
    async with world.worker():
        world.source.put("s", records(3), arrival_ms=world.clock.now_ms())
        await world.clock.advance(120_000)
        assert not world.sink.objects and len(world.telemetry.of(StepFailed)) > 1
        is_full = False
        await world.clock.advance(60_000)
        assert await world.delivered() == records(3)
        assert await world.account() == {"delivered": 3}
