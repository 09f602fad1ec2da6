"""Rows of a shard that wait to be sent together: until they are enough, or the first of them has waited long enough."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from firehose.clock import Clock
from firehose.errors import UnavailableError
from firehose.records import Batch, Outcome, RowSet, concat_batches
from firehose.transforms.contract import Room, Sizes

#: Is given batches of one shard, which ascend from one to the next, and returns an outcome for each.
Send = Callable[[Sequence[Batch]], Coroutine[Any, Any, Sequence[Outcome]]]


class Gathering:
    """Puts rows together for `send` and gives each caller the outcome of its own.

    Rows of different shards never meet. At most `concurrency` sends of a shard are under way; rows that come meanwhile
    are sent together then, however short they might have waited. A caller has taken its rows from the budget until it
    has their outcome, so what waits here is counted. Units: `max_bytes` of data in a send; `max_age_ms` since it came.
    """

    def __init__(
        self, send: Send, *, name: str, max_bytes: int, max_age_ms: int, concurrency: int, clock: Clock
    ) -> None:
        assert concurrency > 0
        self._send = send
        self._name = name
        self._max_bytes = max_bytes
        self._max_age_ms = max_age_ms
        self._concurrency = concurrency
        self._clock = clock
        #: Shards with rows here: a lane goes with its last row.
        self._lanes: dict[str, _Lane] = {}
        #: The last sequence of each shard that is in a hurry.
        self._heads: Mapping[str, int] = {}
        self._is_closed = False

    async def apply(self, batch: Batch) -> Outcome:
        """Return what became of the rows. Errors: those of `send`; UnavailableError where this is closed."""
        if self._is_closed:
            raise UnavailableError(f"{self._name}: closed")
        if not len(batch):
            return Outcome(batch)
        call = _Call(batch)
        lane = self._lanes.setdefault(batch.shard, _Lane(batch.shard))
        self._add(lane, call)
        try:
            await call.done
        except BaseException:  # it is cancelled, or some of its rows were not answered for: nobody waits for the others
            self._withdraw(lane, call)
            raise
        return call.outcome()

    def hurry(self, heads: Mapping[str, int] | None = None) -> None:
        """Send what waits, and let rows up to `heads`, the last sequence of each shard, not wait when they come."""
        self._heads = dict(heads or {})
        for lane in list(self._lanes.values()):
            if lane.waiting:
                lane.waiting[-1].is_due = True
                self._send_due(lane)

    async def close(self) -> None:
        """Send nothing more. Callers get UnavailableError; what is under way is cancelled."""
        self._is_closed = True
        under_way = [task for lane in self._lanes.values() for task in lane.under_way]
        for lane in list(self._lanes.values()):
            waiting, lane.waiting = lane.waiting, deque()
            for piece in waiting:
                piece.fail(UnavailableError(f"{self._name}: closed"))
            self._forget_idle(lane)
        for task in under_way:
            task.cancel()
        if under_way:
            await asyncio.wait(under_way)

    def _add(self, lane: _Lane, call: _Call) -> None:
        """Put the rows of a call behind those that wait."""
        is_due = not self._max_age_ms or call.first[0] <= self._heads.get(lane.shard, -1)
        start = 0
        while start < len(call.batch):
            piece = lane.filling(call) or lane.begin(Room(self._max_bytes))
            start += piece.add(call, start)
            piece.is_due |= is_due
        self._send_due(lane)

    def _send_due(self, lane: _Lane) -> None:
        """Send what is full or due, as far as there is a turn for it; see to it that the rest becomes due."""
        while lane.waiting and lane.waiting[0].is_due and len(lane.under_way) < self._concurrency:
            piece = lane.waiting.popleft()
            piece.stop_timer()
            task = asyncio.create_task(self._send([part.batch for part in piece.parts]))
            lane.under_way[task] = piece
            task.add_done_callback(partial(self._finish, lane))
        if lane.waiting and not lane.waiting[-1].is_due and lane.waiting[-1].timer is None:
            lane.waiting[-1].timer = asyncio.create_task(self._ripen(lane, lane.waiting[-1]))

    async def _ripen(self, lane: _Lane, piece: _Piece) -> None:
        await self._clock.sleep_ms(self._max_age_ms)
        piece.timer = None
        piece.is_due = True
        self._send_due(lane)

    def _finish(self, lane: _Lane, task: asyncio.Task[Sequence[Outcome]]) -> None:
        piece = lane.under_way.pop(task)
        if task.cancelled():  # by `close`; or nobody waits for it any more
            piece.fail(UnavailableError(f"{self._name}: closed during the call"))
        elif (error := task.exception()) is not None:
            piece.fail(error)
        else:
            for part, outcome in zip(piece.parts, task.result(), strict=True):
                part.call.settle(part, outcome)
        self._send_due(lane)
        self._forget_idle(lane)

    def _withdraw(self, lane: _Lane, call: _Call) -> None:
        """Let go of the rows of a call that has ended; the rows of others beside them stay as they are."""
        for piece in lane.waiting:
            piece.parts = [part for part in piece.parts if part.call is not call]
            if not piece.parts:
                piece.stop_timer()
        lane.waiting = deque(piece for piece in lane.waiting if piece.parts)
        for task, piece in lane.under_way.items():
            if all(part.call.done.done() for part in piece.parts):
                task.cancel()
        self._forget_idle(lane)

    def _forget_idle(self, lane: _Lane) -> None:
        if not lane.waiting and not lane.under_way and self._lanes.get(lane.shard) is lane:
            del self._lanes[lane.shard]


class _Call:
    """Rows of one caller, and what became of them so far."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.sizes = Sizes(batch)
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._outcomes: list[tuple[int, Outcome]] = []
        self._left = len(batch)

    @property
    def first(self) -> tuple[int, int]:
        """The identity of the first row in its shard."""
        return int(self.batch.sequence[0]), int(self.batch.sub_sequence[0])

    @property
    def last(self) -> tuple[int, int]:
        return int(self.batch.sequence[-1]), int(self.batch.sub_sequence[-1])

    def settle(self, part: _Part, outcome: Outcome) -> None:
        self._outcomes.append((part.start, outcome.check(part.batch)))
        self._left -= len(part.batch)
        if not self._left and not self.done.done():
            self.done.set_result(None)

    def outcome(self) -> Outcome:
        """Return what became of all rows, in their order."""
        outcomes = [outcome for _, outcome in sorted(self._outcomes, key=lambda each: each[0])]
        return Outcome(
            concat_batches([each.ok for each in outcomes]),
            tuple(failed for each in outcomes for failed in each.failed),
            RowSet.union(each.dropped for each in outcomes),
        ).check(self.batch)


