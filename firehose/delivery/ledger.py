"""What a worker knows to be true and has not saved yet, and the one transaction that saves it.

Everything that ends a row comes together here, so that the account, the done rows and the intents of one moment are
saved as one: a crash forgets all three or none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from firehose.delivery.progress import Progress
from firehose.records import RowSet
from firehose.state import AddToAccount, Change, Done, SaveDone, StateStore, Term


class Saved(NamedTuple):
    """Up to where every row of a shard is done, and up to where its source need not keep it, as it is saved."""

    position: int
    releasable: int


class Ledger:
    """The progress of one stream's shards for each of its outlets, and the changes that wait to be saved."""

    def __init__(self, stream: str, outlets: Iterable[str], state: StateStore) -> None:
        self._stream = stream
        self._outlets = tuple(outlets)
        self._state = state
        self._progress: dict[tuple[str, str], Progress] = {}
        #: What the source need not keep: rows that are done, and those that are parked in the outbox.
        self._releasable: dict[str, Progress] = {}
        self._unsaved: list[Change] = []
        self._is_saving = False
        self._lock = asyncio.Lock()
        #: Set when something waits to be saved.
        self.wants_commit = asyncio.Event()

    def restore(self, done: Iterable[Done]) -> None:
        """Take up what is saved of all shards."""
        for each in done:
            self._progress[each.outlet, each.shard] = Progress(each.shard, each.position, each.beyond)
            self._releasable[each.shard] = Progress(each.shard, each.position, each.beyond)

    def add_shard(self, shard: str) -> None:
        """Take up a shard that may be new."""
        for outlet in self._outlets:
            self._progress.setdefault((outlet, shard), Progress(shard))
        self._releasable.setdefault(shard, Progress(shard))

    def shards(self) -> set[str]:
        """Return the names of the shards known here."""
        return {shard for _, shard in self._progress}

    def remove_shard(self, shard: str) -> None:
        """Forget a shard that was revoked or ended."""
        for outlet in self._outlets:
            self._progress.pop((outlet, shard), None)
        self._releasable.pop(shard, None)

    def progress(self, outlet: str, shard: str) -> Progress:
        """Return what is done of `shard` for `outlet`."""
        return self._progress[outlet, shard]

    def position(self, shard: str) -> int:
        """Return up to where every row of `shard` is done for every outlet."""
        return min(self._progress[outlet, shard].position for outlet in self._outlets)

    def releasable(self, shard: str) -> int:
        """Return up to where the source of `shard` need not keep its rows."""
        return self._releasable[shard].position

    def settle(self, rows: RowSet, outlets: Iterable[str], term: Term | None, hours: Mapping[int, int]) -> None:
        """Say that rows are done for `outlets`, and as what (None: they were never part of the account)."""
        for outlet in outlets:
            for shard in rows.shards():
                self._progress[outlet, shard].mark(rows.whole(shard))
                self._releasable[shard].mark_new(rows.whole(shard))
            if term is not None and hours:
                self._unsaved.append(AddToAccount(self._stream, outlet, term, hours))
        self.wants_commit.set()

    def park(self, rows: RowSet) -> None:
        """Say that rows are safe in the outbox, under a saved intent: not done, but their source need not keep them."""
        for shard in rows.shards():
            self._releasable[shard].mark_new(rows.whole(shard))
        self.wants_commit.set()

    def add(self, *changes: Change) -> None:
        """Save these too, in the next commit."""
        self._unsaved.extend(changes)
        self.wants_commit.set()

    @property
    def is_clean(self) -> bool:
        """True where everything is saved."""
        return not (self._unsaved or self._is_saving) and not any(each.is_dirty for each in self._progress.values())

    async def commit(self) -> dict[str, Saved]:
        """Save everything, in one transaction, and return how far each shard is, as it is saved now.

        What could not be saved waits for the next commit; errors are raised.
        """
        async with self._lock:
            for (outlet, shard), each in self._progress.items():
                if each.is_dirty:
                    chunks = each.take_changes()
                    self._unsaved.append(SaveDone(self._stream, shard, outlet, each.position, chunks))
            saved = {s: Saved(self.position(s), self.releasable(s)) for s in self.shards()}
            if not self._unsaved:
                return saved
            saving, self._unsaved = self._unsaved, []
            self._is_saving = True
            try:
                await self._state.apply(*saving)
            except Exception:  # not of a cancelled commit: it may have been made, and nothing is saved after it
                self._unsaved = saving + self._unsaved
                raise
            finally:
                self._is_saving = False
            return saved
