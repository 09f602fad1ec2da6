"""Where frames lie: a table per segment, stream and lane, so that reading one stream never touches another's bytes."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from firehose.clock import hour_of
from firehose.log.frame import Lane

#: One stream and lane: whose rows a frame holds.
Key = tuple[str, Lane]


class Entry(NamedTuple):
    """Where one frame lies; `offset` -1: nowhere, its rows are lost. Units: `frame_bytes` on disk, `data_bytes` raw."""

    first: int
    rows: int
    offset: int
    frame_bytes: int
    data_bytes: int
    oldest_ms: int

    @property
    def last(self) -> int:
        return self.first + self.rows - 1


_WIDTH = len(Entry._fields)


class FrameTable:
    """Where the frames of one stream and lane lie in one segment, ascending. 48 bytes a frame, no object for each."""

    def __init__(self, flat: array[int] | None = None, mixed: Mapping[int, Mapping[int, int]] | None = None) -> None:
        self.flat = flat if flat is not None else array("q")
        #: Rows by hour of frames with rows of more than one, by their first sequence.
        self.mixed = dict(mixed or {})

    def __len__(self) -> int:
        return len(self.flat) // _WIDTH

    def __getitem__(self, index: int) -> Entry:
        return Entry(*self.flat[index * _WIDTH : (index + 1) * _WIDTH])

    @property
    def nbytes(self) -> int:
        return len(self.flat) * 8

    def add(self, entry: Entry, hours: Mapping[int, int]) -> None:
        """Append a frame."""
        self.flat.extend(entry)
        if len(hours) > 1:
            self.mixed[entry.first] = dict(hours)

    def after(self, position: int) -> Iterator[Entry]:
        """Yield the frames with rows behind `position`."""
        at = bisect_right(range(len(self)), position, key=lambda index: self.flat[index * _WIDTH])
        begin = at - 1 if at and self[at - 1].last > position else at
        return (self[index] for index in range(begin, len(self)))

    def hours(self, entry: Entry) -> Mapping[int, int]:
        """Return rows by hour of one frame."""
        return self.mixed.get(entry.first) or {hour_of(entry.oldest_ms): entry.rows}

    def beyond(self, position: int) -> tuple[int, int] | None:
        """Return data bytes and oldest arrival of the rows behind `position`; a frame cut by it counts by its rows."""
        columns = np.frombuffer(self.flat, np.int64).reshape(-1, _WIDTH)
        last = columns[:, 0] + columns[:, 1] - 1
        left = columns[last > position]
        if not len(left):
            return None
        first, rows, _, _, data_bytes, _ = left[0].tolist()
        done = data_bytes * max(position + 1 - first, 0) // rows
        return int(left[:, 4].sum()) - done, int(left[:, 5].min())

    def to_bytes(self) -> bytes:
        """Return the frames as bytes, little-endian."""
        return np.frombuffer(self.flat, np.int64).astype("<i8").tobytes()

    @classmethod
    def from_bytes(cls, body: bytes, mixed: Mapping[int, Mapping[int, int]]) -> FrameTable:
        """Return what `to_bytes` made."""
        return cls(array("q", np.frombuffer(body, "<i8").astype(np.int64).tobytes()), mixed)


@dataclass(slots=True)
class Extent:
    """What a segment holds of one stream and lane: contiguous sequences. `at`, `table_bytes`: its table's place.

    `done_bytes`: data bytes of the rows that are released; of a frame that is partly so, by its rows.
    """

    first: int
    last: int
    data_bytes: int
    stored_bytes: int
    oldest_ms: int
    at: int = 0
    table_bytes: int = 0
    done_bytes: int = 0
    is_released: bool = False

    @property
    def rows(self) -> int:
        return self.last - self.first + 1
