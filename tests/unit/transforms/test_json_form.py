"""The event of AWS Lambda, and every way a JSON answer can be right or wrong."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firehose import arrow
from firehose.records import ROWS, Batch
from firehose.transforms.contract import (
    ANSWER_BYTES,
    DUPLICATED_ID,
    MISSING_ID,
    NULL_DATA,
    PROCESSING_FAILED,
    Answer,
    InvocationError,
)
from firehose.transforms.json_form import encode_records, event_of, read_answer, record_ids


def batch_of(*records: bytes, first_sequence: int = 7) -> Batch:
    return Batch.of("s-1", arrow.binary_column(records), first_sequence=first_sequence, arrival_ms=1_767_225_600_123)


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def answer(*records: Any) -> bytes:
    return json.dumps({"records": records}).encode()


def ok(record_id: str, data: bytes = b"new") -> dict[str, str]:
    return {"recordId": record_id, "result": "Ok", "data": base64_of(data)}


def places(found: Answer) -> tuple[list[int], list[int], list[int]]:
    """Return the rows that are ok, dropped and failed."""
    return found.ok.tolist(), found.dropped.tolist(), found.failed.tolist()


def reasons(found: Answer) -> list[tuple[str, str]]:
    return list(zip(found.codes, found.messages, strict=True))


# --- the event -------------------------------------------------------------------------------------------------------


def test_the_event_has_the_members_firehose_sends() -> None:
    batch = batch_of(b'{"a":1}\n', b"", b"\xff\x00")
    ids = record_ids(batch)
    pieces = event_of(encode_records(batch, ids), invocation_id="4d2d", stream_arn="arn:stream", region="eu-west-1")
    assert json.loads(b"".join(pieces)) == {
        "invocationId": "4d2d",
        "deliveryStreamArn": "arn:stream",
        "region": "eu-west-1",
        "records": [
            {"recordId": record_id, "approximateArrivalTimestamp": 1_767_225_600_123, "data": data}
            for record_id, data in zip(ids, ["eyJhIjoxfQo=", "", "/wA="], strict=True)
        ],
    }


def test_the_event_of_a_slice_holds_the_rows_of_the_slice() -> None:
    batch = batch_of(b"a", b"bb", b"ccc", b"dddd").slice(1, 2)
    records = json.loads(encode_records(batch, record_ids(batch)))
    assert [base64.b64decode(record["data"]) for record in records] == [b"bb", b"ccc"]


def test_record_ids_have_56_digits_and_never_change() -> None:
    ids = record_ids(batch_of(b"a", b"b"))
    assert ids == record_ids(batch_of(b"a", b"b"))
    assert record_ids(batch_of(b"a", b"b").slice(1)) == ids[1:]
    for record_id in ids:
        assert len(record_id) == 56
        assert record_id.isdecimal()
        assert record_id.startswith("49")


def test_record_ids_tell_shards_sequences_and_parts_apart() -> None:
    def ids(shard: str, sequences: Sequence[int], parts: Sequence[int]) -> list[str]:
        columns = [
            pa.array(sequences, pa.int64()),
            pa.array(parts, pa.int32()),
            pa.array([0] * len(sequences), pa.int64()),
            pa.nulls(len(sequences), pa.string()),
            arrow.binary_column([b""] * len(sequences)),
        ]
        return record_ids(Batch(shard, pa.RecordBatch.from_arrays(columns, schema=ROWS)))

    rows = ([0, 1, 1, 1, 2, 2**63 - 1, 2**63 - 1], [-1, -1, 0, 1, 2**31 - 1, -1, 2**31 - 1])
    found = ids("one", *rows) + ids("two", *rows)
    assert len(set(found)) == len(found)
    assert {len(record_id) for record_id in found} == {56}


# --- the answer ------------------------------------------------------------------------------------------------------


def test_rows_are_matched_by_id_in_whatever_order() -> None:
    found = read_answer(
        answer(
            {"recordId": "4", "result": "ProcessingFailed", "data": "bm9wZQ=="},
            ok("1", b"one"),
            {"recordId": "3", "result": "Dropped"},
            ok("2", b""),
        ),
        ["1", "2", "3", "4"],
    )
    assert places(found) == ([0, 1], [2], [3])
    assert found.data.to_pylist() == [b"one", b""]
    assert reasons(found) == [PROCESSING_FAILED]
    assert found.partition_keys is None


@pytest.mark.parametrize(
    "body",
    [b'{"records":[]}', b"{}", b'{"records":null}', answer(ok("other")), answer({"result": "Ok"}, {"recordId": 1})],
)
def test_ids_that_are_not_returned_fail(body: bytes) -> None:
    found = read_answer(body, ["1", "2"])
    assert places(found) == ([], [], [0, 1])
    assert reasons(found) == [MISSING_ID] * 2


def test_an_id_returned_twice_fails_alone() -> None:
    found = read_answer(answer(ok("1"), ok("2"), {"recordId": "1", "result": "Dropped"}), ["1", "2"])
    assert places(found) == ([1], [], [0])
    assert reasons(found) == [DUPLICATED_ID]


@pytest.mark.parametrize("record", [{"recordId": "1", "result": "Ok"}, {"recordId": "1", "result": "Ok", "data": None}])
def test_ok_without_data_fails_alone(record: dict[str, Any]) -> None:
    found = read_answer(answer(record, ok("2")), ["1", "2"])
    assert places(found) == ([1], [], [0])
    assert reasons(found) == [NULL_DATA]


def test_ids_that_were_not_sent_and_unknown_members_are_ignored() -> None:
    record = ok("1") | {"metadata": {"partitionKeys": {"customer": "42"}}, "more": 1}
    found = read_answer(answer({"recordId": "9", "result": "Maybe", "data": "?"}, record), ["1"])
    assert places(found) == ([0], [], [])


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "the answer is not JSON"),
        (b"null", 'the answer is null, not an object with "records"'),
        (b"[]", "the answer is [], not an object"),
        (b'"text"', 'the answer is "text", not an object'),
        (b'{"records":{}}', '"records" of the answer is {}, not a list'),
        (b'{"records":["1"]}', 'a record of the answer is "1", not an object'),
        (b'{"records":[{"recordId":"1","result":NaN}]}', "the answer is not JSON"),
        (answer({"recordId": "1", "result": "ok", "data": ""}), 'result of record 1 is "ok"; allowed: Ok, Dropped'),
        (answer({"recordId": "1", "data": ""}), "result of record 1 is null"),
        (answer({"recordId": "1", "result": {"a": 1}}), 'result of record 1 is {"a":1}'),
        (answer({"recordId": "1", "result": "Ok", "data": 5}), "data of record 1 is 5, not base64 text"),
        (answer({"recordId": "1", "result": "Ok", "data": "abc"}), "data of record 1 is not base64"),
        (answer({"recordId": "1", "result": "Ok", "data": "YQ"}), "data of record 1 is not base64"),
        (answer({"recordId": "1", "result": "Ok", "data": "YWJj\n"}), "data of record 1 is not base64"),
        (answer({"recordId": "1", "result": "Ok", "data": "-_-_"}), "data of record 1 is not base64"),
        (answer({"recordId": "1", "result": "Ok", "data": "YWJé"}), "data of record 1 is not base64"),
        (b'{"records":[]' + b" " * ANSWER_BYTES + b"}", f"Lambda allows {ANSWER_BYTES}"),
    ],
)
def test_an_answer_that_cannot_be_used_fails_the_whole_batch(body: bytes, reason: str) -> None:
    with pytest.raises(InvocationError) as caught:
        read_answer(body, ["1", "2"])
    assert caught.value.code == "Lambda.FunctionError"
    assert str(caught.value) == "The Lambda function was successfully invoked but it returned an error result."
    assert reason in caught.value.reason
    assert caught.value.is_final


def test_a_long_bad_value_is_cut_in_the_reason() -> None:
    with pytest.raises(InvocationError) as caught:
        read_answer(answer({"recordId": "1", "result": "x" * 10_000}), ["1"])
    assert len(caught.value.reason) < 250


# --- metadata --------------------------------------------------------------------------------------------------------


def with_metadata(record_id: str, metadata: Any) -> dict[str, Any]:
    return ok(record_id) | {"metadata": metadata}


def test_partition_keys_stand_beside_the_records_that_are_ok() -> None:
    found = read_answer(
        answer(
            with_metadata("1", {"partitionKeys": {"customer": "42", "day": 'é "'}, "otfMetadata": {"operation": "x"}}),
            {"recordId": "2", "result": "Dropped", "metadata": {"partitionKeys": {"customer": "7"}}},
            ok("3"),
            with_metadata("4", {"partitionKeys": {"customer": "43"}}),
        ),
        ["1", "2", "3", "4"],
    )
    assert places(found) == ([0, 2, 3], [1], [])
    assert found.partition_keys is not None
    assert found.partition_keys.to_pylist() == ['{"customer":"42","day":"é \\""}', None, '{"customer":"43"}']


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        {},
        {"partitionKeys": None},
        {"partitionKeys": {}},
        {"otfMetadata": 5},
        {"otfMetadata": {"operation": "no"}},
    ],
)
def test_metadata_without_partition_keys_is_none(metadata: Any) -> None:
    found = read_answer(answer(with_metadata("1", metadata)), ["1"])
    assert (places(found), found.partition_keys) == (([0], [], []), None)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"partitionKeys": {"customer": 42}}, 'metadata.partitionKeys has 42 for "customer", not a string'),
        ({"partitionKeys": {"a": "b", "c": None}}, 'metadata.partitionKeys has null for "c", not a string'),
        ({"partitionKeys": {"a": {"b": "c"}}}, 'metadata.partitionKeys has {"b":"c"} for "a", not a string'),
        ({"partitionKeys": "customer=42"}, 'metadata.partitionKeys is "customer=42", not an object of strings'),
        ({"partitionKeys": []}, "metadata.partitionKeys is [], not an object of strings"),
        ("customer", 'metadata is "customer", not an object'),
    ],
)
def test_partition_keys_that_are_no_strings_fail_their_record_alone(metadata: Any, message: str) -> None:
    found = read_answer(
        answer(with_metadata("1", metadata), with_metadata("2", {"partitionKeys": {"a": "b"}})), ["1", "2"]
    )
    assert places(found) == ([1], [], [0])
    assert reasons(found) == [("Lambda.InvalidReturnFormat", message)]
    assert found.partition_keys is not None and found.partition_keys.to_pylist() == ['{"a":"b"}']


# --- anything --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [100, 254, 255, 400, 1_000, 1_023, 1_024, 1_025, 100_000])
@pytest.mark.parametrize(
    "text",
    [
        "DEEP",
        '{"records":DEEP}',
        '{"records":[DEEP]}',
        '{"records":[{"recordId":DEEP}]}',
        '{"records":[{"recordId":"1","result":DEEP}]}',
        '{"records":[{"recordId":"1","result":"Ok","data":DEEP}]}',
        '{"records":[{"recordId":"1","result":"Ok","data":"","metadata":DEEP}]}',
    ],
)
def test_no_depth_is_too_much(text: str, depth: int) -> None:
    check_any_answer(text.replace("DEEP", "[" * depth + "]" * depth).encode(), ["1"])


#: Any JSON, and most of it where an answer is looked at.
TEXTS = st.text(max_size=5) | st.sampled_from(["1", "Ok", "\ud800"])
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
RECORDS = st.fixed_dictionaries(
    {},
    optional={
        "recordId": st.sampled_from(["1", "2", "9"]) | ANY,
        "result": st.sampled_from(["Ok", "Dropped", "ProcessingFailed", "ok"]) | ANY,
        "data": st.sampled_from(["", "YQ==", "YQ", "é", "\ud800"]) | ANY,
        "metadata": ANY | st.fixed_dictionaries({"partitionKeys": ANY}),
    },
)
ANSWERS = ANY | st.fixed_dictionaries({"records": st.lists(RECORDS | ANY, max_size=4) | ANY})


@settings(max_examples=300, deadline=None, derandomize=True)
@given(ANSWERS.map(lambda answer: json.dumps(answer).encode()) | st.binary(max_size=40))
def test_any_answer_speaks_of_every_row_once_or_is_refused(body: bytes) -> None:
    check_any_answer(body, ["1", "2"])


def check_any_answer(body: bytes, ids: list[str]) -> None:
    try:
        found = read_answer(body, ids)
    except InvocationError as error:
        assert error.is_final
        assert len(error.reason.encode()) < 1_000
    else:
        assert sorted(row for rows in places(found) for row in rows) == list(range(len(ids)))
        assert len(found.ok) == len(found.data)
        assert len(found.failed) == len(found.codes) == len(found.messages) == len(found.details)
        assert found.partition_keys is None or len(found.partition_keys) == len(found.ok)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=30))
def test_what_was_sent_comes_back_byte_for_byte(records: list[bytes]) -> None:
    batch = batch_of(*records)
    ids = record_ids(batch)
    sent = json.loads(encode_records(batch, ids))
    body = answer(*({"recordId": each["recordId"], "result": "Ok", "data": each["data"]} for each in reversed(sent)))
    found = read_answer(body, ids)
    assert found.data.to_pylist() == records
    assert found.ok.tolist() == list(range(len(records)))
