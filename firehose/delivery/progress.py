"""What is done of a shard: everything up to a position, and a compressed set beyond it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from pyroaring import BitMap64

from firehose import arrow
from firehose.records import Batch, RowSet

#: Rows in one saved chunk of the set beyond the position: 65,536 rows are at most 8 KiB, so a commit writes little.
CHUNK_ROWS = 65_536


class Progress:
    """The done rows of one shard for one outlet.

    Rows become done in any order, as objects are delivered; the position follows the longest run from the start. Only
    whole rows live here: a split row is done when all its parts are, which its splitter tells.
    """

    def __init__(self, shard: str, position: int = -1, beyond: RowSet | None = None) -> None:
        self.shard = shard
        self.position = position
        self._beyond = BitMap64(beyond.whole(shard)) if beyond is not None else BitMap64()
        self._dirty_chunks: set[int] = set()
        self._is_dirty = False

    @property
    def is_dirty(self) -> bool:
        """True where something changed since `take_changes`."""
        return self._is_dirty

    def mark(self, rows: BitMap64) -> None:
        """Say that these rows are done. They must not be done already: a row that ends twice is a bug of ours."""
        if not rows:
            return
        assert rows.min() > self.position and self._beyond.isdisjoint(rows), f"rows of {self.shard} are done twice"
        self._beyond |= rows
        self._dirty_chunks |= _chunks_of(rows)
        self._is_dirty = True
        self._advance()

    def mark_new(self, rows: BitMap64) -> None:
        """Mark those of these rows that are not done already."""
        passed = BitMap64()
        passed.add_range(0, self.position + 1)
        self.mark(rows - passed - self._beyond)

    def has_none(self, rows: BitMap64) -> bool:
        """Return whether none of these rows is done."""
        return not rows or (rows.min() > self.position and self._beyond.isdisjoint(rows))

    def is_done(self, batch: Batch) -> arrow.Mask:
        """Return for each row of `batch` whether it is done."""
        done = batch.sequence <= self.position
        if self._beyond and not bool(done.all()):
            done |= self.beyond().contains(batch)
        return done

    def beyond(self) -> RowSet:
        """Return the done rows beyond the position."""
        return RowSet.of_bitmap(self.shard, self._beyond)

    def take_changes(self) -> dict[int, bytes | None]:
        """Return the changed chunks, as `SaveDone.chunks` wants them, and forget that they changed."""
        changed: dict[int, bytes | None] = {}
        for chunk in sorted(self._dirty_chunks):
            rows = BitMap64()
            rows.add_range(chunk * CHUNK_ROWS, (chunk + 1) * CHUNK_ROWS)
            rows &= self._beyond
            changed[chunk] = RowSet.of_bitmap(self.shard, rows).to_bytes() if rows else None
        self._dirty_chunks.clear()
        self._is_dirty = False
        return changed

    def _advance(self) -> None:
        first = self.position + 1
        if first not in self._beyond:
            return
        last = self._beyond.max()
        missing = BitMap64()
        missing.add_range(first, last + 1)
        missing -= self._beyond
        self.position = missing.min() - 1 if missing else last
        passed = BitMap64()
        passed.add_range(first, self.position + 1)
        self._beyond -= passed
        self._dirty_chunks |= set(range(first // CHUNK_ROWS, self.position // CHUNK_ROWS + 1))


def _chunks_of(rows: BitMap64) -> set[int]:
    first, last = rows.min() // CHUNK_ROWS, rows.max() // CHUNK_ROWS
    if last - first < 2:
        return {first, last}
    numbers = np.frombuffer(rows.to_array(), np.uint64) // CHUNK_ROWS
    return set(np.unique(numbers).tolist())


def at_most(hours: Mapping[int, int], rows: int) -> dict[int, int]:
    """Return the counts of the hours, the latest cut first, so that they add up to at most `rows`.

    What was damaged after it was done is lost to nobody: worker and audit both count so, and agree.
    """
    kept: dict[int, int] = {}
    for hour, count in sorted(hours.items()):
        kept[hour] = min(count, rows)
        rows -= kept[hour]
    return {hour: count for hour, count in kept.items() if count}
