"""Ids and the rows that hold them, in columns: how they are sorted, found, and written.

block: checksum, count, then the columns one after another, filled up to eight bytes
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from firehose import arrow

#: 128 bits: with a billion ids known, the chance that a new one looks like one of them is 1 in 10**29.
KEY_BYTES = 16

Halves = npt.NDArray[np.uint64]
Tags = npt.NDArray[np.uint32]

_DTYPES = ("<u8", "<u8", "<i8", "<i8", "<u4")

#: What one id takes on disk and in memory.
ENTRY_BYTES = sum(np.dtype(each).itemsize for each in _DTYPES)

#: What a block begins with, so that the next one is found behind damage.
_MAGIC = b"ids\n"

#: Magic, how many entries follow, their checksum, and that of the three. Blocks begin at multiples of eight bytes.
_HEAD = struct.Struct("<4sIII")


class Keys(NamedTuple):
    """The halves of 128-bit keys."""

    high: Halves
    low: Halves


@dataclass(frozen=True, slots=True, eq=False)
class Entries:
    """Ids and who holds them: the first row with each. Shape: columns of one length. Units: Unix milliseconds."""

    high: Halves
    low: Halves
    sequence: arrow.Ints
    arrival_ms: arrow.Ints
    #: A tag of the row's shard and sub-sequence.
    holder: Tags

    def __len__(self) -> int:
        return len(self.high)

    @property
    def columns(self) -> tuple[npt.NDArray[np.generic], ...]:
        return tuple(getattr(self, each.name) for each in fields(self))

    def take(self, which: npt.NDArray[np.int64] | arrow.Mask | slice) -> Entries:
        """Return the entries at these places, or for which the mask is true."""
        return Entries(*(column[which] for column in self.columns))  # type: ignore[arg-type] # each keeps its type

    def ordered(self) -> tuple[Entries, npt.NDArray[np.int64]]:
        """Return the entries in the order of their keys (equal ones as they are), and where each was."""
        order = np.lexsort((self.low, self.high))
        return self.take(order), order

    def matches(self, asked: Entries) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return places in `asked` and here that have the same key, pair by pair.

        Both are in the order of keys, and no key is asked twice: a key may be here as often as there were windows.
        """
        first = np.searchsorted(self.high, asked.high)
        there = np.flatnonzero(self.high[np.minimum(first, len(self) - 1)] == asked.high) if len(self) else first[:0]
        first, last = first[there], np.searchsorted(self.high, asked.high[there], "right")
        counts = last - first
        places = np.repeat(there, counts)
        steps = np.arange(len(places)) - np.repeat(np.cumsum(counts) - counts, counts)
        found = np.repeat(first, counts) + steps
        is_same = self.low[found] == asked.low[places]
        return places[is_same], found[is_same]

    def between(self, first_high: int, last_high: int) -> Entries:
        """Return the entries whose upper halves lie between these, both included, without a copy."""
        begin = np.searchsorted(self.high, np.uint64(first_high))
        return self.take(slice(int(begin), int(np.searchsorted(self.high, np.uint64(last_high), "right"))))

    def block(self) -> bytes:
        """Return the entries as they are written."""
        body = b"".join(column.tobytes() for column in self.columns)
        begin = _MAGIC + len(self).to_bytes(4, "little") + zlib.crc32(body).to_bytes(4, "little")
        return begin + zlib.crc32(begin).to_bytes(4, "little") + body + bytes(-len(body) % 8)


NO_ENTRIES = Entries(*(np.empty(0, each) for each in _DTYPES))


def concat(pieces: Sequence[Entries]) -> Entries:
    """Return all entries, one piece after another."""
    columns = zip(*(each.columns for each in pieces), strict=True)
    return Entries(*(np.concatenate(each) for each in columns)) if pieces else NO_ENTRIES


def merged(settled: Entries, fresh: Entries) -> Entries:
    """Return both in the order of keys, in which each is already."""
    places = np.searchsorted(settled.high, fresh.high, "right")
    columns = zip(settled.columns, fresh.columns, strict=True)
    return Entries(*(np.insert(mine, places, theirs) for mine, theirs in columns))


