"""Rows waiting to become objects: one cell per outlet and group. No I/O here, and time is an argument.

All times here are of the monotonic clock: cells come due although the machine's clock is set back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from firehose import arrow
from firehose.records import Batch, FailedRows, RowSet, hours_of

#: What a cell costs besides its rows: the objects that hold it, measured with empty cells (0.9 KiB), rounded up.
CELL_OVERHEAD_BYTES = 1_024


@dataclass(frozen=True, slots=True)
class Hints:
    """When a cell is due, whichever comes first. `max_bytes` counts payloads, before conversion and compression."""

    max_bytes: int
    max_age_ms: int


@dataclass(slots=True, eq=False)
class Cell:
    """Rows that will become one object. `group` tells cells of one outlet apart: the error output's type, or ""."""

    outlet: str
    group: str
    opened_ms: int
    #: When its oldest row arrived, which may be long before.
    since_ms: int = 2**63 - 1
    pieces: list[Batch | FailedRows | SpilledPieces] = field(default_factory=list)
    rows: RowSet = field(default_factory=RowSet)
    hours: dict[int, int] = field(default_factory=dict)
    data_bytes: int = 0
    #: What the pieces in memory hold of the process's budget.
    held_bytes: int = CELL_OVERHEAD_BYTES

    def add(self, piece: Batch | FailedRows) -> int:
        """Append rows; return when the oldest of them arrived. Units: Unix milliseconds."""
        batch = piece if isinstance(piece, Batch) else piece.batch()
        arrival_ms = batch.arrival_ms
        self.pieces.append(piece)
        self.rows.add(batch.shard, batch.sequence, batch.sub_sequence)
        for hour, count in hours_of(arrival_ms).items():
            self.hours[hour] = self.hours.get(hour, 0) + count
        self.data_bytes += batch.data_bytes
        self.held_bytes += piece.nbytes
        return int(arrival_ms.min())

    def due_ms(self, hints: Hints, *, is_caught_up: bool) -> int:
        """Return when the cell is due by age: from its oldest arrival, so that restarts do not postpone it for ever;
        but while the source is behind, from its opening, so that a backlog does not crumble into small objects."""
        return (self.since_ms if is_caught_up else self.opened_ms) + hints.max_age_ms


@dataclass(frozen=True, slots=True)
class SpilledPieces:
    """Pieces that wait on disk instead of in memory: an Arrow IPC file per piece, with its shard and first sequence."""

    files: tuple[tuple[str, int, str], ...]


class Buffer:
    """The cells of one stream. Cells that reached their size are closed and wait to be taken."""

    def __init__(self, hints: dict[str, Hints]) -> None:
        self._hints = hints
        self._open: dict[tuple[str, str], Cell] = {}
        self._full: dict[str, list[Cell]] = {outlet: [] for outlet in hints}
        #: Payload bytes of each outlet's cells, in memory or spilled.
        self.waiting_bytes = dict.fromkeys(hints, 0)

    def add(self, outlet: str, group: str, piece: Batch | FailedRows, *, now_ms: int, wall_ms: int) -> int:
        """Put rows into their cell, splitting them where it reaches its size. Returns the bytes now held more.

        `wall_ms` is what the clock on the wall says now: arrivals are told by it.
        """
        max_bytes, held_bytes = self._hints[outlet].max_bytes, 0
        for part in _split(piece, self._room(outlet, group), max_bytes):
            cell = self._open.get((outlet, group))
            if cell is None:
                cell = self._open[outlet, group] = Cell(outlet, group, now_ms)
                held_bytes += cell.held_bytes
            held_bytes -= cell.held_bytes
            self.waiting_bytes[outlet] -= cell.data_bytes
            cell.since_ms = min(cell.since_ms, now_ms - max(0, wall_ms - cell.add(part)))
            held_bytes += cell.held_bytes
            self.waiting_bytes[outlet] += cell.data_bytes
            if cell.data_bytes >= max_bytes:
                self._full[outlet].append(self._open.pop((outlet, group)))
        return held_bytes

    def _room(self, outlet: str, group: str) -> int:
        cell = self._open.get((outlet, group))
        return self._hints[outlet].max_bytes - (cell.data_bytes if cell else 0)

    def take_due(self, outlet: str, *, now_ms: int, is_caught_up: bool, most: int) -> list[Cell]:
        """Remove and return at most `most` cells of the outlet that are due: full ones first, then the oldest."""
        hints = self._hints[outlet]
        taken, self._full[outlet] = self._full[outlet][:most], self._full[outlet][most:]
        aged = [cell for cell in self._cells(outlet) if cell.due_ms(hints, is_caught_up=is_caught_up) <= now_ms]
        for cell in sorted(aged, key=lambda cell: cell.since_ms)[: most - len(taken)]:
            taken.append(self._open.pop((cell.outlet, cell.group)))
        self.waiting_bytes[outlet] -= sum(cell.data_bytes for cell in taken)
        return taken

    def put_back(self, cells: Sequence[Cell]) -> None:
        """Take back cells that could not be sealed: they are due, and they may spill meanwhile."""
        for cell in reversed(cells):
            self._full[cell.outlet].insert(0, cell)
            self.waiting_bytes[cell.outlet] += cell.data_bytes

    def close(self, heads: Mapping[str, int]) -> None:
        """Make every cell due now that holds a row which is not beyond its shard's sequence in `heads`."""
        for place, cell in list(self._open.items()):
            if any(cell.rows.first(shard) <= last for shard, last in heads.items()):
                self._full[cell.outlet].append(self._open.pop(place))

    def next_due_ms(self, outlet: str, *, is_caught_up: bool) -> int | None:
        """Return when the outlet's next cell is due by age, None where it has none; full cells are due at once (0)."""
        if self._full[outlet]:
            return 0
        hints = self._hints[outlet]
        return min((cell.due_ms(hints, is_caught_up=is_caught_up) for cell in self._cells(outlet)), default=None)

    def cells(self) -> Iterator[Cell]:
        """Yield all cells."""
        for full in self._full.values():
            yield from full
        yield from self._open.values()

    def _cells(self, outlet: str) -> Iterator[Cell]:
        return (cell for cell in self._open.values() if cell.outlet == outlet)


def _split(piece: Batch | FailedRows, room: int, max_bytes: int) -> Iterator[Batch | FailedRows]:
    """Yield `piece` in parts that fill a cell to its size: each ends with the record that reaches the size."""
    batch = piece if isinstance(piece, Batch) else piece.batch()
    ends = arrow.offsets_of(batch.data)[1:]
    start, base = 0, 0
    while start < len(batch):
        stop = min(int(np.searchsorted(ends, base + max(room, 1), side="left")) + 1, len(batch))
        yield piece if stop - start == len(batch) else piece.slice(start, stop - start)
        start, base, room = stop, int(ends[stop - 1]), max_bytes
