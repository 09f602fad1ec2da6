"""A source in memory: what was put stays readable, as a log's rows do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from firehose import arrow
from firehose.protocols import Assigned, End, Idle, Lag, Read, Revoked
from firehose.records import Batch, RowSet, Span


class MemorySource:
    """Shards of batches. A test puts rows; a worker opened again reads them again."""

    def __init__(self) -> None:
        self._batches: dict[str, list[Batch]] = {}
        self._ended: set[str] = set()
        self.released: dict[str, int] = {}
        self.reclaimed: list[tuple[str, list[Batch]]] = []
        #: The shards that hold replayed rows.
        self.replays: set[str] = set()
        self.changed = asyncio.Event()

    def put(self, shard: str, records: Sequence[bytes], *, arrival_ms: int) -> Batch:
        """Append records to `shard`, making it where it is new."""
        batches = self._batches.setdefault(shard, [])
        first = self.size(shard)
        batch = Batch.of(shard, arrow.binary_column(records), first_sequence=first, arrival_ms=arrival_ms)
        batches.append(batch)
        self._change()
        return batch

    def end(self, shard: str) -> None:
        """Close `shard`: nothing more will come."""
        self._batches.setdefault(shard, [])
        self._ended.add(shard)
        self._change()

    def reclaim(self) -> None:
        """Forget the shards that ended and are released to their end, as a log does with its space."""
        for shard in [each for each in self._ended if self.released.get(each, -1) == self.size(each) - 1]:
            self._ended.discard(shard)
            self.reclaimed.append((shard, self._batches.pop(shard)))

    def size(self, shard: str) -> int:
        """Return how many rows `shard` holds."""
        return sum(len(batch) for batch in self._batches.get(shard, []))

    def is_ended(self, shard: str) -> bool:
        return shard in self._ended

    def batches(self, shard: str) -> list[Batch]:
        """Return everything that was put."""
        return self._batches.get(shard, [])

    def _change(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()

    async def events(self) -> AsyncIterator[Assigned | Revoked]:
        known: set[str] = set()
        while True:
            changed = self.changed
            for shard in sorted(set(self._batches) - known):
                known.add(shard)
                yield Assigned(shard, is_replay=shard in self.replays)
            await changed.wait()

    async def shards(self) -> list[str]:
        return sorted(self._batches)

    async def open(self, shard: str, *, after: int) -> MemoryShard:
        return MemoryShard(self, shard, after)

    async def release(self, shard: str, position: int) -> None:
        # it goes back where finished objects were lost with an outbox: what is gone is gone
        self.released[shard] = max(position, self.released.get(shard, -1))

    async def last(self, shard: str) -> int:
        """Return the sequence of the newest row of `shard`, -1 where it holds none."""
        return self.size(shard) - 1

    async def lag(self, shard: str, position: int) -> Lag:
        waiting = [batch.where(batch.sequence > position) for batch in self.batches(shard)]
        waiting = [batch for batch in waiting if len(batch)]
        oldest_ms = min((int(batch.arrival_ms.min()) for batch in waiting), default=None)
        return Lag(sum(map(len, waiting)), sum(batch.data_bytes for batch in waiting), oldest_ms)

    async def close(self) -> None:
        """Nothing is held open."""


class MemoryShard:
    """One shard of a `MemorySource`, being read."""

    def __init__(self, source: MemorySource, name: str, after: int) -> None:
        self.name = name
        self._source = source
        self._after = after
        self._told_idle = False

    def _rest(self) -> Batch | None:
        for batch in self._source.batches(self.name):
            if len(batch) and int(batch.sequence[-1]) > self._after:
                return batch.where(batch.sequence > self._after)
        return None

    async def wait(self, max_wait_ms: int) -> bool:
        if self._rest() is None and not self._source.is_ended(self.name):
            if not max_wait_ms or not self._told_idle:
                self._told_idle = True  # once at once, so that waiting needs no clock; then only for news
                return False
            await self._source.changed.wait()
            return False
        self._told_idle = False
        return True

    async def read(self, *, max_bytes: int, max_wait_ms: int) -> Read | Idle | End:
        rest = self._rest()
        if rest is None:
            return End(self._source.size(self.name) - 1) if self._source.is_ended(self.name) else Idle()
        ends = arrow.offsets_of(rest.data)[1:]
        rest = rest.slice(0, max(1, int((ends <= max_bytes).sum())))
        span = Span(self.name, self._after + 1, int(rest.sequence[-1]))
        self._after = span.last
        return Read(span, rest, is_caught_up=self._rest() is None)

    async def fetch(self, rows: RowSet) -> Batch:
        found = [batch.where(rows.contains(batch)) for batch in self._source.batches(self.name)]
        return Batch(self.name, arrow.concat([each.rows for each in found if len(each)], found[0].rows.schema))

    async def close(self) -> None:
        """Nothing is held open."""
