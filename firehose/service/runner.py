"""One stream of the service: its definition, and its worker kept running."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import random
from typing import Any

from firehose.budget import BudgetShare, ByteBudget
from firehose.components import StreamIdentity
from firehose.config.models import StreamConfig
from firehose.delivery.backoff import Backoff
from firehose.delivery.worker import StreamWorker, WorkerLimits
from firehose.errors import FirehoseError, StaleEpochError
from firehose.protocols import PutStream, StateStore, StreamRecord
from firehose.service.events import WorkerFailed
from firehose.service.planning import Shared, build_plan, close_plan
from firehose.telemetry import UnexpectedError


def identity_of(record: StreamRecord, *, region: str, account: str) -> StreamIdentity:
    """Return what components know of a stream."""
    return StreamIdentity(uid=record.uid, name=record.name, region=region, account=account)


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
        self._shared = shared
        self._state = state
        self._budget = budget
        self._limits = limits
        self._chance = chance
        self._error: FirehoseError | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def takes_puts(self) -> bool:
        """True where producers may send to it."""
        return not (self.record.is_orphaned or self.record.is_deleted)

    @property
    def last_error(self) -> FirehoseError | None:
        """What keeps the stream from going on."""
        return self._error or (self.worker.last_error if self.worker else None)

    def start(self, tasks: asyncio.TaskGroup) -> None:
        """Begin to work."""
        assert self._task is None
        self._task = tasks.create_task(self._run(), name=f"stream {self.record.name}")

    async def stop(self) -> None:
        """Stop at once: what is under way is found again at the next start."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None

    async def pause(self, is_paused: bool) -> None:
        """Stop or go on delivering, also after a restart."""
        record = dataclasses.replace(self.record, is_paused=is_paused)
        await self._state.apply(PutStream(record))
        self.record = record
        if self.worker is not None:
            self.worker.pause(is_paused)

    async def _run(self) -> None:
        backoff = Backoff(self._chance)
        while True:
            try:
                await self._work()
            except* StaleEpochError:
                raise
            except* FirehoseError as group:
                error = _first(group)
                await self._wait(error, backoff)
            except* Exception as group:  # noqa: BLE001 - told below; a bug of ours in one stream must not stop the others
                caught = _first(group)
                text = f"{type(caught).__name__}: {caught}"
                self._shared.environment.telemetry.emit(UnexpectedError(f"stream {self.record.name}", text))
                await self._wait(FirehoseError(text), backoff)

    async def _work(self) -> None:
        environment = self._shared.environment
        plan = build_plan(self.config, self.identity, self.record.version, self._shared)
        share = BudgetShare(self._budget)
        try:
            self.worker = StreamWorker(plan, environment, self._state, share, self._limits, self._chance)
            self.worker.pause(self.record.is_paused)
            self._error = None
            await self.worker.run()
        finally:
            self.worker = None
            share.close()
            await close_plan(plan)

    async def _wait(self, error: FirehoseError, backoff: Backoff) -> None:
        self._error = error
        wait_ms = backoff.after(error)
        environment = self._shared.environment
        environment.telemetry.emit(WorkerFailed(self.record.name, error.code, str(error), wait_ms))
        await environment.clock.sleep_ms(wait_ms)


def _first(error: BaseException) -> Any:
    """Return the first leaf of nested exception groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
