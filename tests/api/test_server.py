"""Signatures, health, metrics, the admin door, and whatever knocks at the wrong one."""

from __future__ import annotations

import asyncio
import io
import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from firehose.api import bodies, target
from firehose.clock import SystemClock
from firehose.errors import ConflictError, NotFoundError, ThrottledError, UnavailableError
from firehose.telemetry import UnexpectedError

KEYS = {"AKIDGOOD": "good secret", "AKIDOTHER": "other secret"}
MINUTE_MS = 60_000


async def test_a_right_signature_is_let_in(running: Any, boto: Any) -> None:
    async with running(credentials=KEYS, now_ms=SystemClock().now_ms()) as face:
        face.service.add("clicks")
        for key, secret in KEYS.items():
            async with boto(face, key=key, secret=secret) as client:
                await client.put_record(DeliveryStreamName="clicks", Record={"Data": b"x" * 100_000})
                await client.describe_delivery_stream(DeliveryStreamName="clicks")
        assert len(face.service.taken["clicks"]) == 2


@pytest.mark.parametrize(
    ("key", "secret", "skew_ms", "code", "message"),
    [
        ("AKIDGOOD", "wrong", 0, "InvalidSignatureException", "does not match the signature you provided"),
        ("AKIDNONE", "good secret", 0, "UnrecognizedClientException", "security token included in the request is inv"),
        ("AKIDGOOD", "good secret", 16 * MINUTE_MS, "InvalidSignatureException", "Signature expired"),
        ("AKIDGOOD", "good secret", -16 * MINUTE_MS, "InvalidSignatureException", "Signature not yet current"),
    ],
)
async def test_a_wrong_signature_is_not(
    running: Any, boto: Any, key: str, secret: str, skew_ms: int, code: str, message: str
) -> None:
    now_ms = SystemClock().now_ms() + skew_ms
    async with running(credentials=KEYS, now_ms=now_ms) as face, boto(face, key=key, secret=secret) as client:
        face.service.add("clicks")
        with pytest.raises(ClientError, match=message) as found:
            await client.put_record(DeliveryStreamName="clicks", Record={"Data": b"x"})
        assert found.value.response["Error"]["Code"] == code
        assert found.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
        assert face.service.taken == {}


async def test_a_clock_14_minutes_off_is_near_enough(running: Any, boto: Any) -> None:
    for skew_ms in (14 * MINUTE_MS, -14 * MINUTE_MS):
        now_ms = SystemClock().now_ms() + skew_ms
        async with (
            running(credentials=KEYS, now_ms=now_ms) as face,
            boto(face, key="AKIDGOOD", secret="good secret") as client,
        ):
            await client.list_delivery_streams()


async def test_without_a_signature_nothing_is_read(running: Any) -> None:
    async with running(credentials=KEYS) as face:
        assert await face.refused("ListDeliveryStreams", {}) == (
            "MissingAuthenticationTokenException",
            "Missing Authentication Token",
        )
        status, answer, _ = await face.call("ListDeliveryStreams", {}, Authorization="Basic eDp5")
        assert (status, answer["__type"]) == (400, "IncompleteSignatureException")
        assert {event.body_bytes for event in face.telemetry.events} == {0}


async def test_without_keys_any_signature_will_do(face: Any, boto: Any) -> None:
    async with boto(face, key="whoever", secret="whatever") as client:
        assert (await client.list_delivery_streams())["DeliveryStreamNames"] == ["clicks"]


