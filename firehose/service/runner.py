"""One stream of the service: its definition, and its worker kept running."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from firehose.budget import BudgetShare, ByteBudget
from firehose.components import StreamIdentity
from firehose.config.models import StreamConfig
from firehose.delivery.backoff import Backoff
from firehose.delivery.plan import StreamPlan
from firehose.delivery.reading import is_encrypted
from firehose.delivery.worker import StreamWorker, WorkerLimits
from firehose.errors import FirehoseError, NotFoundError, StaleEpochError, UnavailableError
from firehose.service.events import EncryptionKeyChanged, WorkerFailed
from firehose.service.planning import Shared, build_plan, close_plan
from firehose.state import PutStream, StateStore, StreamRecord
from firehose.telemetry import UnexpectedError

#: A worker that ran for so long starts again as quickly as a new one, whatever happened to it before.
STEADY_MS = 60_000


def config_of(record: StreamRecord) -> StreamConfig:
    """Return the configuration that a stream was last defined with."""
    return StreamConfig.model_validate(json.loads(record.definition)["config"])


def api_members_of(record: StreamRecord) -> dict[str, Any] | None:
    """Return the members of the API call that made the stream, None where a file did."""
    members: dict[str, Any] | None = json.loads(record.definition).get("api")
    return members


def definition_of(config: StreamConfig, api_members: dict[str, Any] | None = None) -> str:
    """Return what `StreamRecord.definition` keeps."""
    body = {"config": config.model_dump(mode="json", by_alias=True), "api": api_members}
    return json.dumps(body, sort_keys=True)


class StreamRunner:
    """Keeps one stream's worker running, whatever happens to it."""

    def __init__(
        self,
        record: StreamRecord,
        identity: StreamIdentity,
        shared: Shared,
        state: StateStore,
        budget: ByteBudget,
        limits: WorkerLimits,
        chance: random.Random,
    ) -> None:
        self.record = record
        self.identity = identity
        self.config = config_of(record)
        self.worker: StreamWorker | None = None
        #: True once the stream is gone from the state: nothing of it may be saved any more.
        self.is_removed = False
        #: Held while the record changes.
        self.changing = asyncio.Lock()
        self._shared = shared
        self._state = state
        self._budget = budget
        self._limits = limits
        self._chance = chance
        self._error: FirehoseError | None = None
        self._task: asyncio.Task[None] | None = None
        self._puts = 0
        self._no_puts = asyncio.Event()
        self._no_puts.set()

    @property
    def takes_puts(self) -> bool:
        """True where producers may send to it."""
        return not (self.record.is_orphaned or self.record.is_deleted)

    @property
    def has_objects(self) -> bool:
        """True where finished objects may wait for their sink, or it is not saved yet that they stand there."""
        return self.worker is None or self.worker.open_objects > 0 or not self.worker.ledger.is_clean

    @property
    def last_error(self) -> FirehoseError | None:
        """What keeps the stream from going on."""
        return self._error or (self.worker.last_error if self.worker else None)

    @property
    def function_error(self) -> FirehoseError | None:
        """What a function of the stream fails with: its records go to the error output, and the stream goes on."""
        transforms = self.worker.plan.transforms if self.worker else ()
        return next((error for each in transforms if (error := getattr(each, "last_error", None))), None)

    @contextmanager
    def putting(self) -> Iterator[None]:
        """Count a put as under way while the block runs."""
        self._puts += 1
        self._no_puts.clear()
        try:
            yield
        finally:
            self._puts -= 1
            if not self._puts:
                self._no_puts.set()

    async def change(self, **fields: Any) -> None:
        """Save a change of the record. Errors: NotFoundError where the stream is gone meanwhile."""
        async with self.changing:
            if self.is_removed:
                raise NotFoundError(f"delivery stream {self.record.name!r} was removed")
            record = dataclasses.replace(self.record, **fields)
            await self._state.apply(PutStream(record))
            self.record = record

    async def pause(self, is_paused: bool) -> None:
        """Stop or go on delivering, also after a restart. Errors: NotFoundError."""
        await self.change(is_paused=is_paused)
        if self.worker is not None:
            self.worker.pause(is_paused)

    def start(self, tasks: asyncio.TaskGroup) -> None:
        """Begin to work."""
        assert self._task is None
        self._task = tasks.create_task(self._run(), name=f"stream {self.record.name}")

    async def stop(self) -> None:
        """Stop at once, and let puts under way end. What is unfinished is found again at the next start."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
        await self._no_puts.wait()

    async def _run(self) -> None:
        backoff, clock = Backoff(self._chance), self._shared.environment.clock
        while True:
            begun_ms = clock.monotonic_ms()
            error: FirehoseError | None = None
            try:
                await self._work()
            except* StaleEpochError:
                raise
            except* FirehoseError as group:
                error = first_of(group)
            except* OSError as group:
                error = UnavailableError(str(first_of(group)))
            except* Exception as group:  # noqa: BLE001 - told below; a bug in one stream must not stop the others
                caught = first_of(group)
                text = f"{type(caught).__name__}: {caught}"
                self._shared.environment.telemetry.emit(UnexpectedError(f"stream {self.record.name}", text))
                error = FirehoseError(text)
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                # a task group that meets an error while it is cancelled raises the error alone
                raise asyncio.CancelledError
            if clock.monotonic_ms() - begun_ms >= STEADY_MS:
                backoff.reset()
            if error is not None:
                await self._wait(error, backoff)

    async def _work(self) -> None:
        environment = self._shared.environment
        plan = build_plan(self.config, self.identity, self.record.version, self._shared)
        share = BudgetShare(self._budget)
        try:
            await self._tell_of_other_key(plan)
            self.worker = StreamWorker(plan, environment, self._state, share, self._limits, self._chance)
            self.worker.pause(self.record.is_paused)
            self._error = None
            await self.worker.run()
        finally:
            self.worker = None
            share.close()
            await close_plan(plan)

    async def _tell_of_other_key(self, plan: StreamPlan) -> None:
        """A wrong key file is no error, and would show only to whoever cannot read what it encrypted."""
        for outlet in (plan.destination, plan.failed):
            last = await self._state.last_manifest(self.identity.uid, outlet.name) if outlet.cipher else None
            if last is None or outlet.cipher is None or not is_encrypted(last.intent.metadata):
                continue
            if await outlet.cipher.opens(last.intent.metadata) is False:
                url = f"{outlet.sink.url}/{last.intent.key}"
                self._shared.environment.telemetry.emit(EncryptionKeyChanged(self.record.name, url))
                return

    async def _wait(self, error: FirehoseError, backoff: Backoff) -> None:
        self._error = error
        wait_ms = backoff.after(error)
        environment = self._shared.environment
        environment.telemetry.emit(WorkerFailed(self.record.name, error.code, str(error), wait_ms))
        await environment.clock.sleep_ms(wait_ms)


def first_of(error: BaseException) -> Any:
    """Return the first leaf of nested exception groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
