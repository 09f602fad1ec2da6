"""What sealing holds in memory is the budget's, and only a few objects of columns are written at once."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pytest

from firehose import arrow
from firehose.budget import BudgetShare, ByteBudget
from firehose.components import Environment
from firehose.delivery.buffer import Cell, cell_of
from firehose.delivery.conversion import Prepared
from firehose.delivery.parts import Parts
from firehose.delivery.plan import DESTINATION
from firehose.delivery.sealer import RECORDS, Sealer
from firehose.errors import UnavailableError
from firehose.executors import InlineExecutor
from firehose.filesystem import OsFileSystem
from firehose.protocols import Converted, TableSchema, Written
from firehose.records import Batch
from firehose.testing import FakeClock, RecordingTelemetry
from tests.world import World

T = TypeVar("T")

SLABS, SLAB_BYTES = 3, 4 * 2**20


class Hoards:
    """An encoder that holds everything until its end, and notes what the budget says meanwhile."""

    extension = ""
    content_type = "text/plain"

    def __init__(self, budget: ByteBudget) -> None:
        self._budget = budget
        self.used_bytes: list[int] = []
        self.writers = self.most_writers = 0

    def open(self, out: Any, schema: pa.Schema) -> _HoardsWriter:
        self.writers += 1
        self.most_writers = max(self.most_writers, self.writers)
        return _HoardsWriter(self)

    def look(self) -> None:
        self.used_bytes.append(self._budget.used_bytes)


class _HoardsWriter:
    def __init__(self, encoder: Hoards) -> None:
        self._encoder = encoder
        self.held_bytes = self._rows = 0

    def write(self, rows: pa.RecordBatch) -> None:
        self._encoder.look()
        self.held_bytes += SLAB_BYTES
        self._rows += rows.num_rows

    def close(self) -> Written:
        self._encoder.look()
        self._encoder.writers -= 1
        return Written(self._rows)


class AsTheyAre:
    """A conversion whose columns are the records themselves. The third slab meets `error`."""

    error: Exception | None = None
    schema = RECORDS

    def __init__(self) -> None:
        self.calls = 0

    async def prepare(self) -> Any:
        return Prepared(TableSchema("web", "events", "3", ()), self, None)  # type: ignore[arg-type] # it converts nothing

    async def convert(self, prepared: Any, data: pa.LargeBinaryArray) -> Converted:
        self.calls += 1
        await asyncio.sleep(0)
        if self.error and self.calls == SLABS:
            raise self.error
        return Converted(pa.RecordBatch.from_arrays([data], schema=RECORDS), np.zeros(0, np.int64), (), ())


class InTurns(InlineExecutor):
    """Lets others go on before each call, as threads do."""

    async def run(self, call: Callable[[], T]) -> T:
        await asyncio.sleep(0)
        return call()


def sealer_of(folder: Path, budget: ByteBudget, encoder: Hoards, conversion: AsTheyAre | None, places: int) -> Sealer:
    plan = dataclasses.replace(World(folder).plan(), encoder=encoder, conversion=conversion)
    environment = Environment(
        clock=FakeClock(),
        telemetry=RecordingTelemetry(),
        executor=InTurns(),
        files=OsFileSystem(),
        data_dir=folder,
        aws=None,  # type: ignore[arg-type]
        log=None,
        encoding=asyncio.Semaphore(places if conversion else 4),
        writing=asyncio.Semaphore(4 if conversion else places),
    )
    parts = Parts.build(plan, environment, None, BudgetShare(budget), random.Random(7))  # type: ignore[arg-type]
    parts.outbox.recover(())  # which makes the folder
    return parts.sealer


def cell_of_slabs(shard: str = "s") -> Cell:
    data = arrow.binary_column([b"x" * (SLAB_BYTES // 4)] * 4)
    slabs = [Batch.of(shard, data, first_sequence=number * 4, arrival_ms=0) for number in range(SLABS)]
    return cell_of(DESTINATION, "", slabs, now_ms=0)


async def test_what_a_writer_holds_is_taken_from_the_budget_until_it_is_written(tmp_path: Path) -> None:
    budget = ByteBudget(2**30)
    encoder = Hoards(budget)
    sealer = sealer_of(tmp_path, budget, encoder, AsTheyAre(), 1)
    (intent,) = (await sealer.seal([cell_of_slabs()])).intents
    assert (intent.facts["table"], intent.facts["schema_version"]) == ("web.events", "3")
    assert encoder.used_bytes == [number * SLAB_BYTES for number in range(SLABS + 1)]
    assert budget.used_bytes == 0


async def test_what_a_writer_held_comes_back_when_sealing_fails(tmp_path: Path) -> None:
    budget, conversion = ByteBudget(2**30), AsTheyAre()
    conversion.error = UnavailableError("no process")
    sealer = sealer_of(tmp_path, budget, Hoards(budget), conversion, 1)
    with pytest.raises(UnavailableError):
        await sealer.seal([cell_of_slabs()])
    assert budget.used_bytes == 0
    conversion.error = None
    assert (await sealer.seal([cell_of_slabs()])).intents


@pytest.mark.parametrize("conversion", [AsTheyAre(), None], ids=["columns", "records"])
@pytest.mark.parametrize("places", [1, 2])
async def test_only_so_many_objects_are_written_at_once(
    tmp_path: Path, places: int, conversion: AsTheyAre | None
) -> None:
    budget = ByteBudget(2**30)
    encoder = Hoards(budget)
    sealer = sealer_of(tmp_path, budget, encoder, conversion, places)
    await asyncio.gather(*(sealer.seal([cell_of_slabs(shard)]) for shard in ("s", "t", "u", "v")))
    assert (encoder.most_writers, encoder.writers) == (places, 0)
