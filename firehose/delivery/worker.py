"""The worker of one delivery stream: reads its shards, seals what is due, delivers, commits.

    intake (one task a shard)      read → drop what is done → transform → buffer
    outflow (one task)             cells due → seal → save intents → hand to couriers; spill when memory is wanted
    couriers (a task an object)    deliver, again and again until it stands → ledger
    committer (one task)           ledger → state; then the log's space is released

All state between the tasks lives in `Buffer` and `Ledger`, and every change of either happens between two awaits.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from firehose.budget import BudgetShare
from firehose.clock import HOUR_MS
from firehose.components import Environment
from firehose.delivery.backoff import Backoff
from firehose.delivery.buffer import Buffer, Cell
from firehose.delivery.courier import Courier
from firehose.delivery.events import (
    BufferSpilled,
    RecordsDropped,
    RecordsExpired,
    RecordsFailed,
    StreamStarted,
)
from firehose.delivery.intake import Intake
from firehose.delivery.ledger import Ledger
from firehose.delivery.outbox import Outbox
from firehose.delivery.plan import DESTINATION, FAILED, StreamPlan
from firehose.delivery.redo import Redo
from firehose.delivery.sealer import Sealed, Sealer
from firehose.delivery.spill import Spill
from firehose.delivery.steps import Steps
from firehose.errors import FirehoseError, StaleEpochError
from firehose.protocols import Assigned, Revoked, Shard, Stage
from firehose.records import Batch, FailedRows, Outcome, RowSet
from firehose.state import DropIntent, FinishIntent, ForgetShard, Intent, SaveIntents, StateStore, Term

#: Finished objects of the destination that may wait before sealing, and with it reading, pauses. More would only move
#: a broken destination's backlog from the log into the outbox.
OPEN_OBJECTS = 16

#: Cells sealed into one outbox file, so that they share one fsync.
CELLS_A_FILE = 64


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """What bounds a worker, besides its stream's buffer hints."""

    #: Bytes of failed records that may wait in the outbox for an error output that cannot be written.
    failed_quota_bytes: int


