"""Which records have an id, and which ids are the same."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firehose import arrow
from firehose.deduplication import RecordId
from firehose.records import Batch, concat_batches


def keys(*records: bytes, path: tuple[str, ...] = ("event", "id")) -> list[tuple[int, int] | None]:
    """Return the key of each record, None where it has none."""
    batch = Batch.of("s", arrow.binary_column(records), first_sequence=0, arrival_ms=0)
    found = RecordId(path).identify(batch)
    assert found.entries.sequence.tolist() == np.flatnonzero(found.has_id).tolist()
    halves = iter(zip(found.entries.high.tolist(), found.entries.low.tolist(), strict=True))
    return [next(halves) if has_id else None for has_id in found.has_id]


@pytest.mark.parametrize(
    "record",
    [
        b"",
        b"no JSON",
        b"[1]",
        b'"7"',
        b"7",
        b"{}",
        b'{"event": {}}',
        b'{"event": "id"}',
        b'{"event": ["id"]}',
        b'{"event": {"id": null}}',
        b'{"event": {"id": true}}',
        b'{"event": {"id": ""}}',
        b'{"event": {"id": {"more": 1}}}',
        b'{"event": {"id": [1]}}',
        b'{"event": {"id": "7"}',
        b'{"event": {"id": "7"}}{"event": {"id": "8"}}',
        b'{"event": {"id": "\xff"}}',
        b'{"event": {"id": "\\ud800"}}',
        b"[" * 2_000,
        b'{"event": {"id": 1' + b"0" * 400 + b"}}",
        b'{"event": {"id": 1.5, "deep": ' + b"[" * 1_000 + b"]" * 1_000 + b"}}",
    ],
    ids=lambda record: repr(record[:40]),
)
def test_what_is_no_id(record: bytes) -> None:
    assert keys(record) == [None]


def test_the_same_value_is_the_same_id_however_it_is_written() -> None:
    records = (
        b'{"event": {"id": "a\xc3\xa9"}}',
        b'{"event":{"more":1,"id":"a\\u00e9"},"other":2}',
        b'{"event": {"id": 7}}',
        b' {"event" : {"id":7 }}',
    )
    one, two, three, four = keys(*records)
    assert one == two and three == four and one != three


def test_a_number_and_its_digits_are_two_ids() -> None:
    found = keys(*(b'{"event": {"id": %s}}' % each for each in (b"7", b'"7"', b"7.0", b"-7", b"7e0", b"70")))
    assert None not in found and len(set(found)) == 6


def test_large_numbers_do_not_become_equal_by_rounding() -> None:
    large = [2**53, 2**53 + 1, 2**64, 2**64 + 1, 2**127, 2**127 + 1]
    found = keys(*(b'{"event": {"id": %d}}' % each for each in large))
    assert None not in found and len(set(found)) == len(large)


def test_ids_at_different_paths_are_different_ids() -> None:
    record = b'{"a": {"b": "7"}, "a.b": "7", "c": "7"}'
    found = [keys(record, path=path)[0] for path in (("a", "b"), ("a.b",), ("c",))]
    assert None not in found and len(set(found)) == 3


@given(st.lists(st.one_of(st.text(), st.integers(), st.floats(allow_nan=False, allow_infinity=False)), max_size=20))
def test_ids_are_equal_where_the_values_are(values: list[object]) -> None:
    import orjson

    written = [orjson.dumps(each) if not isinstance(each, int) else b"%d" % each for each in values]
    found = keys(*(b'{"event": {"id": %s}}' % each for each in written))
    for mine, my_key in zip(written, found, strict=True):
        assert (my_key is None) == (mine == b'""')
        assert [each for each, key in zip(written, found, strict=True) if my_key and key == my_key] == (
            [mine] * written.count(mine) if my_key else []
        )


def test_rows_know_each_other_by_shard_sequence_and_sub_sequence() -> None:
    def holders(shard: str) -> list[int]:
        batch = Batch.of(shard, arrow.binary_column([b'{"id": 1}'] * 2), first_sequence=5, arrival_ms=0)
        return RecordId(("id",)).identify(batch).entries.holder.tolist()

    assert len({*holders("one"), *holders("two")}) == 2, "the shard's tag is that of all its whole rows"
    import pyarrow as pa

    batch = Batch.of("one", arrow.binary_column([b'{"id": 1}'] * 3), first_sequence=5, arrival_ms=0)
    columns = {name: batch.rows.column(name) for name in batch.rows.schema.names}
    columns["sub_sequence"] = pa.array([0, 1, 2], pa.int32())
    split = Batch("one", pa.RecordBatch.from_arrays(list(columns.values()), schema=batch.rows.schema))
    found = RecordId(("id",)).identify(concat_batches([batch, split])).entries.holder.tolist()
    assert len(set(found[:3])) == 1 and len(set(found)) == 4
