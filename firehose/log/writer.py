"""Group commit: puts that wait while the disk is busy are written together, and one sync answers them all.

After a failed write or sync nobody knows which bytes reached the disk, and a second sync may claim success for pages
that were thrown away. So the segment is left as it stands:

- its frames up to the last sync stay good: they were on the disk before, and no reader was ever told of later ones;
- its sidecar, which counts only those, is written before the puts are refused, so that a restart does not see the rest;
- where even that fails, the header of the next segment says how many of its bytes count, and no put is acknowledged
  before that header is on the disk. So the sequences of the refused rows can be given to the rows that come next;
- a segment whose very first write failed holds nothing that counts and is removed; its successor takes its name.

One window is left: the disk takes neither sidecar, nor removal, nor header, and then the process dies. The rows of the
failed group may then be found and delivered. Their producers were told `UnavailableError`: nothing is known. They are
never mistaken for other rows, since the next start gives its shards new names.
"""

from __future__ import annotations

import asyncio
import errno
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from firehose.clock import Clock
from firehose.errors import RetryableError, ThrottledError, UnavailableError
from firehose.executors import Executor
from firehose.filesystem import AppendFile, FileSystem
from firehose.log import sidecar
from firehose.log.backlog import Backlog
from firehose.log.bell import Bell
from firehose.log.events import LogFull, LogHasRoom, LogWriteFailed, SidecarFailed
from firehose.log.frame import Encoded, FrameEncoder, Put
from firehose.log.index import Entry, Key
from firehose.log.pages import Place
from firehose.log.receipts import KEY_BYTES, Receipts
from firehose.log.segment import HEADER_BYTES, Header, Segment, encode_header, shard_of
from firehose.telemetry import Emitter, UnexpectedError

#: Puts are merged into frames of about this size. Measured on JSON events: 64 KiB compress as well as 8 MiB do (4.5
#: times), and a frame is what one damaged byte costs and what fetching one row decodes.
_FRAME_BYTES = 256 * 1024

#: The most that is written before a sync, unless one put is larger: about 30 ms at the measured 290 MB/s.
_GROUP_BYTES = 8 * 2**20

#: The most that may wait to be written; beyond it producers are throttled.
_WAITING_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Limits:
    """How large the log may become. `reserve_bytes`: what must stay free on the disk."""

    quota_bytes: int
    reserve_bytes: int
    segment_bytes: int


@dataclass(frozen=True, slots=True)
class Appended:
    """Rows that are durable: `rows` of them, from `first_sequence` on."""

    shard: str
    first_sequence: int
    rows: int
    #: True where they were in the log already: their producer has sent them before.
    is_repeat: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    put: Put
    cost_bytes: int
    answer: asyncio.Future[Appended]


@dataclass(frozen=True, slots=True)
class _Plan:
    """One frame to be: puts of one stream and lane, with the sequences they get once it is durable."""

    key: Key
    first: int
    base: int
    members: Sequence[_Waiting]

    @property
    def rows(self) -> int:
        return sum(len(member.put.data) for member in self.members)


class _NoRoomError(ThrottledError):
    """Nothing was written, because it would not fit."""

    def __init__(self, reason: str) -> None:
        super().__init__("Slow down.")
        self.reason = reason


