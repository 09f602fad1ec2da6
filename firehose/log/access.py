"""Access to what is written: which frames hold which rows, and the frames themselves."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from firehose.errors import IntegrityError, UnavailableError
from firehose.executors import Executor
from firehose.filesystem import FileSystem
from firehose.log import sidecar
from firehose.log.events import RowsUnreadable, SegmentDamaged, SidecarFailed
from firehose.log.frame import HEAD_BYTES, Rows, Token, decode, is_whole, parse_head, tokens_in
from firehose.log.index import Entry, FrameTable, Key
from firehose.log.scan import scan
from firehose.log.segment import Segment, shard_of
from firehose.telemetry import Emitter

T = TypeVar("T")

#: 16 MiB of tables of sealed segments are kept: 350,000 frames, whatever the size of the backlog.
_CACHE_BYTES = 16 * 2**20

#: Frames closer than this are read in one go: a call costs 7 µs, more than reading over the 16 KiB between them.
_GAP_BYTES = 16 * 1024

#: The most that is read in one go, unless a single frame is larger.
_READ_BYTES = 4 * 2**20


class Access:
    """Reads tables and frames of segments, away from the event loop. The caller pins the segment meanwhile."""

    def __init__(self, folder: Path, files: FileSystem, executor: Executor, telemetry: Emitter) -> None:
        self._folder = folder
        self._files = files
        self._executor = executor
        self._telemetry = telemetry
        self._cache: OrderedDict[tuple[str, int, Key], FrameTable] = OrderedDict()
        self._cached_bytes = 0
        self._told: set[tuple[str, int]] = set()

    async def table(self, segment: Segment, key: Key) -> FrameTable:
        """Return where the frames of `key` lie in `segment`. Errors: UnavailableError where the disk refuses."""
        tables = segment.tables if segment.holes is None else segment.holes
        if tables is not None:
            return tables.get(key, FrameTable())
        at = (segment.name, segment.generation, key)
        if at in self._cache:
            self._cache.move_to_end(at)
            return self._cache[at]
        path, extent = segment.sidecar_path(self._folder), segment.extents[key]
        try:
            table = await self._run(path, lambda: sidecar.read_table(self._files, path, extent))
        except UnavailableError as error:
            return (await self._scanned(segment, str(error))).get(key, FrameTable())
        if table is None:
            return (await self._scanned(segment, "missing or damaged")).get(key, FrameTable())
        self._keep(at, table)
        return table

    def _keep(self, at: tuple[str, int, Key], table: FrameTable) -> None:
        if at not in self._cache:
            self._cache[at] = table
            self._cached_bytes += table.nbytes
        while self._cached_bytes > _CACHE_BYTES and len(self._cache) > 1:
            self._cached_bytes -= self._cache.popitem(last=False)[1].nbytes

    async def _scanned(self, segment: Segment, why: str) -> dict[Key, FrameTable]:
        """Make the tables of a segment anew whose sidecar is no use; being in memory gets them written again."""
        path = segment.path(self._folder)
        self._telemetry.emit(SidecarFailed(str(segment.sidecar_path(self._folder)), f"{why}; the segment is scanned"))
        again = Segment(segment.number, segment.opening, segment.generation, segment.created_ms)

        def read() -> None:
            scan(self._files, path, again, segment.size_bytes or self._files.size(path))

        await self._run(path, read)
        assert again.tables is not None
        segment.tables, segment.size_bytes = again.tables, segment.size_bytes or again.size_bytes
        return again.tables

    async def rows(self, segment: Segment, key: Key, entries: Sequence[Entry]) -> list[Rows | None]:
        """Return the rows of each frame, None where they are lost. Errors: UnavailableError where the disk refuses."""
        path = segment.path(self._folder)
        found = await self._run(path, lambda: [_decode(frame, segment.seed) for frame in self._frames(path, entries)])
        for entry, rows in zip(entries, found, strict=True):
            if rows is None and entry.offset >= 0:
                self._tell(segment, key, entry)
        return found

    async def tokens(self, segment: Segment, key: Key, entries: Sequence[Entry]) -> list[Token]:
        """Return the tokens of the puts in these frames, ascending."""
        path, shard = segment.path(self._folder), shard_of(segment.opening, key[1])

        def read() -> list[Token]:
            return [
                token for frame in self._frames(path, entries) if frame for token in _tokens(frame, segment.seed, shard)
            ]

        return await self._run(path, read)

    def _frames(self, path: Path, entries: Sequence[Entry]) -> Iterator[memoryview]:
        """Yield the bytes of each frame, none where it is lost; neighbours are read in one go."""
        begin, end, chunk = 0, 0, memoryview(b"")
        for index, entry in enumerate(entries):
            if entry.offset < 0:
                yield memoryview(b"")
                continue
            if entry.offset + entry.frame_bytes > end or entry.offset < begin:
                begin, end = entry.offset, _end_of_neighbours(entries, index)
                chunk = memoryview(self._files.read(path, begin, end - begin))
            yield chunk[entry.offset - begin :][: entry.frame_bytes]

    def _tell(self, segment: Segment, key: Key, entry: Entry) -> None:
        """Tell of a damaged frame, once."""
        segment.is_damaged = True
        if (segment.name, entry.offset) not in self._told:
            self._told.add((segment.name, entry.offset))
            path, shard = str(segment.path(self._folder)), shard_of(segment.opening, key[1])
            self._telemetry.emit(SegmentDamaged(path, entry.offset, entry.frame_bytes))
            self._telemetry.emit(RowsUnreadable(key[0], shard, entry.first, entry.rows, path))

    async def _run(self, path: Path, call: Callable[[], T]) -> T:
        try:
            return await self._executor.run(call)
        except OSError as error:
            raise UnavailableError(
                f"the ingest log cannot read {path}: {error.strerror or error}; check the disk; to go on without what "
                "it cannot read, stop the service, move the segment away, and start again"
            ) from error


def _end_of_neighbours(entries: Sequence[Entry], index: int) -> int:
    """Return where the last frame ends that is worth reading together with the one at `index`."""
    begin = entries[index].offset
    end = begin + entries[index].frame_bytes
    for entry in entries[index + 1 :]:
        next_end = entry.offset + entry.frame_bytes
        if not end <= entry.offset <= end + _GAP_BYTES or next_end - begin > _READ_BYTES:
            break
        end = next_end
    return end


def _decode(frame: memoryview, seed: int) -> Rows | None:
    if not frame:
        return None
    try:
        return decode(frame, seed)[1]
    except IntegrityError:
        return None


def _tokens(frame: memoryview, seed: int, shard: str) -> list[Token]:
    head = parse_head(frame, 0, seed)
    if head is None or not is_whole(head, frame[HEAD_BYTES:], seed):
        return []
    return list(tokens_in(head, frame[HEAD_BYTES : HEAD_BYTES + head.meta_bytes], shard))
