"""PutRecord and PutRecordBatch, from boto3 and as bytes on the wire."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest

from firehose.api.events import RequestAnswered, RequestFailed
from firehose.clock import SystemClock
from firehose.errors import InvalidError, ThrottledError, UnavailableError


def batch(*records: bytes, stream: str = "clicks") -> dict[str, Any]:
    return {
        "DeliveryStreamName": stream,
        "Records": [{"Data": base64.b64encode(record).decode()} for record in records],
    }


def one(record: bytes, stream: str = "clicks") -> dict[str, Any]:
    return {"DeliveryStreamName": stream, "Record": {"Data": base64.b64encode(record).decode()}}


async def test_boto3_puts_one_record_and_gets_an_id(face: Any, boto: Any) -> None:
    async with boto(face) as client:
        answer = await client.put_record(DeliveryStreamName="clicks", Record={"Data": b'{"a":1}\n'})
    assert answer["RecordId"] == "uid-of-clicks.log-3f2a.0"
    assert answer["Encrypted"] is False
    assert face.service.taken["clicks"] == [b'{"a":1}\n']


async def test_boto3_puts_a_batch_of_500_in_order(face: Any, boto: Any) -> None:
    records = [bytes([number % 256]) * (number % 7) for number in range(500)]
    async with boto(face) as client:
        answer = await client.put_record_batch(
            DeliveryStreamName="clicks", Records=[{"Data": record} for record in records]
        )
    assert answer["FailedPutCount"] == 0
    ids = [each["RecordId"] for each in answer["RequestResponses"]]
    assert len(set(ids)) == 500
    assert face.service.taken["clicks"] == records


async def test_golden_answer_of_a_batch(face: Any) -> None:
    async with face.session.post(
        face.url,
        data=b'{"DeliveryStreamName":"clicks","Records":[{"Data":"YWJj"},{"Data":""}],"Unknown":{"x":1}}',
        headers={"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "Firehose_20150804.PutRecordBatch"},
    ) as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == "application/x-amz-json-1.1"
        assert len(response.headers["x-amzn-RequestId"]) == 36
        assert await response.read() == (
            b'{"FailedPutCount":0,"Encrypted":false,'
            b'"RequestResponses":[{"RecordId":"uid-of-clicks.log-3f2a.0"},{"RecordId":"uid-of-clicks.log-3f2a.1"}]}'
        )
    assert face.service.taken["clicks"] == [b"abc", b""]


async def test_limits_have_the_codes_of_the_service(face: Any) -> None:
    assert await face.refused("PutRecordBatch", batch(*[b"x"] * 501)) == (
        "ValidationException",
        "1 validation error detected: Value at 'records' failed to satisfy constraint: "
        "Member must have length less than or equal to 500",
    )
    assert await face.refused("PutRecordBatch", batch()) == (
        "ValidationException",
        "1 validation error detected: Value at 'records' failed to satisfy constraint: "
        "Member must have length greater than or equal to 1",
    )
    assert await face.refused("PutRecordBatch", batch(b"ok", bytes(1_024_001))) == (
        "ValidationException",
        "1 validation error detected: Value at 'records.2.member.data' failed to satisfy constraint: "
        "Member must have length less than or equal to 1024000",
    )
    assert await face.refused("PutRecord", one(bytes(1_024_001))) == (
        "ValidationException",
        "1 validation error detected: Value at 'record.data' failed to satisfy constraint: "
        "Member must have length less than or equal to 1024000",
    )
    code, message = await face.refused("PutRecordBatch", batch(*[bytes(900_000)] * 5))
    assert code == "InvalidArgumentException"
    assert "4194304" in message
    assert face.service.taken == {}


async def test_what_is_just_within_the_limits_is_taken(face: Any) -> None:
    assert (await face.call("PutRecord", one(bytes(1_024_000))))[0] == 200
    exactly_4_mib = [bytes(1_024_000)] * 4 + [bytes(4_194_304 - 4 * 1_024_000)]
    assert (await face.call("PutRecordBatch", batch(*exactly_4_mib)))[0] == 200
    assert (await face.call("PutRecordBatch", batch(*[b""] * 500)))[0] == 200
    assert len(face.service.taken["clicks"]) == 506


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        (b"{", "SerializationException", "not valid JSON"),
        (b"", "SerializationException", "not valid JSON"),
        (b"[]", "SerializationException", "LIST can not be converted to a structure"),
        (b'"x"', "SerializationException", "STRING_VALUE can not be converted to a structure"),
        (b"\xff", "SerializationException", "not valid JSON"),
        (b"{}", "ValidationException", "2 validation errors detected"),
        (b'{"DeliveryStreamName":"clicks","Records":{}}', "SerializationException", "STRUCTURE"),
        (b'{"DeliveryStreamName":"clicks","Records":["YQ=="]}', "SerializationException", "STRING_VALUE"),
        (b'{"DeliveryStreamName":"clicks","Records":[null]}', "ValidationException", "'records.1.member'"),
        (b'{"DeliveryStreamName":"clicks","Records":[{}]}', "ValidationException", "'records.1.member.data'"),
        (b'{"DeliveryStreamName":"clicks","Records":[{"Data":7}]}', "SerializationException", "NUMBER_VALUE"),
        (b'{"DeliveryStreamName":"clicks","Records":[{"Data":"YQ"}]}', "SerializationException", "base64"),
        (b'{"DeliveryStreamName":"clicks","Records":[{"Data":"YQ==YQ=="}]}', "SerializationException", "base64"),
        (b'{"DeliveryStreamName":"clicks","Records":[{"Data":"Y Q="}]}', "SerializationException", "base64"),
        (
            b'{"DeliveryStreamName":"clicks","Records":[{"Data":"\xc3\xa9\xc3\xa9"}]}',
            "SerializationException",
            "base64",
        ),
        (b'{"DeliveryStreamName":7,"Records":[{"Data":""}]}', "SerializationException", "a String"),
        (b'{"DeliveryStreamName":"a b","Records":[{"Data":""}]}', "ValidationException", "[a-zA-Z0-9_.-]+"),
    ],
)
async def test_wrong_bodies_are_explained(face: Any, body: bytes, code: str, message: str) -> None:
    found, text = await face.refused("PutRecordBatch", body)
    assert (found, message in text) == (code, True), text
    assert face.service.taken == {}


async def test_unknown_and_inactive_streams_are_told_apart(face: Any) -> None:
    face.service.add("young", status="CREATING")
    assert await face.refused("PutRecord", one(b"x", "nobody")) == (
        "ResourceNotFoundException",
        "Firehose nobody under account 123456789012 not found.",
    )
    assert await face.refused("PutRecordBatch", batch(b"x", stream="young")) == (
        "ResourceNotFoundException",
        "Firehose young is not active in 123456789012 account.",
    )


async def test_throttling_is_told_record_by_record_and_retried_by_producers(face: Any, boto: Any) -> None:
    face.service.fail = ThrottledError("disk full")
    async with boto(face) as client:
        answer = await client.put_record_batch(DeliveryStreamName="clicks", Records=[{"Data": b"a"}, {"Data": b"b"}])
        assert answer["FailedPutCount"] == 2
        entry = {"ErrorCode": "ServiceUnavailableException", "ErrorMessage": "Slow down."}
        assert answer["RequestResponses"] == [entry, entry]
        with pytest.raises(client.exceptions.ServiceUnavailableException, match=r"Slow down\."):
            await client.put_record(DeliveryStreamName="clicks", Record={"Data": b"a"})
    status, answer, _ = await face.call("PutRecord", one(b"a"))
    assert (status, answer) == (500, {"__type": "ServiceUnavailableException", "message": "Slow down."})


async def test_a_disk_that_fails_is_an_internal_failure(face: Any) -> None:
    face.service.fail = UnavailableError("fsync: I/O error on /data")
    status, answer, _ = await face.call("PutRecordBatch", batch(b"a"))
    assert status == 200
    assert answer["FailedPutCount"] == 1
    assert answer["RequestResponses"][0]["ErrorCode"] == "InternalFailure"
    status, answer, _ = await face.call("PutRecord", one(b"a"))
    assert (status, answer["__type"]) == (500, "InternalFailure")
    assert "/data" not in answer["message"]
    failed = [event for event in face.telemetry.events if isinstance(event, RequestFailed)]
    assert [event.reason for event in failed] == ["fsync: I/O error on /data"] * 2


async def test_a_stream_that_takes_no_puts_says_so(face: Any) -> None:
    text = "This operation is not permitted on KinesisStreamAsSource delivery stream type."
    face.service.fail = InvalidError(text)
    assert await face.refused("PutRecord", one(b"a")) == ("InvalidArgumentException", text)


async def test_a_bug_is_answered_told_and_does_not_close_the_service(face: Any) -> None:
    face.service.fail = ZeroDivisionError("a bug")
    status, answer, _ = await face.call("PutRecord", one(b"a"))
    assert (status, answer["__type"]) == (500, "InternalFailure")
    assert "bug" not in answer["message"]
    told = [event for event in face.telemetry.events if "ZeroDivisionError" in getattr(event, "error", "")]
    assert len(told) == 1
    face.service.fail = None
    assert (await face.call("PutRecord", one(b"a")))[0] == 200


async def test_nothing_is_answered_before_it_is_durable(face: Any) -> None:
    face.service.gate.clear()
    calls = [asyncio.create_task(face.call("PutRecordBatch", batch(bytes([number])))) for number in range(50)]
    for _ in calls:
        await face.service.waiting.acquire()
    assert not any(call.done() for call in calls)
    face.service.gate.set()
    answers = await asyncio.gather(*calls)
    assert {status for status, _, _ in answers} == {200}
    ids = [answer["RequestResponses"][0]["RecordId"] for _, answer, _ in answers]
    assert len(set(ids)) == 50
    assert sorted(face.service.taken["clicks"]) == [bytes([number]) for number in range(50)]


async def test_attempts_of_one_call_are_known_by_invocation_and_body(face: Any, boto: Any) -> None:
    async with boto(face) as client:
        await client.put_record(DeliveryStreamName="clicks", Record={"Data": b"a"})
        await client.put_record(DeliveryStreamName="clicks", Record={"Data": b"a"})
    first, again = ({"amz-sdk-invocation-id": "x", "amz-sdk-request": f"attempt={number}; max=4"} for number in (1, 2))
    await face.call("PutRecord", one(b"a"), **first)
    await face.call("PutRecord", one(b"a"), **again)
    await face.call("PutRecord", one(b"b"), **again)
    await face.call("PutRecord", one(b"a"), **{"amz-sdk-invocation-id": "y" * 5_000})
    await face.call("PutRecord", one(b"a"))
    sdk, sdk_again, *attempts, other_body, other_call, without = face.service.tokens
    assert attempts[0] == attempts[1] and without == b""
    assert len({sdk, sdk_again, attempts[0], other_body, other_call}) == 5, "SDKs name each call otherwise"


async def test_a_call_is_known_by_its_principal_too(running: Any, boto: Any) -> None:
    tokens = []
    async with running(credentials={"A": "a", "B": "b"}, now_ms=SystemClock().now_ms()) as face:
        face.service.add("clicks")
        for key, secret in (("A", "a"), ("B", "b"), ("A", "a")):
            async with boto(face, key=key, secret=secret) as client:

                def name_it(params: Any, **_: Any) -> None:
                    params["context"].setdefault("retries", {})["invocation-id"] = "the same"

                client.meta.events.register("before-call", name_it)
                await client.put_record(DeliveryStreamName="clicks", Record={"Data": b"a"})
            tokens.append(face.service.tokens[-1])
    assert tokens[0] == tokens[2] != tokens[1]


async def test_each_request_is_one_event_with_bounded_words(face: Any) -> None:
    await face.call("PutRecordBatch", batch(b"a", b"b", b"c"))
    await face.call("PutRecordBatch", batch())
    face.service.fail = ThrottledError("full")
    await face.call("PutRecordBatch", batch(b"a", b"b"))
    taken, refused, throttled = (event for event in face.telemetry.events if isinstance(event, RequestAnswered))
    assert (taken.operation, taken.code, taken.rows) == ("PutRecordBatch", "OK", 3)
    assert taken.body_bytes > 50
    assert (refused.code, refused.rows) == ("ValidationException", 0)
    assert (throttled.code, throttled.status, throttled.rows) == ("ServiceUnavailableException", 200, 0)
    assert not isinstance(throttled, RequestFailed)
