"""What must hold for any table and any bytes."""

from __future__ import annotations

from decimal import localcontext

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from firehose import arrow
from firehose.converters import openx
from firehose.converters.failures import MALFORMED_DATA, PARSE_ERROR, RecordError
from firehose.converters.json_text import read_objects
from firehose.converters.openx import OpenXConfig
from firehose.protocols import TableSchema
from tests.unit.converters.tables import Case, cases

relaxed = settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=50)


@relaxed
@given(cases())
def test_records_that_fit_their_table_come_out_as_they_went_in(case: Case) -> None:
    converted = OpenXConfig().build(case.schema).convert(arrow.binary_column(case.records))
    assert list(converted.messages) == []
    assert converted.columns.to_pylist(maps_as_pydicts="strict") == case.rows


@relaxed
@given(cases(), st.sampled_from(["", "\n", " \r\n"]))
def test_records_glued_together_hold_the_same_rows(case: Case, between: str) -> None:
    glued = between.join(record.decode() for record in case.records).encode() or b"{}"
    converted = OpenXConfig().build(case.schema).convert(arrow.binary_column([glued]))
    empty = [dict.fromkeys(name for name, _ in case.schema.columns)]
    assert converted.columns.to_pylist(maps_as_pydicts="strict") == (case.rows or empty)


@st.composite
def _mutated(draw: st.DrawFn) -> Case:
    """Return a case whose records had a few bytes removed, doubled or replaced."""
    case = draw(cases())
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


@relaxed
@given(_mutated())
def test_every_record_is_in_the_columns_or_among_the_failures(case: Case) -> None:
    converter = OpenXConfig().build(case.schema)
    together = converter.convert(arrow.binary_column(case.records))
    rows, failed = 0, []
    for position, record in enumerate(case.records):
        alone = converter.convert(arrow.binary_column([record]))
        if len(alone.failed):
            assert alone.columns.num_rows == 0
            assert alone.codes[0] in (PARSE_ERROR, MALFORMED_DATA)
            failed.append((position, alone.codes[0], alone.messages[0]))
        else:
            assert alone.columns.num_rows == len(read_objects(memoryview(record))) > 0
            rows += alone.columns.num_rows
    assert together.columns.num_rows == rows
    assert list(zip(together.failed.tolist(), together.codes, together.messages, strict=True)) == failed
    together.columns.validate(full=True)


@relaxed
@given(st.binary(max_size=40))
def test_any_bytes_are_rows_or_a_failure(record: bytes) -> None:
    try:
        expected = len(read_objects(memoryview(record)))
    except RecordError:
        expected = 0
    converter = OpenXConfig().build(TableSchema("db", "t", "1", (("a", "string"),)))
    assert converter.convert(arrow.binary_column([record])).columns.num_rows in (0, expected)


@relaxed
@given(case=cases(), chunk_bytes=st.integers(1, 200))
def test_the_size_of_chunks_changes_nothing(case: Case, chunk_bytes: int) -> None:
    records = [each for record in case.records for each in (record, b"{", b'{"other":1}')]
    converter = OpenXConfig().build(case.schema)
    whole = converter.convert(arrow.binary_column(records))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(openx, "CHUNK_BYTES", chunk_bytes)
        pieces = converter.convert(arrow.binary_column(records))
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
