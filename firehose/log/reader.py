"""One shard of the log as its worker reads it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from firehose import arrow
from firehose.clock import Clock, hour_of
from firehose.errors import UnavailableError
from firehose.log.access import Access
from firehose.log.backlog import Backlog, split_shard
from firehose.log.bell import Bell
from firehose.log.frame import ROW_BYTES, Rows, batch_of
from firehose.log.index import Entry, Extent, FrameTable, Key
from firehose.log.segment import Segment
from firehose.protocols import End, Idle, Read
from firehose.records import Batch, RowSet, Span, concat_batches

#: How much of a fetch is decoded at once; of that only the wanted rows are kept.
_FETCH_BYTES = 4 * 2**20


class LogShard:
    """Rows of one stream and shard, from a position on. `bell` rings when rows come and when the log closes."""

    def __init__(
        self,
        *,
        stream: str,
        shard: str,
        after: int,
        is_growing: bool,
        backlog: Backlog,
        access: Access,
        clock: Clock,
        bell: Bell,
    ) -> None:
        self.name = shard
        self._stream = stream
        self._key: Key = (stream, split_shard(shard)[1])
        self._position = after
        self._is_growing = is_growing
        self._backlog = backlog
        self._access = access
        self._clock = clock
        self._bell = bell
        #: What is left of a frame that was larger than the last read.
        self._rest: Rows | None = None

    async def read(self, *, max_bytes: int, max_wait_ms: int) -> Read | Idle | End:
        """Return the next rows, at least one and about `max_bytes` in memory, or Idle after `max_wait_ms`.

        Rows that are damaged on the disk are counted in `unreadable`; where nothing else is left, the batch is empty.

        Errors: UnavailableError where the disk refuses, or the log was closed.
        """
        if self._rest is not None:
            return self._answer([self._rest], {}, self._rest.last, max_bytes)
        if not await self.wait(max_wait_ms):
            return Idle()
        found = self._backlog.first_after(self._stream, self.name, self._position)
        return await self._read_from(*found, max_bytes) if found is not None else End(self._position)

    async def wait(self, max_wait_ms: int) -> bool:
        """Return true as soon as there are rows or an end to tell; false after `max_wait_ms`.

        Errors: UnavailableError where the log was closed.
        """
        with self._bell.listening(self._key) as rung:
            while not self._has_news():
                if not max_wait_ms or not await self._clock.wait(rung, max_wait_ms):
                    return False
                rung.clear()
        return True

    def _has_news(self) -> bool:
        if self._rest is not None or self._backlog.last(self._stream, self.name) > self._position:
            return True
        if self._bell.is_closed:
            raise UnavailableError("the ingest log is closed")
        return not self._is_growing

    async def _read_from(self, segment: Segment, extent: Extent, max_bytes: int) -> Read:
        if extent.first > self._position + 1:
            return self._skip_gap(extent)
        with segment.pinned():
            table = await self._access.table(segment, self._key)
            entries = list(_enough(table.after(self._position), max_bytes))
            if not entries:  # rows that the sidecar knew of and a scan could not find again
                lost = extent.last - self._position
                entries = [Entry(self._position + 1, lost, -1, 0, 0, extent.oldest_ms)]
            found = await self._access.rows(segment, self._key, entries)
        pieces: list[Rows] = []
        unreadable: dict[int, int] = {}
        for entry, rows in zip(entries, found, strict=True):
            skipped = max(self._position + 1 - entry.first, 0)
            if rows is not None:
                pieces.append(rows.part(skipped, entry.rows))
                continue
            for hour, count in _behind(table.hours(entry), skipped):
                unreadable[hour] = unreadable.get(hour, 0) + count
        return self._answer(pieces, unreadable, entries[-1].last, max_bytes)

    def _skip_gap(self, extent: Extent) -> Read:
        """Answer with the rows before an extent that are nowhere: what is not done yet is never reclaimed.

        Errors: UnavailableError where they may be in a segment that the disk refuses to read.
        """
        first, last = self._position + 1, extent.first - 1
        self._require_known(f"rows {first} to {last}")
        return self._answer([], {hour_of(extent.oldest_ms): last - first + 1}, last, 0)

    def _require_known(self, rows: str) -> None:
        """Return if rows that are not found are lost. Errors: UnavailableError where they may only be unreadable."""
        unknown = self._backlog.may_hold(self.name)
        if unknown is not None:
            raise UnavailableError(
                f"the ingest log cannot read segment {unknown.name}, which may hold {rows} of {self.name}; check the "
                "disk; to go on without them, stop the service, move the segment away, and start again"
            )

    def _answer(self, pieces: list[Rows], unreadable: dict[int, int], last: int, max_bytes: int) -> Read:
        """Answer with the rows up to `last`; what of the final frame is too much is kept for the next read."""
        self._rest = None
        if pieces and pieces[-1].last == last:
            *before, final = pieces
            count = final.count_within(max_bytes - sum(piece.cost_bytes for piece in before))
            if count < len(final.lengths):
                self._rest = final.part(count, len(final.lengths))
                pieces, last = [*before, final.part(0, count)], self._rest.first - 1
        span = Span(self.name, self._position + 1, last)
        self._position = last
        is_caught_up = self._backlog.last(self._stream, self.name) <= last
        return Read(span, batch_of(self.name, pieces), is_caught_up, unreadable)

    async def fetch(self, rows: RowSet) -> Batch:
        """Return these rows as the producer sent them, ascending; of split ones the whole record, once.

        Rows that cannot be read any more are left out.

        Errors: UnavailableError where the disk refuses.
        """
        wanted = _sequences(rows, self.name)
        batches: list[Batch] = []
        if not len(wanted):
            return batch_of(self.name, [])
        missing = len(wanted)
        for segment, extent in self._backlog.after(self._stream, self.name, int(wanted[0]) - 1):
            inside = wanted[(wanted >= extent.first) & (wanted <= extent.last)]
            if len(inside):
                missing -= len(inside)
                with segment.pinned():
                    batches += await self._fetch_from(segment, inside)
        if missing:
            self._require_known(f"{missing} rows")
        return concat_batches(batches) if batches else batch_of(self.name, [])

    async def _fetch_from(self, segment: Segment, wanted: arrow.Ints) -> list[Batch]:
        table = await self._access.table(segment, self._key)
        left = _holding(table, wanted)
        batches = []
        while entries := list(_enough(left, _FETCH_BYTES)):
            for rows in await self._access.rows(segment, self._key, entries):
                if rows is not None:
                    is_wanted = np.isin(np.arange(rows.first, rows.last + 1), wanted)
                    batches.append(batch_of(self.name, [rows]).where(is_wanted))
        return batches

    async def close(self) -> None:
        """Stop reading."""
        self._rest = None


def _enough(entries: Iterator[Entry], max_bytes: int) -> Iterator[Entry]:
    """Yield frames until they have `max_bytes` together; the others stay in `entries`."""
    total_bytes = 0
    for entry in entries:
        yield entry
        total_bytes += entry.data_bytes + ROW_BYTES * entry.rows
        if total_bytes >= max_bytes:
            return


def _holding(table: FrameTable, wanted: arrow.Ints) -> Iterator[Entry]:
    """Yield the frames that hold any of these sequences, which ascend."""
    at = 0
    while at < len(wanted):
        entry = next(table.after(int(wanted[at]) - 1), None)
        if entry is None:
            return
        if entry.first <= wanted[at]:
            yield entry
        at = max(int(np.searchsorted(wanted, entry.last, side="right")), at + 1)


def _behind(hours: Mapping[int, int], skipped: int) -> Iterator[tuple[int, int]]:
    """Yield rows by hour without the first `skipped`, taken to be those of the earliest hours."""
    for hour, count in sorted(hours.items()):
        left = max(count - skipped, 0)
        skipped -= count - left
        if left:
            yield hour, left


def _sequences(rows: RowSet, shard: str) -> arrow.Ints:
    """Return the sequences of all rows of `shard`, ascending."""
    whole = np.frombuffer(rows.whole(shard).to_array(), np.uint64).astype(np.int64)
    return np.union1d(whole, np.fromiter(rows.parts(shard), np.int64))
