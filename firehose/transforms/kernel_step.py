"""A transform that is a kernel: each record has the same answer whenever it is asked, and only CPU is needed for it."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from firehose import arrow
from firehose.clock import Clock
from firehose.components import BuildContext
from firehose.kernels import Kernel, Kernels
from firehose.protocols import Converted, Stage
from firehose.records import Batch, FailedRows, Outcome, RowSet


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
        is_good = np.ones(len(batch), np.bool_)
        is_good[found.failed] = False
        ok, dropped = batch.where(is_good), RowSet()
        if self._kernel.schema.names:
            data = found.columns.column("data")
            is_kept = arrow.is_valid(data)
            dropped = ok.where(~is_kept).row_set()
            ok = ok.where(is_kept).with_data(data.drop_null())
        failed = (self._failures(batch, found),) if len(found.failed) else ()
        return Outcome(ok, failed, dropped).check(batch)

    def _failures(self, batch: Batch, found: Converted) -> FailedRows:
        return FailedRows.of(
            self._stage,
            batch.take(found.failed),
            codes=found.codes,
            messages=found.messages,
            details=found.details or "",
            attempts=1,
            ended_ms=self._clock.now_ms(),
        )

    async def close(self) -> None:
        """Nothing is open."""
