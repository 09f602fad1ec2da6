"""A function and a table that take records as they like: by what they say, or otherwise each time they are asked."""

from __future__ import annotations

import asyncio
import random
import zlib
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa

from firehose import arrow
from firehose.delivery.sealer import RECORDS
from firehose.errors import UnavailableError
from firehose.protocols import Converted, Stage, TableSchema
from firehose.records import Batch, FailedRows, Outcome

OK, FAIL, DROP = range(3)

#: How many partitions records go to.
PARTITIONS = 6

#: What a changed record ends in.
CHANGED = b"!"


@dataclass(slots=True)
class Whims:
    """What the function is like. Outlives every process, as code somewhere else does.

    `is_fickle`: it may answer otherwise when it is asked again. `is_repaired`: it fails nothing any more.
    """

    chance: random.Random
    is_fickle: bool
    fails: float = 0.0
    drops: float = 0.0
    changes: float = 0.0
    mismatches: float = 0.0
    breaks: float = 0.0
    slowest_ms: int = 0
    is_repaired: bool = False
    #: Every record that it ever dropped.
    dropped: set[bytes] = field(default_factory=set)

    def transform(self) -> Transform:
        """Return the function as one stream calls it."""
        return Transform(self)

    def conversion(self) -> Conversion | None:
        """Return what turns records into columns, None where nothing does."""
        return Conversion(self) if self.mismatches else None

    def partitioning(self, max_active: int) -> Partitions:
        """Return what says which partition each record goes to."""
        return Partitions(self, max_active)

    def partition(self, record: bytes) -> int | None:
        """Return the partition of a record now, None where it has none."""
        number = int(self._number(record.removesuffix(CHANGED), 4) * 100)
        return None if number >= 90 and not self.is_repaired else number % PARTITIONS

    def fits(self, record: bytes) -> bool:
        """Return whether a record fits the table now."""
        return self.is_repaired or self._number(record, 3) >= self.mismatches

    def fate(self, record: bytes) -> int:
        """Return what becomes of a record now."""
        number = self._number(record, 1)
        if number < self.fails:
            return OK if self.is_repaired else FAIL
        return DROP if number < self.fails + self.drops else OK

    def changed(self, record: bytes) -> bytes:
        """Return the record as the function hands it on."""
        return record + CHANGED if self._number(record, 2) < self.changes else record

    def _number(self, record: bytes, salt: int) -> float:
        return self.chance.random() if self.is_fickle else zlib.crc32(record, salt) / 2**32


class Transform:
    """Fulfils the contract of the same name."""

    def __init__(self, whims: Whims) -> None:
        self._whims = whims

    async def apply(self, batch: Batch) -> Outcome:
        whims = self._whims
        await asyncio.sleep(whims.chance.random() * whims.slowest_ms / 1_000)
        if whims.chance.random() < whims.breaks:
            raise UnavailableError("the function is away")
        records = batch.data.to_pylist()
        fate = np.array([whims.fate(each) for each in records])
        ok = batch.take(np.flatnonzero(fate == OK))
        bad = batch.take(np.flatnonzero(fate == FAIL))
        whims.dropped |= {record for record, each in zip(records, fate.tolist(), strict=True) if each == DROP}
        if whims.changes and len(ok):
            ok = ok.with_data(arrow.binary_column([whims.changed(each) for each in ok.data.to_pylist()]))
        failed = FailedRows.of(Stage.TRANSFORM, bad, codes="X", messages="x", attempts=1, ended_ms=0)
        return Outcome(ok, (failed,), batch.take(np.flatnonzero(fate == DROP)).row_set())

    async def close(self) -> None:
        """Nothing is open."""


class Partitions:
    """Stands for the partitioning of a stream by what a function says."""

    def __init__(self, whims: Whims, max_active: int) -> None:
        self._whims = whims
        self.max_active = max_active

    async def apply(self, batch: Batch) -> tuple[Batch, tuple[FailedRows, ...]]:
        await asyncio.sleep(0)
        found = [self._whims.partition(each) for each in batch.data.to_pylist()]
        is_good = np.array([each is not None for each in found])
        good = batch.where(is_good)
        groups = pa.array([f"{each}" for each in found if each is not None], pa.string())
        bad = batch.where(~is_good)
        failed = FailedRows.of(Stage.PARTITION, bad, codes="Z", messages="z", attempts=1, ended_ms=0)
        return Batch(good.shard, good.rows, good.changed, groups=groups), (failed,) if len(failed) else ()


class Conversion:
    """Stands for the conversion of a table whose only column is the record."""

    def __init__(self, whims: Whims) -> None:
        self._whims = whims

    async def prepare(self) -> Any:
        if self._whims.chance.random() < self._whims.breaks:
            raise UnavailableError("the catalog is away")
        table = TableSchema("web", "events", "1", ())
        return SimpleNamespace(converter=SimpleNamespace(schema=RECORDS), table=table)

    async def convert(self, prepared: Any, data: pa.LargeBinaryArray) -> Converted:
        await asyncio.sleep(0)
        fits = np.array([self._whims.fits(each.removesuffix(CHANGED)) for each in data.to_pylist()], np.bool_)
        columns = pa.RecordBatch.from_arrays([data.filter(pa.array(fits))], schema=RECORDS)
        failed = np.flatnonzero(~fits)
        return Converted(columns, failed, ["Y"] * len(failed), ["y"] * len(failed))
