"""The data that travels: rows in Arrow columns, and sets of row identities. Never a Python object per record.

A *record* is one payload; *rows* are records in columns. A row is identified by (shard, sequence, sub-sequence) and
never changes: the shard's name holds a random part made at its opening, so that a stream made anew, or a directory
wiped or restored, never meets its old rows.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
from pyroaring import BitMap64

from firehose import arrow
from firehose.clock import HOUR_MS

#: The sub-sequence of a row that was not split from a larger record.
WHOLE = -1

#: More than any sequence.
BEYOND_ALL = 2**63 - 1

#: Shape of `Batch.rows`. Units: `arrival_ms` Unix milliseconds UTC.
ROWS = pa.schema(
    [
        pa.field("sequence", pa.int64(), nullable=False),
        pa.field("sub_sequence", pa.int32(), nullable=False),
        pa.field("arrival_ms", pa.int64(), nullable=False),
        pa.field("partition_key", pa.string()),
        pa.field("data", pa.large_binary(), nullable=False),
    ]
)

#: Shape of `FailedRows.rows`: the row with its original bytes, and why it failed.
FAILED_ROWS = pa.schema(
    [
        *ROWS,
        pa.field("code", pa.string(), nullable=False),
        pa.field("message", pa.string(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
        pa.field("attempts", pa.int32(), nullable=False),
        pa.field("ended_ms", pa.int64(), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True)
class Span:
    """One contiguous read of one shard: every sequence from `first` to `last`, both included, was looked at."""

    shard: str
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of one shard, ascending by (sequence, sub-sequence). Shape: `ROWS`.

    `changed` says that `data` is no longer what the producer sent; the original is then fetched from the shard.
    """

    shard: str
    rows: pa.RecordBatch
    changed: bool = False
    #: What a function said of each row for partitioning, as a JSON object of strings; null where it said nothing.
    partition_keys: pa.StringArray | None = None
    #: The group of objects that each row goes to; None: all to the same.
    groups: pa.StringArray | None = None

    def __len__(self) -> int:
        return int(self.rows.num_rows)

    @property
    def nbytes(self) -> int:
        """Allocated bytes of the rows."""
        return int(self.rows.nbytes)

    @property
    def data(self) -> pa.LargeBinaryArray:
        return self.rows.column("data")

    @property
    def sequence(self) -> arrow.Ints:
        return arrow.ints(self.rows.column("sequence"))

    @property
    def sub_sequence(self) -> arrow.Ints:
        return arrow.ints(self.rows.column("sub_sequence"))

    @property
    def arrival_ms(self) -> arrow.Ints:
        return arrow.ints(self.rows.column("arrival_ms"))

    @property
    def data_bytes(self) -> int:
        """Bytes of the payloads alone: what size hints count."""
        return arrow.values_of(self.data).nbytes

    def where(self, mask: arrow.Mask) -> Batch:
        """Return the rows for which `mask` is true."""
        return self if bool(mask.all()) else self.take(np.flatnonzero(mask))

    def take(self, indices: arrow.Ints) -> Batch:
        """Return the rows at `indices`, which must ascend."""
        places = pa.array(indices, pa.int64())
        return self._with(self.rows.take(places), lambda column: column.take(places))

    def slice(self, start: int, length: int | None = None) -> Batch:
        """Return `length` rows from `start` on, without a copy."""
        return self._with(self.rows.slice(start, length), lambda column: column.slice(start, length))

    def with_data(self, data: pa.LargeBinaryArray) -> Batch:
        """Return the same rows with other payloads, marked as changed."""
        columns = [data if name == "data" else self.rows.column(name) for name in ROWS.names]
        return replace(self, rows=pa.RecordBatch.from_arrays(columns, schema=ROWS), changed=True)

    def _with(self, rows: pa.RecordBatch, same: Callable[[pa.StringArray], pa.StringArray]) -> Batch:
        """Return a batch of `rows`; `same` does to a column beside them what was done to them."""
        beside = [each if each is None else same(each) for each in (self.partition_keys, self.groups)]
        return Batch(self.shard, rows, self.changed, *beside)

    def of_group(self, group: str) -> Batch:
        """Return the rows that go to `group`: all of them where rows have no groups."""
        return self if self.groups is None else self.where(arrow.equal(self.groups, group))

    def row_set(self) -> RowSet:
        """Return the identities of the rows."""
        found = RowSet()
        found.add(self.shard, self.sequence, self.sub_sequence)
        return found

    def hours(self) -> dict[int, int]:
        """Return how many rows arrived in each hour. Units: start of the hour in Unix milliseconds."""
        return hours_of(self.arrival_ms)

    @classmethod
    def of(
        cls,
        shard: str,
        data: pa.LargeBinaryArray,
        *,
        first_sequence: int,
        arrival_ms: int | arrow.Ints,
    ) -> Batch:
        """Return whole rows with ascending sequences from `first_sequence` on, and no partition key."""
        count = len(data)
        columns = [
            pa.array(np.arange(first_sequence, first_sequence + count, dtype=np.int64)),
            pa.array(np.full(count, WHOLE, np.int32)),
            pa.array(np.broadcast_to(np.asarray(arrival_ms, np.int64), (count,)).copy()),
            pa.nulls(count, pa.string()),
            data,
        ]
        return cls(shard, pa.RecordBatch.from_arrays(columns, schema=ROWS))