def blocks_of(body: memoryview) -> Iterator[tuple[Entries, int]]:
    """Yield the blocks that a file's bytes begin with, without a copy, and where each ends."""
    at = 0
    while (block := _block_at(body, at)) is not None:
        yield block
        at = block[1]


def next_block(body: memoryview, at: int) -> int | None:
    """Return where the next whole block begins, at `at` or behind it."""
    text = bytes(body)
    while (at := text.find(_MAGIC, at)) >= 0:
        if at % 8 == 0 and _block_at(body, at) is not None:
            return at
        at += 1
    return None


def is_torn(end: memoryview) -> bool:
    """Return whether the end of a file, which is no whole block, is one that was being written when all ended.

    Such a one is too short for what it says it holds, or has not even begun.
    """
    if len(end) < _HEAD.size or not any(end[: _HEAD.size]):
        return True
    magic, count, _, head_checksum = _HEAD.unpack_from(end)
    is_head: bool = magic == _MAGIC and zlib.crc32(end[: _HEAD.size - 4]) == head_checksum
    return is_head and len(end) < _HEAD.size + count * ENTRY_BYTES


def _block_at(body: memoryview, at: int) -> tuple[Entries, int] | None:
    """Return the block at `at` and where it ends, None where there is no whole one."""
    begin = at + _HEAD.size
    if begin > len(body):
        return None
    magic, count, checksum, head_checksum = _HEAD.unpack_from(body, at)
    end = begin + count * ENTRY_BYTES
    if magic != _MAGIC or zlib.crc32(body[at : begin - 4]) != head_checksum or end > len(body):
        return None
    if zlib.crc32(body[begin:end]) != checksum:
        return None
    columns = []
    for dtype in _DTYPES:
        columns.append(np.frombuffer(body, dtype, count, begin))
        begin += columns[-1].nbytes
    return Entries(*columns), end + -end % 8


def groups_of(entries: Entries) -> npt.NDArray[np.int64]:
    """Return for each entry which of the keys it has, counted from 0. The entries are in the order of their keys."""
    begins = np.zeros(len(entries), np.int64)
    begins[1:] = (entries.high[1:] != entries.high[:-1]) | (entries.low[1:] != entries.low[:-1])
    return np.cumsum(begins)


def first_of_each(entries: Entries, window_ms: int) -> arrow.Mask:
    """Return which entries hold their id: the first of each key, and the next that comes a window after that one.

    The entries are in the order of their keys. Few batches span a window: a step for each holder but the first.
    """
    is_holder = np.zeros(len(entries), np.bool_)
    if not len(entries):
        return is_holder
    group = groups_of(entries)
    begins = np.flatnonzero(np.diff(group, prepend=-1))
    ends = np.append(begins[1:], len(entries))
    is_holder[begins] = True
    spans = np.maximum.reduceat(entries.arrival_ms, begins) - entries.arrival_ms[begins]
    for number in np.flatnonzero(spans >= window_ms).tolist():
        begin, end = int(begins[number]), int(ends[number])
        # one that arrived out of order is taken to be as late as those before it
        arrival_ms = np.maximum.accumulate(entries.arrival_ms[begin:end])
        at = 0
        while (at := int(np.searchsorted(arrival_ms, arrival_ms[at] + window_ms))) < end - begin:
            is_holder[begin + at] = True
    return is_holder


def nearest_ms(
    groups: npt.NDArray[np.int64], times: arrow.Ints, group: npt.NDArray[np.int64], at: arrow.Ints
) -> arrow.Ints:
    """Return how far each time of `at` is from the nearest of `times` with its group; 2**62 where there is none."""
    order = np.lexsort((times, groups))
    groups, times = groups[order], times[order]
    # a place in the order of (group, time) is found with one number for both
    base, span = int(min(times.min(), at.min())), int(max(times.max(), at.max())) + 1
    width = span - base
    after = np.searchsorted(groups * width + (times - base), group * width + (at - base))
    away = np.full(len(at), 2**62)
    for neighbour in (after - 1, after):
        is_there = (neighbour >= 0) & (neighbour < len(groups))
        places = np.where(is_there, neighbour, 0)
        is_there &= groups[places] == group
        away = np.where(is_there, np.minimum(away, np.abs(times[places] - at)), away)
    return away
