"""What a service stands on: log, state, threads, processes; opened together, closed together."""

from __future__ import annotations

import os
from contextlib import AsyncExitStack
from dataclasses import dataclass

from firehose.aws import AwsClients
from firehose.clock import Clock
from firehose.components import Environment
from firehose.config.models import ServerConfig
from firehose.datadir import DataDirectory
from firehose.executors import Executor, ThreadExecutor
from firehose.filesystem import OsFileSystem
from firehose.kernels import Kernels
from firehose.log import IngestLog
from firehose.processes import ProcessPool
from firehose.stores.sqlite import SqliteStateStore
from firehose.telemetry import Emitter

#: Threads for sinks, apart from all other work: a disk that hangs keeps each thread that waits for it, at most 4 of an
#: outlet, and must not hold up other streams. They are started as they are needed.
SINK_THREADS = 64


#: What a converter process may allocate: a record, or a query, that takes more fails alone.
KERNEL_MEMORY_BYTES = 2 * 2**30


@dataclass(frozen=True, slots=True)
class Resources:
    """Everything of a service that must be closed."""

    directory: DataDirectory
    environment: Environment
    #: Where sinks send what blocks.
    sinks: Executor
    log: IngestLog
    state: SqliteStateStore
    converters: ProcessPool
    kernels: Kernels
    _open: AsyncExitStack

    async def close(self) -> None:
        """Close everything, the rest too where one fails. What was acknowledged is durable: nothing is flushed."""
        await self._open.aclose()


async def open_resources(server: ServerConfig, directory: DataDirectory, clock: Clock, telemetry: Emitter) -> Resources:
    """Open log and state of a directory that is locked.

    Errors: DataDirectoryError; UnavailableError where the disk refuses. Nothing stays open then.
    """
    cores, files = os.cpu_count() or 1, OsFileSystem()
    async with AsyncExitStack() as stack:

        def threads(count: int, name: str) -> ThreadExecutor:
            executor = ThreadExecutor(threads=count, name=name)
            stack.callback(executor.close)
            return executor

        # first in, last out: a thread that hangs must not keep log and state from closing
        sinks, work = threads(SINK_THREADS, "sink"), threads(max(2, cores), "work")
        disk, single = threads(2, "log"), threads(1, "state")
        state = await SqliteStateStore.open(directory.state, single)
        stack.push_async_callback(state.close)
        log = await IngestLog.open(
            directory.log,
            files=files,
            executor=disk,
            clock=clock,
            telemetry=telemetry,
            quota_bytes=server.log_quota_bytes,
            retry_window_ms=server.retry_window_ms,
            banked=await state.banked_segments(),
        )
        stack.push_async_callback(log.close)
        aws = AwsClients(server.region)
        stack.push_async_callback(aws.close)
        environment = Environment(
            clock=clock,
            telemetry=telemetry,
            executor=work,
            files=files,
            data_dir=directory.path,
            aws=aws,
            log=log,
        )
        converters = ProcessPool(
            "firehose.kernels:child",
            {},
            processes=cores,
            memory_bytes=KERNEL_MEMORY_BYTES,
            clock=clock,
            telemetry=telemetry,
            name="converter",
        )
        stack.push_async_callback(converters.close)
        kernels = Kernels(work, converters)
        return Resources(directory, environment, sinks, log, state, converters, kernels, stack.pop_all())
