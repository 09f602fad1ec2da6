"""The worker of one delivery stream: reads its shards, seals what is due, delivers, commits.

    intake (one task a shard)      read → drop what is done → transform → buffer
    outflow (one task an outlet)   cells due → seal → save intents → hand to couriers; spill when memory is wanted
    couriers (a task an object)    deliver, again and again until it stands → ledger
    committer (one task)           ledger → state; then the log's space is released

All state between the tasks lives in `Buffer` and `Ledger`, and every change of either happens between two awaits.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

from firehose.budget import BudgetShare
from firehose.components import Environment
from firehose.delivery.duplicates import KnownIds
from firehose.delivery.events import RecordsDropped, RecordsFailed, StreamStarted
from firehose.delivery.intake import Intake
from firehose.delivery.outflow import Links, Outflow
from firehose.delivery.partitioning import ActivePartitions
from firehose.delivery.parts import Parts
from firehose.delivery.plan import DESTINATION, FAILED, StreamPlan
from firehose.delivery.redo import Redo
from firehose.errors import FirehoseError
from firehose.protocols import Assigned, Revoked, Shard, Stage
from firehose.records import Batch, FailedRows, Outcome, RowSet
from firehose.state import DropIntent, FinishIntent, ForgetShard, Intent, StateStore, Term


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
        self._parts = parts = Parts.build(plan, environment, state, budget, chance)
        self._clock, self._telemetry, self._executor = parts.clock, parts.telemetry, parts.executor
        self._steps, self._outbox, self._budget = parts.steps, parts.outbox, parts.budget
        self.ledger, self.buffer = parts.ledger, parts.buffer
        links = Links(
            is_caught_up=lambda: self.is_caught_up,
            restore=self._with_originals,
            fail=self._fail,
            close=self._close_intent,
            has_room=self._look_for_room,
        )
        self._outflows = {
            outlet.name: Outflow(parts, outlet, links, failed_quota_bytes=limits.failed_quota_bytes)
            for outlet in (plan.destination, plan.failed)
        }
        #: Which partitions rows are under way to, None where the stream has none.
        self.partitions = (
            ActivePartitions(plan.partitioning.max_active, self._partitions_held, parts.clock)
            if plan.partitioning
            else None
        )
        self._room = asyncio.Event()
        self._room.set()
        self._is_paused = False
        self._intakes: dict[str, Intake] = {}
        self._shards: dict[str, Shard] = {}
        self._finished: list[Intent] = []
        #: Each shard's position as it is saved.
        self._saved: dict[str, int] = {}
        #: Set when rows were taken in, an object ended, or something was saved.
        self._moved = asyncio.Event()
        #: Rows of objects that an earlier process finished: they are not read again.
        self._recovered = RowSet()

    # --- what others may ask -----------------------------------------------------------------------------------------

    @property
    def last_error(self) -> FirehoseError | None:
        """What keeps the stream from going on, as far as something does."""
        errors = [*self._steps.errors.values(), *(each.courier.last_error for each in self._outflows.values())]
        return next((error for error in errors if error is not None), None)

    @property
    def is_caught_up(self) -> bool:
        """True where nothing waits in the shards."""
        return all(intake.is_caught_up for intake in self._intakes.values())

    @property
    def is_idle(self) -> bool:
        """True where every row that was read is delivered and saved."""
        has_batches = any(intake.has_batches for intake in self._intakes.values())
        return (
            self.is_caught_up
            and self.buffer.is_empty
            and not (has_batches or self.open_objects)
            and self.ledger.is_clean
        )

    @property
    def open_objects(self) -> int:
        """Finished objects that do not stand at their sink yet."""
        return sum(len(outflow.open) for outflow in self._outflows.values())

    @property
    def known_ids(self) -> KnownIds | None:
        """What is known of the ids of records, None where the stream does not look for duplicates."""
        return self._parts.duplicates.known if self._parts.duplicates else None

    @property
    def is_failed_quota_full(self) -> bool:
        """True where the stream waits for its error output: as many failed records wait for it as may."""
        return self._outflows[FAILED].is_stuck

    def pause(self, is_paused: bool) -> None:
        """Stop or go on: what is being sent may end; nothing is read, sealed or sent besides."""
        if self._is_paused and not is_paused:
            self._parts.retention.begin()
        self._is_paused = is_paused
        for outflow in self._outflows.values():
            outflow.pause(is_paused)
        self._look_for_room()

    async def heads(self) -> dict[str, int]:
        """Return the last sequence that each shard holds now: where a flush that begins now ends."""
        return {shard: await self.plan.source.last(shard) for shard in await self.plan.source.shards()}

    def hurry(self) -> None:
        """Try what waits for its next attempt at once."""
        self._steps.hurry()
        for outflow in self._outflows.values():
            outflow.hurry()

    async def flush(self, heads: Mapping[str, int]) -> None:
        """Deliver all rows up to `heads` now.

        Returns when those rows are done and that is saved; whoever stops waiting cancels it.
        """
        for transform in self.plan.transforms:
            if (hurry := getattr(transform, "hurry", None)) is not None:
                hurry(heads)
        there = await self.plan.source.shards()  # of the others all is done, and forgotten
        while left := [shard for shard in there if self._saved.get(shard, -1) < heads.get(shard, -1)]:
            is_read = all(name in self._intakes and self._intakes[name].is_past(heads[name]) for name in left)
            if is_read or not self._room.is_set():
                self.buffer.close(heads)
                self._wake_all()
            self._moved.clear()
            await self._moved.wait()

    def ask_to_spill(self) -> None:
        """Move the rows that wait in memory to disk soon: those of the outlet that has more of them."""
        held_bytes = self.buffer.held_bytes
        self._outflows[max(held_bytes, key=lambda name: held_bytes[name])].ask_to_spill()

    # --- the tasks ---------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Work until cancelled. Errors: StaleEpochError where another worker took over; AssertionError for our bugs."""
        try:
            await self._work()
        finally:
            if self._parts.duplicates is not None:
                await self._parts.duplicates.close()

    async def _work(self) -> None:
        await self._executor.run(self._parts.spill.clear)
        saved = await self._steps.run("load", lambda: self._parts.state.load(self.plan.identity.uid))
        recover = partial(self._executor.run, lambda: self._outbox.recover(saved.intents))
        here, gone = await self._steps.run("recover", recover)
        self.ledger.restore(saved.done)
        self._recovered = RowSet.union(intent.attempts[0].rows for intent in saved.intents)
        for intent in saved.intents:
            self._outflows[intent.outlet].open[intent.key] = intent
            for shard in intent.attempts[0].rows.shards():
                self.ledger.add_shard(shard)
        if self._parts.duplicates is not None:
            await self._parts.duplicates.open()
        self._telemetry.emit(StreamStarted(self.plan.identity.name, len(here), len(gone)))
        async with asyncio.TaskGroup() as tasks:
            for intent in here:
                if not intent.earlier:
                    self._outflows[intent.outlet].park(intent)
                    tasks.create_task(self._outflows[intent.outlet].deliver(intent))
            for outflow in self._outflows.values():
                tasks.create_task(outflow.run(tasks))
            tasks.create_task(self._commit_forever())
            await self._follow_source(tasks, [*gone, *(intent for intent in here if intent.earlier)])

    async def _follow_source(self, tasks: asyncio.TaskGroup, unsettled: list[Intent]) -> None:
        """Take up shards as they are assigned, drop them as they are revoked."""
        source, uid = self.plan.source, self.plan.identity.uid
        owned = {shard for intent in self._all_open() for shard in intent.attempts[0].rows.shards()}
        there = set(await source.shards())
        stale = self.ledger.shards() - there - owned
        for shard in stale:
            self.ledger.remove_shard(shard)
            self.ledger.add(ForgetShard(uid, shard))
        for intent in [each for each in unsettled if not there & set(each.attempts[0].rows.shards())]:
            unsettled.remove(intent)
            tasks.create_task(self._redo(intent))
        reading: dict[str, asyncio.Task[None]] = {}
        async for event in source.events():
            if isinstance(event, Revoked):
                if (task := reading.pop(event.shard, None)) is not None:
                    task.cancel()
                continue
            assert isinstance(event, Assigned)
            self.ledger.add_shard(event.shard)
            self._saved[event.shard] = position = self.ledger.position(event.shard)
            await source.release(event.shard, self.ledger.releasable(event.shard))
            self._shards[event.shard] = await source.open(event.shard, after=position)
            wanted = there - self._shards.keys()
            for intent in [each for each in unsettled if not wanted & set(each.attempts[0].rows.shards())]:
                unsettled.remove(intent)
                tasks.create_task(self._redo(intent))
            reading[event.shard] = tasks.create_task(self._read(self._shards[event.shard], is_replay=event.is_replay))
            self._moved.set()

    async def _read(self, shard: Shard, *, is_replay: bool) -> None:
        """Read a shard to its end, and let go of it when all of it is done.

        Its position stays in the state until the source has no such shard any more: a source that is opened again
        before it has reclaimed the shard would hand it out from its beginning.
        """
        intake = Intake(shard, self._parts, self._recovered, self._wake_all, is_replay=is_replay)
        self._intakes[shard.name] = intake
        last = await intake.run(self._prepare, self._absorb, self._room.wait)
        while self.ledger.position(shard.name) < last:
            self._moved.clear()
            await self._moved.wait()
        await self._commit()
        del self._intakes[shard.name], self._shards[shard.name]
        self.ledger.remove_shard(shard.name)
        self._moved.set()
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
        if self.plan.partitioning is not None and len(ok):
            ok, unplaced = await self._steps.run("partition", partial(self.plan.partitioning.apply, ok))
            failed += [await self._with_originals(each) for each in unplaced]
        return Outcome(ok, tuple(failed), dropped, created).check(batch)

    async def _prepare(self, batch: Batch) -> Outcome:
        """Transform a batch for `_absorb`: no row of it goes to more partitions than may be active."""
        outcome = await self._transform(batch)
        if self.partitions is None or outcome.ok.groups is None:
            return outcome
        ok, refused = self.partitions.admit(outcome.ok)
        failed = [await self._with_originals(each) for each in refused]
        return replace(outcome, ok=ok, failed=(*outcome.failed, *failed)).check(batch)

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
        if self.partitions is not None:
            self.partitions.arrived(outcome.ok)
        self._settle_dropped(given, outcome.dropped)
        for failed in outcome.failed:
            self._fail(failed)
        self._budget.give(taken_bytes)
        self._moved.set()

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
        now_ms, wall_ms = self._clock.monotonic_ms(), self._clock.now_ms()
        self._budget.overdraw(self.buffer.add(outlet, piece, group=group, now_ms=now_ms, wall_ms=wall_ms))
        self._look_for_room()
        self._outflows[outlet].wake.set()

    # --- objects -----------------------------------------------------------------------------------------------------

    def _close_intent(self, intent: Intent, term: Term | None, change: FinishIntent | DropIntent) -> None:
        """Say that an object is done with: its rows end as `term` (None: they go on); its file goes later."""
        if term is not None:
            self.ledger.settle(intent.rows, intent.settles, term, intent.hours)
        self.ledger.add(change)
        self._finished.append(intent)
        del self._outflows[intent.outlet].open[intent.key]
        self._look_for_room()
        self._outflows[intent.outlet].wake.set()
        self._moved.set()

    async def _redo(self, intent: Intent) -> None:
        """Settle an object whose bytes are gone, or were before."""
        await Redo(
            intent=intent,
            is_here=self._outbox.holds(intent),
            parts=self._parts,
            shards=self._shards,
            transform=self._transform,
            prepare=self._prepare,
            absorb=self._absorb,
            close=self._close_intent,
        ).run()

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
        saved = await self._steps.run("commit", self.ledger.commit)
        self._saved |= {shard: each.position for shard, each in saved.items()}
        for intent in finished:
            await self._executor.run(partial(self._outbox.drop, intent))
        for shard, each in saved.items():
            if shard in self._shards:
                await self.plan.source.release(shard, each.releasable)
        self._moved.set()

    # --- helpers -----------------------------------------------------------------------------------------------------

    def _look_for_room(self) -> None:
        """Let the intakes read while no outlet has twice its size waiting."""
        waiting_bytes = dict(self.buffer.waiting_bytes)
        if self.partitions is not None and not self._outflows[DESTINATION].is_blocked:
            # of thousands of cells each may wait for its size; what is ready and does not leave is too much
            waiting_bytes[DESTINATION] = self.buffer.full_bytes[DESTINATION]
        is_full = any(waiting_bytes[name] >= 2 * self.plan.outlet(name).hints.max_bytes for name in waiting_bytes)
        if is_full or self._is_paused:
            self._room.clear()
        else:
            self._room.set()

    def _partitions_held(self) -> Iterator[str]:
        yield from self.buffer.groups(DESTINATION)
        yield from (intent.group for intent in self._outflows[DESTINATION].open.values())

    def _all_open(self) -> list[Intent]:
        return [intent for outflow in self._outflows.values() for intent in outflow.open.values()]

    def _wake_all(self) -> None:
        for outflow in self._outflows.values():
            outflow.wake.set()