def hours_of(arrival_ms: arrow.Ints) -> dict[int, int]:
    """Return how many of these times lie in each hour. Units: start of the hour in Unix milliseconds."""
    return arrow.counts(arrival_ms - arrival_ms % HOUR_MS)


def concat_batches(batches: Iterable[Batch]) -> Batch:
    """Return one batch with the rows of all, which must be of one shard and not be empty."""
    pieces = list(batches)
    assert pieces and all(piece.shard == pieces[0].shard for piece in pieces)
    if len(pieces) == 1:
        return pieces[0]
    rows = arrow.concat([piece.rows for piece in pieces], ROWS)
    return Batch(
        pieces[0].shard,
        rows,
        any(piece.changed for piece in pieces),
        _beside([(len(piece), piece.partition_keys) for piece in pieces]),
        _beside([(len(piece), piece.groups) for piece in pieces]),
    )


def _beside(columns: Sequence[tuple[int, pa.StringArray | None]]) -> pa.StringArray | None:
    """Return a column that stands beside rows of several pieces, None where no piece has it."""
    if all(column is None for _, column in columns):
        return None
    return pa.concat_arrays([pa.nulls(rows, pa.string()) if each is None else each for rows, each in columns])


class RowSet:
    """A set of row identities, compressed: per shard the whole rows, and the parts of split ones.

    Runs cost a few bytes however long they are, so trackers, intents and outcomes speak of rows through this.
    """

    __slots__ = ("_parts", "_whole")

    def __init__(self) -> None:
        self._whole: dict[str, BitMap64] = {}
        self._parts: dict[str, dict[int, BitMap64]] = {}

    @classmethod
    def of_whole(cls, shard: str, sequences: Iterable[int]) -> RowSet:
        """Return the whole rows of `shard` with these sequences."""
        found = cls()
        found._whole[shard] = BitMap64(sequences)
        return found

    @classmethod
    def of_bitmap(cls, shard: str, rows: BitMap64) -> RowSet:
        """Return the whole rows of `shard` in `rows`, which must not be changed afterwards."""
        found = cls()
        found._whole[shard] = rows
        return found

    @classmethod
    def of_range(cls, shard: str, first: int, last: int) -> RowSet:
        """Return the whole rows of `shard` from `first` to `last`, both included."""
        found = cls()
        found._whole[shard] = BitMap64()
        found._whole[shard].add_range(first, last + 1)
        return found

    def add(self, shard: str, sequence: arrow.Ints, sub_sequence: arrow.Ints) -> None:
        """Add rows of `shard`. Shape: two columns of the same length."""
        is_whole = sub_sequence == WHOLE
        whole = self._whole.setdefault(shard, BitMap64())
        _add_all(whole, sequence[is_whole])
        if not bool(is_whole.all()):
            parts = self._parts.setdefault(shard, {})
            for number, sub in zip(sequence[~is_whole].tolist(), sub_sequence[~is_whole].tolist(), strict=True):
                parts.setdefault(number, BitMap64()).add(sub)

    def contains(self, batch: Batch) -> arrow.Mask:
        """Return for each row of `batch` whether it is in the set."""
        sequence, found = batch.sequence, np.zeros(len(batch), np.bool_)
        whole, parts = self._whole.get(batch.shard), self._parts.get(batch.shard)
        if whole and len(sequence):
            first, last = int(sequence[0]), int(sequence[-1])
            if whole.range_cardinality(first, last + 1):
                found = np.isin(sequence, _to_numpy(whole & _range(first, last)))
                found &= batch.sub_sequence == WHOLE
        if parts:
            for index, sub in enumerate(batch.sub_sequence.tolist()):
                found[index] |= sub != WHOLE and sub in parts.get(int(sequence[index]), ())
        return found

    def holds(self, shard: str, sequence: int, sub_sequence: int) -> bool:
        """Return whether one row is in the set."""
        if sub_sequence == WHOLE:
            return sequence in self._whole.get(shard, ())
        return sub_sequence in self._parts.get(shard, {}).get(sequence, ())

    def whole(self, shard: str) -> BitMap64:
        """Return the sequences of the whole rows of `shard`; do not change it."""
        return self._whole.get(shard, BitMap64())

    def first(self, shard: str) -> int:
        """Return the lowest sequence of `shard`, more than any sequence where it has no row here."""
        whole = self.whole(shard)
        return min([*self.parts(shard), *([whole.min()] if whole else [])], default=BEYOND_ALL)

    def parts(self, shard: str) -> Mapping[int, BitMap64]:
        """Return for each split record of `shard` its sub-sequences in the set; do not change it."""
        return self._parts.get(shard, {})

    def shards(self) -> list[str]:
        """Return the names of the shards with rows here, sorted."""
        return sorted({shard for shard, rows in self._whole.items() if rows} | {s for s, p in self._parts.items() if p})

    @classmethod
    def union(cls, sets: Iterable[RowSet]) -> RowSet:
        """Return the rows that are in any of `sets`: of thousands, without a copy for each."""
        found, whole = cls(), defaultdict[str, list[BitMap64]](list)
        for each in sets:
            for shard, rows in each._whole.items():
                whole[shard].append(rows)
            for shard, parts in each._parts.items():
                mine = found._parts.setdefault(shard, {})
                for number, subs in parts.items():
                    mine[number] = mine.get(number, BitMap64()) | subs
        found._whole = {shard: BitMap64.union(*rows) for shard, rows in whole.items()}
        return found

    def __len__(self) -> int:
        split = sum(len(subs) for parts in self._parts.values() for subs in parts.values())
        return sum(len(rows) for rows in self._whole.values()) + split

    def __or__(self, other: RowSet) -> RowSet:
        return _combined(self, other, lambda mine, theirs: mine | theirs)

    def __sub__(self, other: RowSet) -> RowSet:
        return _combined(self, other, lambda mine, theirs: mine - theirs)

    def __and__(self, other: RowSet) -> RowSet:
        return _combined(self, other, lambda mine, theirs: mine & theirs)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RowSet) and self.to_bytes() == other.to_bytes()

    def __hash__(self) -> int:
        return hash(self.to_bytes())

    def __repr__(self) -> str:
        return f"RowSet({len(self)} rows of {', '.join(self.shards()) or 'no shard'})"

    def __iter__(self) -> Iterator[tuple[str, int, int]]:
        """Yield (shard, sequence, sub-sequence), ascending: for people and tests, not for the hot path."""
        for shard in self.shards():
            rows = [(number, WHOLE) for number in self.whole(shard)]
            rows += [(number, sub) for number, subs in self.parts(shard).items() for sub in subs]
            yield from ((shard, number, sub) for number, sub in sorted(rows))

    def to_bytes(self) -> bytes:
        """Return the set as bytes: equal sets give equal bytes, so keys may be named after them."""
        pieces: list[tuple[str, bytes]] = []
        for shard in self.shards():
            whole = self.whole(shard).copy()
            whole.run_optimize()
            pieces.append((shard, whole.serialize()))
            for number, subs in sorted(self.parts(shard).items()):
                optimized = subs.copy()
                optimized.run_optimize()
                pieces.append((f"{shard}\n{number}", optimized.serialize()))
        out = bytearray()
        for name, body in pieces:
            out += _HEADER.pack(len(name.encode()), len(body)) + name.encode() + body
        return bytes(out)

    @classmethod
    def from_bytes(cls, body: bytes) -> RowSet:
        """Return the set that `to_bytes` wrote."""
        found, at = cls(), 0
        while at < len(body):
            name_bytes, rows_bytes = _HEADER.unpack_from(body, at)
            at += _HEADER.size
            shard, _, number = body[at : at + name_bytes].decode().partition("\n")
            rows = BitMap64.deserialize(body[at + name_bytes : at + name_bytes + rows_bytes])
            at += name_bytes + rows_bytes
            if number:
                found._parts.setdefault(shard, {})[int(number)] = rows
            else:
                found._whole[shard] = rows
        return found


