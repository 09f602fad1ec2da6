"""What once broke, and must not break again."""

from __future__ import annotations

import asyncio
import dataclasses
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypeVar

import pytest

from firehose import arrow
from firehose.budget import ByteBudget
from firehose.delivery.buffer import Hints, cell_of
from firehose.delivery.outbox import Outbox
from firehose.delivery.spill import Spill
from firehose.errors import IntegrityError, UnavailableError
from firehose.executors import InlineExecutor
from firehose.filesystem import OsFileSystem
from firehose.protocols import Delivery
from firehose.records import Batch, Outcome
from firehose.sinks.body import verified_chunks
from firehose.state import Change
from firehose.stores.sqlite import SqliteStateStore
from firehose.testing import FakeClock, MemorySource
from tests.world import Lines, World

T = TypeVar("T")


async def test_replayed_records_are_delivered_however_old_they_are(world: World) -> None:
    world.retention_ms = 3_600_000
    world.source.replays.add("replay")
    world.source.put("replay", [b"old"], arrival_ms=world.clock.now_ms() - 86_400_000)
    async with world.worker():
        await world.clock.advance(61_000)
        assert await world.account() == {"delivered": 1}


async def test_a_stream_that_cannot_be_sealed_gives_its_memory_to_others(world: World) -> None:
    class Broken(Lines):
        def open(self, out: object, schema: object) -> Lines:
            raise UnavailableError("no catalog")

    world.hints = Hints(max_bytes=1_000_000, max_age_ms=60_000)
    world.budget = ByteBudget(6 * 2**20)
    plan = dataclasses.replace(world.plan(), encoder=Broken())
    world.plan = lambda: plan  # type: ignore[method-assign] # this world's plan, and no other's
    async with world.worker() as worker:
        world.source.put("s", [b"x" * 100_000 for _ in range(30)], arrival_ms=world.clock.now_ms())
        await world.clock.advance(10_000)
        other = asyncio.create_task(world.budget.take(4 * 2**20))
        for _ in range(20):
            worker.ask_to_spill()
            await world.clock.advance(30_000)
        assert other.done(), f"{world.budget.used_bytes} bytes are held for ever"
        world.budget.give(4 * 2**20)


async def test_an_object_damaged_in_the_outbox_ends_the_worker_and_is_made_again_by_the_next(world: World) -> None:
    is_down = True

    def fault(step: str, delivery: Delivery) -> Exception | None:
        if step == "before" and is_down:
            return UnavailableError("down")
        if step == "before":
            list(verified_chunks(delivery))
        return None

    world.sink.fault = fault
    with pytest.raises(ExceptionGroup) as ended:
        async with world.worker():
            world.source.put("s", [b"a", b"b"], arrival_ms=world.clock.now_ms())
            await world.clock.advance(61_000)
            (path,) = (world.folder / "streams/u1/outbox").iterdir()
            path.write_bytes(b"\0" + path.read_bytes()[1:])
            is_down = False
            await world.clock.advance(60_000)
    assert ended.group_contains(IntegrityError)
    async with world.worker():
        await world.clock.advance(61_000)
        assert await world.delivered() == [b"a", b"b"]


class _Full(InlineExecutor):
    async def run(self, call: Callable[[], T]) -> T:
        call()  # what was written so far stays behind, as on a full disk
        raise OSError(28, "No space left on device")


async def test_a_spill_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    source = MemorySource()
    batch = source.put("s", [b"x" * 1_000] * 10, arrival_ms=0)
    (part,) = cell_of("destination", "", [batch], now_ms=0).parts
    with pytest.raises(OSError, match="No space left"):
        await Spill(tmp_path, _Full()).out(part.slab)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [".nfs000000001", "README", "lost+found"])
