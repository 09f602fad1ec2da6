"""Settling an object whose bytes are gone from the outbox: another machine took over, or a disk lost them.

Its upload may have happened, or may arrive yet; and a transform may answer otherwise this time. So something is sent
under the same key again, and create-if-absent lets one attempt stand, which says itself which rows it holds. Every
attempt is saved before it is sent, so that whichever stands is known after a crash, too. The rows that it does not hold
are treated as if they had just been read, and only then.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from firehose.delivery.buffer import cell_of
from firehose.delivery.courier import delivery_of
from firehose.delivery.events import RecordsUnreadable
from firehose.delivery.parts import Parts
from firehose.delivery.plan import FAILED
from firehose.delivery.standing import what_stands
from firehose.errors import ConflictError, NotFoundError
from firehose.protocols import Shard
from firehose.records import Batch, Outcome, RowSet
from firehose.state import DropIntent, FinishIntent, Intent, SaveIntents, Term


@dataclass(frozen=True, slots=True)
class Redo:
    """Settles one object. `is_here`: the bytes of its newest attempt are in the outbox, only those before are lost."""

    intent: Intent
    is_here: bool
    parts: Parts
    shards: Mapping[str, Shard]
    #: What becomes of rows; and the same for rows that `absorb` is given then.
    transform: Callable[[Batch], Awaitable[Outcome]]
    prepare: Callable[[Batch], Awaitable[Outcome]]
    absorb: Callable[[Batch, Outcome, int], None]
    #: Ends an intent: its rows are done as the intent's term says, or (None) they are not.
    close: Callable[[Intent, Term | None, FinishIntent | DropIntent], None]

    async def run(self) -> None:
        """Return when the rows of the intent are done, or on their way as fresh ones."""
        step = self.parts.steps.run
        newest = self.intent
        stands = await step("redo", partial(self._standing, newest))
        if stands is None:
            newest = newest if self.is_here else await self._make_again()
            stands = await step("redo", partial(self._deliver, newest))
        await self.parts.executor.run(lambda: self.parts.outbox.drop(newest))  # whichever stands, it is not sent again
        batches = await self._fetch(self.intent.attempts[0].rows - stands.rows)
        self._settle(stands)
        self._settle_lost(stands, batches)
        # before the other rows may be in another object: after a crash they would be in two
        await step("commit", self.parts.ledger.commit)
        await self._start_over(batches)

    async def _standing(self, newest: Intent) -> Intent | None:
        """Return the attempt whose object stands at the sink."""
        sink: Any = self.parts.plan.outlet(newest.outlet).sink
        try:
            info = await sink.stat(newest.key)
        except NotFoundError:
            return None
        stands = what_stands(info, newest.attempts)
        if stands is None:
            raise ConflictError(f"{sink.url}/{newest.key} stands there, and nothing that was sent from here")
        return stands

    async def _make_again(self) -> Intent:
        """Seal what the transforms make of the rows this time, and save it as the next attempt."""
        # what failed had its reasons in the lost object: it begins again, and an empty one keeps the place
        rows = RowSet() if self.intent.outlet == FAILED else self.intent.attempts[0].rows
        made = [(await self.transform(batch)).ok.of_group(self.intent.group) for batch in await self._fetch(rows)]
        mine = [batch for batch in made if len(batch)]
        parts, held_bytes = self.parts, sum(batch.nbytes for batch in mine)
        cell = cell_of(self.intent.outlet, "", mine, now_ms=parts.clock.monotonic_ms())
        parts.budget.overdraw(held_bytes)
        sealed = await parts.steps.run("redo", lambda: parts.sealer.seal([cell], redo=self.intent))
        parts.budget.give(held_bytes)
        newest = dataclasses.replace(sealed.intents[0], earlier=self.intent.attempts)
        parts.outbox.keep(newest)
        await parts.steps.run("redo", lambda: parts.state.apply(SaveIntents((newest,))))
        return newest

    async def _deliver(self, newest: Intent) -> Intent:
        """Return the attempt that stands: the newest, or one that arrived before it after all."""
        outlet = self.parts.plan.outlet(newest.outlet)
        try:
            await outlet.sink.deliver(delivery_of(newest, self.parts.outbox.path(newest)))
        except ConflictError:
            stands = await self._standing(newest)
            if stands is None:
                raise
            return stands
        return newest

    def _settle(self, stands: Intent) -> None:
        """Say that the rows of the standing attempt are done. One without rows only kept the place."""
        stands = dataclasses.replace(stands, earlier=())
        if len(stands.rows):
            self.close(stands, stands.term, FinishIntent(stands, self.parts.clock.now_ms()))
        else:
            self.close(stands, None, DropIntent(stands))

    def _settle_lost(self, stands: Intent, batches: Sequence[Batch]) -> None:
        """Say that what does not stand, and cannot be read any more, ends here."""
        first = self.intent.attempts[0]
        lost, hours = first.rows - stands.rows, Counter(first.hours) - Counter(stands.hours)
        for batch in batches:
            lost, hours = lost - batch.row_set(), hours - Counter(batch.hours())
        if len(lost):
            self.parts.ledger.settle(lost, first.settles, Term.UNREADABLE, hours)
            stream = self.parts.plan.identity.name
            for shard in lost.shards():
                self.parts.telemetry.emit(RecordsUnreadable(stream, shard, len(lost.whole(shard))))

    async def _start_over(self, batches: Sequence[Batch]) -> None:
        """Treat rows as if they had just been read."""
        for batch in batches:
            self.parts.budget.overdraw(batch.nbytes)
            self.absorb(batch, await self.prepare(batch), batch.nbytes)

    async def _fetch(self, rows: RowSet) -> list[Batch]:
        """Return rows again as their producer sent them."""
        fetch = self.parts.steps.run
        names = [name for name in rows.shards() if name in self.shards]  # a shard that is not there holds nothing more
        batches = [await fetch("fetch", partial(self.shards[name].fetch, rows)) for name in names]
        return [batch for batch in batches if len(batch)]
