"""What must hold for any table and any bytes, whatever the deserializer."""

from __future__ import annotations

from decimal import localcontext

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from firehose import arrow
from firehose.converters import records
from firehose.converters.failures import INVALID_RECORD, MALFORMED_DATA, PARSE_ERROR, RecordError
from firehose.converters.hive import HiveConfig
from firehose.converters.json_text import read_objects
from firehose.converters.openx import OpenXConfig
from firehose.protocols import TableSchema
from tests.unit.converters.tables import Case, cases

relaxed = settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=50)

CONFIGS: dict[str, OpenXConfig | HiveConfig] = {
    "openx": OpenXConfig(),
    "hive": HiveConfig(timestamp_formats=["yyyyMMddHHmmss", "millis"]),
}
both = pytest.mark.parametrize("deserializer", CONFIGS)


@both
@relaxed
@given(data=st.data())
def test_records_that_fit_their_table_come_out_as_they_went_in(deserializer: str, data: st.DataObject) -> None:
    case = data.draw(cases(deserializer=deserializer))
    converted = CONFIGS[deserializer].build(case.schema).convert(arrow.binary_column(case.records))
    assert list(converted.messages) == []
    assert converted.columns.to_pylist(maps_as_pydicts="strict") == case.rows


@both
@relaxed
@given(data=st.data(), between=st.sampled_from(["", "\n", " \r\n"]))
def test_records_glued_together_hold_the_same_rows(deserializer: str, data: st.DataObject, between: str) -> None:
    case = data.draw(cases(deserializer=deserializer))
    glued = between.join(record.decode() for record in case.records).encode() or b"{}"
    converted = CONFIGS[deserializer].build(case.schema).convert(arrow.binary_column([glued]))
    empty = [dict.fromkeys(name for name, _ in case.schema.columns)]
    assert converted.columns.to_pylist(maps_as_pydicts="strict") == (case.rows or empty)


@st.composite
def _mutated(draw: st.DrawFn, deserializer: str) -> Case:
    """Return a case whose records had a few bytes removed, doubled or replaced."""
    case = draw(cases(deserializer=deserializer))
    records = []
    for record in case.records:
        body = bytearray(record)
        for _ in range(draw(st.integers(0, 3))):
            at = draw(st.integers(0, len(body)))
            end = at + draw(st.integers(0, 3))
            body[at:end] = draw(
                st.sampled_from([b"", b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"\\ud800", b"0", b"-", b"1e9"])
                | st.sampled_from([b"NaN", b"null", b"\xff", b"\x00", b"\xef\xbb\xbf", b" ", b"\n", b'"x":1,'])
                | st.just(bytes(body[at : at + 20]))
                | st.binary(max_size=2)
            )
        records.append(bytes(body))
    return Case(case.schema, records, case.rows)


@both
@relaxed
@given(data=st.data())
def test_every_record_is_in_the_columns_or_among_the_failures(deserializer: str, data: st.DataObject) -> None:
    case = data.draw(_mutated(deserializer))
    converter = CONFIGS[deserializer].build(case.schema)
    together = converter.convert(arrow.binary_column(case.records))
    rows, failed = 0, []
    for position, record in enumerate(case.records):
        alone = converter.convert(arrow.binary_column([record]))
        if len(alone.failed):
            assert alone.columns.num_rows == 0
            assert alone.codes[0] in (PARSE_ERROR, MALFORMED_DATA, INVALID_RECORD)
            failed.append((position, alone.codes[0], alone.messages[0]))
        else:
            assert alone.columns.num_rows == len(read_objects(memoryview(record))) > 0
            rows += alone.columns.num_rows
    assert together.columns.num_rows == rows
    assert list(zip(together.failed.tolist(), together.codes, together.messages, strict=True)) == failed
    together.columns.validate(full=True)


@both
@relaxed
@given(record=st.binary(max_size=40))
def test_any_bytes_are_rows_or_a_failure(deserializer: str, record: bytes) -> None:
    try:
        expected = len(read_objects(memoryview(record)))
    except RecordError:
        expected = 0
    converter = CONFIGS[deserializer].build(TableSchema("db", "t", "1", (("a", "string"),)))
    assert converter.convert(arrow.binary_column([record])).columns.num_rows in (0, expected)


@both
@relaxed
@given(data=st.data(), chunk_bytes=st.integers(1, 200))
def test_the_size_of_chunks_changes_nothing(deserializer: str, data: st.DataObject, chunk_bytes: int) -> None:
    case = data.draw(cases(deserializer=deserializer))
    bodies = [each for record in case.records for each in (record, b"{", b'{"other":1}')]
    converter = CONFIGS[deserializer].build(case.schema)
    whole = converter.convert(arrow.binary_column(bodies))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "CHUNK_BYTES", chunk_bytes)
        pieces = converter.convert(arrow.binary_column(bodies))
    assert pieces.columns.equals(whole.columns)
    assert (pieces.failed.tolist(), pieces.remarks) == (whole.failed.tolist(), whole.remarks)


@relaxed
@given(cases())
def test_the_decimal_context_of_the_caller_changes_nothing(case: Case) -> None:
    converter = OpenXConfig().build(case.schema)
    data = arrow.binary_column(case.records)
    expected = converter.convert(data).columns
    with localcontext(prec=1):
        assert converter.convert(data).columns.equals(expected)
