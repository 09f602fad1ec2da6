"""The books of the log: whose rows lie in which segment, what is released, what is banked. No I/O, nothing waits."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from firehose.log import books
from firehose.log.frame import LANES, Lane
from firehose.log.index import Entry, Extent, FrameTable, Key
from firehose.log.segment import Segment, shard_of
from firehose.protocols import Lag

#: Beyond every position: what a forgotten stream has released.
_EVERYTHING = 2**62

#: A segment is compacted when less than a quarter of it is still needed: four bytes freed for each one written.
_COMPACT_SHARE = 4

#: Smaller segments are not worth two syncs.
_COMPACT_MIN_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class SegmentAccount:
    """How many rows a sealed segment accepted, by stream and hour; to be added to the accounts once for its name.

    `books`: what the log wants to be told at its next opening, so that it misses a segment whose file is gone.
    """

    name: str
    accepted: Mapping[str, Mapping[int, int]]
    books: str


@dataclass(frozen=True, slots=True)
class LogStats:
    """How large the log is. `unbanked`: sealed segments whose accepted rows no account holds yet.

    `retry_window_ms`: how far back puts are known by their keys.
    """

    disk_bytes: int
    quota_bytes: int
    segments: int
    unbanked: int
    streams: int
    is_full: bool
    retry_window_ms: int


@dataclass(slots=True)
class _Chain:
    """The segments that hold rows of one stream and shard, oldest first, and how far those are done."""

    key: Key
    segments: list[Segment] = field(default_factory=list)
    released: int = -1
    #: Data bytes that are not released.
    backlog_bytes: int = 0

    @property
    def last(self) -> int:
        return self.segments[-1].extents[self.key].last if self.segments else -1

    def after(self, position: int) -> list[Segment]:
        """Return the segments with rows behind `position`."""
        return self.segments[bisect_right(self.segments, position, key=lambda each: each.extents[self.key].last) :]

    def release(self, position: int) -> None:
        """Take note that all rows up to `position` are done."""
        before, self.released = self.released, position
        for segment in self.after(before):
            if segment.extents[self.key].first > position:
                break
            self.settle(segment)

    def settle(self, segment: Segment) -> None:
        """Take note of how much of one segment is released."""
        extent = segment.extents[self.key]
        done_rows = min(max(self.released + 1 - extent.first, 0), extent.rows)
        done_bytes = max(extent.data_bytes * done_rows // extent.rows, extent.done_bytes)
        self.backlog_bytes -= done_bytes - extent.done_bytes
        extent.done_bytes = done_bytes
        segment.mark(extent, is_released=done_rows == extent.rows)


def split_shard(shard: str) -> tuple[str, Lane]:
    """Return opening and lane of a shard's name. Errors: ValueError where the name is not one of ours."""
    for lane in LANES:
        if shard.startswith("log-") and shard.endswith(f"-{lane}"):
            return shard[len("log-") : -len(lane) - 1], lane
    raise ValueError(f"{shard!r} is no shard of an ingest log")


