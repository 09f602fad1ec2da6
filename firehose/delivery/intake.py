"""From a shard to the buffer: read what is not done, transform it in order, hand every row on to where it belongs."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from firehose.delivery.events import RecordsExpired, RecordsUnreadable
from firehose.delivery.parts import Parts
from firehose.delivery.plan import DESTINATION
from firehose.delivery.progress import at_most
from firehose.protocols import End, Read, Shard
from firehose.records import Batch, Outcome, RowSet
from firehose.state import Term

#: Payload bytes of one read: large enough that costs per batch vanish, small enough for a lambda's and a slab's size.
READ_BYTES = 4 * 2**20

#: How long an idle shard waits for rows before its worker looks at the time again.
IDLE_MS = 1_000

#: Batches of one shard in transforms at once; their outcomes are taken in order.
WINDOW = 4


@dataclass(slots=True)
class _InTransform:
    given: Batch
    taken_bytes: int
    outcome: asyncio.Task[Outcome]


class Intake:
    """Reads one shard of one stream."""

    def __init__(
        self, shard: Shard, parts: Parts, recovered: RowSet, on_turn: Callable[[], None], *, is_replay: bool
    ) -> None:
        self.shard = shard
        self._plan = parts.plan
        self._ledger = parts.ledger
        self._recovered = recovered
        self._budget = parts.budget
        self._retention = parts.retention
        self._telemetry = parts.telemetry
        self._steps = parts.steps
        self._window: deque[_InTransform] = deque()
        self._on_turn = on_turn
        # replayed rows were seen: they are those that their ids are known of
        self._duplicates = None if is_replay else parts.duplicates
        self._is_replay = is_replay
        self._is_caught_up = False
        #: The last sequence that was read.
        self._last = parts.ledger.position(shard.name)

    @property
    def is_caught_up(self) -> bool:
        """True where nothing waits in the shard: cells are due by the age of their oldest row then."""
        return self._is_caught_up

    @is_caught_up.setter
    def is_caught_up(self, value: bool) -> None:
        if value != self._is_caught_up:
            self._is_caught_up = value
            self._on_turn()

    @property
    def has_batches(self) -> bool:
        """True while batches are in transforms."""
        return bool(self._window)

    def is_past(self, sequence: int) -> bool:
        """Return whether every row up to `sequence` was read and absorbed."""
        return self._last >= sequence and not any(int(each.given.sequence[0]) <= sequence for each in self._window)

    async def run(
        self,
        transform: Callable[[Batch], Awaitable[Outcome]],
        absorb: Callable[[Batch, Outcome, int], None],
        may_read: Callable[[], Awaitable[object]],
    ) -> int:
        """Read to the shard's end and return its last sequence. `absorb` is given every outcome, in order."""
        async with asyncio.TaskGroup() as tasks:
            last = None
            while last is None:
                await may_read()
                last = await self._turn(tasks, transform, absorb)
            return last

    async def _turn(
        self,
        tasks: asyncio.TaskGroup,
        transform: Callable[[Batch], Awaitable[Outcome]],
        absorb: Callable[[Batch, Outcome, int], None],
    ) -> int | None:
        """Read once and hand on what is ready; return the last sequence at the shard's end.

        No variable outlives a turn: those of an idle shard would keep its last batch, 4 MiB for each of thousands.
        """
        got = await self._read()
        if isinstance(got, Batch):
            task = tasks.create_task(_outcome(transform, got))
            self._window.append(_InTransform(got, got.nbytes, task))
        is_waiting = not isinstance(got, Batch)
        while self._window and (is_waiting or len(self._window) >= WINDOW or self._window[0].outcome.done()):
            first = self._window[0]
            outcome = await first.outcome
            self._window.popleft()
            absorb(first.given, outcome, first.taken_bytes)
        return got.last if isinstance(got, End) else None

    async def _read(self) -> Batch | End | None:
        """Return the next rows that are not done, with their bytes taken from the budget; End; or None for now."""
        if not await self.shard.wait(0 if self._window else IDLE_MS):
            self.is_caught_up = True
            return None
        if not self._budget.try_take(READ_BYTES):
            if self._window:
                return None  # first what is in hand goes on to where it can spill, or all would wait for each other
            await self._budget.take(READ_BYTES)
        try:
            read = partial(self.shard.read, max_bytes=READ_BYTES, max_wait_ms=0)
            got = await self._steps.run("read", read)
            batch = await self._accept(got) if isinstance(got, Read) else None
            if batch is not None:
                self._budget.overdraw(batch.nbytes)
        finally:
            self._budget.give(READ_BYTES)
        if isinstance(got, Read):
            self._last = got.span.last
        self.is_caught_up = got.is_caught_up if isinstance(got, Read) else True
        return got if isinstance(got, End) else batch

    async def _accept(self, got: Read) -> Batch | None:
        self._skip_absent(got)
        batch = self._expire(self._not_done(got.batch))
        if self._duplicates is not None and len(batch):
            batch = await self._duplicates.drop(batch)
        return batch if len(batch) else None

    def _skip_absent(self, got: Read) -> None:
        """Settle the sequences of the span that hold no row: never acknowledged, or damaged on disk."""
        present = got.batch.row_set()
        span = RowSet.of_range(got.span.shard, got.span.first, got.span.last)
        progress = self._ledger.progress(DESTINATION, got.span.shard)
        done = RowSet.of_range(got.span.shard, 0, progress.position) if progress.position >= 0 else RowSet()
        absent = span - present - done - progress.beyond() - self._recovered
        if not len(absent):
            return
        # what was lost after it was done is lost to nobody: at most the absent rows are counted
        hours = at_most(got.unreadable, len(absent))
        self._ledger.settle(absent, (DESTINATION,), Term.UNREADABLE, hours)
        if hours:
            self._telemetry.emit(RecordsUnreadable(self._plan.identity.name, got.span.shard, sum(hours.values())))

    def _not_done(self, batch: Batch) -> Batch:
        """Return the rows that are neither done nor in an object that is already finished."""
        is_taken = self._ledger.progress(DESTINATION, batch.shard).is_done(batch) | self._recovered.contains(batch)
        return batch.where(~is_taken) if bool(is_taken.any()) else batch

    def _expire(self, batch: Batch) -> Batch:
        """Give up the rows that outlived the stream's retention, loudly."""
        limit_ms = self._retention.limit_ms()
        if limit_ms is None or self._is_replay or not len(batch):
            return batch
        is_expired = batch.arrival_ms < limit_ms
        if not bool(is_expired.any()):
            return batch
        expired = batch.where(is_expired)
        self._ledger.settle(expired.row_set(), (DESTINATION,), Term.EXPIRED, expired.hours())
        self._telemetry.emit(RecordsExpired(self._plan.identity.name, len(expired)))
        return batch.where(np.logical_not(is_expired))


async def _outcome(transform: Callable[[Batch], Awaitable[Outcome]], batch: Batch) -> Outcome:
    return await transform(batch)
