"""How much goes into one event, what is kept of an answer for each caller, and what a function is called."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firehose import arrow
from firehose.components import StreamIdentity
from firehose.records import Batch, concat_batches
from firehose.transforms.contract import EVENT_BYTES, Answer, FunctionArn, InvocationError, Room, Sizes
from firehose.transforms.json_form import JsonQuestion


def batch_of(*records: bytes, first_sequence: int = 7) -> Batch:
    return Batch.of("s-1", arrow.binary_column(records), first_sequence=first_sequence, arrival_ms=1_767_225_600_123)


def split(batch: Batch, *, max_bytes: int) -> Iterator[Batch]:
    """Yield the rows in pieces, each as large as it may be."""
    sizes, start = Sizes(batch), 0
    while start < len(batch):
        count = Room(max_bytes).take(sizes, start, at_least=1)
        yield batch.slice(start, count)
        start += count


# --- how much goes into one event ------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 300), min_size=1, max_size=60), st.integers(1, 500))
def test_split_keeps_all_rows_in_order_and_pieces_within_the_size(lengths: list[int], max_bytes: int) -> None:
    batch = batch_of(*(b"x" * length for length in lengths))
    pieces = list(split(batch, max_bytes=max_bytes))
    assert concat_batches(pieces).rows.equals(batch.rows)
    for piece, following in zip(pieces, [*pieces[1:], None], strict=True):
        assert piece.data_bytes <= max_bytes or len(piece) == 1
        if following is not None:  # nothing more would have fitted
            assert piece.data_bytes + arrow.byte_lengths(following.data)[0] > max_bytes


@pytest.mark.parametrize("length", [0, 1, 2, 100, 1_000_000])
def test_split_keeps_events_below_lambdas_limit(length: int) -> None:
    count = 120_000 if length < 100 else 14_000_000 // max(length, 100)
    body = pa.py_buffer(b"x" * (count * length))
    column = arrow.binary_column_from_lengths(np.full(count, length, np.int64), body)
    batch = Batch.of("s-1", column, first_sequence=2**62, arrival_ms=9_999_999_999_999)
    pieces = list(split(batch, max_bytes=100_000_000))
    assert sum(len(piece) for piece in pieces) == count
    assert len(pieces) <= 2 + count * (length * 4 // 3 + 140) // EVENT_BYTES
    stream = StreamIdentity(uid="u", name="n" * 64, region="ap-southeast-1", account="123456789012")
    for piece in pieces:
        assert sum(len(part) for part in JsonQuestion(piece, stream).event()) <= EVENT_BYTES


def test_a_row_larger_than_the_size_goes_alone() -> None:
    pieces = split(batch_of(b"aa", b"b" * 50, b"cc", b"dd"), max_bytes=10)
    assert [piece.data.to_pylist() for piece in pieces] == [[b"aa"], [b"b" * 50], [b"cc", b"dd"]]


def test_rows_of_two_batches_share_the_room_of_one_event() -> None:
    room = Room(10)
    assert room.take(Sizes(batch_of(b"x" * 4)), 0) == 1
    assert room.take(Sizes(batch_of(b"x" * 5, b"x" * 5)), 0) == 1
    assert room.take(Sizes(batch_of(b"xx")), 0) == 0
    assert room.take(Sizes(batch_of(b"", b"x", b"")), 0) == 3
    assert room.data_bytes == 0
    assert room.take(Sizes(batch_of(b"xx")), 0, at_least=1) == 1


def test_what_is_larger_than_an_event_as_base64_shares_it_with_nobody() -> None:
    sizes = Sizes(batch_of(b"x" * 3_000_000, b"x" * 1_800_000, b"x" * 5_000_000, b"x"))
    counts, start = [], 0
    while start < 4:
        counts.append(Room(2**30).take(sizes, start, at_least=1))
        start += counts[-1]
    assert counts == [1, 1, 1, 1], "3 and 1.8 MB are 4.8 MB, but 6.4 MB as base64"


# --- answers and errors ----------------------------------------------------------------------------------------------


def test_a_part_of_an_answer_is_told_by_its_own_places() -> None:
    places, keys = np.array([0, 2, 5]), pa.array(["a", None, "c"])
    answer = Answer(
        places, arrow.binary_column([b"0", b"2", b"5"]), np.array([1]), np.array([3, 4]), "34", ["x", "y"], "de", keys
    )
    part = answer.part(2, 5)
    assert (part.ok.tolist(), part.data.to_pylist(), part.dropped.tolist()) == ([0], [b"2"], [])
    assert (part.failed.tolist(), part.codes, part.messages, part.details) == ([1, 2], "34", ["x", "y"], "de")
    assert part.partition_keys is not None and part.partition_keys.to_pylist() == [None]
    assert [len(answer.part(start, start + 1).ok) for start in range(6)] == [1, 0, 1, 0, 0, 1]


def test_halves_of_characters_in_a_reason_are_spelled_out() -> None:
    assert InvocationError(("code", "text"), "a \ud800").reason == "a \\ud800"


# --- ARNs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name", "qualifier", "qualified"),
    [
        ("arn:aws:lambda:eu-west-1:123456789012:function:f_1-x", "f_1-x", None, ":$LATEST"),
        ("arn:aws-cn:lambda:cn-north-1:123456789012:function:f:prod", "f", "prod", ""),
        ("arn:aws:lambda:eu-west-1:123456789012:function:f:$LATEST", "f", "$LATEST", ""),
    ],
)
def test_an_arn_has_parts(text: str, name: str, qualifier: str | None, qualified: str) -> None:
    arn = FunctionArn.parse(text)
    assert (arn.name, arn.qualifier, arn.qualified) == (name, qualifier, text + qualified)
    assert arn.region == text.split(":")[3]


@pytest.mark.parametrize("text", ["", "f", "arn:aws:s3:::bucket", "arn:aws:lambda:eu-west-1:1:function:f"])
def test_what_is_not_the_arn_of_a_function_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not the ARN of a Lambda function"):
        FunctionArn.parse(text)
