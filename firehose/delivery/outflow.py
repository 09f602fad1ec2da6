"""The way out of one outlet: its cells are sealed as they come due, saved, sent, and known until they stand."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

from firehose.clock import HOUR_MS
from firehose.delivery.backoff import Backoff
from firehose.delivery.buffer import Cell
from firehose.delivery.courier import Courier, PlaceKeptError
from firehose.delivery.events import BufferSpilled, FailedQuotaFull, FailedQuotaHasRoom, RecordsExpired
from firehose.delivery.parts import Parts
from firehose.delivery.plan import FAILED, Outlet
from firehose.delivery.sealer import Sealed
from firehose.errors import FirehoseError, IntegrityError, StaleEpochError
from firehose.keys import next_key
from firehose.records import FailedRows
from firehose.state import DropIntent, FinishIntent, Intent, SaveIntents, Term

#: Finished objects of the destination that may wait before sealing, and with it reading, pauses. More would only move
#: a broken destination's backlog from the log into the outbox.
OPEN_OBJECTS = 16

#: Cells sealed into one outbox file, so that they share one fsync.
CELLS_A_FILE = 64


@dataclass(frozen=True, slots=True)
class Links:
    """What an outflow asks and tells the worker around it."""

    is_caught_up: Callable[[], bool]
    #: Gives failed rows the bytes that their producer sent.
    restore: Callable[[FailedRows], Awaitable[FailedRows]]
    #: Takes rows that failed while they were sealed.
    fail: Callable[[FailedRows], None]
    #: Ends an intent: its rows are done as `term` says, or (None) they go on.
    close: Callable[[Intent, Term | None, FinishIntent | DropIntent], None]
    #: Told when cells have left the buffer.
    has_room: Callable[[], None]


class Outflow:
    """Empties the cells of one outlet."""

    def __init__(self, parts: Parts, outlet: Outlet, links: Links, *, failed_quota_bytes: int) -> None:
        self._parts = parts
        self._outlet = outlet
        self._links = links
        self._failed_quota_bytes = failed_quota_bytes
        self._wants_spill = False
        #: It was told that the error output cannot be written, and no more may wait for it.
        self.is_stuck = False
        #: Until when sealing waits after it failed. Units: monotonic milliseconds.
        self._not_before_ms = 0
        self.is_paused = False
        #: Set when something may be due, or has changed.
        self.wake = asyncio.Event()
        #: Finished objects that do not stand at their sink yet, by key.
        self.open: dict[str, Intent] = {}
        self.courier = Courier(
            parts.plan, outlet, parts.outbox, parts.clock, parts.telemetry, parts.chance, on_failure=self.wake.set
        )

    def pause(self, is_paused: bool) -> None:
        """Stop or go on: what is being sent may end, nothing else begins."""
        self.is_paused = is_paused
        self.courier.pause(is_paused)
        self.wake.set()

    def hurry(self) -> None:
        """Try what waits for its next attempt at once."""
        self._not_before_ms = 0
        self.courier.hurry()
        self.wake.set()

    def ask_to_spill(self) -> None:
        """Move the rows that wait in memory to disk soon."""
        self._wants_spill = True
        self.wake.set()

    async def run(self, tasks: asyncio.TaskGroup) -> None:
        """Seal cells as they come due, until cancelled. What cannot be sealed waits in the buffer and may spill."""
        clock, buffer, name = self._parts.clock, self._parts.buffer, self._outlet.name
        backoff = Backoff(self._parts.chance)
        while True:
            self.wake.clear()
            if self._wants_spill:
                self._wants_spill = False
                await self._spill()
            now_ms, is_caught_up = clock.monotonic_ms(), self._links.is_caught_up()
            may_seal = self._may_seal()
            if may_seal and now_ms >= self._not_before_ms:
                cells = buffer.take_due(name, now_ms=now_ms, is_caught_up=is_caught_up, most=CELLS_A_FILE)
                if cells:
                    wait_ms = await self._try_to_seal(cells, tasks, backoff)
                    self._not_before_ms = clock.monotonic_ms() + wait_ms
                    continue
            due_ms = buffer.next_due_ms(name, is_caught_up=is_caught_up) if may_seal else None
            idle_ms = None if due_ms is None else max(0, max(due_ms, self._not_before_ms) - now_ms)
            await clock.wait(self.wake, idle_ms)

    def park(self, intent: Intent) -> None:
        """Let the source go on without the rows of a saved intent of the error output: one that cannot be written may
        not keep what was accepted after them."""
        if intent.outlet == FAILED:
            self._parts.ledger.park(intent.rows)

    async def deliver(self, intent: Intent) -> None:
        """Return when the object stands, or its rows expired before it could."""
        while True:
            try:
                stands = await self.courier.deliver(intent, self._is_expired)
                break
            except PlaceKeptError:
                intent = await self._move(intent)
        if stands is None:
            self._parts.telemetry.emit(RecordsExpired(self._parts.plan.identity.name, len(intent.rows)))
            self._links.close(intent, Term.EXPIRED, DropIntent(intent))
        else:
            self._links.close(stands, stands.term, FinishIntent(stands, self._parts.clock.now_ms()))

    async def _move(self, intent: Intent) -> Intent:
        """Give an object another key: its own is taken by one without rows, so it cannot arrive there any more."""
        parts, moved = self._parts, dataclasses.replace(intent, key=next_key(intent.key))
        await parts.steps.run("save intents", lambda: parts.state.apply(DropIntent(intent), SaveIntents((moved,))))
        parts.outbox.keep(moved)
        await parts.executor.run(lambda: parts.outbox.drop(intent))
        del self.open[intent.key]
        self.open[moved.key] = moved
        return moved

    @property
    def is_blocked(self) -> bool:
        """True where so many objects wait for their sink that no more are made."""
        return len(self.open) >= OPEN_OBJECTS

    def _may_seal(self) -> bool:
        has_room = self._has_failed_room() if self._outlet.name == FAILED else not self.is_blocked
        return has_room and not self.is_paused

    def _has_failed_room(self) -> bool:
        """Return whether more failed records may wait for their error output; a change is told."""
        waiting_bytes, telemetry = sum(intent.body_bytes for intent in self.open.values()), self._parts.telemetry
        name = self._parts.plan.identity.name
        if waiting_bytes < self._failed_quota_bytes:
            if self.is_stuck:
                telemetry.emit(FailedQuotaHasRoom(name))
            self.is_stuck = False
            return True
        # one object may be larger than the quota: that it is on its way is no alarm
        if self.courier.last_error is not None and not self.is_stuck:
            telemetry.emit(FailedQuotaFull(name, waiting_bytes, self._failed_quota_bytes))
            self.is_stuck = True
        return False

    async def _try_to_seal(self, cells: Sequence[Cell], tasks: asyncio.TaskGroup, backoff: Backoff) -> int:
        """Seal cells; where that fails as a whole, put them back and return how long to wait."""
        name = f"seal {self._outlet.name}"
        try:
            sealed = await self._parts.sealer.seal(cells)
        except (StaleEpochError, IntegrityError):
            raise  # what is lost here is in the source yet: the worker starts again, and reads it again
        except (FirehoseError, OSError) as error:
            self._parts.buffer.put_back(cells)
            return self._parts.steps.fail(name, error, backoff)
        backoff.reset()
        self._parts.steps.succeed(name)
        await self._send(cells, sealed, tasks)
        return 0

    async def _send(self, cells: Sequence[Cell], sealed: Sealed, tasks: asyncio.TaskGroup) -> None:
        """Save what was sealed and hand it to the couriers."""
        parts = self._parts
        failed = [await self._links.restore(each) for each in sealed.failed]
        for intent in sealed.intents:
            parts.outbox.keep(intent)
            self.open[intent.key] = intent
        if sealed.intents:
            await parts.steps.run("save intents", lambda: parts.state.apply(SaveIntents(sealed.intents)))
        else:
            await parts.executor.run(lambda: parts.outbox.discard(sealed.file))
        for intent in sealed.intents:
            self.park(intent)
        for each in failed:
            self._links.fail(each)
        for cell in cells:
            freed_bytes, unneeded = parts.buffer.let_go(cell)
            parts.budget.give(freed_bytes)
            await parts.spill.remove(unneeded)
        for intent in sealed.intents:
            tasks.create_task(self.deliver(intent))
        self._links.has_room()

    def _is_expired(self, intent: Intent) -> bool:
        """True where retention gives the object up. Failed records are never given up: their outbox has a quota."""
        limit_ms = self._parts.retention.limit_ms()
        if limit_ms is None or intent.outlet == FAILED:
            return False
        # from when the object was made: replayed rows keep their arrival, and are given as long as fresh ones
        return max(intent.created_ms, max(intent.hours) + HOUR_MS) < limit_ms

    async def _spill(self) -> None:
        parts, name, spilled_bytes = self._parts, self._outlet.name, 0
        for slab in parts.buffer.in_memory(name):
            path = await parts.steps.run("spill", partial(parts.spill.out, slab))
            freed_bytes = parts.buffer.spilled(name, slab, path)
            parts.budget.give(freed_bytes)
            spilled_bytes += freed_bytes
        if spilled_bytes:
            parts.telemetry.emit(BufferSpilled(parts.plan.identity.name, spilled_bytes))