async def test_web_pages_may_not_send_to_an_open_service(face: Any) -> None:
    status, answer, _ = await face.call("ListDeliveryStreams", {}, Origin="https://evil.example")
    assert (status, answer["__type"]) == (400, "AccessDeniedException")
    url = f"{face.url}/streams/clicks/records"
    async with face.session.post(url, data=b"x", headers={"Origin": "null"}) as response:
        assert response.status == 401
    assert face.service.taken == {}


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"X-Amz-Target": ""}, 400, "UnknownOperationException"),
        ({"X-Amz-Target": "Firehose_20150804.Nonsense"}, 400, "UnknownOperationException"),
        ({"X-Amz-Target": "Kinesis_20131202.PutRecord"}, 400, "UnknownOperationException"),
        ({"X-Amz-Target": "PutRecord"}, 400, "UnknownOperationException"),
        ({"Content-Type": "application/x-amz-cbor-1.1"}, 415, "UnsupportedMediaTypeException"),
        ({"Content-Type": "text/plain"}, 415, "UnsupportedMediaTypeException"),
        ({"Content-Type": "application/x-amz-json-1.1; charset=utf-8"}, 200, None),
        ({"Content-Encoding": "gzip"}, 400, "SerializationException"),
    ],
)
async def test_calls_are_told_apart_by_their_headers(
    face: Any, headers: dict[str, str], status: int, code: str | None
) -> None:
    body = b"\x1f\x8b" if "Content-Encoding" in headers else {}
    found, answer, answered = await face.call("ListDeliveryStreams", body, **headers)
    assert (found, answer.get("__type"), answered.get("x-amzn-ErrorType")) == (status, code, code)
    assert answered["Content-Type"] == "application/x-amz-json-1.1"


async def test_strays_get_an_answer_too(face: Any) -> None:
    async with face.session.get(face.url) as response:
        assert response.status == 405
        assert json.loads(await response.read())["__type"] == "UnknownOperationException"
    async with face.session.get(f"{face.url}/favicon.ico") as response:
        assert response.status == 404
        assert json.loads(await response.read()) == {"code": "NotFound", "message": "GET /favicon.ico: Not Found"}


async def test_a_body_too_large_for_any_batch_is_refused_before_it_is_read(face: Any) -> None:
    too_large = io.BytesIO(bytes(target.MAX_BODY_BYTES + 1))
    headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "Firehose_20150804.PutRecordBatch"}
    async with face.session.post(face.url, data=too_large, headers=headers) as response:
        assert response.status == 413
        assert json.loads(await response.read())["__type"] == "RequestEntityTooLargeException"
    assert face.telemetry.events[-1].body_bytes == 0


async def test_too_many_bytes_under_way_throttle_producers(running: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "MAX_TOTAL_BYTES", 100)
    async with running() as face:
        face.service.add("clicks")
        face.service.gate.clear()
        body = json.dumps({"DeliveryStreamName": "clicks", "Record": {"Data": "YQ=="}}).encode()
        first = asyncio.create_task(face.call("PutRecord", body))
        await face.service.waiting.acquire()
        status, answer, _ = await face.call("PutRecord", body)
        assert (status, answer["__type"]) == (500, "ServiceUnavailableException")
        face.service.gate.set()
        assert (await first)[0] == 200
        assert (await face.call("PutRecord", body))[0] == 200


async def test_health_says_why_not(face: Any) -> None:
    async def ask(path: str) -> tuple[int, str]:
        async with face.session.get(f"{face.url}/{path}") as response:
            return response.status, await response.text()

    assert await ask("healthz") == (200, "ok\n")
    assert await ask("readyz") == (200, "ok\n")
    face.health.ready = (False, "taking up streams")
    face.health.live = (False, "the event loop stood still")
    assert await ask("readyz") == (503, "taking up streams\n")
    assert await ask("healthz") == (503, "the event loop stood still\n")


async def test_metrics_count_requests(face: Any) -> None:
    await face.call("ListDeliveryStreams", {})
    await face.call("Nonsense", {})
    async with face.session.get(f"{face.url}/metrics") as response:
        assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        text = await response.text()
    assert 'firehose_requests_total{code="OK",operation="ListDeliveryStreams"} 1.0' in text
    assert 'firehose_requests_total{code="UnknownOperationException",operation="unknown"} 1.0' in text
    assert 'firehose_request_seconds_count{operation="ListDeliveryStreams"} 1.0' in text


