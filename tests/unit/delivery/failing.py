"""Records that are numbers, and a function that fails some of them."""

from __future__ import annotations

import numpy as np

from firehose.protocols import Stage
from firehose.records import Batch, FailedRows, Outcome


def records(count: int, size: int = 10) -> list[bytes]:
    return [f"{number:0{size}d}".encode() for number in range(count)]


class FailOdd:
    """Fails odd records, drops those divisible by four, upper-cases nothing but marks the rest."""

    async def apply(self, batch: Batch) -> Outcome:
        numbers = [int(each) for each in batch.data.to_pylist()]
        odd = [index for index, number in enumerate(numbers) if number % 2]
        drop = [index for index, number in enumerate(numbers) if number % 4 == 0]
        ok = [index for index, number in enumerate(numbers) if number % 4 == 2]
        failed = FailedRows.of(
            Stage.TRANSFORM,
            batch.take(_indices(odd)),
            codes="Lambda.ProcessingFailedStatus",
            messages="no",
            attempts=1,
            ended_ms=5,
        )
        from firehose import arrow

        kept = batch.take(_indices(ok))
        kept = kept.with_data(arrow.binary_column([b"ok" + each for each in kept.data.to_pylist()]))
        return Outcome(kept, (failed,), batch.take(_indices(drop)).row_set())

    async def close(self) -> None:
        pass


def _indices(values):
    return np.array(values, np.int64)
