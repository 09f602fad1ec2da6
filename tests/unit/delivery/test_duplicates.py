"""A worker whose stream drops records with an id that it knows."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Any

import pytest

from firehose.deduplication import RecordIdWindow
from firehose.delivery.events import DuplicatesDropped, RecordIdsForgotten, RecordsWithoutId
from firehose.delivery.plan import Deduplication
from tests.world import World

HOUR = 3_600_000


@pytest.fixture
def deduplicating(world: World) -> Iterator[World]:
    world.deduplication = Deduplication(("id",), window_ms=HOUR, max_bytes=2**24)
    yield world


def record(number: int, more: str = "") -> bytes:
    return b'{"id": %d, "more": "%s"}' % (number, more.encode())


async def test_the_first_record_with_an_id_lands_and_the_others_are_counted(deduplicating: World) -> None:
    world = deduplicating
    async with world.worker() as worker:
        world.source.put("s", [record(1), record(2), record(1, "again")], arrival_ms=world.clock.now_ms())
        await world.clock.advance(60_000)
        world.source.put("s", [record(2, "later"), record(3)], arrival_ms=world.clock.now_ms())
        world.source.put("t", [record(3, "elsewhere")], arrival_ms=world.clock.now_ms())
        await world.clock.advance(60_000)
        delivered = await world.delivered()
        assert sorted(delivered)[:2] == [record(1), record(2)] and len(delivered) == 3
        assert await world.account() == {"delivered": 3, "duplicate": 3}
        assert world.source.released == {"s": 4, "t": 0}, "the log need not keep them"
        assert worker.known_ids is not None and worker.known_ids.ids == 3
        assert worker.is_idle
    assert sum(event.records for event in world.telemetry.of(DuplicatesDropped)) == 3


async def test_records_without_an_id_all_land(deduplicating: World) -> None:
    world = deduplicating
    records = [b"no JSON", b"no JSON", b'{"id": null}', b'{"id": null}', record(1), record(1)]
    async with world.worker():
        world.source.put("s", records, arrival_ms=world.clock.now_ms())
        await world.clock.advance(60_000)
        assert await world.delivered() == records[:5]
    assert sum(event.records for event in world.telemetry.of(RecordsWithoutId)) == 4


async def test_rows_that_are_read_again_after_a_crash_are_no_duplicates(deduplicating: World) -> None:
    world = deduplicating
    async with world.worker():
        world.source.put("s", [record(1), record(2), record(1)], arrival_ms=world.clock.now_ms())
        await world.clock.settle()
    assert not world.sink.objects
    async with world.worker():
        await world.clock.settle()
        world.source.put("s", [record(2), record(3)], arrival_ms=world.clock.now_ms())
        await world.clock.advance(60_000)
    assert await world.delivered() == [record(1), record(2), record(3)]
    assert await world.account() == {"delivered": 3, "duplicate": 2}


async def test_an_id_is_new_again_after_the_window(deduplicating: World) -> None:
    world = deduplicating
    async with world.worker():
        for _ in range(3):
            world.source.put("s", [record(1)], arrival_ms=world.clock.now_ms())
            await world.clock.advance(HOUR // 2 + 1)
    assert await world.account() == {"delivered": 2, "duplicate": 1}


async def test_rows_wait_while_their_ids_cannot_be_written(
    deduplicating: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, admit, is_full = deduplicating, RecordIdWindow.admit, [True]

    def failing(self: RecordIdWindow, asked: Any) -> Any:
        if is_full[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        return admit(self, asked)

    monkeypatch.setattr(RecordIdWindow, "admit", failing)
    async with world.worker() as worker:
        world.source.put("s", [record(1), record(1)], arrival_ms=world.clock.now_ms())
        await world.clock.advance(60_000)
        assert worker.last_error is not None and "No space left" in str(worker.last_error)
        assert not world.sink.objects and await world.account() == {}
        is_full[0] = False
        await world.clock.advance(120_000)
        assert worker.last_error is None
        assert await world.delivered() == [record(1)]
        assert await world.account() == {"delivered": 1, "duplicate": 1}


async def test_it_is_told_when_ids_go_before_their_time(deduplicating: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("firehose.deduplication.window.MEMORY_ENTRIES", 64)
    deduplicating.deduplication = Deduplication(("id",), window_ms=HOUR, max_bytes=10_000)
    world = deduplicating
    async with world.worker():
        for first in range(0, 1_000, 50):
            records = [record(number) for number in range(first, first + 50)]
            world.source.put("s", records, arrival_ms=world.clock.now_ms())
            await world.clock.advance(60_000)
    told = world.telemetry.of(RecordIdsForgotten)
    assert sum(event.ids for event in told) > 500
    assert 0 < told[-1].reach_ms < HOUR / 2
    assert len(await world.delivered()) == 1_000
