"""A disk in memory that forgets what was not synced, fails when told to, and counts what is asked of it."""

from __future__ import annotations

import asyncio
import errno
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from firehose import arrow
from firehose.executors import Executor, InlineExecutor
from firehose.log import IngestLog
from firehose.protocols import Read
from firehose.testing import FakeClock, RecordingTelemetry

FOLDER = Path("/data/log")


class Crash(BaseException):
    """The machine stops here."""


@dataclass(eq=False)
class _Inode:
    data: bytearray = field(default_factory=bytearray)
    synced: int = 0


class _Handle:
    def __init__(self, disk: MemoryDisk, inode: _Inode, path: Path) -> None:
        self._disk, self._inode, self._path = disk, inode, path

    def write(self, data: bytes | bytearray | memoryview) -> int:
        room = self._disk.step("write", self._path)
        self._inode.data += bytes(data)[:room]
        if room is not None and len(data) > room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return len(data)

    def sync(self) -> None:
        self._disk.step("sync", self._path)
        self._inode.synced = len(self._inode.data)

    def tell(self) -> int:
        return len(self._inode.data)

    def close(self) -> None:
        self._disk.step("close", self._path)


class MemoryDisk:
    """Fulfils `firehose.filesystem.FileSystem`. Each verb may be told to fail; names are durable once synced."""

    def __init__(self) -> None:
        self.names: dict[Path, _Inode] = {}
        self.durable: dict[Path, _Inode] = {}
        self.free = 2**40
        self.counts: Counter[str] = Counter()
        self.read_bytes: Counter[Path] = Counter()
        #: Called with verb and path before each step; raises to fail it, returns the bytes a write may still take.
        self.plan: Callable[[str, Path], int | None] | None = None
        self.steps = 0

    def step(self, verb: str, path: Path) -> int | None:
        self.counts[verb] += 1
        self.steps += 1
        return self.plan(verb, path) if self.plan is not None else None

    def crash(self, *, kept: float = 0.0) -> MemoryDisk:
        """Return the disk as it is found after a power cut. `kept`: how much of what was not synced is there anyway."""
        found = MemoryDisk()
        for path, inode in self.durable.items():
            size = inode.synced + int((len(inode.data) - inode.synced) * kept)
            found.names[path] = _Inode(bytearray(inode.data[:size]), size)
        found.durable = dict(found.names)
        return found

    def append(self, path: Path) -> _Handle:
        self.step("append", path)
        return _Handle(self, self.names.setdefault(path, _Inode()), path)

    def read(self, path: Path, offset: int = 0, length: int | None = None) -> bytes:
        self.step("read", path)
        data = self._inode(path).data
        found = bytes(data[offset:] if length is None else data[offset : offset + length])
        self.read_bytes[path] += len(found)
        return found

    def size(self, path: Path) -> int:
        return len(self._inode(path).data)

    def truncate(self, path: Path, size: int) -> None:
        self.step("truncate", path)
        inode = self._inode(path)
        del inode.data[size:]
        inode.synced = size

    def rename(self, old: Path, new: Path) -> None:
        self.step("rename", new)
        self.names[new] = self.names.pop(old)
        self._sync(new.parent)
        self._sync(old.parent)

    def remove(self, path: Path) -> None:
        self.step("remove", path)
        self.names.pop(path, None)

    def list(self, folder: Path) -> list[str]:
        return sorted(path.name for path in self.names if path.parent == folder)

    def make_folder(self, folder: Path) -> None:
        self.step("make_folder", folder)

    def sync_folder(self, folder: Path) -> None:
        self.step("sync_folder", folder)
        self._sync(folder)

    def free_bytes(self, folder: Path) -> int:
        return self.free

    def _sync(self, folder: Path) -> None:
        kept = {path: inode for path, inode in self.durable.items() if path.parent != folder}
        self.durable = kept | {path: inode for path, inode in self.names.items() if path.parent == folder}

    def _inode(self, path: Path) -> _Inode:
        if path not in self.names:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(path))
        return self.names[path]

    def files(self, ending: str) -> list[Path]:
        return [path for path in sorted(self.names) if path.name.endswith(ending) and path.parent == FOLDER]

    def lose(self, path: Path) -> None:
        """Remove a file for good."""
        del self.names[path], self.durable[path]

    def flip(self, path: Path, offset: int, bits: int = 1) -> None:
        self.names[path].data[offset] ^= bits


