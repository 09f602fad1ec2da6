"""What is no HTTP, sent by anybody: an answer, a count, and no traceback."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from firehose.api.events import RequestMalformed
from firehose.telemetry import UnexpectedError

PUT = b"POST /streams/clicks/records HTTP/1.1\r\nHost: x\r\n"

MALFORMED = [
    pytest.param(b"GET / HTTP/1.1\r\nContent-Length: abc\r\n\r\n", "Content-Length: abc", id="length"),
    pytest.param(b"GET / HTTP/1.1\r\nA: " + b"y" * 10_000 + b"\r\n\r\n", "Got more than 8190 bytes", id="long header"),
    pytest.param(b"GET /" + b"y" * 10_000 + b" HTTP/1.1\r\n\r\n", "Got more than 8190 bytes", id="long line"),
    pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "HTTPS traffic on an HTTP port", id="TLS"),
    pytest.param(b"nonsense\r\n\r\n", "Invalid method", id="request line"),
    pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "PRI", id="HTTP/2"),
    pytest.param(b"GET http://[bad HTTP/1.1\r\nHost: x\r\n\r\n", "http://[bad", id="address"),
    pytest.param(PUT + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n", "chunk size", id="chunk"),
    pytest.param(PUT + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "Transfer-Enc", id="both"),
    pytest.param(PUT + b"Content-Length: 3\r\n\r\nabcGARBAGE\r\n\r\n", "Invalid method", id="behind a request"),
]


async def send(face: Any, data: bytes) -> bytes:
    host, port = face.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(data)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


@pytest.mark.parametrize(("data", "reason"), MALFORMED)
async def test_it_is_told_in_one_line_for_those_who_ask(
    face: Any, caplog: pytest.LogCaptureFixture, data: bytes, reason: str
) -> None:
    with caplog.at_level(logging.INFO):
        assert b" 400 Bad Request\r\n" in await send(face, data)
    (event,) = face.telemetry.of(RequestMalformed)
    assert reason in event.reason and len(event.reason) <= 200 and "\n" not in event.reason
    assert event.level == logging.DEBUG
    assert not face.telemetry.of(UnexpectedError)
    assert not caplog.records


async def test_many_make_one_line_and_all_are_counted(face: Any) -> None:
    for _ in range(20):
        await send(face, b"nonsense\r\n\r\n")
    assert len(face.telemetry.of(RequestMalformed)) == 1
    async with face.session.get(f"{face.url}/metrics") as response:
        assert "firehose_malformed_requests_total 20.0" in await response.text()


async def test_a_bug_outside_of_our_handlers_is_told_as_one(face: Any, caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> tuple[bool, str]:
        raise KeyError("a bug")

    face.health.is_ready = fail
    async with face.session.post(f"{face.url}/streams/clicks/records", data=b"x") as response:
        assert response.status == 500
        assert "a bug" not in await response.text()
    (event,) = face.telemetry.of(UnexpectedError)
    assert (event.where, event.level) == ("http", logging.ERROR)
    assert "KeyError: 'a bug'" in event.error and "in fail" in event.error
    assert not [record for record in caplog.records if record.name != "firehose"]


async def test_who_hangs_up_before_its_answer_is_no_bug(face: Any, caplog: pytest.LogCaptureFixture) -> None:
    host, port = face.url.removeprefix("http://").split(":")
    face.service.gate.clear()
    _reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(PUT + b"Content-Length: 3\r\n\r\nabc")
    await face.service.waiting.acquire()
    writer.transport.abort()
    face.service.gate.set()
    await face.telemetry.heard.wait()
    async with face.session.get(f"{face.url}/healthz") as response:
        assert response.status == 200
    assert not face.telemetry.of(UnexpectedError)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
