"""From records to groups: the values of a prefix's partition keys, from a query and from functions."""

from __future__ import annotations

import pyarrow as pa
import pytest

from firehose import arrow
from firehose.partitioning import PartitionKernel
from firehose.protocols import Converted

BOTH = "c=!{partitionKeyFromQuery:c}/k=!{partitionKeyFromLambda:k}/"


def run(kernel: PartitionKernel, records: list[bytes], said: list[str | None] | None = None) -> Converted:
    keys = pa.array(said or [None] * len(records), pa.string())
    return kernel.run(
        pa.RecordBatch.from_arrays([arrow.binary_column(records), keys], names=["data", "partition_keys"])
    )


def test_values_of_both_kinds_make_a_group() -> None:
    records = [b'{"c": 1}', b'{"c": "x"}', b'{"c": 1}', b"{}", b'{"c": 1}', b'{"c": ".."}']
    said = ['{"k":"a"}', '{"k":"b","more":"m"}', None, '{"k":"a"}', '{"k":""}', '{"k":"a"}']
    found = run(PartitionKernel("{c: .c}", BOTH), records, said)
    assert found.columns.column("group").to_pylist() == ["1\na", "x\nb", "..\na"]
    assert found.failed.tolist() == [2, 3, 4]
    assert set(found.codes) == {"DynamicPartitioning.MetadataExtractionFailed"}
    assert found.messages == [
        "partition key 'k' is null or missing",
        "partition key 'c' is null or missing",
        "partition key 'k' is empty",
    ]


def test_records_are_not_read_for_keys_that_functions_give() -> None:
    kernel = PartitionKernel(None, "!{partitionKeyFromLambda:k}/")
    assert run(kernel, [b"no JSON"], ['{"k":"a"}']).columns.column("group").to_pylist() == ["a"]


def test_no_records_are_no_groups() -> None:
    found = run(PartitionKernel("{c: .c}", BOTH), [])
    assert found.columns.schema == PartitionKernel.schema and len(found.columns) == len(found.failed) == 0


@pytest.mark.parametrize(
    ("query", "prefix", "why"),
    [
        (None, BOTH, "the prefix has !{partitionKeyFromQuery:c}, but there is no query"),
        ("{c: .c, d: .d}", BOTH, "the query makes 'd', which the prefix does not hold"),
        (
            "{d: .c}",
            "!{partitionKeyFromQuery:c}/!{partitionKeyFromQuery:d}/",
            "the prefix has !{partitionKeyFromQuery:c}, which",
        ),
        ("{c: .c}", "!{partitionKeyFromLambda:c}/", "the query makes 'c', which the prefix does not hold"),
        (".", "!{partitionKeyFromLambda:c}/", "there is a query, but the prefix holds none of its keys"),
        ("{c: .c}", "plain/", "with partitioning it must hold"),
    ],
)
def test_query_and_prefix_belong_together(query: str | None, prefix: str, why: str) -> None:
    with pytest.raises(ValueError) as refused:
        PartitionKernel(query, prefix)
    assert why in str(refused.value)


def test_a_query_that_jq_cannot_read_shows_when_it_runs_also_without_records() -> None:
    kernel = PartitionKernel("{c: ", BOTH)
    with pytest.raises(ValueError, match="jq cannot read the query"):
        kernel.run(PartitionKernel.nothing)
