"""The running service: its streams, its log, its state, and what it does in the background."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import random
import uuid
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from firehose.aws import AwsClients
from firehose.budget import ByteBudget
from firehose.clock import Clock
from firehose.components import Environment
from firehose.config.models import Configuration, StreamConfig
from firehose.datadir import DataDirectory
from firehose.delivery.events import StepFailed
from firehose.delivery.worker import WorkerLimits
from firehose.errors import ConfigError, ConflictError, FirehoseError, InvalidError, NotFoundError
from firehose.executors import ThreadExecutor
from firehose.filesystem import OsFileSystem
from firehose.log import IngestLog
from firehose.ports import PutAnswer, StreamView
from firehose.processes import ProcessPool
from firehose.protocols import BankSegment, PutStream, StreamRecord
from firehose.service.events import StreamDefined, StreamOrphaned, StreamRemoved
from firehose.service.planning import Shared
from firehose.service.removal import discard
from firehose.service.replays import settle
from firehose.service.runner import StreamRunner, api_members_of, definition_of, identity_of
from firehose.stores.sqlite import SqliteStateStore
from firehose.telemetry import Emitter

#: How often sealed segments are banked and space is reclaimed.
HOUSEKEEPING_MS = 1_000

#: The service's own bound on streams; each costs a task and a few kilobytes while idle.
MAX_STREAMS = 5_000


class Service:
    """All delivery streams of one data directory."""

    def __init__(
        self,
        configuration: Configuration,
        directory: DataDirectory,
        environment: Environment,
        log: IngestLog,
        state: SqliteStateStore,
        converters: ProcessPool,
        executors: tuple[ThreadExecutor, ...],
    ) -> None:
        self.configuration = configuration
        self.directory = directory
        self.environment = environment
        self.state = state
        self.log = log
        self.region = configuration.server.region
        self.account = configuration.server.account
        self.budget = ByteBudget(configuration.server.memory_bytes)
        self.runners: dict[str, StreamRunner] = {}
        self._converters = converters
        self._executors = executors
        self._limits = WorkerLimits(configuration.server.failed_quota_bytes)
        self._chance = random.Random()
        catalogs = {name: each.build(environment) for name, each in configuration.catalogs.items()}
        self._shared = Shared(environment, configuration.functions, catalogs, converters)
        self._tasks: asyncio.TaskGroup | None = None
        #: Held while accounts move between log and state, so that an audit sees one moment.
        self.books = asyncio.Lock()
        #: Held while failed records enter the log, so that two replays do not move the same ones.
        self.replaying = asyncio.Lock()

    @classmethod
    async def open(
        cls,
        configuration: Configuration,
        directory: DataDirectory,
        clock: Clock,
        telemetry: Emitter,
        *,
        keep_definitions: bool = False,
    ) -> Service:
        """Open log and state of a directory that is locked; nothing runs yet.

        `keep_definitions`: the streams stay as they were last defined, `configuration` names none; for commands.
        Errors: DataDirectoryError; ConfigError where a stream is defined twice.
        """
        workers = ThreadExecutor(threads=max(2, os.cpu_count() or 2), name="work")
        disk = ThreadExecutor(threads=2, name="log")
        files = OsFileSystem()
        state = await SqliteStateStore.open(directory.state, ThreadExecutor(threads=1, name="state"))
        log = await IngestLog.open(
            directory.log,
            files=files,
            executor=disk,
            clock=clock,
            telemetry=telemetry,
            quota_bytes=configuration.server.log_quota_bytes,
            banked_names=await state.banked_segments(),
        )
        environment = Environment(
            clock=clock,
            telemetry=telemetry,
            executor=workers,
            files=files,
            data_dir=directory.path,
            aws=AwsClients(configuration.server.region),
            log=log,
        )
        converters = ProcessPool(
            "firehose.delivery.conversion:child",
            {},
            processes=os.cpu_count() or 1,
            memory_bytes=None,
            clock=clock,
            telemetry=telemetry,
            name="converter",
        )
        service = cls(configuration, directory, environment, log, state, converters, (workers, disk))
        await service._finish_replays()
        records = await state.streams()
        for uid in log.stream_uids() - {record.uid for record in records}:
            log.forget_stream(uid)
        if keep_definitions:
            for record in records:
                service._add_runner(record)
        else:
            await service._take_up_streams(records)
        return service

    async def _finish_replays(self) -> None:
        """Settle replays that a crash interrupted: those whose put is in the log happened, the others did not."""
        for record in await self.state.streams():
            _, unknown = await self.state.replays(record.uid)
            if unknown:
                entered = {token.token for token in await self.log.tokens(record.uid, lane="replay")}
                for replay in unknown:
                    await self.state.apply(*settle(replay, entered=replay.token.encode() in entered))

    async def _take_up_streams(self, records: list[StreamRecord]) -> None:
        """Bring the state's streams and the configuration's together."""
        known = {record.name: record for record in records}
        for name, config in self.configuration.streams.items():
            record = known.pop(name, None)
            if record is not None and record.origin == "api":
                raise ConfigError(
                    f"stream {name!r} is in a file, but was made by the API already; delete that one or rename this one"
                )
            await self._define(record, name, config)
        for record in known.values():
            if record.origin == "config" and not record.is_orphaned:
                record = dataclasses.replace(record, is_orphaned=True)
                await self.state.apply(PutStream(record))
                self.environment.telemetry.emit(StreamOrphaned(record.name))
            self._add_runner(record)

    async def _define(self, record: StreamRecord | None, name: str, config: StreamConfig) -> None:
        definition, now_ms = definition_of(config), self.environment.clock.now_ms()
        if record is None:
            record = StreamRecord(uuid.uuid4().hex, name, "config", definition, 1, now_ms)
        elif record.definition != definition:
            record = dataclasses.replace(
                record, definition=definition, version=record.version + 1, updated_ms=now_ms, is_orphaned=False
            )
        else:
            record = dataclasses.replace(record, is_orphaned=False)
        await self.state.apply(PutStream(record))
        self.environment.telemetry.emit(StreamDefined(name, record.origin, record.version))
        self._add_runner(record)

    def _add_runner(self, record: StreamRecord) -> StreamRunner:
        runner = StreamRunner(
            record,
            identity_of(record, region=self.region, account=self.account),
            self._shared,
            self.state,
            self.budget,
            self._limits,
            self._chance,
        )
        self.runners[record.name] = runner
        return runner

    # --- running -----------------------------------------------------------------------------------------------------

    async def run(self, started: asyncio.Event) -> None:
        """Work until cancelled. Errors: StaleEpochError where another process took the state over."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            for runner in self.runners.values():
                if runner.record.is_deleted:
                    tasks.create_task(self._remove(runner))
                else:
                    runner.start(tasks)
            tasks.create_task(self._keep_house())
            tasks.create_task(self._spill_when_asked())
            started.set()

    async def close(self) -> None:
        """Close everything. What was acknowledged is durable already, so nothing is flushed."""
        await self._converters.close()
        await self.environment.aws.close()
        await self.log.close()
        await self.state.close()
        for executor in self._executors:
            executor.close()

    async def _keep_house(self) -> None:
        clock = self.environment.clock
        while True:
            try:
                async with self.books:
                    await self._bank()
                    await self.log.reclaim()
                await self._remove_finished_orphans()
            except (FirehoseError, OSError) as error:
                code = error.code if isinstance(error, FirehoseError) else "InternalError"
                self.environment.telemetry.emit(StepFailed("", "housekeeping", code, str(error), HOUSEKEEPING_MS))
            await clock.sleep_ms(HOUSEKEEPING_MS)

    async def _bank(self) -> None:
        """Move what sealed segments accepted into the accounts, so that the segments may go."""
        segments = self.log.unbanked()
        if segments:
            await self.state.apply(*(BankSegment(each.name, each.accepted) for each in segments))
            self.log.mark_banked([each.name for each in segments])

    async def _spill_when_asked(self) -> None:
        while True:
            await self.budget.contended.wait()
            self.budget.contended.clear()
            workers = [runner.worker for runner in self.runners.values() if runner.worker is not None]
            largest = max(workers, key=lambda worker: worker.buffer.held_bytes, default=None)
            if largest is not None and self.budget.is_contended:
                largest.ask_to_spill()

    async def _remove_finished_orphans(self) -> None:
        for runner in list(self.runners.values()):
            worker = runner.worker
            if not runner.record.is_orphaned or worker is None or not worker.is_idle:
                continue
            if not self.log.is_pending(runner.record.uid):
                await self._remove(runner)

    async def _remove(self, runner: StreamRunner) -> None:
        """Take a stream out of the world; what it still holds is discarded, and counted."""
        await runner.stop()
        discarded = await discard(runner, self.environment, self.log, self.state)
        self.log.forget_stream(runner.record.uid)
        self.runners.pop(runner.record.name, None)
        self.environment.telemetry.emit(StreamRemoved(runner.record.name, discarded))

    # --- what the API asks -------------------------------------------------------------------------------------------

    async def put(self, name: str, data: pa.LargeBinaryArray, *, token: bytes = b"") -> PutAnswer:
        """Store records durably. Errors: see `ports.StreamService.put`."""
        runner = self.runners.get(name)
        if runner is None or not runner.takes_puts:
            raise NotFoundError(f"no delivery stream {name!r} takes records here")
        arrival_ms = self.environment.clock.now_ms()
        appended = await self.log.append(runner.record.uid, data, arrival_ms=arrival_ms, token=token)
        return PutAnswer(appended.shard, appended.first_sequence, appended.rows, runner.record.uid)

    def stream(self, name: str) -> StreamView:
        """Return one stream. Errors: NotFoundError."""
        runner = self.runners.get(name)
        if runner is None:
            raise NotFoundError(f"no delivery stream {name!r}")
        return _view(runner)

    def streams(self) -> list[StreamView]:
        """Return all streams, by name."""
        return [_view(runner) for _, runner in sorted(self.runners.items())]

    async def create_stream(self, name: str, config: StreamConfig, *, definition: Mapping[str, Any]) -> StreamView:
        """Make a stream that outlives this process. Errors: ConflictError, InvalidError."""
        if name in self.runners:
            raise ConflictError(f"a delivery stream {name!r} exists already")
        if len(self.runners) >= MAX_STREAMS:
            raise InvalidError(f"{MAX_STREAMS} delivery streams are the most", code="LimitExceededException")
        now_ms = self.environment.clock.now_ms()
        body = definition_of(config, dict(definition))
        record = StreamRecord(uuid.uuid4().hex, name, "api", body, 1, now_ms)
        runner = self._add_runner(record)
        try:
            await self.state.apply(PutStream(record))
        except BaseException:
            del self.runners[name]
            raise
        self.environment.telemetry.emit(StreamDefined(name, "api", 1))
        if self._tasks is not None:
            runner.start(self._tasks)
        return _view(runner)

    async def delete_stream(self, name: str) -> None:
        """Begin to delete a stream with what it holds. Errors: NotFoundError, ConflictError for one from a file."""
        runner = self.runners.get(name)
        if runner is None:
            raise NotFoundError(f"no delivery stream {name!r}")
        if runner.record.origin == "config" and not runner.record.is_orphaned:
            raise ConflictError(f"delivery stream {name!r} is defined in a file; remove it there and restart")
        if runner.record.is_deleted:
            return
        record = dataclasses.replace(runner.record, is_deleted=True)
        await self.state.apply(PutStream(record))
        runner.record = record
        assert self._tasks is not None
        self._tasks.create_task(self._remove(runner))


def _view(runner: StreamRunner) -> StreamView:
    record = runner.record
    return StreamView(
        name=record.name,
        uid=record.uid,
        status="DELETING" if record.is_deleted else "ACTIVE",
        version=record.version,
        created_ms=record.created_ms,
        updated_ms=record.updated_ms,
        origin="api" if record.origin == "api" else "config",
        config=runner.config,
        definition=api_members_of(record),
    )