_HEADER = struct.Struct("<II")


def _range(first: int, last: int) -> BitMap64:
    rows = BitMap64()
    rows.add_range(first, last + 1)
    return rows


def _to_numpy(rows: BitMap64) -> arrow.Ints:
    return np.frombuffer(rows.to_array(), np.uint64).astype(np.int64)


def _add_all(rows: BitMap64, sequence: arrow.Ints) -> None:
    """Add ascending or unordered sequences, run by run where they are mostly contiguous (the common case: one run)."""
    if not len(sequence):
        return
    breaks = np.flatnonzero(np.diff(sequence) != 1)
    if len(breaks) > len(sequence) // 8:
        rows.update(sequence)
        return
    starts = np.concatenate(([0], breaks + 1))
    ends = np.concatenate((breaks, [len(sequence) - 1]))
    for start, end in zip(sequence[starts].tolist(), sequence[ends].tolist(), strict=True):
        rows.add_range(start, end + 1)


def _combined(one: RowSet, other: RowSet, combine: Callable[[BitMap64, BitMap64], BitMap64]) -> RowSet:
    found = RowSet()
    for shard in {*one._whole, *other._whole}:
        found._whole[shard] = combine(one.whole(shard), other.whole(shard))
    for shard in {*one._parts, *other._parts}:
        mine, theirs = one.parts(shard), other.parts(shard)
        split = {n: combine(mine.get(n, BitMap64()), theirs.get(n, BitMap64())) for n in {*mine, *theirs}}
        found._parts[shard] = {number: subs for number, subs in split.items() if subs}
    return found


