"""The ids of a stream's records for a window of time, on disk: what is asked is remembered at once, and for good.

    admit → journal (synced) → memory → run, once memory is full → larger runs → gone, when too old or too many

A journal grows by what each call adds and is read at the start; runs hold what earlier journals held. Nobody is told
that an id is new before it is on the disk with its row: after a crash the row that is read again finds itself.
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from firehose import arrow
from firehose.deduplication.entries import (
    ENTRY_BYTES,
    NO_ENTRIES,
    Entries,
    blocks_of,
    concat,
    first_of_each,
    groups_of,
    is_torn,
    merged,
    nearest_ms,
    next_block,
)
from firehose.deduplication.run import PREAMBLE, NotWholeError, Run, check_preamble, merge, runs_in
from firehose.filesystem import AppendFile, FileSystem, sync_anew

#: Entries in memory before they become a run: 2.3 MB, and all that a start has to sort.
MEMORY_ENTRIES = 65_536

#: So many runs of about one size become one.
FAN = 4

#: The largest run is this part of all that may be kept, so that no more goes at once than that; and merging needs that
#: much besides.
LARGEST_PART = 8

_JOURNAL = re.compile(r"(\d{10})\.journal")


@dataclass(frozen=True, slots=True)
class Damage:
    """A file whose bytes are not those that were written. What it held is not known any more."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class WindowStats:
    """What a window knows. `oldest_ms`: of the oldest record whose id is known, None without any. Units: Unix ms."""

    ids: int
    file_bytes: int
    oldest_ms: int | None