def test_a_strange_name_in_the_outbox_does_not_stop_the_stream(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("")
    assert Outbox(tmp_path, OsFileSystem()).recover(()) == ([], [])
    assert (tmp_path / name).exists()


def test_a_folder_among_the_spilled_rows_does_not_stop_the_stream(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    Spill(tmp_path, InlineExecutor()).clear()


class _Slow:
    """Takes its time, so that batches of several shards are in transforms at once."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock

    async def apply(self, batch: Batch) -> Outcome:
        await self._clock.sleep_ms(10)
        return Outcome(batch)

    async def close(self) -> None:
        pass


async def test_shards_with_all_memory_in_transforms_do_not_wait_for_each_other(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by the simulation: each held a batch or two, none could spill, and all waited for room to read the next."""
    monkeypatch.setattr("firehose.delivery.intake.READ_BYTES", 4_000)
    world.budget, world.transforms = ByteBudget(16_000), (_Slow(world.clock),)
    for shard in ("s", "t", "u"):
        for _ in range(20):
            world.source.put(shard, [b"x" * 2_000], arrival_ms=world.clock.now_ms())
    async with world.worker():
        await world.clock.advance(120_000)
        assert len(await world.delivered()) == 60


async def test_an_outbox_that_was_removed_is_made_again(world: World) -> None:
    async with world.worker():
        world.source.put("s", [b"a"], arrival_ms=world.clock.now_ms())
        await world.clock.advance(61_000)
        shutil.rmtree(world.folder / "streams/u1/outbox")
        world.source.put("s", [b"b"], arrival_ms=world.clock.now_ms())
        await world.clock.advance(61_000)
        assert await world.delivered() == [b"a", b"b"]


@pytest.mark.parametrize("when", ["before", "after"])
async def test_spilled_rows_that_were_removed_are_read_again(world: World, when: str) -> None:
    world.hints = Hints(max_bytes=10_000, max_age_ms=60_000)
    spill = world.folder / "streams/u1/spill"
    with pytest.raises(ExceptionGroup) if when == "after" else nullcontext() as ended:
        async with world.worker() as worker:
            if when == "before":
                shutil.rmtree(spill)
            world.source.put("s", [b"a" * 1_000, b"b"], arrival_ms=world.clock.now_ms())
            await world.clock.settle()
            worker.ask_to_spill()
            await world.clock.settle()
            assert list(spill.iterdir())
            if when == "after":
                shutil.rmtree(spill)
            await world.clock.advance(61_000)
    assert ended is None or ended.group_contains(IntegrityError)
    async with world.worker():
        await world.clock.advance(61_000)
        assert await world.delivered() == [b"a" * 1_000, b"b"]


class _SetBack(FakeClock):
    """A clock on the wall that somebody sets back by ten years."""

    ahead_ms = 0

    def now_ms(self) -> int:
        return super().now_ms() + self.ahead_ms


@pytest.mark.parametrize("when", ["while it is buffered", "before it comes"])
async def test_cells_come_due_although_the_clock_was_set_back(world: World, when: str) -> None:
    world.clock = _SetBack()
    ten_years_ms = 10 * 365 * 86_400_000
    async with world.worker():
        if when == "before it comes":
            world.clock.ahead_ms = -ten_years_ms
        world.source.put("s", [b"a"], arrival_ms=world.clock.now_ms())
        await world.clock.settle()
        world.clock.ahead_ms = -ten_years_ms
        await world.clock.advance(61_000)
        assert await world.delivered() == [b"a"]
        world.source.put("s", [b"b"], arrival_ms=world.clock.now_ms())
        await world.clock.advance(61_000)
        assert await world.delivered() == [b"a", b"b"]


async def test_rows_that_stand_there_in_other_bytes_are_delivered(world: World) -> None:
    """An old copy of the data directory was put back, and a function answers otherwise, or a data key is another."""
    world.source.put("s", [b"a", b"b"], arrival_ms=world.clock.now_ms())
    async with world.worker():
        await world.clock.advance(61_000)
    (folder,) = world.folder.glob("streams")
    shutil.rmtree(folder)
    (world.folder / "state.db").unlink()
    for name in ("state.db-wal", "state.db-shm"):
        (world.folder / name).unlink(missing_ok=True)
    world.source.released.clear()
    world.transforms = (_Shouts(),)
    async with world.worker():
        await world.clock.advance(61_000)
        assert await world.delivered() == [b"a", b"b"]
    assert await world.account() == {"delivered": 2}
    ((delivery, body),) = world.sink.objects.values()
    state = await world.open_state()
    (manifest,) = await state.manifests("u1", "destination")
    await state.close()
    assert (manifest.intent.checksum, manifest.intent.body_bytes) == (delivery.checksum, len(body)), "of what stands"


class _Shouts:
    async def apply(self, batch: Batch) -> Outcome:
        return Outcome(batch.with_data(arrow.binary_column([each.upper() for each in batch.data.to_pylist()])))

    async def close(self) -> None:
        pass


class _Noting:
    """A state that notes the order of its changes, and fails the first time that an object is finished."""

    def __init__(self, store: SqliteStateStore, noted: list[str]) -> None:
        self._store, self._noted = store, noted

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def apply(self, *changes: Change) -> None:
        names = [type(change).__name__ for change in changes]
        if "FinishIntent" in names and "failed" not in self._noted:
            self._noted.append("failed")
            raise UnavailableError("busy")
        await self._store.apply(*changes)
        self._noted += [name for name in names if name in ("SaveIntents", "FinishIntent")]


class _KeepsOne:
    async def apply(self, batch: Batch) -> Outcome:
        return Outcome(batch.slice(0, 1), (), batch.slice(1).row_set())

    async def close(self) -> None:
        pass


async def test_rows_start_over_only_after_it_is_saved_that_they_may(world: World) -> None:
    """Found by the simulation: after a second crash they lay in two objects, and their stream never went on."""
    world.sink.fault = lambda step, delivery: UnavailableError("down")
    async with world.worker():
        world.source.put("s", [b"a", b"b", b"c"], arrival_ms=world.clock.now_ms())
        await world.clock.advance(61_000)
    for path in (world.folder / "streams/u1/outbox").iterdir():
        path.unlink()
    world.sink.fault = lambda step, delivery: None
    noted: list[str] = []
    world.store, world.transforms = lambda store: _Noting(store, noted), (_KeepsOne(),)
    async with world.worker():
        await world.clock.advance(200_000)
    # the next attempt, which stands; and of the rows that it does not hold one more, then the last
    assert noted == ["SaveIntents", "failed", "FinishIntent", "SaveIntents", "FinishIntent"]
    assert await world.account() == {"delivered": 2, "dropped": 1}
