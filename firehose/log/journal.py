"""The embedded ingest log: one journal a worker process, all its streams in it, durable when `append` returns."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pyarrow as pa

from firehose import arrow
from firehose.clock import Clock
from firehose.errors import ThrottledError, UnavailableError
from firehose.executors import Executor
from firehose.filesystem import FileSystem
from firehose.log.access import Access
from firehose.log.backlog import Backlog, LogStats, SegmentAccount, split_shard
from firehose.log.bell import Bell
from firehose.log.compaction import Reclaimer
from firehose.log.frame import Lane, Put, Token
from firehose.log.index import Key
from firehose.log.reader import LogShard
from firehose.log.receipts import KEY_BYTES, Receipts
from firehose.log.recovery import load_segments
from firehose.log.relearning import relearn
from firehose.log.segment import parse_name, shard_of
from firehose.log.writer import Appended, GroupWriter, Limits
from firehose.protocols import Lag
from firehose.telemetry import Emitter

#: A segment older than this is sealed even if it is small, so that its space and its accounts move on.
_IDLE_MS = 10 * 60_000

#: The folder of receipts, within that of the log.
RECEIPTS = "receipts"

#: At most an eighth of the quota is in one segment: space comes back segment by segment.
_QUOTA_SEGMENTS = 8


class IngestLog:
    """Rows of many streams, kept until every stream has released its own.

    Each opening has a random name, and its shards have it in theirs; the shards of earlier openings are read to their
    end. A stream has two lanes, each a shard: `put` for producers, `replay` for rows that come a second time.
    """

    def __init__(
        self,
        *,
        folder: Path,
        opening: str,
        opened_ms: int,
        files: FileSystem,
        executor: Executor,
        clock: Clock,
        telemetry: Emitter,
        backlog: Backlog,
        receipts: Receipts,
        first_number: int,
        gone: Collection[str],
        limits: Limits,
    ) -> None:
        self.opening = opening
        self.opened_ms = opened_ms
        self._folder = folder
        self._clock = clock
        self._limits = limits
        self._backlog = backlog
        self._stream_quotas: dict[str, int] = {}
        self._bell = Bell()
        self._receipts = receipts
        #: Puts with a key that are being written.
        self._under_way: dict[bytes, asyncio.Future[Appended]] = {}
        self._access = Access(folder, files, executor, telemetry)
        self._reclaimer = Reclaimer(folder, files, executor, telemetry, backlog, self._access, gone)
        self._writer = GroupWriter(
            folder=folder,
            files=files,
            executor=executor,
            clock=clock,
            telemetry=telemetry,
            backlog=backlog,
            bell=self._bell,
            receipts=receipts,
            opening=opening,
            opened_ms=opened_ms,
            first_number=first_number,
            limits=limits,
        )

    @classmethod
    async def open(
        cls,
        folder: Path,
        *,
        files: FileSystem,
        executor: Executor,
        clock: Clock,
        telemetry: Emitter,
        quota_bytes: int,
        reserve_bytes: int = 64 * 2**20,
        segment_bytes: int = 64 * 2**20,
        retry_window_ms: int = 0,
        banked: Mapping[str, str] = MappingProxyType({}),
        new_opening: Callable[[], str] = lambda: secrets.token_hex(8),
    ) -> IngestLog:
        """Open the log in `folder`, making it where it is missing; one process at a time.

        `banked`: the segments whose accepted rows are in the accounts, with their books (`SegmentAccount.books`), or
        without where they were let go. One with books whose file is gone is missed: its rows are told as unreadable
        where they are not done. What else is known is told it afterwards: `release` for saved positions,
        `forget_stream` for streams that are no more. `retry_window_ms`: how long puts are known by their keys.
        `new_opening` names this opening: 16 hexadecimal digits, never twice.

        Errors: DataDirectoryError where a newer version wrote it; UnavailableError where the disk refuses.
        """
        backlog, opening = Backlog(), new_opening()
        receipts = Receipts(
            folder / RECEIPTS,
            opening=opening,
            files=files,
            executor=executor,
            clock=clock,
            telemetry=telemetry,
            window_ms=retry_window_ms,
        )
        try:
            await executor.run(lambda: files.make_folder(folder))
            names = [parts for name in await executor.run(lambda: files.list(folder)) if (parts := parse_name(name))]
            found = await executor.run(lambda: load_segments(files, folder, telemetry, repair=True, banked=banked))
            await receipts.load()
        except OSError as error:
            raise UnavailableError(f"the ingest log in {folder} cannot be opened: {error}; check the disk") from error
        for segment in found.segments:
            backlog.add(segment)
        backlog.unknown = found.unknown
        backlog.mark_banked(banked)
        everything = [*found.segments, *found.unknown]
        newest_ms = max((segment.created_ms for segment in everything), default=0)
        numbers = [*(number for number, *_ in names), *(segment.number for segment in everything)]
        log = cls(
            folder=folder,
            opening=opening,
            opened_ms=max(clock.now_ms(), newest_ms + 1),
            files=files,
            executor=executor,
            clock=clock,
            telemetry=telemetry,
            backlog=backlog,
            receipts=receipts,
            first_number=max(numbers, default=0) + 1,
            gone=banked.keys() - {segment.name for segment in everything},
            limits=Limits(quota_bytes, reserve_bytes, min(segment_bytes, quota_bytes // _QUOTA_SEGMENTS)),
        )
        if retry_window_ms:
            await relearn(receipts, backlog, log._access, since_ms=clock.now_ms() - retry_window_ms)
        return log

    # --- writing ---

    async def append(
        self,
        stream_uid: str,
        data: pa.LargeBinaryArray,
        *,
        arrival_ms: int | arrow.Ints,
        lane: Lane = "put",
        token: bytes = b"",
    ) -> Appended:
        """Return when the rows are on the disk: all of them, or none.

        Of puts to the put lane with the same `token` of 16 bytes only the first is written, as long as it is known. A
        caller that is cancelled meanwhile does not know whether the rows were taken.

        Errors: ThrottledError where there is no room, nothing was taken; UnavailableError where a write failed.
        """
        assert len(data) and not data.null_count, "a put has rows, and a row has data"
        assert 0 < len(stream_uid.encode()) <= 40, "a stream's uid has its fixed place in each frame"
        if isinstance(arrival_ms, np.ndarray):
            assert len(arrival_ms) == len(data)
            arrival_ms = arrival_ms.astype(np.int64)
        put = Put(stream_uid, lane, data, arrival_ms, token)
        is_named = lane == "put" and len(token) == KEY_BYTES
        if is_named and (known := self._receipts.find(token)) is not None:
            return Appended(*known, is_repeat=True)
        if is_named and (first := self._under_way.get(token)) is not None:
            return replace(await asyncio.shield(first), is_repeat=True)
        self._require_room_of(stream_uid, put)
        writing = self._writer.put(put)
        if not is_named:
            return await writing
        # whoever waits may be cancelled: it is written all the same, and its next attempt finds it
        self._under_way[token] = writing
        writing.add_done_callback(partial(self._end_put, token))
        return await asyncio.shield(writing)

    def _end_put(self, token: bytes, writing: asyncio.Future[Appended]) -> None:
        del self._under_way[token]
        if not writing.cancelled():
            writing.exception()  # nobody may be waiting for it any more

    def _require_room_of(self, stream_uid: str, put: Put) -> None:
        quota_bytes = self._stream_quotas.get(stream_uid)
        if quota_bytes is not None:
            held_bytes = self._backlog.backlog_bytes(stream_uid)
            if held_bytes and held_bytes + put.data_bytes > quota_bytes:
                raise ThrottledError("Slow down.")

    def limit_stream(self, stream_uid: str, quota_bytes: int | None) -> None:
        """Throttle the puts of a stream while more than `quota_bytes` of its data are not released. None: never."""
        self._stream_quotas.pop(stream_uid, None)
        if quota_bytes is not None:
            self._stream_quotas[stream_uid] = quota_bytes

    # --- reading ---

    def shards(self, stream_uid: str) -> list[str]:
        """Return the shards of a stream with rows on the disk, done or not; earlier openings first.

        What is known of a shard's progress must be kept while it is here: its rows would be met again without it.
        """
        return self._backlog.shards(stream_uid)

    def stream_uids(self) -> set[str]:
        """Return the streams with rows on the disk, done or not."""
        return self._backlog.streams()

    def last(self, stream_uid: str, shard: str) -> int:
        """Return the last sequence of a shard, -1 where nothing of it is on the disk."""
        return self._backlog.last(stream_uid, shard)

    def ranges(self, stream_uid: str, shard: str, position: int) -> list[tuple[int, int]]:
        """Return which sequences of a shard beyond `position` are on the disk, as pairs of first and last."""
        return [
            (max(each.first, position + 1), each.last) for _, each in self._backlog.after(stream_uid, shard, position)
        ]

    def is_pending(self, stream_uid: str, shard: str | None = None) -> bool:
        """Return whether a shard, or any of the stream's, holds rows beyond its released position."""
        shards = self._backlog.shards(stream_uid) if shard is None else [shard]
        return any(self._backlog.is_pending(stream_uid, each) for each in shards)

    def created_ms(self, stream_uid: str, shard: str) -> int:
        """Return when a shard was begun; one of this opening, when the log was opened."""
        if split_shard(shard)[0] == self.opening:
            return self.opened_ms
        return self._backlog.created_ms(stream_uid, shard)

    def shard(self, lane: Lane) -> str:
        """Return the name of the shard that `append` writes to now."""
        return shard_of(self.opening, lane)

    def open_shard(self, stream_uid: str, shard: str, *, after: int) -> LogShard:
        """Open a shard of a stream for reading behind the position `after`. Errors: ValueError for a strange name."""
        return LogShard(
            stream=stream_uid,
            shard=shard,
            after=after,
            is_growing=split_shard(shard)[0] == self.opening,
            backlog=self._backlog,
            access=self._access,
            clock=self._clock,
            bell=self._bell,
        )

    @property
    def is_closed(self) -> bool:
        """True once the log takes and gives nothing more."""
        return self._bell.is_closed

    def listening(self, stream_uid: str, lane: Lane) -> AbstractContextManager[asyncio.Event]:
        """Return an event that is set whenever a lane of the stream gets rows, and when the log closes."""
        return self._bell.listening((stream_uid, lane))

    async def settle(self) -> None:
        """Return when what is not in the log now is in it for nobody, also after a crash: a put that was refused while
        the disk failed may lie there. Errors: UnavailableError where the disk refuses."""
        await self._writer.settle()

    async def tokens(self, stream_uid: str, *, lane: Lane | None = None, since_ms: int = 0) -> list[Token]:
        """Return the tokens of puts that are on the disk, oldest first; frames begun before `since_ms` are left out.

        Errors: UnavailableError where the disk refuses, or a segment cannot be read that may hold some.
        """
        for segment in self._backlog.unknown:
            raise UnavailableError(f"the ingest log cannot read {segment.path(self._folder)}; check the disk")
        found: list[Token] = []
        for shard in self._backlog.shards(stream_uid):
            key: Key = (stream_uid, split_shard(shard)[1])
            if lane not in (None, key[1]):
                continue
            for segment, _ in self._backlog.after(stream_uid, shard, -1):
                with segment.pinned():
                    table = await self._access.table(segment, key)
                    entries = [entry for entry in table.after(-1) if entry.oldest_ms >= since_ms]
                    found += await self._access.tokens(segment, key, entries)
        return found

    async def lag(self, stream_uid: str, shard: str, position: int) -> Lag:
        """Return what a shard holds beyond `position`; where the disk refuses to say exactly, rather more."""
        cut = self._backlog.cut_by(stream_uid, shard, position)
        if cut is None:
            return self._backlog.lag(stream_uid, shard, position)
        try:
            with cut.pinned():
                table = await self._access.table(cut, (stream_uid, split_shard(shard)[1]))
        except UnavailableError:
            return self._backlog.lag(stream_uid, shard, position)
        return self._backlog.lag(stream_uid, shard, position, cut=cut, table=table)

    @property
    def has_unknown(self) -> bool:
        """True where a segment cannot be read and nobody knows whose rows it holds."""
        return bool(self._backlog.unknown)

    def troubles(self) -> list[str]:
        """Return a sentence for each segment that is missing, or that cannot be read and is known to nobody."""
        missing = [each for each in self._backlog.segments.values() if each.holes is not None]
        return [
            *(
                f"{each.path(self._folder)} is missing: its records that were not done are unreadable"
                for each in missing
            ),
            *(
                f"{each.path(self._folder)} cannot be read: its records are not in these numbers; check the disk"
                for each in self._backlog.unknown
            ),
        ]

    # --- giving space back ---

    def release(self, stream_uid: str, shard: str, position: int) -> None:
        """Say that all rows of a shard up to `position` are done. Kept in memory only; positions lie in the state."""
        self._backlog.release(stream_uid, shard, position)

    def forget_stream(self, stream_uid: str) -> None:
        """Say that everything of a stream is done, whatever still comes."""
        self._backlog.forget(stream_uid)

    def unbanked(self) -> list[SegmentAccount]:
        """Return what sealed segments accepted, to be added to the accounts once for each name."""
        return self._backlog.unbanked()

    def mark_banked(self, names: Collection[str]) -> None:
        """Say that the accounts hold what these segments accepted. Names of removed segments are ignored."""
        self._backlog.mark_banked(names)

    def accepted_unbanked(self) -> dict[str, dict[int, int]]:
        """Return accepted rows by stream and hour that no account holds yet."""
        return self._backlog.accepted_unbanked()

    async def reclaim(self, let_go: Callable[[Collection[str]], Awaitable[None]]) -> list[str]:
        """Seal what idles, remove what is done and banked, compact what few rows pin.

        `let_go` is awaited with the names of segments whose files are about to go: from then on they must be told
        without their books (see `open`), or the next opening would miss them. Returns the names of segments that are
        gone from the disk: nobody will ask again whether they were banked.
        """
        await self._writer.seal(open_since_ms=self._clock.now_ms() - _IDLE_MS)
        # before any frame goes: the keys of its puts go with it
        await self._receipts.save(now=self._reclaimer.has_work)
        return await self._reclaimer.run(let_go)

    def stats(self) -> LogStats:
        """Return how large the log is now."""
        return LogStats(
            disk_bytes=self._backlog.disk_bytes,
            quota_bytes=self._limits.quota_bytes,
            segments=len(self._backlog.segments),
            unbanked=self._backlog.count_unbanked(),
            streams=len(self._backlog.streams()),
            is_full=self._writer.is_full,
            retry_window_ms=self._receipts.window_ms,
        )

    async def close(self) -> None:
        """Stop taking rows and wake all readers. Nothing needs to be flushed: what was acknowledged is on the disk."""
        await self._writer.close()
        await self._receipts.save()
        self._bell.close()
