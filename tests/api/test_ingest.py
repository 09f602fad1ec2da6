"""`POST /streams/NAME/records`: what curl sends."""

from __future__ import annotations

import asyncio
import base64
import gzip
import io
import json
from typing import Any

import pytest
import zstandard
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from firehose.api import bodies, ingest
from firehose.clock import SystemClock
from firehose.errors import ThrottledError, UnavailableError

NDJSON = {"Content-Type": "application/x-ndjson"}
JSON = {"Content-Type": "application/json"}


async def send(
    face: Any, body: bytes, stream: str = "clicks", headers: dict[str, str] | None = None
) -> tuple[int, dict[str, Any], Any]:
    url = f"{face.url}/streams/{stream}/records"
    async with face.session.post(url, data=io.BytesIO(body), headers=headers or NDJSON) as response:
        return response.status, json.loads(await response.read()), response.headers


async def test_lines_become_records(face: Any) -> None:
    status, answer, _ = await send(face, b'{"a":1}\n\n  \r\n{"b": 2}\r\nlast')
    assert (status, answer) == (200, {"accepted": 3, "stream": "clicks", "first_record_id": "uid-of-clicks.log-3f2a.0"})
    assert face.service.taken["clicks"] == [b'{"a":1}', b'{"b": 2}', b"last"]


async def test_what_curl_sends_without_options_is_lines_too(face: Any) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    assert (await send(face, b"a=1&b\nc", headers=headers))[0] == 200
    assert face.service.taken["clicks"] == [b"a=1&b", b"c"]


async def test_array_elements_keep_their_bytes(face: Any) -> None:
    body = ' [ {"n":1.10, "é": 1e400},\n12345678901234567890123, "x" ] '.encode()
    assert (await send(face, body, headers=JSON))[0] == 200
    elements = ['{"n":1.10, "é": 1e400}'.encode(), b"12345678901234567890123", b'"x"']
    assert face.service.taken["clicks"] == elements


async def test_one_pretty_document_is_one_record(face: Any) -> None:
    body = b'{\n  "a": 1\n}\n'
    assert (await send(face, body, headers=JSON))[0] == 200
    assert face.service.taken["clicks"] == [body.strip()]


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
async def test_compressed_bodies_are_expanded(face: Any, coding: str) -> None:
    body = b"".join(b'{"n":%d}\n' % number for number in range(1_000))
    packed = gzip.compress(body) if coding == "gzip" else zstandard.compress(body)
    assert (await send(face, packed, headers=NDJSON | {"Content-Encoding": coding}))[1]["accepted"] == 1_000
    assert b"\n".join(face.service.taken["clicks"]) + b"\n" == body


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
async def test_bombs_are_refused_and_nothing_is_taken(face: Any, coding: str) -> None:
    zeros = bytes(300 * 2**20)
    bomb = gzip.compress(zeros, 1) if coding == "gzip" else zstandard.compress(zeros)
    status, answer, _ = await send(face, bomb, headers=NDJSON | {"Content-Encoding": coding})
    assert (status, answer["code"]) == (413, "RequestEntityTooLargeException")
    assert face.service.taken == {}


@pytest.mark.parametrize(
    ("body", "headers", "status", "words"),
    [
        (b"", NDJSON, 400, "no records"),
        (b"\n \r\n", NDJSON, 400, "no records"),
        (b"[]", JSON, 400, "no records"),
        (b"[1,", JSON, 400, "Expecting value at character 3"),
        (b"[1 2]", JSON, 400, "expected ',' or ']' at character 3"),
        (b"[1]]", JSON, 400, "more text behind the array"),
        (b"[NaN]", JSON, 400, "NaN is not JSON"),
        (b'["\xff"]', JSON, 400, "not UTF-8 at byte 2"),
        (b"[" * 100_000, JSON, 400, "nested too deep"),
        (b"x", NDJSON | {"Content-Encoding": "br"}, 415, "allowed are gzip and zstd"),
        (b"x", NDJSON | {"Content-Encoding": "gzip"}, 400, "not valid gzip"),
        (gzip.compress(b"abc" * 100, mtime=0)[:-9], NDJSON | {"Content-Encoding": "gzip"}, 400, "not valid gzip"),
        (zstandard.compress(b"abc" * 100)[:-3], NDJSON | {"Content-Encoding": "zstd"}, 400, "not valid zstd"),
    ],
)
async def test_wrong_bodies_are_refused_whole(
    face: Any, body: bytes, headers: dict[str, str], status: int, words: str
) -> None:
    found, answer, _ = await send(face, body, headers=headers)
    assert (found, words in answer["message"]) == (status, True), answer
    assert face.service.taken == {}


