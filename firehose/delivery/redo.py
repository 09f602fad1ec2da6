"""Making an object again whose bytes are gone from the outbox: another machine took over, or a disk lost them.

The upload may have happened, and a transform may answer otherwise this time. So the rows leave under the same key:
create-if-absent lets one attempt stand, and the object says which rows it holds. Only when that is settled is the other
attempt's opinion of a row (failed, dropped) believed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from firehose.delivery.buffer import Cell
from firehose.delivery.courier import delivery_of
from firehose.delivery.parts import Parts
from firehose.delivery.plan import FAILED
from firehose.delivery.sealer import ROWS_METADATA, Sealed, rows_digest
from firehose.errors import ConflictError, NotFoundError
from firehose.protocols import Shard
from firehose.records import Batch, FailedRows, Outcome, RowSet
from firehose.state import DropIntent, FinishIntent, Intent, SaveIntents, Term


@dataclass(frozen=True, slots=True)
class Redo:
    """Makes one object again."""

    intent: Intent
    parts: Parts
    shards: Mapping[str, Shard]
    transform: Callable[[Batch], Awaitable[Outcome]]
    absorb: Callable[[Batch, Outcome, int], None]
    settle_dropped: Callable[[Batch, RowSet], None]
    fail: Callable[[FailedRows], None]
    #: Ends an intent: its rows are done as the intent's term says, or (None) they are not.
    close: Callable[[Intent, Term | None, FinishIntent | DropIntent], None]

    async def run(self) -> None:
        """Return when the rows of the intent are done, or on their way as fresh ones."""
        intent = self.intent
        if await self.parts.steps.run("redo", self._stands):
            self.close(intent, intent.term, FinishIntent(intent, self.parts.clock.now_ms()))
        elif intent.outlet == FAILED:
            await self._start_over()
        else:
            await self._make_again()

    async def _stands(self) -> bool:
        """Return whether the first attempt's object stands at the sink."""
        sink: Any = self.parts.plan.outlet(self.intent.outlet).sink
        try:
            info = await sink.stat(self.intent.key)
        except NotFoundError:
            return False
        return bool(info.metadata.get(ROWS_METADATA) == rows_digest(self.intent.rows))

    async def _batches(self) -> list[Batch]:
        """Return the intent's rows again, and settle those that cannot be read any more."""
        batches: list[Batch] = []
        for name in self.intent.rows.shards():
            batch = await self.parts.steps.run("fetch", partial(self.shards[name].fetch, self.intent.rows))
            batches += [batch] if len(batch) else []
        found = RowSet()
        for batch in batches:
            found = found | batch.row_set()
        lost = self.intent.rows - found
        if len(lost):
            hour = max(self.intent.hours)
            self.parts.ledger.settle(lost, self.intent.settles, Term.UNREADABLE, {hour: len(lost)})
        return batches

    async def _start_over(self) -> None:
        """Treat the rows as if they had just been read."""
        batches = await self._batches()
        self.close(self.intent, None, DropIntent(self.intent))
        for batch in batches:
            self.parts.budget.overdraw(batch.nbytes)
            self.absorb(batch, await self.transform(batch), batch.nbytes)

    async def _make_again(self) -> None:
        step = self.parts.steps.run
        cell = Cell(self.intent.outlet, "", self.parts.clock.now_ms())
        opinions: list[tuple[Batch, Outcome]] = []
        for batch in await self._batches():
            outcome = await self.transform(batch)
            opinions.append((batch, outcome))
            if len(outcome.ok):
                cell.add(outcome.ok)
        self.parts.budget.overdraw(cell.held_bytes)
        sealed: Sealed = await step("redo", lambda: self.parts.sealer.seal([cell], redo=self.intent))
        stands = await step("redo", lambda: self._deliver(sealed.intents[0])) if sealed.intents else None
        self.parts.budget.give(cell.held_bytes)
        if stands is self.intent:
            self.close(self.intent, self.intent.term, FinishIntent(self.intent, self.parts.clock.now_ms()))
        else:
            self._believe(opinions, sealed)
        await step("redo", self.parts.ledger.commit)
        self.parts.outbox.discard(sealed.file)

    async def _deliver(self, made: Intent) -> Intent:
        """Return the intent whose object stands: the one made now, or the first attempt's."""
        outlet = self.parts.plan.outlet(made.outlet)
        try:
            await outlet.sink.deliver(delivery_of(made, self.parts.outbox.path(made)))
        except ConflictError:
            if await self._stands():
                return self.intent
            raise
        return made

    def _believe(self, opinions: list[tuple[Batch, Outcome]], sealed: Sealed) -> None:
        """Take this attempt's outcomes as what happened."""
        self.close(self.intent, None, DropIntent(self.intent))
        for made in sealed.intents:
            self.parts.ledger.settle(made.rows, made.settles, made.term, made.hours)
            self.parts.ledger.add(SaveIntents((made,)), FinishIntent(made, self.parts.clock.now_ms()))
        for batch, outcome in opinions:
            self.settle_dropped(batch, outcome.dropped)
            for failed in outcome.failed:
                self.fail(failed)
        for failed in sealed.failed:
            self.fail(failed)