@dataclass(frozen=True, slots=True)
class FailedRows:
    """Rows that could not go on, and why. Shape: `FAILED_ROWS`. `stage` is one for all: a bounded word, see `Stage`.

    `message` is in Firehose's words where it has some; `detail` says more in ours, or is empty. `data` holds the
    original bytes once the worker has fetched them; a stage that saw changed bytes hands those on and leaves `changed`
    true.
    """

    shard: str
    stage: str
    rows: pa.RecordBatch
    changed: bool = False

    def __len__(self) -> int:
        return int(self.rows.num_rows)

    @property
    def nbytes(self) -> int:
        return int(self.rows.nbytes)

    def slice(self, start: int, length: int | None = None) -> FailedRows:
        """Return `length` rows from `start` on, without a copy."""
        return FailedRows(self.shard, self.stage, self.rows.slice(start, length), self.changed)

    def batch(self) -> Batch:
        """Return the rows without their reasons."""
        return Batch(self.shard, self.rows.select(ROWS.names).cast(ROWS), self.changed)

    def with_originals(self, originals: Batch) -> FailedRows:
        """Return the same failures with `originals` as their payloads, row for row."""
        assert len(originals) == len(self) and bool((originals.sequence == self.batch().sequence).all())
        names = FAILED_ROWS.names
        columns = [originals.data if name == "data" else self.rows.column(name) for name in names]
        return FailedRows(self.shard, self.stage, pa.RecordBatch.from_arrays(columns, schema=FAILED_ROWS))

    @classmethod
    def of(
        cls,
        stage: str,
        batch: Batch,
        *,
        codes: Sequence[str] | str,
        messages: Sequence[str] | str,
        details: Sequence[str] | str = "",
        attempts: int,
        ended_ms: int,
    ) -> FailedRows:
        """Return every row of `batch` as failed; a single code, message or detail stands for all rows."""
        count = len(batch)
        reasons = [
            pa.array([codes] * count if isinstance(codes, str) else codes, pa.string()),
            pa.array([messages] * count if isinstance(messages, str) else messages, pa.string()),
            pa.array([details] * count if isinstance(details, str) else details, pa.string()),
            pa.array(np.full(count, attempts, np.int32)),
            pa.array(np.full(count, ended_ms, np.int64)),
        ]
        rows = pa.RecordBatch.from_arrays([*batch.rows.columns, *reasons], schema=FAILED_ROWS)
        return cls(batch.shard, stage, rows, batch.changed)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a stage made of a batch: given + created = ok + failed + dropped, to the row."""

    ok: Batch
    failed: tuple[FailedRows, ...] = ()
    dropped: RowSet = field(default_factory=RowSet)
    created: int = 0

    def check(self, given: Batch) -> Outcome:
        """Return self. Errors: AssertionError where a row was lost or made up; that is a bug of the stage."""
        failed = sum(len(rows) for rows in self.failed)
        out = len(self.ok) + failed + len(self.dropped)
        assert len(given) + self.created == out, (
            f"{len(given)} rows given + {self.created} created, but {len(self.ok)} ok + {failed} failed"
            f" + {len(self.dropped)} dropped came out"
        )
        return self
