"""Records whose id was seen before: they were acknowledged, and end here, counted as duplicates."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from firehose.clock import Clock
from firehose.components import Environment
from firehose.deduplication import RecordId, RecordIdWindow
from firehose.delivery.events import (
    DuplicatesDropped,
    RecordIdsDamaged,
    RecordIdsForgotten,
    RecordsWithoutId,
)
from firehose.delivery.ledger import Ledger
from firehose.delivery.plan import DESTINATION, Deduplication
from firehose.delivery.steps import Steps
from firehose.executors import Executor
from firehose.records import Batch
from firehose.state import Term
from firehose.telemetry import Emitter


@dataclass(frozen=True, slots=True)
class KnownIds:
    """What is known of a stream's records: how many ids, and how far back they reach (None: none yet).

    `without_id`: records since the start that had no id where one was looked for.
    """

    ids: int
    file_bytes: int
    reach_ms: int | None
    without_id: int


class Duplicates:
    """Finds the duplicates among what one stream reads."""

    def __init__(
        self, stream: str, wanted: Deduplication, folder: Path, environment: Environment, steps: Steps, ledger: Ledger
    ) -> None:
        self._stream = stream
        self._ids = RecordId(wanted.path)
        self._window = RecordIdWindow(folder, environment.files, window_ms=wanted.window_ms, max_bytes=wanted.max_bytes)
        self._executor: Executor = environment.executor
        self._telemetry: Emitter = environment.telemetry
        self._clock: Clock = environment.clock
        self._steps = steps
        self._ledger = ledger
        self._window_ms = wanted.window_ms
        self._without_id = 0
        self._turn = asyncio.Lock()

    @property
    def known(self) -> KnownIds:
        """What is known of the stream's records now."""
        stats, reach_ms = self._window.stats, None
        if stats.oldest_ms is not None:
            reach_ms = min(max(0, self._clock.now_ms() - stats.oldest_ms), self._window_ms)
        return KnownIds(stats.ids, stats.file_bytes, reach_ms, self._without_id)

    async def open(self) -> None:
        """Read what is known. What is damaged is told: records with those ids may land twice, none is lost."""
        for each in await self._steps.run("record ids", partial(self._executor.run, self._window.open)):
            self._telemetry.emit(RecordIdsDamaged(self._stream, str(each.path), each.reason))

    async def close(self) -> None:
        """Return when nobody is in the files any more: a thread goes on although its task was cancelled."""
        await self._executor.run(self._window.close)

    async def drop(self, batch: Batch) -> Batch:
        """Return the rows whose id is new, or that have none, and settle the others.

        When it returns, the ids of the rows are on the disk: what becomes of them is saved only after that.
        """
        found = await self._executor.run(partial(self._ids.identify, batch))
        if len(found.entries) < len(batch):
            without_id = len(batch) - len(found.entries)
            self._without_id += without_id
            self._telemetry.emit(RecordsWithoutId(self._stream, without_id))
        if not len(found.entries):
            return batch
        async with self._turn:
            forgotten = self._window.forgotten
            admit = partial(self._executor.run, partial(self._window.admit, found.entries))
            is_seen = await self._steps.run("record ids", admit)
            forgotten = self._window.forgotten - forgotten
        if forgotten:
            self._telemetry.emit(RecordIdsForgotten(self._stream, forgotten, self.known.reach_ms or 0))
        if not bool(is_seen.any()):
            return batch
        is_duplicate = np.zeros(len(batch), np.bool_)
        is_duplicate[found.has_id] = is_seen
        duplicates = batch.where(is_duplicate)
        self._ledger.settle(duplicates.row_set(), (DESTINATION,), Term.DUPLICATE, duplicates.hours())
        self._telemetry.emit(DuplicatesDropped(self._stream, len(duplicates)))
        return batch.where(~is_duplicate)