class Bench:
    """A log on a memory disk, opened as often as a test likes."""

    folder = FOLDER
    Crash = Crash

    def __init__(self) -> None:
        self._logs: list[IngestLog] = []
        self.begin_anew()

    def begin_anew(self) -> None:
        """Forget everything, for the next example."""
        self.kill()
        self.disk = MemoryDisk()
        self.executor: Executor = InlineExecutor()
        self.clock = FakeClock()
        self.telemetry = RecordingTelemetry()
        self.openings = 0
        #: What the state knows of banked segments.
        self.banked: dict[str, str] = {}

    def kill(self) -> None:
        """End the processes that have logs open, wherever they are."""
        for log in self._logs:
            log._writer._task.cancel()
        self._logs.clear()

    def new_opening(self) -> str:
        self.openings += 1
        return f"{self.openings:016x}"

    async def open(self, **options: Any) -> IngestLog:
        given = {"quota_bytes": 2**40, "new_opening": self.new_opening} | options
        log = await IngestLog.open(
            FOLDER,
            files=self.disk,
            executor=self.executor,
            clock=self.clock,
            telemetry=self.telemetry,
            **given,
        )
        self._logs.append(log)
        return log

    def bank(self, log: IngestLog) -> dict[str, int]:
        """Bank what is sealed, as the service does; return rows by stream."""
        accounts = log.unbanked()
        self.banked |= {account.name: account.books for account in accounts}
        log.mark_banked([account.name for account in accounts])
        totals: Counter[str] = Counter()
        for account in accounts:
            for stream, hours in account.accepted.items():
                totals[stream] += sum(hours.values())
        return dict(totals)

    async def reclaim(self, log: IngestLog) -> list[str]:
        """Give space back, as the service does."""

        async def let_go(names: Collection[str]) -> None:
            self.disk.step("let go", FOLDER)
            self.banked |= dict.fromkeys(set(names) & self.banked.keys(), "")

        gone = await log.reclaim(let_go)
        self.disk.step("forget", FOLDER)
        for name in gone:
            self.banked.pop(name, None)
        return gone

    async def put(self, log: IngestLog, records: Sequence[bytes], stream: str = "s", **options: Any) -> Any:
        given = {"arrival_ms": self.clock.now_ms()} | options
        return await log.append(stream, arrow.binary_column(records), **given)

    async def read_all(self, log: IngestLog, stream: str = "s", *, max_bytes: int = 2**20) -> dict[str, list[bytes]]:
        """Return the records of each shard of a stream, read to where it is now."""
        found = {}
        for shard in log.shards(stream):
            found[shard] = [
                record
                for read in await self.reads(log, stream, shard, max_bytes=max_bytes)
                for record in read.batch.data.to_pylist()
            ]
        return found

    async def reads(
        self, log: IngestLog, stream: str, shard: str, *, after: int = -1, max_bytes: int = 2**20
    ) -> list[Read]:
        """Return all reads of a shard up to where it is now."""
        opened, found = log.open_shard(stream, shard, after=after), []
        while isinstance(got := await opened.read(max_bytes=max_bytes, max_wait_ms=0), Read):
            found.append(got)
        return found

    async def records(self, log: IngestLog, stream: str = "s", **options: Any) -> list[bytes]:
        """Return all records of a stream, over all its shards."""
        return [record for records in (await self.read_all(log, stream, **options)).values() for record in records]


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    made.kill()
    await asyncio.sleep(0)
