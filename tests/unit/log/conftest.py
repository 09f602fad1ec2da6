"""A log on a disk in memory."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Collection, Sequence
from typing import Any

import pytest

from firehose import arrow
from firehose.executors import Executor, InlineExecutor
from firehose.log import IngestLog
from firehose.protocols import Read
from firehose.testing import FakeClock, RecordingTelemetry
from tests.disk import FOLDER, MemoryDisk


class Crash(BaseException):
    """The machine stops here."""


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