class Backlog:
    """What is in the log, by stream and by segment."""

    def __init__(self) -> None:
        self.segments: dict[str, Segment] = {}
        #: Segments that the disk refuses to read and nobody knows the rows of.
        self.unknown: list[Segment] = []
        self._chains: dict[str, dict[str, _Chain]] = {}
        self._forgotten: set[str] = set()
        self._closed_bytes = 0
        self._open: Segment | None = None

    # --- segments ---

    def add(self, segment: Segment) -> None:
        """Take a segment in; segments come in the order of their numbers."""
        self.segments[segment.name] = segment
        for key, extent in segment.extents.items():
            chain = self._link(segment, key)
            chain.backlog_bytes += extent.data_bytes
            chain.settle(segment)
        if segment.is_open:
            self._open = segment
        self.settle(segment)

    def settle(self, segment: Segment) -> None:
        """Take note that a segment was closed or sealed."""
        if self._open is segment and not segment.is_open:
            self._open = None
        self._closed_bytes = sum(each.disk_bytes for each in self.segments.values() if not each.is_open)

    def append(self, segment: Segment, key: Key, entry: Entry, hours: Mapping[int, int]) -> None:
        """Take in a frame that was just acknowledged."""
        is_new = key not in segment.extents
        segment.add(key, entry, hours)
        chain = self._link(segment, key) if is_new else self._chains[key[0]][shard_of(segment.opening, key[1])]
        chain.backlog_bytes += entry.data_bytes
        chain.settle(segment)

    def remove(self, segment: Segment) -> None:
        """Forget a segment whose file is gone."""
        del self.segments[segment.name]
        for key in segment.extents:
            self._unlink(segment, key)
        self.settle(segment)

    def replace(self, old: Segment, new: Segment) -> None:
        """Put a compacted segment in the place of the one it was made of."""
        self.segments[old.name] = new
        for key in old.extents:
            if key in new.extents:
                segments = self._chains[key[0]][shard_of(old.opening, key[1])].segments
                segments[segments.index(old)] = new
            else:
                self._unlink(old, key)
        self.settle(new)

    def _unlink(self, segment: Segment, key: Key) -> None:
        stream, shard = key[0], shard_of(segment.opening, key[1])
        segments = self._chains[stream][shard].segments
        segments.remove(segment)
        if not segments:
            del self._chains[stream][shard]
        if not self._chains[stream]:
            del self._chains[stream]

    def _link(self, segment: Segment, key: Key) -> _Chain:
        shards = self._chains.setdefault(key[0], {})
        chain = shards.setdefault(shard_of(segment.opening, key[1]), _Chain(key))
        chain.segments.append(segment)
        if key[0] in self._forgotten:
            chain.released = _EVERYTHING
        return chain

    @property
    def disk_bytes(self) -> int:
        return self._closed_bytes + (self._open.disk_bytes if self._open is not None else 0)

    def finished(self) -> list[Segment]:
        """Return the segments that nobody needs: sealed, all rows released, accepted rows banked, not being read."""
        return [each for each in self._settled() if not each.pending and not each.pins]

    def sparse(self) -> list[Segment]:
        """Return the segments that are worth compacting: few bytes of slow streams keep the disk of all others."""
        return [
            each
            for each in self._settled()
            if not each.is_damaged
            and each.size_bytes >= _COMPACT_MIN_BYTES
            and each.pending
            and each.live_bytes * _COMPACT_SHARE < each.size_bytes
        ]

    def _settled(self) -> Iterator[Segment]:
        before: Segment | None = None
        for segment in self.segments.values():
            # while the one before has no sidecar, only this segment's header says how many of its bytes count
            is_needed = before is not None and before.tables is not None and before.opening == segment.opening
            if segment.tables is None and segment.is_banked and not is_needed:
                yield segment
            before = segment

    # --- rows ---

    def release(self, stream: str, shard: str, position: int) -> None:
        """Take note that all rows of a shard up to `position` are done. A smaller position than before is ignored."""
        chain = self._chain(stream, shard)
        if chain is not None and position > chain.released:
            chain.release(position)

    def forget(self, stream: str) -> None:
        """Take note that everything of a stream is done, whatever comes."""
        self._forgotten.add(stream)
        for shard in self.shards(stream):
            self.release(stream, shard, _EVERYTHING)

    def streams(self) -> set[str]:
        """Return the streams with rows on the disk, done or not."""
        return set(self._chains)

    def shards(self, stream: str) -> list[str]:
        """Return the shards with rows of `stream` on the disk, done or not: by opening, put before replay.

        Also those that may have some in a segment that cannot be read.
        """
        numbers = {shard_of(each.opening, lane): each.number for each in self.unknown for lane in LANES}
        numbers |= {shard: chain.segments[0].number for shard, chain in self._chains.get(stream, {}).items()}
        return sorted(numbers, key=lambda shard: (numbers[shard], shard))

    def created_ms(self, stream: str, shard: str) -> int:
        """Return when the first segment with rows of a shard was begun."""
        return self._chains[stream][shard].segments[0].created_ms

    def is_pending(self, stream: str, shard: str) -> bool:
        """Return whether rows of a shard are not released yet."""
        chain = self._chain(stream, shard)
        return chain is not None and chain.last > chain.released

    def may_hold(self, shard: str) -> Segment | None:
        """Return a segment that cannot be read and may hold rows of a shard that are nowhere else."""
        opening, _ = split_shard(shard)
        return next((each for each in self.unknown if each.opening == opening), None)

    def last(self, stream: str, shard: str) -> int:
        """Return the last sequence of a shard that is on the disk, -1 where there is none."""
        chain = self._chain(stream, shard)
        return chain.last if chain is not None else -1

    def backlog_bytes(self, stream: str) -> int:
        """Return the data bytes of `stream` that are not released."""
        return sum(chain.backlog_bytes for chain in self._chains.get(stream, {}).values())

    def _chain(self, stream: str, shard: str) -> _Chain | None:
        return self._chains.get(stream, {}).get(shard)

    def after(self, stream: str, shard: str, position: int) -> list[tuple[Segment, Extent]]:
        """Return the segments with rows of a shard behind `position`, oldest first."""
        chain = self._chain(stream, shard)
        if chain is None:
            return []
        return [(segment, segment.extents[chain.key]) for segment in chain.after(position)]

    def first_after(self, stream: str, shard: str, position: int) -> tuple[Segment, Extent] | None:
        """Return the first of `after`, or None."""
        chain = self._chain(stream, shard)
        if chain is None or chain.last <= position:
            return None
        segment = chain.after(position)[0]
        return segment, segment.extents[chain.key]

    def cut_by(self, stream: str, shard: str, position: int) -> Segment | None:
        """Return the segment that holds rows both up to and beyond `position`, if any: `lag` wants its table."""
        found = self.first_after(stream, shard, position)
        return found[0] if found is not None and found[1].first <= position else None

    def lag(
        self, stream: str, shard: str, position: int, *, cut: Segment | None = None, table: FrameTable | None = None
    ) -> Lag:
        """Return what lies beyond `position`; `table` is that of the segment `cut` by it."""
        rows, data_bytes, oldest_ms = 0, 0, []
        for segment, extent in self.after(stream, shard, position):
            rows += extent.last - max(extent.first - 1, position)
            part_bytes, part_ms = extent.data_bytes, extent.oldest_ms
            if segment is cut and table is not None:
                part_bytes, part_ms = table.beyond(position) or (0, extent.oldest_ms)
            data_bytes += part_bytes
            oldest_ms.append(part_ms)
        return Lag(rows, data_bytes, min(oldest_ms, default=None))

    # --- accounts ---

    def unbanked(self) -> list[SegmentAccount]:
        """Return what sealed segments accepted and nobody has banked yet.

        Only what stands in a sidecar is told: after a failed write the file may hold rows that were refused, and
        without its sidecar a scan might count them.
        """
        return [SegmentAccount(each.name, each.accepted, books.encode(each)) for each in self._unbanked()]

    def count_unbanked(self) -> int:
        """Return how many segments `unbanked` would tell of."""
        return sum(1 for _ in self._unbanked())

    def _unbanked(self) -> Iterator[Segment]:
        return (each for each in self.segments.values() if each.tables is None and not each.is_banked)

    def mark_banked(self, names: Collection[str]) -> None:
        """Take note that the accounts hold what these segments accepted; unknown names are those of removed ones."""
        known = set(names)
        for segment in self.segments.values():
            if segment.name in known:
                segment.bank()

    def accepted_unbanked(self) -> dict[str, dict[int, int]]:
        """Return rows by stream and hour that no account holds yet, those of the open segment included."""
        total: dict[str, dict[int, int]] = {}
        for segment in self.segments.values():
            for stream, hours in segment.accepted.items():
                account = total.setdefault(stream, {})
                for hour, rows in hours.items():
                    account[hour] = account.get(hour, 0) + rows
        return total