async def admin_call(
    face: Any, verb: str, body: bytes = b"{}", token: str = "Bearer open sesame"
) -> tuple[int, dict[str, Any]]:
    url = f"{face.url}/-/admin/{verb}"
    async with face.session.post(url, data=body, headers={"Authorization": token}) as response:
        return response.status, json.loads(await response.read())


async def test_the_admin_door_runs_verbs(running: Any) -> None:
    async def echo(parameters: dict[str, Any]) -> Any:
        return {"got": parameters}

    async with running(admin={"echo": echo}, admin_token="open sesame", credentials=KEYS) as face:
        assert await admin_call(face, "echo", b'{"stream": "clicks"}') == (200, {"got": {"stream": "clicks"}})
        assert await admin_call(face, "echo", b"") == (200, {"got": {}})
        status, answer = await admin_call(face, "nope")
        assert (status, answer["message"]) == (404, "no admin verb 'nope'; verbs: echo")
        assert (await admin_call(face, "echo", b"{"))[0] == 400
        assert (await admin_call(face, "echo", b"[]"))[0] == 400
        for token in ("Bearer wrong", "Bearer ", "Basic open sesame", "open sesame", ""):
            assert (await admin_call(face, "echo", token=token))[0] == 401


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (NotFoundError("no stream 'x'"), 404, "NotFound"),
        (ConflictError("in use"), 409, "Conflict"),
        (ThrottledError("later"), 503, "ServiceUnavailableException"),
        (UnavailableError("the disk"), 500, "InternalFailure"),
        (KeyError("a bug"), 500, "InternalFailure"),
    ],
)
async def test_errors_behind_the_admin_door(running: Any, error: Exception, status: int, code: str) -> None:
    async def fail(_parameters: dict[str, Any]) -> Any:
        raise error

    async with running(admin={"fail": fail}, admin_token="open sesame") as face:
        found, answer = await admin_call(face, "fail")
        assert (found, answer["code"]) == (status, code)
        told = [event for event in face.telemetry.events if isinstance(event, UnexpectedError)]
        assert bool(told) == isinstance(error, KeyError)


async def test_without_a_token_the_admin_door_stays_shut(running: Any) -> None:
    async def echo(parameters: dict[str, Any]) -> Any:
        raise AssertionError("ran")

    async with running(admin={"echo": echo}) as face:
        assert (await admin_call(face, "echo", token="Bearer "))[0] == 401
    async with running() as face:
        assert (await admin_call(face, "echo"))[0] == 404


@pytest.mark.parametrize("header", [b"amz-sdk-invocation-id", b"X-Amz-Target", b"Content-Type", b"Authorization"])
@pytest.mark.parametrize("keys", [{}, KEYS])
async def test_headers_need_not_be_text(running: Any, header: bytes, keys: dict[str, str]) -> None:
    async with running(credentials=keys) as face:
        face.service.add("clicks")
        sent = {
            b"Content-Type": b"application/x-amz-json-1.1",
            b"X-Amz-Target": b"Firehose_20150804.PutRecord",
            b"Content-Length": b"60",
            header: b"Basic \xff\xfe",
        }
        host, port = face.url.removeprefix("http://").split(":")
        for path in (b"/", b"/streams/clicks/records", b"/streams/%FF/records"):
            reader, writer = await asyncio.open_connection(host, int(port))
            lines = b"".join(name + b": " + value + b"\r\n" for name, value in sent.items())
            body = b'{"DeliveryStreamName":"clicks","Record":{"Data":"YQ=="}}    '
            writer.write(b"POST " + path + b" HTTP/1.1\r\nHost: x\r\n" + lines + b"\r\n" + body)
            status = int((await reader.readline()).split()[1])
            assert status < 500, path
            writer.close()
            await writer.wait_closed()
        assert not [event for event in face.telemetry.events if isinstance(event, UnexpectedError)]