class StreamWorker:
    """Runs one delivery stream until it is cancelled. A failed step keeps its rows and is tried again."""

    def __init__(
        self,
        plan: StreamPlan,
        environment: Environment,
        state: StateStore,
        budget: BudgetShare,
        limits: WorkerLimits,
        chance: random.Random,
    ) -> None:
        self.plan = plan
        self._clock = environment.clock
        self._telemetry = environment.telemetry
        self._executor = environment.executor
        self._state = state
        self._budget = budget
        self._limits = limits
        self._chance = chance
        self._steps = Steps(plan.identity.name, self._clock, self._telemetry, chance)
        folder = environment.data_dir / "streams" / plan.identity.uid
        self._outbox = Outbox(folder / "outbox", environment.files)
        self._spill = Spill(folder / "spill", environment.executor)
        self._sealer = Sealer(plan, self._outbox, self._spill, self._executor, self._clock, self._telemetry)
        self.ledger = Ledger(plan.identity.uid, (DESTINATION,), state)
        self.buffer = Buffer({DESTINATION: plan.destination.hints, FAILED: plan.failed.hints})
        outlets = (plan.destination, plan.failed)
        self.couriers = {
            outlet.name: Courier(plan, outlet, self._outbox, self._clock, self._telemetry, chance) for outlet in outlets
        }
        self._open: dict[str, dict[str, Intent]] = {outlet.name: {} for outlet in outlets}
        self._wake = {outlet.name: asyncio.Event() for outlet in outlets}
        self._wants_spill: set[str] = set()
        self._room = asyncio.Event()
        self._room.set()
        self._is_paused = False
        self._intakes: dict[str, Intake] = {}
        self._shards: dict[str, Shard] = {}
        self._finished: list[Intent] = []
        self._moved = asyncio.Event()
        #: Rows of objects that an earlier process finished: they are not read again.
        self._recovered = RowSet()

    # --- what others may ask -----------------------------------------------------------------------------------------

    @property
    def last_error(self) -> FirehoseError | None:
        """What keeps the stream from going on, as far as something does."""
        errors = [*self._steps.errors.values(), *(courier.last_error for courier in self.couriers.values())]
        return next((error for error in errors if error is not None), None)

    @property
    def is_caught_up(self) -> bool:
        """True where nothing waits in the shards."""
        return all(intake.is_caught_up for intake in self._intakes.values())

    @property
    def is_idle(self) -> bool:
        """True where every row that was read is delivered and saved."""
        has_cells = next(self.buffer.cells(), None) is not None
        has_batches = any(intake.has_batches for intake in self._intakes.values())
        return self.is_caught_up and not (has_cells or has_batches or self.open_objects) and self.ledger.is_clean

    @property
    def open_objects(self) -> int:
        """Finished objects that do not stand at their sink yet."""
        return sum(len(intents) for intents in self._open.values())

    def pause(self, is_paused: bool) -> None:
        """Stop or go on: reading and sealing pause, objects on their way arrive."""
        self._is_paused = is_paused
        self._look_for_room()
        self._wake_all()

    def flush(self) -> None:
        """Seal everything buffered now, and try at once what waits for its next attempt."""
        self.buffer.close_all()
        self._wake_all()
        for courier in self.couriers.values():
            courier.hurry()

    def ask_to_spill(self) -> None:
        """Move the largest cell to disk soon."""
        largest = max(self.buffer.cells(), key=lambda cell: cell.held_bytes, default=None)
        if largest is not None:
            self._wants_spill.add(largest.outlet)
            self._wake[largest.outlet].set()

    # --- the tasks ---------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Work until cancelled. Errors: StaleEpochError where another worker took over; AssertionError for our bugs."""
        await self._executor.run(self._spill.clear)
        saved = await self._steps.run("load", lambda: self._state.load(self.plan.identity.uid))
        here, gone = await self._executor.run(lambda: self._outbox.recover(saved.intents))
        self.ledger.restore(saved.done)
        for intent in saved.intents:
            self._open[intent.outlet][intent.key] = intent
            self._recovered = self._recovered | intent.rows
            for shard in intent.rows.shards():
                self.ledger.add_shard(shard)
        self._telemetry.emit(StreamStarted(self.plan.identity.name, len(here), len(gone)))
        async with asyncio.TaskGroup() as tasks:
            for intent in here:
                tasks.create_task(self._deliver(intent))
            for outlet in self._open:
                tasks.create_task(self._outflow(outlet, tasks))
            tasks.create_task(self._commit_forever())
            await self._follow_source(tasks, list(gone))

    async def _follow_source(self, tasks: asyncio.TaskGroup, gone: list[Intent]) -> None:
        """Take up shards as they are assigned, drop them as they are revoked."""
        source, uid = self.plan.source, self.plan.identity.uid
        owned = {shard for intent in self._all_open() for shard in intent.rows.shards()}
        stale = self.ledger.shards() - set(await source.shards()) - owned
        for shard in stale:
            self.ledger.remove_shard(shard)
            self.ledger.add(ForgetShard(uid, shard))
        reading: dict[str, asyncio.Task[None]] = {}
        async for event in source.events():
            if isinstance(event, Revoked):
                if (task := reading.pop(event.shard, None)) is not None:
                    task.cancel()
                continue
            assert isinstance(event, Assigned)
            self.ledger.add_shard(event.shard)
            position = self.ledger.position(event.shard)
            await source.release(event.shard, position)
            self._shards[event.shard] = await source.open(event.shard, after=position)
            for intent in [each for each in gone if set(each.rows.shards()) <= set(self._shards)]:
                gone.remove(intent)
                tasks.create_task(self._redo(intent))
            reading[event.shard] = tasks.create_task(self._read(self._shards[event.shard], is_replay=event.is_replay))

    async def _read(self, shard: Shard, *, is_replay: bool) -> None:
        """Read a shard to its end, and let go of it when all of it is done.

        Its position stays in the state until the source has no such shard any more: a source that is opened again
        before it has reclaimed the shard would hand it out from its beginning.
        """
        intake = Intake(
            shard,
            self.plan,
            self.ledger,
            self._recovered,
            self._budget,
            self._clock,
            self._telemetry,
            self._wake_all,
            is_replay=is_replay,
        )
        self._intakes[shard.name] = intake
        last = await intake.run(self._transform, self._absorb, self._room.wait)
        while self.ledger.position(shard.name) < last:
            self._moved.clear()
            await self._moved.wait()
        await self._commit()
        del self._intakes[shard.name], self._shards[shard.name]
        self.ledger.remove_shard(shard.name)
        await shard.close()

    async def _transform(self, batch: Batch) -> Outcome:
        """Send a batch through all transforms; what fails has its original bytes back."""
        failed: list[FailedRows] = []
        dropped = RowSet()
        ok, created = batch, 0
        for transform in self.plan.transforms:
            if not len(ok):
                break
            given = ok
            outcome = (await self._steps.run("transform", partial(transform.apply, given))).check(given)
            failed += [await self._with_originals(each) for each in outcome.failed if len(each)]
            dropped, ok, created = dropped | outcome.dropped, outcome.ok, created + outcome.created
        return Outcome(ok, tuple(failed), dropped, created).check(batch)

    async def _with_originals(self, failed: FailedRows) -> FailedRows:
        """Return the failures with the bytes that the producer sent."""
        if not failed.changed:
            return failed
        shard = self._shards[failed.shard]
        return failed.with_originals(await self._steps.run("fetch", lambda: shard.fetch(failed.batch().row_set())))

    def _absorb(self, given: Batch, outcome: Outcome, taken_bytes: int) -> None:
        """Put every row of an outcome where it belongs."""
        if len(outcome.ok):
            self._put(DESTINATION, "", outcome.ok)
        self._settle_dropped(given, outcome.dropped)
        for failed in outcome.failed:
            self._fail(failed)
        self._budget.give(taken_bytes)

    def _settle_dropped(self, given: Batch, dropped: RowSet) -> None:
        if not len(dropped):
            return
        hours = given.where(dropped.contains(given)).hours()
        self.ledger.settle(dropped, (DESTINATION,), Term.DROPPED, hours)
        self._telemetry.emit(RecordsDropped(self.plan.identity.name, len(dropped)))

    def _fail(self, failed: FailedRows) -> None:
        self._put(FAILED, Stage(failed.stage).error_output_type, failed)
        codes = Counter(failed.rows.column("code").to_pylist())
        self._telemetry.emit(RecordsFailed(self.plan.identity.name, failed.stage, len(failed), dict(codes)))

    def _put(self, outlet: str, group: str, piece: Batch | FailedRows) -> None:
        self._budget.overdraw(self.buffer.add(outlet, group, piece, now_ms=self._clock.now_ms()))
        self._look_for_room()
        self._wake[outlet].set()

    # --- out ---------------------------------------------------------------------------------------------------------

    async def _outflow(self, outlet: str, tasks: asyncio.TaskGroup) -> None:
        """Seal the outlet's cells as they come due; those that cannot be sealed wait in the buffer, and may spill."""
        backoff, not_before_ms = Backoff(self._chance), 0
        while True:
            self._wake[outlet].clear()
            if outlet in self._wants_spill:
                self._wants_spill.discard(outlet)
                await self._spill_largest(outlet)
            now_ms, is_caught_up = self._clock.now_ms(), self.is_caught_up
            may_seal = self._may_seal(outlet)
            if may_seal and now_ms >= not_before_ms:
                cells = self.buffer.take_due(outlet, now_ms=now_ms, is_caught_up=is_caught_up, most=CELLS_A_FILE)
                if cells:
                    wait_ms = await self._try_to_seal(outlet, cells, tasks, backoff)
                    not_before_ms = self._clock.now_ms() + wait_ms
                    continue
            due_ms = self.buffer.next_due_ms(outlet, is_caught_up=is_caught_up) if may_seal else None
            idle_ms = None if due_ms is None else max(0, max(due_ms, not_before_ms) - now_ms)
            await self._clock.wait(self._wake[outlet], idle_ms)

    async def _try_to_seal(self, outlet: str, cells: Sequence[Cell], tasks: asyncio.TaskGroup, backoff: Backoff) -> int:
        """Seal cells; where that fails as a whole, put them back and return how long to wait."""
        name = f"seal {outlet}"
        try:
            sealed = await self._sealer.seal(cells)
        except StaleEpochError:
            raise
        except (FirehoseError, OSError) as error:
            self.buffer.put_back(cells)
            return self._steps.fail(name, error, backoff)
        backoff.reset()
        self._steps.succeed(name)
        await self._send(outlet, cells, sealed, tasks)
        return 0

    def _may_seal(self, outlet: str) -> bool:
        waiting = self._open[outlet].values()
        if outlet == FAILED:
            has_room = sum(intent.body_bytes for intent in waiting) < self._limits.failed_quota_bytes
        else:
            has_room = len(waiting) < OPEN_OBJECTS
        return has_room and not self._is_paused

    async def _send(self, outlet: str, cells: Sequence[Cell], sealed: Sealed, tasks: asyncio.TaskGroup) -> None:
        """Save what was sealed and hand it to the couriers."""
        failed = [await self._with_originals(each) for each in sealed.failed]
        for intent in sealed.intents:
            self._outbox.keep(intent)
            self._open[outlet][intent.key] = intent
        if sealed.intents:
            await self._steps.run("save intents", lambda: self._state.apply(SaveIntents(sealed.intents)))
        else:
            await self._executor.run(lambda: self._outbox.discard(sealed.file))
        for each in failed:
            self._fail(each)
        for cell in cells:
            self._budget.give(cell.held_bytes)
            await self._executor.run(partial(self._spill.forget, cell))
        for intent in sealed.intents:
            tasks.create_task(self._deliver(intent))
        self._look_for_room()

    async def _deliver(self, intent: Intent) -> None:
        receipt = await self.couriers[intent.outlet].deliver(intent, self._is_expired)
        if receipt is None:
            self._telemetry.emit(RecordsExpired(self.plan.identity.name, len(intent.rows)))
            self._close_intent(intent, Term.EXPIRED, DropIntent(intent))
        else:
            self._close_intent(intent, intent.term, FinishIntent(intent, self._clock.now_ms()))

    def _close_intent(self, intent: Intent, term: Term | None, change: FinishIntent | DropIntent) -> None:
        """Say that an object is done with: its rows end as `term` (None: they go on); its file goes later."""
        if term is not None:
            self.ledger.settle(intent.rows, intent.settles, term, intent.hours)
        self.ledger.add(change)
        self._finished.append(intent)
        del self._open[intent.outlet][intent.key]
        self._look_for_room()
        self._wake[intent.outlet].set()
        self._moved.set()

    def _is_expired(self, intent: Intent) -> bool:
        """True where retention gives the object up. Failed records are never given up: their outbox has a quota."""
        if self.plan.retention_ms is None or intent.outlet == FAILED:
            return False
        # from when the object was made: replayed rows keep their arrival, and are given as long as fresh ones
        since_ms = max(intent.created_ms, max(intent.hours) + HOUR_MS)
        return since_ms < self._clock.now_ms() - self.plan.retention_ms

    async def _redo(self, intent: Intent) -> None:
        """Make an object again whose bytes are gone."""
        redo = Redo(
            intent=intent,
            plan=self.plan,
            shards=self._shards,
            sealer=self._sealer,
            outbox=self._outbox,
            ledger=self.ledger,
            budget=self._budget,
            clock=self._clock,
            step=self._steps.run,
            transform=self._transform,
            absorb=self._absorb,
            settle_dropped=self._settle_dropped,
            fail=self._fail,
            close=self._close_intent,
        )
        await redo.run()

    # --- commit ------------------------------------------------------------------------------------------------------

    async def _commit_forever(self) -> None:
        while True:
            await self.ledger.wants_commit.wait()
            self.ledger.wants_commit.clear()
            await self._commit()

    async def _commit(self) -> None:
        """Save what is known, then let go of what is not needed any more: outbox files, and the log's space."""
        finished, self._finished = self._finished, []
        # positions as they were saved: what ended during the commit must stay readable until the next one
        positions = await self._steps.run("commit", self.ledger.commit)
        for intent in finished:
            await self._executor.run(partial(self._outbox.drop, intent))
        for shard, position in positions.items():
            if shard in self._shards:
                await self.plan.source.release(shard, position)
        self._moved.set()

    # --- helpers -----------------------------------------------------------------------------------------------------

    async def _spill_largest(self, outlet: str) -> None:
        cells = [cell for cell in self.buffer.cells() if cell.outlet == outlet]
        largest = max(cells, key=lambda cell: cell.held_bytes, default=None)
        if largest is None:
            return
        freed = await self._steps.run("spill", lambda: self._spill.out(largest))
        self._budget.give(freed)
        self._telemetry.emit(BufferSpilled(self.plan.identity.name, freed))

    def _look_for_room(self) -> None:
        """Let the intakes read while no outlet has twice its size waiting."""
        hints = {DESTINATION: self.plan.destination.hints, FAILED: self.plan.failed.hints}
        is_full = any(self.buffer.waiting_bytes[name] >= 2 * each.max_bytes for name, each in hints.items())
        if is_full or self._is_paused:
            self._room.clear()
        else:
            self._room.set()

    def _all_open(self) -> list[Intent]:
        return [intent for intents in self._open.values() for intent in intents.values()]

    def _wake_all(self) -> None:
        for event in self._wake.values():
            event.set()