class RecordIdWindow:
    """Tells rows whose id was seen less than `window_ms` before from others, and remembers those.

    All calls block, and take turns. What fails may be asked again: it finds itself.
    """

    def __init__(self, folder: Path, files: FileSystem, *, window_ms: int, max_bytes: int) -> None:
        self._folder = folder
        self._files = files
        self._window_ms = window_ms
        self._max_bytes = max_bytes
        self._runs: list[Run] = []
        self._memory = NO_ENTRIES
        #: The number of the journal that is written, or will be.
        self._number = 0
        self._journal: AppendFile | None = None
        #: Ids that had to go before their time, since the start.
        self.forgotten = 0
        self.stats = WindowStats(0, 0, None)
        self._turn = threading.Lock()

    def open(self) -> list[Damage]:
        """Read what is there; return what of it was damaged and is gone. Errors: OSError, DataDirectoryError."""
        with self._turn:
            return self._open()

    def _open(self) -> list[Damage]:
        files, folder = self._files, self._folder
        files.make_folder(folder)
        names = files.list(folder)
        kept, replaced = runs_in(names)
        damages = []
        self._runs.clear()
        for name in kept:
            try:
                self._runs.append(Run.open(folder / name, files))
            except NotWholeError as error:
                damages.append(Damage(folder / name, str(error)))
                replaced.append(name)
        for name in replaced:
            files.remove(folder / name)
        journals = [name for name in names if _JOURNAL.fullmatch(name)]
        last_run = max((each.last for each in self._runs), default=0)
        pieces = []
        for name in journals:
            found, damage = self._read_journal(folder / name)
            if not damage:
                pieces += found
                continue
            damages.append(Damage(folder / name, damage))
            self._save_rest(int(name[:10]), found if int(name[:10]) > last_run else [])
        # one whose run is there holds nothing that is not known: it is found twice, and goes with the next run
        self._memory, _ = concat(pieces).ordered()
        self._number = max([last_run, *(int(name[:10]) for name in journals)]) + 1
        self._measure()
        return damages

    def _read_journal(self, path: Path) -> tuple[list[Entries], str]:
        """Return the blocks of a journal, and what is wrong with it. Its end may be torn: nobody was told of that."""
        sync_anew(self._files, path)
        body = memoryview(self._files.read(path))
        if len(body) < len(PREAMBLE):
            return [], ""
        try:
            check_preamble(body, path)
        except NotWholeError as error:
            return [], str(error)
        rest = body[len(PREAMBLE) :]
        blocks, at, is_damaged = [], 0, False
        while (begin := next_block(rest, at)) is not None:
            is_damaged |= begin > at
            for block, end in blocks_of(rest[begin:]):
                blocks.append(block)
                at = begin + end
        is_damaged |= not is_torn(rest[at:])
        return blocks, "not all of it is as it was written" if is_damaged else ""

    def _save_rest(self, number: int, found: list[Entries]) -> None:
        """Put what is whole of a damaged journal in its place."""
        blocks = [concat(found).ordered()[0]] if found else []
        run = Run.write(self._folder, number, number, blocks, self._files)
        self._runs += [run] if run else []
        self._files.remove(self._journal_path(number))

    def close(self) -> None:
        """Close the journal, when nobody is in here any more; nothing waits to be written."""
        with self._turn:
            self._close_journal()

    def _close_journal(self) -> None:
        if self._journal is not None:
            journal, self._journal = self._journal, None
            journal.close()

    def admit(self, asked: Entries) -> arrow.Mask:
        """Return which rows have an id that another row had less than a window before, and remember the others.

        Shape: as `asked`. Errors: OSError; then nothing is known of the others, and all may be asked again.
        """
        if not len(asked):
            return np.zeros(0, np.bool_)
        with self._turn:
            return self._admit(asked)

    def _admit(self, asked: Entries) -> arrow.Mask:
        if len(self._memory) >= MEMORY_ENTRIES:
            self._settle()
        ordered, order = asked.ordered()
        is_own, is_known = self._look_up(ordered)
        fresh = np.flatnonzero(~(is_own | is_known))
        is_holder = first_of_each(ordered.take(fresh), self._window_ms)
        self._remember(ordered.take(fresh[is_holder]))
        is_duplicate = is_known & ~is_own
        is_duplicate[fresh[~is_holder]] = True
        answer = np.empty(len(asked), np.bool_)
        answer[order] = is_duplicate
        self._measure()
        return answer

    def _look_up(self, asked: Entries) -> tuple[arrow.Mask, arrow.Mask]:
        """Return which rows are the holders of their ids themselves, and which have another one near."""
        group = groups_of(asked)
        keys = asked.take(np.flatnonzero(np.diff(group, prepend=-1)))
        found = [(self._memory, *self._memory.matches(keys))]
        found += [match for run in self._runs for match in run.matches(keys)]
        holders = concat([entries.take(theirs) for entries, _, theirs in found])
        if not len(holders):
            return np.zeros(len(asked), np.bool_), np.zeros(len(asked), np.bool_)
        groups = np.concatenate([mine for _, mine, _ in found])
        held = np.flatnonzero(np.isin(group, groups))
        is_own, is_known = np.zeros(len(asked), np.bool_), np.zeros(len(asked), np.bool_)
        is_own[held] = np.isin(_rows(group[held], asked.take(held)), _rows(groups, holders))
        away_ms = nearest_ms(groups, holders.arrival_ms, group[held], asked.arrival_ms[held])
        is_known[held] = away_ms < self._window_ms
        return is_own, is_known

    def _remember(self, fresh: Entries) -> None:
        if not len(fresh):
            return
        try:
            if self._journal is None:
                self._begin_journal()
            assert self._journal is not None
            self._journal.write(fresh.block())
            self._journal.sync()
        except OSError:
            self._abandon_journal()
            raise
        self._memory = merged(self._memory, fresh)

    def _begin_journal(self) -> None:
        self._files.make_folder(self._folder)  # whoever removed it loses ids, and stops nothing
        path = self._journal_path(self._number)
        self._journal = self._files.append(path)
        if self._journal.tell() == 0:
            self._journal.write(PREAMBLE)
        self._files.sync_folder(self._folder)

    def _abandon_journal(self) -> None:
        """Write no more into a file whose end nobody knows. What it holds stays known until it becomes a run."""
        self._number += 1
        self._close_journal()

    def _journal_path(self, number: int) -> Path:
        return self._folder / f"{number:010d}.journal"

    # --- runs --------------------------------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Make a run of what is in memory, and let the journals go that held it."""
        # by most of what came last: a clock that was wrong for a while must not make everything old
        horizon_ms = int(np.median(self._memory.arrival_ms)) - self._window_ms
        young = self._memory.take(self._memory.arrival_ms >= horizon_ms)
        run = Run.write(self._folder, self._number, self._number, [young] if len(young) else [], self._files)
        self._runs += [run] if run else []
        self._memory = NO_ENTRIES
        self._number += 1
        self._close_journal()
        for name in self._files.list(self._folder):
            if _JOURNAL.fullmatch(name) and int(name[:10]) < self._number:
                self._files.remove(self._folder / name)
        while count := self._mergeable():
            self._merge(count, horizon_ms)
        self._evict(horizon_ms)

    def _mergeable(self) -> int:
        """Return how many of the newest runs should become one, 0 for none."""
        largest = self._max_bytes // LARGEST_PART
        tier_bytes = MEMORY_ENTRIES * ENTRY_BYTES * FAN
        while tier_bytes <= largest * FAN:
            count = 0
            while count < len(self._runs) and self._runs[-count - 1].file_bytes < tier_bytes:
                count += 1
            if count >= FAN:
                return count if sum(each.file_bytes for each in self._runs[-count:]) <= largest else 0
            tier_bytes *= FAN
        return 0

    def _merge(self, count: int, horizon_ms: int) -> None:
        old = self._runs[-count:]
        run = Run.write(self._folder, old[0].first, old[-1].last, merge(old, horizon_ms), self._files)
        self._runs[-count:] = [run] if run else []
        for each in old:
            self._files.remove(each.path)

    def _evict(self, horizon_ms: int) -> None:
        """Let go of what is too old, then of the oldest while there is too much."""
        used_bytes = sum(each.file_bytes for each in self._runs) + MEMORY_ENTRIES * ENTRY_BYTES
        for run in list(self._runs):
            is_old = run.newest_ms < horizon_ms
            if not is_old and used_bytes <= self._max_bytes:
                continue
            self.forgotten += 0 if is_old else len(run)
            used_bytes -= run.file_bytes
            self._runs.remove(run)
            self._files.remove(run.path)

    def _measure(self) -> None:
        runs, memory = self._runs, self._memory
        times = [each.oldest_ms for each in runs] + ([int(memory.arrival_ms.min())] if len(memory) else [])
        self.stats = WindowStats(
            ids=sum(len(each) for each in runs) + len(memory),
            file_bytes=sum(each.file_bytes for each in runs) + len(memory) * ENTRY_BYTES,
            oldest_ms=min(times, default=None),
        )


_ROW = np.dtype([("group", "<i8"), ("sequence", "<i8"), ("holder", "<u4")])


def _rows(group: npt.NDArray[np.int64], entries: Entries) -> npt.NDArray[np.void]:
    """Return which row each entry is, so that rows can be compared."""
    rows = np.empty(len(entries), _ROW)
    rows["group"], rows["sequence"], rows["holder"] = group, entries.sequence, entries.holder
    return rows
