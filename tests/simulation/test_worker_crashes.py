"""The worker killed at random steps, over a sink that fails and a transform that never answers the same way twice.

A failure prints its seed: `pytest tests/simulation -k 'seed-17'` runs that one again.
"""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import numpy as np
import orjson
import pybase64
import pytest

from firehose import arrow
from firehose.errors import UnavailableError
from firehose.protocols import Stage
from firehose.records import Batch, FailedRows, Outcome
from tests.world import World

SEEDS = range(150)


class Fickle:
    """Keeps, changes, drops or fails each record by chance, differently each time it is asked."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    async def apply(self, batch: Batch) -> Outcome:
        await asyncio.sleep(0)
        if self._chance.random() < 0.1:
            raise UnavailableError("the function is away")
        fate = np.array([self._chance.choices((0, 1, 2), (8, 1, 1))[0] for _ in range(len(batch))])
        ok = batch.take(np.flatnonzero(fate == 0))
        if self._chance.random() < 0.5:
            ok = ok.with_data(arrow.binary_column([each + b"!" for each in ok.data.to_pylist()]))
        bad = batch.take(np.flatnonzero(fate == 1))
        failed = FailedRows.of(Stage.TRANSFORM, bad, codes="X", messages="x", attempts=1, ended_ms=0)
        return Outcome(ok, (failed,), batch.take(np.flatnonzero(fate == 2)).row_set())

    async def close(self) -> None:
        pass


class Crashes(World):
    """A world in which every step may be the last one of a process."""

    def __init__(self, folder: Path, seed: int) -> None:
        super().__init__(folder)
        self.chance = random.Random(seed)
        self.crashed = asyncio.Event()
        self.steps_left = 0
        self.shards = ["s0"]
        self.transforms = (Fickle(self.chance),)
        self.sink.fault = self.failed_sink.fault = self._fault
        self.store = lambda store: CrashingStore(store, self)

    def step(self) -> None:
        """One more step was made; the process may die before it goes on."""
        self.steps_left -= 1
        if self.steps_left == 0:
            self.crashed.set()

    def _fault(self, step: str, delivery: object) -> Exception | None:
        self.step()
        return UnavailableError(f"{step} the write") if self.chance.random() < 0.15 else None

    async def live(self) -> None:
        """Run one process until it crashes, or long enough."""
        self.steps_left = self.chance.randint(1, 40)
        self.crashed.clear()
        async with self.worker():
            for _ in range(8):
                if self.chance.random() < 0.6:
                    self._put()
                advance = asyncio.create_task(self.clock.advance(self.chance.choice((100, 5_000, 61_000))))
                crash = asyncio.create_task(self.crashed.wait())
                await asyncio.wait((advance, crash), return_when=asyncio.FIRST_COMPLETED)
                advance.cancel()
                crash.cancel()
                if self.crashed.is_set():
                    return

    def _put(self) -> None:
        if self.chance.random() < 0.1:
            self.source.end(self.shards[-1])
            self.source.reclaim()
        if self.source.is_ended(self.shards[-1]) or self.shards[-1] in dict(self.source.reclaimed):
            self.shards.append(f"s{len(self.shards)}")
        shard = self.shards[-1]
        first = self.source.size(shard)
        records = [f"{shard}-{first + index}".encode() for index in range(self.chance.randint(1, 120))]
        self.source.put(shard, records, arrival_ms=self.clock.now_ms())

    async def finish(self) -> None:
        """Let a last process bring everything home."""
        self.steps_left = -1
        self.sink.fault = self.failed_sink.fault = lambda step, delivery: None
        async with self.worker() as worker:
            for _ in range(60):
                await self.clock.advance(61_000)
                if worker.is_idle:
                    return
        raise AssertionError("the last process never became idle")


class CrashingStore:
    def __init__(self, store, world):
        self._store, self._world = store, world

    def __getattr__(self, name):
        return getattr(self._store, name)

    async def apply(self, *changes):
        self._world.step()
        await asyncio.sleep(0)
        await self._store.apply(*changes)
        self._world.step()
        await asyncio.sleep(0)


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: f"seed-{seed}")
async def test_every_row_ends_once_whatever_crashes(seed, tmp_path):
    world = Crashes(tmp_path, seed)
    for _ in range(world.chance.randint(1, 6)):
        await world.live()
    if world.chance.random() < 0.3:
        for path in (tmp_path / "streams" / "u1" / "outbox").iterdir():
            path.unlink()
    await world.finish()

    everything = dict(world.source.reclaimed) | {
        shard: world.source.batches(shard) for shard in await world.source.shards()
    }
    accepted = {record for batches in everything.values() for batch in batches for record in batch.data.to_pylist()}
    delivered = [record.rstrip(b"!") for record in await world.delivered()]
    failed = [
        pybase64.b64decode(orjson.loads(line)["rawData"])
        for _, body in world.failed_sink.objects.values()
        for line in body.splitlines()
    ]
    ended = delivered + failed
    assert len(ended) == len(set(ended)), "a row ended twice"
    assert set(ended) <= accepted
    account = await world.account()
    assert account.get("delivered", 0) == len(delivered)
    assert account.get("failed", 0) == len(failed)
    assert sum(account.values()) == len(accepted), "the account does not close"
    assert world.budget.used_bytes == 0
    for shard in await world.source.shards():
        assert world.source.released.get(shard, -1) == world.source.size(shard) - 1
