"""Rows waiting to become objects: one cell per outlet and group. No I/O here, and time is an argument.

Rows come in slabs, sorted by their group, and cells hold parts of slabs: a batch that goes to thousands of groups costs
one gathering, and a few microseconds for each. A slab is in memory until it spills, or no cell holds a part of it.

All times here are of the monotonic clock: cells come due although the machine's clock is set back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from firehose import arrow
from firehose.records import Batch, FailedRows

#: What a cell costs besides its rows: the objects that hold it, measured with empty cells (0.9 KiB), rounded up.
CELL_OVERHEAD_BYTES = 1_024


@dataclass(frozen=True, slots=True)
class Hints:
    """When a cell is due, whichever comes first. `max_bytes` counts payloads, before conversion and compression."""

    max_bytes: int
    max_age_ms: int


@dataclass(slots=True, eq=False)
class Slab:
    """Rows that came together, of one shard: in memory, or in the file `path`."""

    rows: Batch | FailedRows | None
    shard: str
    #: What it holds of the process's budget while it is in memory.
    held_bytes: int
    path: Path | None = None
    #: Parts of it that cells hold.
    parts: int = 0


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of a slab that go to one group: `count` of them from `start` on, `first` being the first's sequence."""

    slab: Slab
    start: int
    count: int
    first: int


@dataclass(slots=True, eq=False)
class Cell:
    """Rows that will become one object. `group` tells cells of one outlet apart: the error output's type, or ""."""

    outlet: str
    group: str
    opened_ms: int
    #: When its oldest row arrived, which may be long before.
    since_ms: int = 2**63 - 1
    parts: list[Part] = field(default_factory=list)
    #: The lowest sequence of each shard.
    firsts: dict[str, int] = field(default_factory=dict)
    data_bytes: int = 0

    def add(self, part: Part, data_bytes: int) -> None:
        """Append rows."""
        part.slab.parts += 1
        self.parts.append(part)
        shard = part.slab.shard
        self.firsts[shard] = min(part.first, self.firsts.get(shard, part.first))
        self.data_bytes += data_bytes

    def due_ms(self, hints: Hints, *, is_caught_up: bool) -> int:
        """Return when the cell is due by age: from its oldest arrival, so that restarts do not postpone it for ever;
        but while the source is behind, from its opening, so that a backlog does not crumble into small objects."""
        return (self.since_ms if is_caught_up else self.opened_ms) + hints.max_age_ms