async def test_one_record_too_large_refuses_all_and_is_named(face: Any) -> None:
    body = b"ok\n" + bytes([65]) * 1_024_001 + b"\nok\n"
    status, answer, _ = await send(face, body)
    assert (status, "Record 1 (counting from 0) has 1024001 bytes" in answer["message"]) == (413, True), answer
    assert face.service.taken == {}


async def test_too_many_records_or_bytes_are_refused(face: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "MAX_RECORDS", 3)
    monkeypatch.setattr(ingest, "MAX_BODY_BYTES", 100)
    assert (await send(face, b"1\n2\n3\n4\n"))[0] == 413
    assert (await send(face, b"x" * 101))[0] == 413
    url = f"{face.url}/streams/clicks/records"

    async def unsized() -> Any:
        for _ in range(11):
            yield b"y" * 10

    async with face.session.post(url, data=unsized(), headers=NDJSON) as response:
        assert response.status == 413
    assert face.service.taken == {}


async def test_an_unknown_stream_is_answered_with_the_known_ones(face: Any) -> None:
    face.service.add("orders")
    status, answer, _ = await send(face, b"x", stream="click")
    assert (status, answer["message"]) == (404, "no delivery stream 'click'; there are: clicks, orders")


async def test_throttling_says_when_to_come_back(face: Any) -> None:
    face.service.fail = ThrottledError("the log is full")
    status, answer, headers = await send(face, b"x")
    assert (status, answer["message"], headers["Retry-After"]) == (503, "the log is full", "1")


async def test_a_disk_that_fails_is_500(face: Any) -> None:
    face.service.fail = UnavailableError("fsync failed")
    assert (await send(face, b"x"))[0] == 500


async def test_keys_open_the_route_by_signature_or_basic(running: Any) -> None:
    async with running(credentials={"AKID": "secret"}, now_ms=SystemClock().now_ms()) as face:
        face.service.add("clicks")
        url = f"{face.url}/streams/clicks/records"
        signed = AWSRequest("POST", url, data=b"one\n", headers=NDJSON)
        SigV4Auth(Credentials("AKID", "secret"), "firehose", "us-east-1").add_auth(signed)
        assert (await send(face, b"one\n", headers=dict(signed.headers.items())))[0] == 200
        assert (await send(face, b"two\n", headers=dict(signed.headers.items())))[0] == 401
        for pair, status in ((b"AKID:secret", 200), (b"AKID:wrong", 401), (b"NONE:", 401), (b"\xff:x", 401)):
            basic = {"Authorization": "Basic " + base64.b64encode(pair).decode()}
            assert (await send(face, b"three\n", headers=NDJSON | basic))[0] == status, pair
        assert (await send(face, b"x", headers=NDJSON | {"Authorization": "Basic !"}))[0] == 401
        assert (await send(face, b"x"))[0] == 401
        assert face.service.taken["clicks"] == [b"one", b"three"]


async def test_a_producer_that_hangs_up_midway_is_not_a_bug(face: Any) -> None:
    host, port = face.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST /streams/clicks/records HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nhalf")
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    await face.telemetry.heard.wait()
    (event,) = face.telemetry.events
    assert (event.operation, event.code, event.status) == ("ingest", "RequestAborted", 400)
    assert reader.at_eof() or face.service.taken == {}


async def test_a_broken_chunk_is_refused(face: Any) -> None:
    host, port = face.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = b"POST /streams/clicks/records HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    writer.write(head + b"5\r\nhello\r\nzz\r\n")
    assert b" 400 " in await reader.readline()
    writer.close()
    await writer.wait_closed()
    assert face.service.taken == {}


async def test_a_body_that_never_ends_is_given_up(face: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "MAX_READ_S", 0.05)
    host, port = face.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST /streams/clicks/records HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nhalf")
    assert b" 408 " in await reader.readline()
    writer.close()
    await writer.wait_closed()


async def test_an_idempotency_key_names_a_put(face: Any) -> None:
    for body, key in ((b"a", "k"), (b"a", "k"), (b"b", "k"), (b"a", "l"), (b"a", "")):
        await send(face, body, headers=NDJSON | ({"Idempotency-Key": key} if key else {}))
    first, again, other_body, other_key, without = face.service.tokens
    assert first == again and without == b"" and len({first, other_body, other_key}) == 3


async def test_an_idempotency_key_names_a_body_as_it_was_understood(face: Any) -> None:
    """Sent as lines by mistake, and again as an array: other records."""
    for kind in ("application/x-ndjson", "application/json"):
        await send(face, b"[1]", headers={"Content-Type": kind, "Idempotency-Key": "k"})
    assert len(set(face.service.tokens)) == 2
