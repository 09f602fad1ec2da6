"""Dynamic partitioning in a worker: the group of each row, and how many groups may be active at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

import numpy as np
import pyarrow as pa

from firehose.clock import Clock
from firehose.kernels import Kernel, Kernels
from firehose.protocols import Stage
from firehose.records import Batch, FailedRows

#: Why a record has no partition although it names one, in Firehose's words.
LIMIT_EXCEEDED: Final = "DynamicPartitioning.ActivePartitionsLimitExceeded"
LIMIT_MESSAGE: Final = "The limit of active partitions is exceeded."


class Partitioning:
    """Gives rows their groups. Stateless: how many groups there are, `ActivePartitions` knows."""

    def __init__(self, kernel: Kernel, kernels: Kernels, clock: Clock, *, max_active: int) -> None:
        self._kernel = kernel
        self._kernels = kernels
        self._clock = clock
        self.max_active = max_active

    async def apply(self, batch: Batch) -> tuple[Batch, tuple[FailedRows, ...]]:
        """Return the rows that have a group, with it, and those that have none.

        Errors: those of `Kernels.run`.
        """
        keys = pa.nulls(len(batch), pa.string()) if batch.partition_keys is None else batch.partition_keys
        given = pa.RecordBatch.from_arrays([batch.data, keys], names=["data", "partition_keys"])
        found = await self._kernels.run(self._kernel, given)
        good, failed = found.sort(batch, Stage.PARTITION, ended_ms=self._clock.now_ms())
        return Batch(good.shard, good.rows, good.changed, groups=found.columns.column("group")), failed


class ActivePartitions:
    """Lets rows of at most `limit` groups be under way at once: from their first row in until its object stands.

    `holding`: yields the groups that rows and objects wait for.
    """

    def __init__(self, limit: int, holding: Callable[[], Iterable[str]], clock: Clock) -> None:
        self.limit = limit
        self._holding = holding
        self._clock = clock
        #: Groups of rows that were let in and are in no cell yet.
        self._coming: Counter[str] = Counter()

    @property
    def names(self) -> set[str]:
        """The groups that are active."""
        return {*self._holding(), *self._coming}

    def admit(self, batch: Batch) -> tuple[Batch, tuple[FailedRows, ...]]:
        """Return the rows that may go on, and those of groups that would be too many. `arrived` must follow."""
        assert batch.groups is not None
        groups = batch.groups.dictionary_encode()
        words, active = groups.dictionary.to_pylist(), self.names
        fresh = [word for word in words if word not in active]
        refused = set(fresh[max(0, self.limit - len(active)) :])
        self._coming.update(word for word in words if word not in refused)
        if not refused:
            return batch, ()
        is_refused = np.array([word in refused for word in words])[groups.indices.to_numpy()]
        failed = FailedRows.of(
            Stage.ACTIVE_PARTITIONS,
            batch.where(is_refused),
            codes=LIMIT_EXCEEDED,
            messages=LIMIT_MESSAGE,
            details=f"{self.limit} partitions are active already; see `partition.max_active`",
            attempts=1,
            ended_ms=self._clock.now_ms(),
        )
        return batch.where(~is_refused), (failed,)

    def arrived(self, batch: Batch) -> None:
        """Say that admitted rows are in their cells now."""
        if batch.groups is not None:
            self._coming.subtract(batch.groups.unique().to_pylist())
            self._coming = +self._coming