class Buffer:
    """The cells of one stream. Cells that reached their size are closed and wait to be taken."""

    def __init__(self, hints: dict[str, Hints]) -> None:
        self._hints = hints
        self._open: dict[str, dict[str, Cell]] = {outlet: {} for outlet in hints}
        self._full: dict[str, list[Cell]] = {outlet: [] for outlet in hints}
        #: Cells that are being sealed: taken, and neither put back nor let go.
        self._taken: dict[str, dict[Cell, None]] = {outlet: {} for outlet in hints}
        #: Slabs in memory, oldest first.
        self._slabs: dict[str, dict[Slab, None]] = {outlet: {} for outlet in hints}
        #: Payload bytes of each outlet's cells, in memory or spilled.
        self.waiting_bytes = dict.fromkeys(hints, 0)
        #: Those of cells that reached their size.
        self.full_bytes = dict.fromkeys(hints, 0)
        #: What each outlet's slabs hold of the process's budget.
        self.held_bytes = dict.fromkeys(hints, 0)

    def add(self, outlet: str, rows: Batch | FailedRows, *, group: str = "", now_ms: int, wall_ms: int) -> int:
        """Put rows into the cells of their groups (`group`, where they name none). Returns the bytes now held more.

        Cells are closed where they reach their size, each with the record that does.
        `wall_ms` is what the clock on the wall says now: arrivals are told by it.
        """
        rows, runs = _sorted_by_group(rows, group)
        slab = Slab(rows, rows.shard, rows.nbytes)
        self._slabs[outlet][slab] = None
        batch = rows if isinstance(rows, Batch) else rows.batch()
        sequence, ends = batch.sequence, arrow.offsets_of(batch.data)
        since_ms = now_ms - np.maximum(0, wall_ms - batch.arrival_ms)
        cells, held_bytes = self._open[outlet], slab.held_bytes
        self.held_bytes[outlet] += slab.held_bytes
        self.waiting_bytes[outlet] += int(ends[-1])
        for name, first, last in runs:
            at = first
            while at < last:
                cell = cells.get(name)
                if cell is None:
                    cell = cells[name] = Cell(outlet, name, now_ms)
                    held_bytes += CELL_OVERHEAD_BYTES
                room = max(1, self._hints[outlet].max_bytes - cell.data_bytes)
                stop = min(int(np.searchsorted(ends, ends[at] + room, side="left")), last)
                part = Part(slab, at, stop - at, int(sequence[at]))
                cell.add(part, int(ends[stop] - ends[at]))
                cell.since_ms = min(cell.since_ms, int(since_ms[at:stop].min()))
                if cell.data_bytes >= self._hints[outlet].max_bytes:
                    self._close(cell)
                at = stop
        return held_bytes

    def _close(self, cell: Cell) -> None:
        self._full[cell.outlet].append(self._open[cell.outlet].pop(cell.group))
        self.full_bytes[cell.outlet] += cell.data_bytes

    def take_due(self, outlet: str, *, now_ms: int, is_caught_up: bool, most: int) -> list[Cell]:
        """Remove and return at most `most` cells of the outlet that are due: full ones first, then the oldest."""
        hints = self._hints[outlet]
        taken, self._full[outlet] = self._full[outlet][:most], self._full[outlet][most:]
        self.full_bytes[outlet] -= sum(cell.data_bytes for cell in taken)
        open_cells = self._open[outlet]
        aged = [cell for cell in open_cells.values() if cell.due_ms(hints, is_caught_up=is_caught_up) <= now_ms]
        for cell in sorted(aged, key=lambda cell: cell.since_ms)[: most - len(taken)]:
            taken.append(open_cells.pop(cell.group))
        self.waiting_bytes[outlet] -= sum(cell.data_bytes for cell in taken)
        self._taken[outlet].update(dict.fromkeys(taken))
        return taken

    def put_back(self, cells: Sequence[Cell]) -> None:
        """Take back cells that could not be sealed: they are due, and they may spill meanwhile."""
        for cell in reversed(cells):
            del self._taken[cell.outlet][cell]
            self._full[cell.outlet].insert(0, cell)
            self.full_bytes[cell.outlet] += cell.data_bytes
            self.waiting_bytes[cell.outlet] += cell.data_bytes

    def let_go(self, cell: Cell) -> tuple[int, list[Path]]:
        """Forget a cell that was taken and sealed; return the bytes held less, and files that nobody needs any more."""
        del self._taken[cell.outlet][cell]
        freed_bytes, unneeded = CELL_OVERHEAD_BYTES, []
        for part in cell.parts:
            slab = part.slab
            slab.parts -= 1
            if slab.parts == 0 and slab.path is not None:
                unneeded.append(slab.path)
            elif slab.parts == 0:
                del self._slabs[cell.outlet][slab]
                self.held_bytes[cell.outlet] -= slab.held_bytes
                freed_bytes += slab.held_bytes
        return freed_bytes, unneeded

    def in_memory(self, outlet: str) -> list[Slab]:
        """Return the outlet's slabs that are not spilled, oldest first."""
        return list(self._slabs[outlet])

    def spilled(self, outlet: str, slab: Slab, path: Path) -> int:
        """Note that a slab lies in a file now; return the bytes held less."""
        del self._slabs[outlet][slab]
        slab.rows, slab.path = None, path
        self.held_bytes[outlet] -= slab.held_bytes
        return slab.held_bytes

    def close(self, heads: Mapping[str, int]) -> None:
        """Make every cell due now that holds a row which is not beyond its shard's sequence in `heads`."""
        for cell in [cell for cells in self._open.values() for cell in cells.values()]:
            if any(cell.firsts.get(shard, last + 1) <= last for shard, last in heads.items()):
                self._close(cell)

    def next_due_ms(self, outlet: str, *, is_caught_up: bool) -> int | None:
        """Return when the outlet's next cell is due by age, None where it has none; full cells are due at once (0)."""
        if self._full[outlet]:
            return 0
        hints, cells = self._hints[outlet], self._open[outlet].values()
        return min((cell.due_ms(hints, is_caught_up=is_caught_up) for cell in cells), default=None)

    def groups(self, outlet: str) -> set[str]:
        """Return the groups of rows that wait, or are being sealed."""
        return {*self._open[outlet], *(cell.group for cell in (*self._full[outlet], *self._taken[outlet]))}

    @property
    def is_empty(self) -> bool:
        """True where no row waits."""
        return not any(self._open.values()) and not any(self._full.values())


def cell_of(outlet: str, group: str, batches: Iterable[Batch], *, now_ms: int) -> Cell:
    """Return a cell that stands in no buffer, with all rows of `batches`."""
    cell = Cell(outlet, group, now_ms)
    for batch in batches:
        slab = Slab(Batch(batch.shard, batch.rows, batch.changed), batch.shard, batch.nbytes)
        cell.add(Part(slab, 0, len(batch), int(batch.sequence[0])), batch.data_bytes)
    return cell


def _sorted_by_group(rows: Batch | FailedRows, group: str) -> tuple[Batch | FailedRows, Sequence[tuple[str, int, int]]]:
    """Return the rows with those of each group together, in their order, and where each group begins and ends."""
    if isinstance(rows, FailedRows) or rows.groups is None:
        return rows, [(group, 0, len(rows))]
    names = rows.groups.dictionary_encode()
    codes = names.indices.to_numpy()
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    bounds = [*starts.tolist(), len(rows)]
    words = names.dictionary.take(codes[order][starts]).to_pylist()
    sorted_rows = rows.rows if len(words) == 1 else arrow.take(rows.rows, order)
    return Batch(rows.shard, sorted_rows, rows.changed), list(zip(words, bounds[:-1], bounds[1:], strict=True))
