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

#: The checksum of what follows it, and how many entries that is.
_HEAD = struct.Struct("<II")

#: The smallest block: what is shorter is none.
HEAD_BYTES = _HEAD.size


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
        """Return places in `asked` and here that have the same key, pair by pair. Both are in the order of keys."""
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
        body += bytes(-len(body) % 8)
        count = len(self).to_bytes(4, "little")
        return _HEAD.pack(zlib.crc32(body, zlib.crc32(count)), len(self)) + body


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


def block_bytes(body: memoryview) -> int:
    """Return how long the block says it is that `body` begins with, or all of `body` where it is too short for one."""
    if len(body) < HEAD_BYTES:
        return len(body)
    size = _HEAD.unpack_from(body)[1] * ENTRY_BYTES
    return HEAD_BYTES + int(size + -size % 8)


def blocks_of(body: memoryview) -> Iterator[tuple[Entries, int]]:
    """Yield the blocks of a file's bytes, without a copy, and where each ends; stops at what is no whole block."""
    at = 0
    while at + HEAD_BYTES <= len(body):
        checksum, count = _HEAD.unpack_from(body, at)
        begin, end = at + HEAD_BYTES, at + block_bytes(body[at:])
        if end > len(body) or zlib.crc32(body[begin:end], zlib.crc32(body[at + 4 : begin])) != checksum:
            return
        columns = []
        for dtype in _DTYPES:
            columns.append(np.frombuffer(body, dtype, count, begin))
            begin += columns[-1].nbytes
        at = end
        yield Entries(*columns), end


def first_of_each(entries: Entries, window_ms: int) -> arrow.Mask:
    """Return which entries hold their id: the first of each key, and the first that is a window away from that one.

    The entries are in the order of their keys; a second turn is rare, since few batches span a whole window.
    """
    is_holder, left = np.zeros(len(entries), np.bool_), np.arange(len(entries))
    while len(left):
        some = entries.take(left)
        begins = np.ones(len(left), np.bool_)
        begins[1:] = (some.high[1:] != some.high[:-1]) | (some.low[1:] != some.low[:-1])
        is_holder[left[begins]] = True
        holder_ms = some.arrival_ms[begins][np.cumsum(begins) - 1]
        left = left[~begins & (np.abs(some.arrival_ms - holder_ms) >= window_ms)]
    return is_holder
