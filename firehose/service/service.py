"""The running service: its streams, its log, its state, and what it does in the background."""

from __future__ import annotations

import asyncio
import dataclasses
import random
import uuid
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

import pyarrow as pa

from firehose.budget import ByteBudget
from firehose.clock import Clock
from firehose.components import StreamIdentity
from firehose.config.checks import stream_findings
from firehose.config.models import Configuration, StreamConfig
from firehose.datadir import DataDirectory
from firehose.delivery.backoff import Backoff
from firehose.delivery.events import StepFailed
from firehose.delivery.worker import StreamWorker, WorkerLimits
from firehose.errors import (
    ConfigError,
    ConflictError,
    FirehoseError,
    InvalidError,
    NotFoundError,
    StaleEpochError,
    UnavailableError,
)
from firehose.log import KEY_BYTES
from firehose.ports import PutAnswer, StreamView
from firehose.service.events import PutRepeated, RowsOfNobody, StreamDefined, StreamOrphaned, StreamRemoved
from firehose.service.housekeeping import (
    HOUSEKEEPING_MS,
    MEASURING_MS,
    TIDYING_MS,
    bank,
    keep_house,
    measure,
    reclaim,
    spill_when_asked,
    tidy,
)
from firehose.service.planning import Shared, require_query, require_table
from firehose.service.removal import discard, is_finished, sweep
from firehose.service.replays import Replays
from firehose.service.resources import Resources, open_resources
from firehose.service.runner import StreamRunner, api_members_of, definition_of
from firehose.state import PutStream, StreamRecord
from firehose.telemetry import Emitter

#: How long a put may take before its producer is told that nobody knows: a disk that hangs must not keep him for ever.
#: One that is sent again is stored once, as every retried put.
PUT_DEADLINE_S = 30.0

#: The service's own bound on streams; each costs a task and a few kilobytes while idle.
MAX_STREAMS = 5_000


