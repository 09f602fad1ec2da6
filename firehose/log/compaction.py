"""Giving disk space back: finished segments are removed, sparse ones written anew without what is done.

Compaction writes the frames that are still needed to a temporary file, syncs it, writes its sidecar, and renames the
file to the next generation of the same segment. The rename is the moment it counts: a crash before leaves the old file
and leftovers, one after leaves both, and the next start keeps the newer. Frames, sequences and the segment's name stay
as they were. Only banked segments are compacted, so no account is lost with the frames.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path

from firehose.errors import UnavailableError
from firehose.executors import Executor
from firehose.filesystem import AppendFile, FileSystem
from firehose.log import sidecar
from firehose.log.access import Access
from firehose.log.backlog import Backlog
from firehose.log.events import ReclaimFailed, SegmentCompacted, SegmentRemoved, SegmentSetAside
from firehose.log.index import Entry, FrameTable, Key
from firehose.log.recovery import TEMPORARY
from firehose.log.segment import HEADER_BYTES, Segment
from firehose.telemetry import Emitter

#: Where damaged segments go instead of being removed.
SET_ASIDE = "set-aside"

_COPY_BYTES = 2**20


class Reclaimer:
    """Frees what the backlog does not need any more."""

    def __init__(
        self,
        folder: Path,
        files: FileSystem,
        executor: Executor,
        telemetry: Emitter,
        backlog: Backlog,
        access: Access,
        gone: Collection[str],
    ) -> None:
        self._folder = folder
        self._files = files
        self._executor = executor
        self._telemetry = telemetry
        self._backlog = backlog
        self._access = access
        self._busy = asyncio.Lock()
        #: Segments that were compacted while somebody read them.
        self._replaced: list[Segment] = []
        #: Segments that an earlier process removed.
        self._gone = list(gone)

    @property
    def has_work(self) -> bool:
        """True where frames may go from the disk now."""
        return bool(self._backlog.finished() or self._backlog.sparse())

    async def run(self, let_go: Callable[[Collection[str]], Awaitable[None]]) -> list[str]:
        """Free what can be freed; return the names of segments that are gone for good.

        `let_go` is told the names before their files go, and must not forget it: else they would be missed.
        """
        async with self._busy:
            finished = self._backlog.finished()
            if finished:
                await let_go([segment.name for segment in finished])
            removed = [each.name for each in finished if not each.pins and await self._remove(each)]
            gone, self._gone = [*self._gone, *removed], []
            for segment in self._backlog.sparse():
                await self._compact(segment)
            for segment in [each for each in self._replaced if not each.pins]:
                await self._drop(segment)
        return gone

    async def _remove(self, segment: Segment) -> bool:
        try:
            await self._executor.run(lambda: self._remove_files(segment))
        except OSError as error:
            self._telemetry.emit(ReclaimFailed(segment.name, str(error)))
            return False
        # only now: a state that forgets a shard on our word must not meet its rows again after a crash
        self._backlog.remove(segment)
        self._telemetry.emit(SegmentRemoved(segment.name, segment.disk_bytes))
        return True

    def _remove_files(self, segment: Segment) -> None:
        path = segment.path(self._folder)
        if segment.is_damaged:
            aside = self._folder / SET_ASIDE / path.name
            self._files.make_folder(aside.parent)
            self._files.rename(path, aside)
            self._telemetry.emit(SegmentSetAside(str(aside)))
        self._files.remove(path)
        self._files.remove(segment.sidecar_path(self._folder))
        self._files.sync_folder(self._folder)

    async def _drop(self, segment: Segment) -> None:
        """Remove the file of an earlier generation; where that fails, the next start does it."""
        self._replaced.remove(segment)
        try:
            await self._executor.run(lambda: self._remove_files(segment))
        except OSError as error:
            self._telemetry.emit(ReclaimFailed(segment.name, str(error)))

    async def _compact(self, old: Segment) -> None:
        keys = [key for key, extent in old.extents.items() if not extent.is_released]
        new = Segment(old.number, old.opening, old.generation + 1, old.created_ms)
        try:
            tables = {key: await self._access.table(old, key) for key in keys}
            if old.tables is not None:  # its sidecar turned out to be damaged and is written anew first
                return
            await self._executor.run(lambda: self._rewrite(old, new, tables))
        except (OSError, UnavailableError) as error:
            self._telemetry.emit(ReclaimFailed(old.name, str(error)))
            return
        for key in keys:
            new.extents[key].done_bytes = old.extents[key].done_bytes
            new.mark(new.extents[key], is_released=old.extents[key].is_released)
        new.tables = None
        self._backlog.replace(old, new)
        self._replaced.append(old)
        self._telemetry.emit(SegmentCompacted(old.name, old.disk_bytes, new.disk_bytes))

    def _rewrite(self, old: Segment, new: Segment, tables: dict[Key, FrameTable]) -> None:
        """Write the frames of `tables` to the file of `new`, and fill its index. Runs away from the event loop."""
        path = new.path(self._folder)
        temporary = path.with_name(path.name + TEMPORARY)
        self._files.remove(temporary)
        out = self._files.append(temporary)
        try:
            source = old.path(self._folder)
            out.write(self._files.read(source, 0, HEADER_BYTES))
            for key, entry in _by_offset(tables):
                moved = entry._replace(offset=out.tell())
                new.add(key, moved, tables[key].hours(entry))
                self._copy(source, entry, out)
            out.sync()
            new.size_bytes = out.tell()
        finally:
            out.close()
        new.bank()
        new.index_bytes = sidecar.write(self._files, self._folder, new)
        self._files.rename(temporary, path)

    def _copy(self, source: Path, entry: Entry, out: AppendFile) -> None:
        """Copy one frame as it is; its checksums are for whoever reads it."""
        at, end = entry.offset, entry.offset + entry.frame_bytes
        while at < end:
            chunk = self._files.read(source, at, min(_COPY_BYTES, end - at))
            if not chunk:
                raise OSError(f"{source} is shorter than its index says")
            out.write(chunk)
            at += len(chunk)


def _by_offset(tables: dict[Key, FrameTable]) -> list[tuple[Key, Entry]]:
    frames = [(key, table[index]) for key, table in tables.items() for index in range(len(table))]
    return sorted(frames, key=lambda frame: frame[1].offset)
