"""A transform that is a kernel: each record has the same answer whenever it is asked, and only CPU is needed for it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Final

import numpy as np
import pyarrow as pa

from firehose import arrow
from firehose.clock import Clock
from firehose.components import BuildContext
from firehose.kernels import Kernel, Kernels
from firehose.protocols import Converted, Stage
from firehose.records import Batch, Outcome, RowSet


class KernelStep:
    """Applies a kernel to the records of a stream. What it cannot do to a record fails that record, at `stage`.

    A kernel whose columns are `data` changes the records, and drops those that it makes null; one without columns only
    looks at them.
    """

    def __init__(self, kernel: Kernel, kernels: Kernels, clock: Clock, stage: Stage) -> None:
        self._kernel = kernel
        self._kernels = kernels
        self._clock = clock
        self._stage = stage

    @classmethod
    def of(cls, kernel: Kernel, context: BuildContext, stage: Stage) -> KernelStep:
        """Return the transform in a stream."""
        assert context.kernels is not None, "whoever builds transforms has kernels"
        return cls(kernel, context.kernels, context.environment.clock, stage)

    async def apply(self, batch: Batch) -> Outcome:
        """Return what became of every row. Errors: those of `Kernels.run`."""
        found = await self._kernels.run(self._kernel, pa.RecordBatch.from_arrays([batch.data], names=["data"]))
        ok, failed = found.sort(batch, self._stage, ended_ms=self._clock.now_ms())
        dropped = RowSet()
        if self._kernel.schema.names:
            data = found.columns.column("data")
            is_kept = arrow.is_valid(data)
            dropped = ok.where(~is_kept).row_set()
            ok = ok.where(is_kept).with_data(data.drop_null())
        return Outcome(ok, failed, dropped).check(batch)

    async def close(self) -> None:
        """Nothing is open."""


class RecordKernel(ABC):
    """Base of kernels that make another record of each, or null. `code` is what records fail with."""

    code: ClassVar[str]
    schema: Final = pa.schema([pa.field("data", pa.large_binary())])
    releases_gil: Final = False
    words: Mapping[str, Any] = {}

    @property
    def factory(self) -> str:
        return f"{type(self).__module__}:{type(self).__name__}"

    @property
    def ending(self) -> tuple[str, str]:
        return self.code, "The record cannot be read: its process ended, or had no answer in time."

    @abstractmethod
    def make(self, record: bytes) -> bytes | None:
        """Return what the record becomes, None where it is dropped. Errors: ValueError, for people."""

    def run(self, rows: pa.RecordBatch) -> Converted:
        """Return what the records of `data` become, one by one."""
        found: list[bytes | None] = []
        failed: list[int] = []
        messages: list[str] = []
        for number, record in enumerate(rows.column("data").to_pylist()):
            try:
                found.append(self.make(record))
            except ValueError as error:
                failed.append(number)
                messages.append(str(error))
        columns = pa.RecordBatch.from_arrays([pa.array(found, pa.large_binary())], schema=self.schema)
        return Converted(columns, np.array(failed, np.int64), [self.code] * len(failed), messages)