class Service:
    """All delivery streams of one data directory."""

    def __init__(self, configuration: Configuration, resources: Resources) -> None:
        self.configuration = configuration
        self.directory = resources.directory
        self.environment = resources.environment
        self.sinks = resources.sinks
        self.state = resources.state
        self.log = resources.log
        self.region = configuration.server.region
        self.account = configuration.server.account
        self.budget = ByteBudget(configuration.server.memory_bytes)
        self.runners: dict[str, StreamRunner] = {}
        #: Held while accounts move between log and state, so that an audit sees one moment.
        self.books = asyncio.Lock()
        self.replays = Replays(self.log, self.state, self.books)
        self._resources = resources
        self._limits = WorkerLimits(configuration.server.failed_quota_bytes)
        self._chance = random.Random()
        catalogs = {name: each.build(self.environment) for name, each in configuration.catalogs.items()}
        self._shared = Shared(self.environment, self.sinks, configuration.functions, catalogs, resources.kernels)
        self._tasks: asyncio.TaskGroup | None = None
        self._creating: set[str] = set()

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
        resources = await open_resources(configuration.server, directory, clock, telemetry)
        try:
            service = cls(configuration, resources)
            await service._take_up(keep_definitions)
        except BaseException:  # also where the start is cancelled: the directory must be free again
            await resources.close()
            raise
        return service

    async def close(self) -> None:
        """Close everything. What was acknowledged is durable already, so nothing is flushed."""
        await self._resources.close()

    # --- taking up streams -------------------------------------------------------------------------------------------

    async def _take_up(self, keep_definitions: bool) -> None:
        records = {record.name: record for record in await self.state.streams()}
        uids, removed = {record.uid for record in records.values()}, await self.state.removed_streams()
        sweep(self.directory, uids)
        for uid in self.log.stream_uids() - uids:
            if uid in removed:
                self.log.forget_stream(uid)
            else:
                self.environment.telemetry.emit(RowsOfNobody(uid))
        try:
            await self.replays.settle_unknown()
        except UnavailableError as error:  # the chores try again; streams that have no such replay go on meanwhile
            self.environment.telemetry.emit(StepFailed("", "replays", error.code, str(error), HOUSEKEEPING_MS))
        if not keep_definitions:
            records = await self._defined(records)
        for record in records.values():
            self._add_runner(record)

    async def _defined(self, records: Mapping[str, StreamRecord]) -> dict[str, StreamRecord]:
        """Bring the state's streams and the configuration's together."""
        found: dict[str, StreamRecord] = {}
        for name, config in self.configuration.streams.items():
            record = records.get(name)
            if record is not None and record.is_deleted:
                await self._discard(record)
                record = None
            if record is not None and record.origin == "api":
                raise ConfigError(
                    f"stream {name!r} is defined in a file, but was made by the API before; rename it in the file, "
                    "or start without it, delete the other one (DeleteDeliveryStream), and start again"
                )
            found[name] = await self._define(record, name, config)
        for name, record in records.items():
            if name not in found:
                if record.origin == "config" and not record.is_orphaned:
                    record = await self._save(record, is_orphaned=True)
                    self.environment.telemetry.emit(StreamOrphaned(name))
                found[name] = record
        return found

    async def _define(self, record: StreamRecord | None, name: str, config: StreamConfig) -> StreamRecord:
        """Return the stream of a file as it is now, saved."""
        definition, now_ms = definition_of(config), self.environment.clock.now_ms()
        if record is None:
            record = await self._save(StreamRecord(uuid.uuid4().hex, name, "config", definition, 1, now_ms))
        elif record.definition != definition:
            version = record.version + 1
            changes = {"definition": definition, "version": version, "updated_ms": now_ms, "is_orphaned": False}
            record = await self._save(record, **changes)
        elif record.is_orphaned:
            record = await self._save(record, is_orphaned=False)
        self.environment.telemetry.emit(StreamDefined(name, record.origin, record.version))
        return record

    async def _save(self, record: StreamRecord, **changes: Any) -> StreamRecord:
        record = dataclasses.replace(record, **changes)
        await self.state.apply(PutStream(record))
        return record

    def _add_runner(self, record: StreamRecord) -> StreamRunner:
        identity = StreamIdentity(uid=record.uid, name=record.name, region=self.region, account=self.account)
        runner = StreamRunner(record, identity, self._shared, self.state, self.budget, self._limits, self._chance)
        self.runners[record.name] = runner
        return runner

    # --- running -----------------------------------------------------------------------------------------------------

    async def run(self, started: asyncio.Event) -> None:
        """Work until cancelled. Errors: StaleEpochError where another process took the state over."""
        clock, telemetry = self.environment.clock, self.environment.telemetry
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            for runner in self.runners.values():
                if runner.record.is_deleted:
                    tasks.create_task(self._delete(runner))
                else:
                    runner.start(tasks)
            tasks.create_task(keep_house(self._chores, clock, telemetry))
            tasks.create_task(keep_house(self._tidy, clock, telemetry, name="tidying", every_ms=TIDYING_MS))
            tasks.create_task(keep_house(self._measure, clock, telemetry, name="measuring", every_ms=MEASURING_MS))
            tasks.create_task(spill_when_asked(self.budget, self._workers, clock))
            started.set()

    def _workers(self) -> list[StreamWorker]:
        return [runner.worker for runner in self.runners.values() if runner.worker is not None]

    async def _chores(self) -> None:
        async with self.books:
            await bank(self.log, self.state)
            await self.replays.settle_unknown()
            await reclaim(self.log, self.state)
        if self.log.has_unknown:
            return  # an orphan that seems to be finished may have rows that cannot be read now
        for runner in [each for each in self.runners.values() if each.record.is_orphaned]:
            if not runner.record.is_deleted and await is_finished(runner.record.uid, self.log, self.state):
                await self._remove(runner)

    async def _tidy(self) -> None:
        retention_ms = self.configuration.server.manifest_retention_ms
        await tidy(self.state, self.environment.clock.now_ms() - retention_ms)

    async def _measure(self) -> None:
        now_ms = self.environment.clock.now_ms()
        await measure(list(self.runners.values()), self.log, self.state, self.environment.telemetry, now_ms)

    async def _delete(self, runner: StreamRunner) -> None:
        """Take a stream out of the world that was deleted, however often that fails before it works."""
        backoff, environment = Backoff(self._chance), self.environment
        while True:
            try:
                return await self._remove(runner)
            except StaleEpochError:
                raise
            except (FirehoseError, OSError) as error:
                code = error.code if isinstance(error, FirehoseError) else "InternalError"
                wait_ms = backoff.after(error)
                environment.telemetry.emit(StepFailed(runner.record.name, "delete", code, str(error), wait_ms))
                await environment.clock.sleep_ms(wait_ms)

    async def _remove(self, runner: StreamRunner) -> None:
        """Take a stream out of the world; what it still holds is discarded, and counted."""
        async with self.books:
            uid, is_deleted = runner.record.uid, runner.record.is_deleted
            if runner.is_removed or not (is_deleted or await is_finished(uid, self.log, self.state)):
                return  # an orphan that was given rows to replay just now
            await runner.stop()
            # a replay that broke off moved its rows, or did not: afterwards nobody knows any more
            await self.replays.settle_unknown()
            async with runner.changing:
                discarded = await self._discard(runner.record)
                runner.is_removed = True
            self.runners.pop(runner.record.name, None)
        self.environment.telemetry.emit(StreamRemoved(runner.record.name, discarded))

    async def _discard(self, record: StreamRecord) -> int:
        return await discard(record.uid, self.log, self.state, self.directory, self.environment)

    # --- what the API asks -------------------------------------------------------------------------------------------

    async def put(self, name: str, data: pa.LargeBinaryArray, *, token: bytes = b"") -> PutAnswer:
        """Store records durably. Errors: see `ports.StreamService.put`."""
        runner = self.runners.get(name)
        if runner is None or not runner.takes_puts:
            raise NotFoundError(_why_not(name, runner))
        arrival_ms = self.environment.clock.now_ms()
        uid = runner.record.uid
        key = blake2b(token, key=uid.encode(), digest_size=KEY_BYTES).digest() if token else b""
        with runner.putting():
            try:
                async with asyncio.timeout(PUT_DEADLINE_S):
                    found = await self.log.append(uid, data, arrival_ms=arrival_ms, token=key)
            except TimeoutError:
                message = f"the ingest log's disk did not answer in {PUT_DEADLINE_S:g} s; look at it, and at its load"
                raise UnavailableError(message) from None
        if found.is_repeat:
            self.environment.telemetry.emit(PutRepeated(name, found.rows))
        return PutAnswer(found.shard, found.first_sequence, found.rows, uid, found.is_repeat)

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
        if name in self.runners or name in self._creating:
            raise ConflictError(f"a delivery stream {name!r} exists already")
        if len(self.runners) + len(self._creating) >= MAX_STREAMS:
            raise InvalidError(f"{MAX_STREAMS} delivery streams are the most", code="LimitExceededException")
        _require_sound(config, self.configuration)
        body, now_ms = definition_of(config, dict(definition)), self.environment.clock.now_ms()
        self._creating.add(name)
        try:
            await require_query(config, self._shared)
            await require_table(config, self._shared)
            record = await self._save(StreamRecord(uuid.uuid4().hex, name, "api", body, 1, now_ms))
        finally:
            self._creating.discard(name)
        runner = self._add_runner(record)
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
        async with runner.changing:
            if runner.record.is_deleted:
                return
            runner.record = await self._save(runner.record, is_deleted=True)
        if self._tasks is not None:
            self._tasks.create_task(self._delete(runner))


def _why_not(name: str, runner: StreamRunner | None) -> str:
    """Say why a stream takes no records."""
    if runner is None:
        return f"no delivery stream {name!r}"
    if runner.record.is_deleted:
        return f"delivery stream {name!r} is being deleted, and takes no more records"
    return f"delivery stream {name!r} is orphaned: no file defines it, so it takes no records; define it, and restart"


def _require_sound(config: StreamConfig, configuration: Configuration) -> None:
    """Return if a stream fits what is defined beside it. Errors: InvalidError, with all that is wrong."""
    found = [
        f"{'.'.join(str(part) for part in each.path)}: {each.message}"
        for each in stream_findings(config, (), configuration)
    ]
    if found:
        raise InvalidError("; ".join(found))


def _view(runner: StreamRunner) -> StreamView:
    record = runner.record
    return StreamView(
        name=record.name,
        uid=record.uid,
        # an orphan takes no more records and goes once what it holds is delivered: that is the nearest word
        status="DELETING" if record.is_deleted or record.is_orphaned else "ACTIVE",
        version=record.version,
        created_ms=record.created_ms,
        updated_ms=record.updated_ms,
        origin="api" if record.origin == "api" else "config",
        config=runner.config,
        definition=api_members_of(record),
    )