class _Part(NamedTuple):
    """A run of a caller's rows, from its row `start` on."""

    call: _Call
    start: int
    batch: Batch


@dataclass(slots=True)
class _Piece:
    """Rows that are sent together."""

    room: Room
    parts: list[_Part] = field(default_factory=list)
    #: True where it waits for nothing but its turn.
    is_due: bool = False
    #: True where nothing more may join it.
    is_full: bool = False
    timer: asyncio.Task[None] | None = None

    def add(self, call: _Call, start: int) -> int:
        """Take what fits of a call's rows from `start` on, one at least into an empty piece; return how many."""
        count = self.room.take(call.sizes, start, at_least=0 if self.parts else 1)
        if count:
            self.parts.append(_Part(call, start, call.batch.slice(start, count)))
        if start + count < len(call.batch) or self.room.data_bytes <= 0:
            self.close()
        return count

    def close(self) -> None:
        self.is_full = self.is_due = True

    def fail(self, error: BaseException) -> None:
        """Tell all callers."""
        self.stop_timer()
        for call in {id(part.call): part.call for part in self.parts}.values():
            if not call.done.done():
                call.done.set_exception(error)

    def stop_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


@dataclass(slots=True)
class _Lane:
    """What waits of one shard, in order, and what is under way."""

    shard: str
    waiting: deque[_Piece] = field(default_factory=deque)
    under_way: dict[asyncio.Task[Sequence[Outcome]], _Piece] = field(default_factory=dict)

    def filling(self, call: _Call) -> _Piece | None:
        """Return the piece that a call's rows may join. Rows ascend in a piece: a row read again is no neighbour."""
        if not self.waiting or self.waiting[-1].is_full:
            return None
        before = self.waiting[-1].parts[-1].call
        return self.waiting[-1] if before.last < call.first else None

    def begin(self, room: Room) -> _Piece:
        """Return a new piece; nothing joins the one before it any more."""
        if self.waiting:
            self.waiting[-1].close()
        self.waiting.append(_Piece(room))
        return self.waiting[-1]