class GroupWriter:
    """Owns the open segment. One task writes; `put` only waits for it."""

    def __init__(
        self,
        *,
        folder: Path,
        files: FileSystem,
        executor: Executor,
        clock: Clock,
        telemetry: Emitter,
        backlog: Backlog,
        bell: Bell,
        receipts: Receipts,
        opening: str,
        opened_ms: int,
        first_number: int,
        limits: Limits,
    ) -> None:
        self._folder = folder
        self._files = files
        self._executor = executor
        self._clock = clock
        self._telemetry = telemetry
        self._backlog = backlog
        self._bell = bell
        self._receipts = receipts
        self._opening = opening
        self._opened_ms = opened_ms
        self._limits = limits
        self._encoder = FrameEncoder()
        #: The next sequence of each stream and lane.
        self._next: dict[Key, int] = {}
        self._number = first_number
        self._segment: Segment | None = None
        self._file: AppendFile | None = None
        self._previous: Segment | None = None
        #: What a failed first write left and the disk did not let us remove: its rows were refused.
        self._leftover: Path | None = None
        self._waiting: deque[_Waiting] = deque()
        self._group: list[_Waiting] = []
        self._waiting_bytes = 0
        self._is_closing = False
        self.is_full = False
        self._wake = asyncio.Event()
        #: Held while a group is written or a segment sealed.
        self._busy = asyncio.Lock()
        self._task = asyncio.create_task(self._run(), name=f"ingest log {folder}")

    def put(self, put: Put) -> asyncio.Future[Appended]:
        """Return what is done when the rows are on the disk; one that is cancelled before is not written.

        Errors: ThrottledError (nothing was taken), UnavailableError; the future's, too.
        """
        if self._task.done() or self._is_closing:
            raise UnavailableError("the ingest log is closed")
        cost_bytes = put.cost_bytes
        if self._waiting and self._waiting_bytes + cost_bytes > _WAITING_BYTES:
            raise self._full("producers are faster than the disk")
        if self._backlog.disk_bytes >= self._limits.quota_bytes:
            raise self._full("the quota of the log is used up")
        waiting = _Waiting(put, cost_bytes, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._waiting_bytes += cost_bytes
        self._wake.set()
        return waiting.answer

    def _full(self, reason: str) -> ThrottledError:
        if not self.is_full:
            self.is_full = True
            self._telemetry.emit(LogFull(reason, self._backlog.disk_bytes))
        return ThrottledError("Slow down.")

    async def _run(self) -> None:
        try:
            while not self._is_closing:
                await self._wake.wait()
                self._wake.clear()
                while self._waiting and not self._is_closing:
                    async with self._busy:
                        await self._commit()
        except Exception as error:
            self._telemetry.emit(UnexpectedError("ingest log", f"{type(error).__name__}: {error}"))
            raise
        finally:  # closing, or a bug of ours: nobody waits in vain
            left = [*self._group, *self._waiting]
            self._waiting.clear()
            _refuse(left, UnavailableError("the ingest log was closed before these rows were written"))

    def _take_group(self) -> list[_Waiting]:
        group: list[_Waiting] = []
        total_bytes = 0
        while self._waiting and (not group or total_bytes + self._waiting[0].cost_bytes <= _GROUP_BYTES):
            waiting = self._waiting.popleft()
            self._waiting_bytes -= waiting.cost_bytes
            if not waiting.answer.done():  # else its caller was cancelled
                group.append(waiting)
                total_bytes += waiting.cost_bytes
        return group

    async def _commit(self) -> None:
        """Write one group, and answer it."""
        self._group = self._take_group()
        if not self._group:
            return
        if self._segment is not None and self._segment.size_bytes >= self._limits.segment_bytes:
            await self._close_segment()
        segment = self._segment or self._new_segment()
        plans = self._plan(segment)
        try:
            frames = await self._executor.run(lambda: self._write(segment, plans))
        except _NoRoomError as error:
            _refuse(self._group, self._full(error.reason))
        except OSError as error:
            await self._abandon(segment, error)
            _refuse(self._group, self._translated(error))
        else:
            self._publish(segment, plans, frames)
        self._group = []

    def _new_segment(self) -> Segment:
        # a clock that was set back must not put this opening before an earlier one
        created_ms = max(self._clock.now_ms(), self._opened_ms)
        return Segment(self._number, self._opening, 0, created_ms, is_open=True)

    def _plan(self, segment: Segment) -> list[_Plan]:
        """Gather the puts of each stream and lane into frames and give them sequences, in the order they came."""
        frames: dict[Key, list[list[_Waiting]]] = {}
        sizes: dict[Key, int] = {}
        for waiting in self._group:
            key: Key = (waiting.put.stream, waiting.put.lane)
            if sizes.get(key, _FRAME_BYTES) >= _FRAME_BYTES:
                frames.setdefault(key, []).append([])
                sizes[key] = 0
            frames[key][-1].append(waiting)
            sizes[key] += waiting.cost_bytes
        plans = []
        for key, groups in frames.items():
            first = self._next.get(key, 0)
            extent = segment.extents.get(key)
            base = extent.first if extent is not None else first
            for members in groups:
                plans.append(_Plan(key, first, base, members))
                first += plans[-1].rows
        return plans

    def _write(self, segment: Segment, plans: Sequence[_Plan]) -> list[Encoded]:
        """Write and sync the frames. Runs away from the event loop. Errors: OSError, _NoRoomError."""
        self._require_room(0)
        seed = segment.seed
        encoded = [
            self._encoder.encode([each.put for each in plan.members], first=plan.first, base=plan.base, seed=seed)
            for plan in plans
        ]
        body = b"".join([piece for frame in encoded for piece in frame.pieces])
        self._require_room(len(body))
        if self._file is not None:
            self._file.write(body)
            self._file.sync()
        else:
            path = segment.path(self._folder)
            self._files.remove(path)  # what a failed first write may have left
            self._file = self._files.append(path)
            self._file.write(self._header(segment) + body)
            self._file.sync()
            self._files.sync_folder(self._folder)
            self._leftover = None
        return encoded

    def _header(self, segment: Segment) -> bytes:
        before = self._previous
        counted = (before.number, before.size_bytes) if before is not None else (0, 0)
        return encode_header(segment, Header(segment.created_ms, *counted))

    def _require_room(self, body_bytes: int) -> None:
        used_bytes = self._backlog.disk_bytes
        # into an empty log everything goes, or a put larger than the quota would be throttled for ever
        if used_bytes and used_bytes + body_bytes > self._limits.quota_bytes:
            raise _NoRoomError("the quota of the log is used up")
        if self._files.free_bytes(self._folder) - body_bytes < self._limits.reserve_bytes:
            raise _NoRoomError("the disk is full")

    def _publish(self, segment: Segment, plans: Sequence[_Plan], frames: Sequence[Encoded]) -> None:
        """Make durable frames known to readers, and answer their puts."""
        if self._segment is None:
            segment.size_bytes = HEADER_BYTES
            self._segment = segment
            self._number = segment.number + 1
            self._backlog.add(segment)
        for plan, frame in zip(plans, frames, strict=True):
            head = frame.head
            entry = Entry(head.first, head.rows, segment.size_bytes, head.frame_bytes, head.data_bytes, head.oldest_ms)
            segment.size_bytes += head.frame_bytes
            self._backlog.append(segment, plan.key, entry, frame.hours)
            self._next[plan.key] = entry.last + 1
            shard, first = shard_of(self._opening, plan.key[1]), plan.first
            for member in plan.members:
                rows = len(member.put.data)
                self._remember(member.put, first)
                if not member.answer.done():
                    member.answer.set_result(Appended(shard, first, rows))
                first += rows
            self._bell.ring(plan.key)
        self._receipts.reached(Place(segment.number, segment.size_bytes))
        if self.is_full:
            self.is_full = False
            self._telemetry.emit(LogHasRoom(self._backlog.disk_bytes))

    def _remember(self, put: Put, first: int) -> None:
        if put.lane == "put" and len(put.token) == KEY_BYTES and isinstance(put.arrival_ms, int):
            self._receipts.add(put.token, first, len(put.data), put.arrival_ms)

    async def _abandon(self, segment: Segment, error: OSError) -> None:
        """Never touch the open segment again; see above."""
        path = segment.path(self._folder)
        self._telemetry.emit(LogWriteFailed(str(path), str(error)))
        if self._segment is not None:
            await self._close_segment()
            return
        file, self._file = self._file, None
        await self._executor.run(lambda: self._discard(file, path))

    def _discard(self, file: AppendFile | None, path: Path) -> None:
        try:
            if file is not None:
                file.close()
            self._files.remove(path)
            self._files.sync_folder(self._folder)
        except OSError:
            # the next segment removes it again before it takes the name, and is not begun where that fails
            self._leftover = path
        else:
            self._leftover = None

    def _translated(self, error: OSError) -> RetryableError:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return self._full("the disk is full")
        return UnavailableError(f"the ingest log cannot write in {self._folder}: {error}; check the disk")

    async def _close_segment(self) -> None:
        """Write no more to the open segment, and seal it if the disk lets us."""
        assert self._segment is not None
        segment, file = self._segment, self._file
        self._previous, self._segment, self._file = segment, None, None
        segment.is_open = False
        self._backlog.settle(segment)
        await self._seal(segment, file)

    async def _seal(self, segment: Segment, file: AppendFile | None) -> None:
        """Write the sidecar; without it the tables stay in memory and it is tried again."""
        try:
            if file is not None:
                await self._executor.run(file.close)
            index_bytes = await self._executor.run(lambda: sidecar.write(self._files, self._folder, segment))
        except OSError as error:
            self._telemetry.emit(SidecarFailed(str(segment.path(self._folder)), str(error)))
            return
        segment.index_bytes = index_bytes
        segment.tables = None
        self._backlog.settle(segment)

    async def seal(self, *, open_since_ms: int) -> None:
        """Seal closed segments that miss their sidecar, and the open one if it was begun before `open_since_ms`."""
        async with self._busy:
            if self._segment is not None and (self.is_full or self._segment.created_ms <= open_since_ms):
                await self._close_segment()
            await self._seal_closed()

    async def _seal_closed(self) -> bool:
        """Seal the closed segments that miss their sidecar; return whether none misses it any more."""
        closed = [each for each in self._backlog.segments.values() if each.tables is not None and not each.is_open]
        for segment in closed:
            await self._seal(segment, None)
        return all(segment.tables is None for segment in closed)

    async def settle(self) -> None:
        """Return when no restart can find rows that were refused. Errors: UnavailableError where the disk refuses."""
        async with self._busy:
            if (path := self._leftover) is not None:
                await self._executor.run(lambda: self._discard(None, path))
            if not await self._seal_closed() or self._leftover is not None:
                raise UnavailableError(f"the ingest log cannot write in {self._folder}; check the disk")

    async def close(self) -> None:
        """Let the group in flight end, refuse the others, seal the open segment."""
        self._is_closing = True
        self._wake.set()
        await self._task
        if self._segment is not None:
            await self._close_segment()


def _refuse(group: Sequence[_Waiting], error: RetryableError) -> None:
    for waiting in group:
        if not waiting.answer.done():
            waiting.answer.set_exception(error)
