"""Rows that go to a function as Arrow, and every way its answer can be right or wrong: as it is for JSON."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firehose import arrow
from firehose.records import Batch
from firehose.transforms.arrow_form import ArrowQuestion, read_answer
from firehose.transforms.batch_runtime import ANSWER, _marshal
from firehose.transforms.contract import (
    ANSWER_BYTES,
    DUPLICATED_ID,
    MISSING_ID,
    NULL_DATA,
    PROCESSING_FAILED,
    Answer,
    InvocationError,
)
from firehose.transforms.runtime import MarshalError


def sent(**columns: Any) -> bytes:
    """Return the answer of a function that returned these columns."""
    return _marshal(pa.table(columns))


def places(found: Answer) -> tuple[list[int], list[int], list[int]]:
    """Return the rows that are ok, dropped and failed."""
    return found.ok.tolist(), found.dropped.tolist(), found.failed.tolist()


def reasons(found: Answer) -> list[tuple[str, str]]:
    return list(zip(found.codes, found.messages, strict=True))


def keys(found: Answer) -> list[str | None] | None:
    return None if found.partition_keys is None else found.partition_keys.to_pylist()


# --- what the function gets ------------------------------------------------------------------------------------------


def test_rows_arrive_as_they_are() -> None:
    times = np.array([5, 6, 7, 8])
    data = arrow.binary_column([b"before", b"a", b"", b"\xff\x00"])
    question = ArrowQuestion(Batch.of("s-1", data, first_sequence=7, arrival_ms=times).slice(1))
    (event,) = question.event()
    assert question.event_bytes == len(event)
    rows = pa.ipc.open_stream(event).read_next_batch()
    assert rows.schema.types == [pa.int32(), pa.large_binary(), pa.int64()]
    assert rows.to_pydict() == {"row": [0, 1, 2], "data": [b"a", b"", b"\xff\x00"], "arrival_ms": [6, 7, 8]}
    assert question.event() == [event], "the same at every attempt"


# --- the answer ------------------------------------------------------------------------------------------------------


def test_rows_are_matched_by_number_in_whatever_order() -> None:
    results = ["ProcessingFailed", "Ok", "Dropped", "Ok"]
    found = read_answer(sent(row=[3, 0, 2, 1], data=[b"x", b"one", None, b""], result=results), 4)
    assert places(found) == ([0, 1], [2], [3])
    assert found.data.to_pylist() == [b"one", b""]
    assert reasons(found) == [PROCESSING_FAILED]
    assert (list(found.details), found.partition_keys) == ([""], None)


def test_without_a_result_rows_are_ok_and_their_data_is_not_copied() -> None:
    body = sent(row=[0, 1], data=[b"a", b"b"])
    found = read_answer(body, 2)
    assert (places(found), found.data.to_pylist()) == (([0, 1], [], []), [b"a", b"b"])


def test_each_row_meets_its_own_end() -> None:
    results = ["Ok", "Ok", "Ok", "ProcessingFailed", "Dropped", "never"]
    messages = ["unheard", None, None, "no text", "unheard", None]
    data = [b"a", b"a", None, b"d", b"e", b"f"]
    found = read_answer(sent(row=[1, 1, 2, 4, 0, 99], data=data, result=results, message=messages), 6)
    assert places(found) == ([], [0], [1, 2, 3, 4, 5])
    assert reasons(found) == [DUPLICATED_ID, NULL_DATA, MISSING_ID, PROCESSING_FAILED, MISSING_ID]
    assert list(found.details) == ["", "", "", "no text", ""]


@pytest.mark.parametrize("row", [[], [7], [-1], [None], [2**40]])
def test_rows_that_are_not_returned_fail(row: list[int | None]) -> None:
    found = read_answer(sent(row=pa.array(row, pa.int64()), data=[b"x"] * len(row)), 2)
    assert (places(found), reasons(found)) == (([], [], [0, 1]), [MISSING_ID] * 2)


@pytest.mark.parametrize(
    "given",
    [
        pa.array([[("customer", "42")], None, [("customer", "42")], []], pa.map_(pa.string(), pa.string())),
        pa.array(['{"customer":"42"}', None, '{ "customer": "42" }', "{}"]),
        pa.array(['{"customer":"42"}', None, '{ "customer": "42" }', "null"]).dictionary_encode(),
    ],
)
def test_partition_keys_are_maps_or_json(given: pa.Array) -> None:
    found = read_answer(sent(row=[3, 2, 1, 0], data=[b"x"] * 4, partition_keys=given), 4)
    assert places(found) == ([0, 1, 2, 3], [], [])
    assert keys(found) == [None, '{"customer":"42"}', None, '{"customer":"42"}']


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ('{"a":1}', 'partition_keys has 1 for "a", not a string'),
        ("[]", "partition_keys is [], not an object of strings"),
        ('{"a":', 'partition_keys is "{\\"a\\":", not JSON: '),
        (pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())), 'partition_keys has 1 for "a", not a string'),
    ],
)
def test_partition_keys_that_are_no_strings_fail_their_record_alone(given: Any, message: str) -> None:
    column = (
        pa.array([given, '{"a":"b"}']) if isinstance(given, str) else pa.concat_arrays([given, pa.nulls(1, given.type)])
    )
    found = read_answer(sent(row=[0, 1], data=[b"x", b"y"], partition_keys=column), 2)
    assert (places(found), found.data.to_pylist()) == (([1], [], [0]), [b"y"])
    ((code, text),) = reasons(found)
    assert code == "Lambda.InvalidReturnFormat"
    assert text.startswith(message)
    assert keys(found) in ([None], ['{"a":"b"}'], None)


def ipc(*rows: pa.RecordBatch) -> bytes:
    out = pa.BufferOutputStream()
    with pa.ipc.new_stream(out, rows[0].schema) as writer:
        for each in rows:
            writer.write_batch(each)
    return bytes(out.getvalue())


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "the answer is not Arrow"),
        (b'{"records":[]}', "the answer is not Arrow"),
        (ipc(pa.record_batch({"row": [0]})), "the answer has other columns than were asked for"),
        (ipc(pa.record_batch({"row": [0]}))[:-4], "the answer"),
        (sent(row=[0, 1], data=[b"x", b"y"], result=["Ok", "ok"]), 'result of row 1 is "ok"; allowed: Ok, Dropped'),
        (sent(row=[1, 0], data=[b"x", b"y"], result=[None, "Ok"]), "result of row 1 is null"),
        (sent(row=[0], data=[b"x" * ANSWER_BYTES]), f"Lambda allows {ANSWER_BYTES}"),
    ],
)
def test_an_answer_that_cannot_be_used_fails_the_whole_batch(body: bytes, reason: str) -> None:
    with pytest.raises(InvocationError) as caught:
        read_answer(body, 2)
    assert caught.value.code == "Lambda.FunctionError"
    assert str(caught.value) == "The Lambda function was successfully invoked but it returned an error result."
    assert reason in caught.value.reason
    assert caught.value.is_final


def test_results_of_rows_that_were_not_sent_do_not_matter() -> None:
    found = read_answer(sent(row=[0, 5], data=[b"x", b"y"], result=["Ok", "never"]), 1)
    assert places(found) == ([0], [], [])


# --- what the function returned, put right in the child --------------------------------------------------------------


@pytest.mark.parametrize(
    "returned",
    [
        pa.record_batch({"row": pa.array([0, 1], pa.int32()), "data": pa.array([b"a", b"b"], pa.large_binary())}),
        pa.table({"row": pa.array([0, 1], pa.uint8()), "data": ["a", "b"], "arrival_ms": [1, 2]}),
        pa.table({"row": pa.chunked_array([[0], [1]]), "data": pa.chunked_array([["a"], ["b"]]), "result": ["Ok"] * 2}),
        pa.table({"row": [0, 1], "data": pa.array(["a", "b"]).dictionary_encode(), "message": pa.nulls(2)}),
        pa.table({"row": [0, 1], "data": ["a", "b"], "result": pa.array(["Ok", "Ok"]).dictionary_encode()}),
        pa.table({"row": [0, 1], "data": pa.array(["a", "b"], pa.string_view())}),
    ],
)
def test_columns_of_any_fitting_type_are_taken(returned: Any) -> None:
    found = read_answer(_marshal(returned), 2)
    assert (places(found), found.data.to_pylist()) == (([0, 1], [], []), [b"a", b"b"])
    assert found.data.type == pa.large_binary()


BYTES_AS_KEYS = pa.array([[(b"a", "b")]], pa.map_("binary", "string"))


@pytest.mark.parametrize(
    ("returned", "reason"),
    [
        (None, "the function returned a NoneType, not a pyarrow.RecordBatch"),
        ({"row": [0], "data": [b"x"]}, "the function returned a dict"),
        (pa.table({"data": [b"x"]}), "the function returned no column row"),
        (pa.table({"result": ["Ok"]}), "the function returned no column row and no data"),
        (pa.table({"row": [0], "data": ["x"], "results": ["Ok"]}), "returned results; its columns may be row, data"),
        (pa.table([[0], [1], ["x"]], ["row", "row", "data"]), "returned row, row; its columns may be"),
        (pa.table({"row": ["a"], "data": ["x"]}), "column row is string, which is no int64"),
        (pa.table({"row": [0.5], "data": ["x"]}), "column row is double, which is no int64"),
        (pa.table({"row": [0], "data": [[1]]}), "column data is list<item: int64>, which is no large_binary"),
        (pa.table({"row": [0], "data": ["x"], "result": [b"\xff"]}), "column result is binary, which is no string"),
        (
            pa.table({"row": [0], "data": ["x"], "partition_keys": BYTES_AS_KEYS}),
            "column partition_keys is map<binary, string>, which JSON cannot say",
        ),
    ],
)  # fmt: skip
def test_what_is_no_answer_is_told_by_its_column(returned: Any, reason: str) -> None:
    with pytest.raises(MarshalError) as caught:
        _marshal(returned)
    assert reason in str(caught.value)


# --- anything --------------------------------------------------------------------------------------------------------

RESULTS = st.sampled_from(["Ok", "Dropped", "ProcessingFailed"])
KEYS = st.sampled_from([None, "", "{}", '{"a":"b"}', '{"a":"c"}', '{"a":1}'])
ROW = st.tuples(st.integers(-1, 4) | st.none(), st.binary(max_size=3) | st.none(), RESULTS, KEYS)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(ROW, max_size=6))
def test_any_answer_speaks_of_every_row_once(rows: list[tuple[Any, ...]]) -> None:
    row, data, result, given_keys = zip(*rows, strict=True) if rows else [()] * 4
    answer = pa.record_batch(
        [
            pa.array(row, pa.int64()),
            pa.array(data, pa.large_binary()),
            pa.array(result, pa.string()),
            pa.nulls(len(rows), pa.string()),
            pa.array(given_keys, pa.string()),
        ],
        schema=ANSWER,
    )
    found = read_answer(ipc(answer), 4)
    assert sorted(each for part in places(found) for each in part) == list(range(4))
    assert len(found.ok) == len(found.data) and found.data.null_count == 0
    assert len(found.failed) == len(found.codes) == len(found.messages) == len(found.details)
    assert found.partition_keys is None or len(found.partition_keys) == len(found.ok)
    for at, number in enumerate(found.ok.tolist()):
        assert row.count(number) == 1
        assert found.data[at].as_py() == data[row.index(number)]


def test_bytes_that_are_not_as_they_were_written_fail_the_batch_and_nothing_else() -> None:
    body = sent(row=[0, 1, 2], data=[b"one", b"two", b"three"], result=["Ok"] * 3, partition_keys=['{"a":"b"}'] * 3)
    dice, refused = random.Random(4), 0
    for _ in range(3_000):
        broken = bytearray(body)
        for _ in range(dice.randrange(1, 4)):
            broken[dice.randrange(len(broken))] = dice.randrange(256)
        try:
            found = read_answer(bytes(broken), 3)
        except InvocationError:
            refused += 1
        else:
            assert sorted(each for part in places(found) for each in part) == [0, 1, 2]
            assert sum(len(each.as_py()) for each in found.data) <= len(body)
    assert refused > 300
