"""Records end to end."""

from __future__ import annotations

from io import BytesIO

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firehose import arrow
from firehose.encoders import records
from firehose.encoders.records import Delimiter, RecordsEncoder

DELIMITERS: tuple[Delimiter, ...] = ("newline", "between", "none")


def encoded(delimiter: Delimiter, *batches: list[bytes]) -> bytes:
    out = BytesIO()
    writer = RecordsEncoder(delimiter).open(out, pa.schema([("data", pa.large_binary())]))
    for each in batches:
        writer.write(pa.RecordBatch.from_arrays([arrow.binary_column(each)], names=["data"]))
    assert writer.close().rows == sum(map(len, batches))
    return out.getvalue()


def expected(delimiter: Delimiter, rows: list[bytes]) -> bytes:
    if delimiter == "between":
        return b"\n".join(rows)
    return b"".join(row + b"\n" * (delimiter == "newline" and not row.endswith(b"\n")) for row in rows)


@pytest.mark.parametrize(
    ("delimiter", "body"),
    [("none", b"abcabcabc"), ("between", b"abc\nabc\nabc"), ("newline", b"abc\nabc\nabc\n")],
)
def test_what_stands_between_records(delimiter: Delimiter, body: bytes) -> None:
    assert encoded(delimiter, [b"abc"] * 3) == body
    assert encoded(delimiter, [b"abc"], [b"abc"] * 2) == body


def test_a_record_that_ends_in_a_line_feed_gets_no_second_one() -> None:
    assert encoded("newline", [b"a\n", b"b", b"c\n\n", b"\n"]) == b"a\nb\nc\n\n\n"
    assert encoded("between", [b"a\n", b"b"]) == b"a\n\nb", "Firehose adds one all the same"


def test_an_empty_record_is_an_empty_line() -> None:
    assert encoded("newline", [b"", b"a\n", b"", b""]) == b"\na\n\n\n"
    assert encoded("newline", [b""]) == b"\n"
    assert encoded("between", [b"", b"", b""]) == b"\n\n"


@pytest.mark.parametrize("delimiter", DELIMITERS)
@given(batches=st.lists(st.lists(st.sampled_from([b"", b"\n", b"a", b"a\n", b"\na", b"abc"]), max_size=5), max_size=4))
def test_any_records_in_any_batches_and_pieces(delimiter: Delimiter, batches: list[list[bytes]]) -> None:
    whole = expected(delimiter, [row for each in batches for row in each])
    assert encoded(delimiter, *batches) == whole
    for piece_bytes in (1, 3):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(records, "PIECE_BYTES", piece_bytes)
            assert encoded(delimiter, *batches) == whole


def test_large_batches_are_copied_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "PIECE_BYTES", 1000)
    sizes: list[int] = []

    class Out(BytesIO):
        def write(self, data: object, /) -> int:
            sizes.append(len(memoryview(data)))  # type: ignore[arg-type]  # a buffer, as the contract says
            return super().write(data)  # type: ignore[arg-type]  # as above

    writer = RecordsEncoder("newline").open(Out(), pa.schema([("data", pa.large_binary())]))
    rows = [b"x" * 99] * 200 + [b"y" * 5000]
    writer.write(pa.RecordBatch.from_arrays([arrow.binary_column(rows)], names=["data"]))
    assert max(sizes) == 5001, "a record is never cut"
    assert sorted(sizes)[-2] <= 1000 + 11
    assert sum(sizes) == 200 * 100 + 5001
