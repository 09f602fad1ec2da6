"""Which objects a record goes to, by what it says itself: the keys of dynamic partitioning."""

from firehose.partitioning.kernel import SEPARATOR, PartitionKernel, partition_kernel
from firehose.partitioning.query import Query

__all__ = ["SEPARATOR", "PartitionKernel", "Query", "partition_kernel"]
