"""A whole worker over twins of everything outside; the outbox and the state are real, on a temporary disk."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from firehose.budget import BudgetShare, ByteBudget
from firehose.components import Environment, StreamIdentity
from firehose.delivery.buffer import Hints
from firehose.delivery.partitioning import Partitioning
from firehose.delivery.plan import Deduplication, Outlet, StreamPlan
from firehose.delivery.worker import StreamWorker, WorkerLimits
from firehose.executors import InlineExecutor
from firehose.filesystem import OsFileSystem
from firehose.kernels import Kernels, child
from firehose.keys import Prefix
from firehose.partitioning import PartitionKernel
from firehose.protocols import Transform, Written
from firehose.stores.sqlite import SqliteStateStore
from firehose.testing import FakeClock, MemorySink, MemorySource, RecordingTelemetry


class Plain:
    """No compression."""

    extension = ""
    content_encoding = None

    def wrap(self, out: Any) -> Any:
        return out


class Lines:
    """A line for each record."""

    extension = ""
    content_type = "text/plain"

    held_bytes = 0

    def open(self, out: Any, schema: pa.Schema) -> Lines:
        self._out, self._rows = out, 0
        return self

    def write(self, rows: pa.RecordBatch) -> None:
        self._out.write(b"".join(each + b"\n" for each in rows.column("data").to_pylist()))
        self._rows += rows.num_rows

    def close(self) -> Written:
        return Written(self._rows)


class HereAndNow:
    """A pool of processes that is this one."""

    def __init__(self) -> None:
        self._answer = child({})

    async def call(self, request: bytes, *, timeout_ms: int, max_answer_bytes: int) -> bytes:
        return self._answer(request)


class World:
    """Everything that outlives a worker: a crash is a worker cancelled, a restart is another one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = FakeClock()
        self.telemetry = RecordingTelemetry()
        self.source = MemorySource()
        self.sink = MemorySink()
        self.failed_sink = MemorySink()
        self.identity = StreamIdentity(uid="u1", name="clicks")
        self.hints = Hints(max_bytes=1_000, max_age_ms=60_000)
        self.transforms: tuple[Transform, ...] = ()
        self.retention_ms: int | None = None
        self.deduplication: Deduplication | None = None
        self.prefix = "good/"
        self.query: str | None = None
        self.max_active = 500
        self.budget = ByteBudget(64 * 2**20)
        self.failed_quota_bytes = 2**20
        self.store: Callable[[SqliteStateStore], Any] = lambda store: store

    def outlet(self, name: str, sink: MemorySink) -> Outlet:
        prefix = Prefix.parse("bad/" if name == "failed" else self.prefix, error_output=name == "failed")
        return Outlet(name, sink, prefix, self.hints, Plain(), None, "", "application/octet-stream")

    def plan(self) -> StreamPlan:
        return StreamPlan(
            identity=self.identity,
            version=1,
            source=self.source,
            transforms=self.transforms,
            conversion=None,
            encoder=Lines(),
            destination=self.outlet("destination", self.sink),
            failed=self.outlet("failed", self.failed_sink),
            retention_ms=self.retention_ms,
            deduplication=self.deduplication,
            partitioning=self.partitioning(),
            stage_facts={},
        )

    def partitioning(self) -> Partitioning | None:
        if "partitionKey" not in self.prefix:
            return None
        kernels = Kernels(InlineExecutor(), HereAndNow())
        return Partitioning(PartitionKernel(self.query, self.prefix), kernels, self.clock, max_active=self.max_active)

    async def open_state(self) -> SqliteStateStore:
        return await SqliteStateStore.open(self.folder / "state.db", InlineExecutor())

    @asynccontextmanager
    async def worker(self) -> AsyncIterator[StreamWorker]:
        """Run a worker; leaving the block kills it wherever it is."""
        state = await self.open_state()
        environment = Environment(
            clock=self.clock,
            telemetry=self.telemetry,
            executor=InlineExecutor(),
            files=OsFileSystem(),
            data_dir=self.folder,
            aws=None,  # type: ignore[arg-type]
            log=None,  # type: ignore[arg-type]
        )
        share = BudgetShare(self.budget)
        limits = WorkerLimits(self.failed_quota_bytes)
        worker = StreamWorker(self.plan(), environment, self.store(state), share, limits, random.Random(7))
        task = asyncio.create_task(worker.run())
        try:
            await self.clock.settle()
            yield worker
            if task.done():
                task.result()
        finally:
            task.cancel()
            await asyncio.wait([task])
            share.close()
            await state.close()

    async def delivered(self) -> list[bytes]:
        """Return all records in the sink."""
        return [line for _, body in self.sink.objects.values() for line in body.splitlines()]

    async def account(self) -> dict[str, int]:
        """Return the rows of each term."""
        state = await SqliteStateStore.open(self.folder / "state.db", InlineExecutor(), read_only=True)
        try:
            totals: dict[str, int] = {}
            for row in (await state.snapshot()).account:
                totals[str(row.term)] = totals.get(str(row.term), 0) + row.rows
            return totals
        finally:
            await state.close()
