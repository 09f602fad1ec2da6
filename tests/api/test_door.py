"""Connections that keep their places for nothing, and what becomes of the others meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from firehose.api import bodies, door
from firehose.api.door import Limits
from firehose.api.events import AcceptFailed, ConnectionsFull, ConnectionTimedOut
from firehose.telemetry import UnexpectedError

SHORT_S = 0.05
LONG_S = 1_000.0
PATIENCE_S = 30

HALF_HEAD = b"POST /streams/clicks/records HTTP/1.1\r\nHost: x\r\n"
PROBE = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


def put(body: bytes, *, length: int | None = None, path: str = "/streams/clicks/records") -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length or len(body)}\r\n\r\n".encode() + body


class Peer:
    """One raw connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    async def answer(self) -> int:
        """Return the status of the next answer, which is read to its end."""
        async with asyncio.timeout(PATIENCE_S):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode()
            lengths = [line.split()[1] for line in head.splitlines() if line.lower().startswith("content-length:")]
            await self._reader.readexactly(int(lengths[0]))
        return int(head.split()[1])

    async def rest(self) -> bytes:
        """Return what comes until the other side closes."""
        async with asyncio.timeout(PATIENCE_S):
            return await self._reader.read()

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()


@asynccontextmanager
async def peers(face: Any, number: int) -> AsyncIterator[list[Peer]]:
    """Connect so many times."""
    host, port = face.url.removeprefix("http://").split(":")
    found = [Peer(*await asyncio.open_connection(host, int(port))) for _ in range(number)]
    try:
        yield found
    finally:
        for each in found:
            await each.close()


@asynccontextmanager
async def serving(running: Any, **limits: Any) -> AsyncIterator[Any]:
    async with running(limits=Limits(**limits)) as face:
        face.service.add("clicks")
        yield face


async def times_out(face: Any, times: int = 2) -> None:
    """Return when so many heads that began now took too long: whatever has the same limit is over as well."""
    for _ in range(times):
        async with peers(face, 1) as (peer,):
            peer.send(HALF_HEAD)
            assert (await peer.rest()).startswith(b"HTTP/1.1 408 ")


async def test_half_a_head_is_given_up(running: Any) -> None:
    async with serving(running, head_s=SHORT_S, idle_s=LONG_S) as face, peers(face, 1) as (peer,):
        peer.send(HALF_HEAD)
        answer = await peer.rest()
        assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n") and b"Connection: close" in answer
        assert [event.code for event in face.telemetry.of(ConnectionTimedOut)] == ["head"]


async def test_a_head_that_trickles_is_given_up_too(running: Any) -> None:
    async with serving(running, head_s=SHORT_S, idle_s=LONG_S) as face, peers(face, 1) as (peer,):
        reading = asyncio.create_task(peer.rest())
        peer.send(HALF_HEAD)
        while not reading.done():
            peer.send(b"X: y\r\n")
            await asyncio.wait([reading], timeout=SHORT_S / 10)
        assert reading.exception() is not None or reading.result().startswith(b"HTTP/1.1 408 ")


async def test_whoever_says_nothing_is_hung_up_on(running: Any) -> None:
    async with serving(running, head_s=SHORT_S, idle_s=LONG_S) as face, peers(face, 1) as (peer,):
        assert await peer.rest() == b""


async def test_between_requests_there_is_more_time(running: Any) -> None:
    async with serving(running, head_s=SHORT_S, idle_s=LONG_S) as face, peers(face, 1) as (peer,):
        peer.send(put(b"one"))
        assert await peer.answer() == 200
        await times_out(face)
        peer.send(put(b"two"))
        assert await peer.answer() == 200
        peer.send(HALF_HEAD)
        assert (await peer.rest()).startswith(b"HTTP/1.1 408 "), "the head of a later request has its limit as well"


async def test_idle_connections_end(running: Any) -> None:
    async with serving(running, head_s=LONG_S / 1e4, idle_s=SHORT_S) as face, peers(face, 1) as (peer,):
        peer.send(put(b"one"))
        assert await peer.answer() == 200
        assert await peer.rest() == b""
        assert [event.code for event in face.telemetry.of(ConnectionTimedOut)] == ["idle"]


async def test_a_request_under_way_is_left_alone(running: Any) -> None:
    async with serving(running, head_s=SHORT_S, idle_s=SHORT_S) as face, peers(face, 2) as (slow, waiting):
        slow.send(put(b"half", length=8))
        face.service.gate.clear()
        waiting.send(put(b"one"))
        async with asyncio.timeout(PATIENCE_S):
            await face.service.waiting.acquire()
        await times_out(face)
        face.service.gate.set()
        assert await waiting.answer() == 200
        slow.send(b"half")
        assert await slow.answer() == 200
        assert face.service.taken["clicks"] == [b"one", b"halfhalf"]


async def test_the_rest_of_a_body_nobody_reads_is_no_head(running: Any) -> None:
    async with serving(running, head_s=SHORT_S, idle_s=LONG_S) as face, peers(face, 1) as (peer,):
        peer.send(put(b"half", length=8, path="/nowhere"))
        assert await peer.answer() == 404
        peer.send(b"ha")
        await times_out(face)
        peer.send(b"lf" + PROBE)
        assert await peer.answer() == 200


async def test_pipelined_requests_are_counted_one_by_one(running: Any) -> None:
    async with serving(running, head_s=SHORT_S, idle_s=LONG_S) as face, peers(face, 1) as (peer,):
        face.service.gate.clear()
        peer.send(put(b"one") + put(b"two") + HALF_HEAD)
        async with asyncio.timeout(PATIENCE_S):
            await face.service.waiting.acquire()
        await times_out(face)
        face.service.gate.set()
        assert [await peer.answer(), await peer.answer()] == [200, 200]
        peer.send(b"Content-Length: 5\r\n\r\nthree")
        assert await peer.answer() == 200
        assert face.service.taken["clicks"] == [b"one", b"two", b"three"]


async def test_who_does_not_read_loses_its_place(running: Any) -> None:
    async with serving(running, connections=1, head_s=SHORT_S, idle_s=SHORT_S) as face:
        face.telemetry.metrics.gauge("large", "x" * 30_000_000, 1)  # more than the sockets' buffers hold
        async with peers(face, 1) as (deaf,):
            deaf._reader._transport.pause_reading()
            deaf.send(PROBE.replace(b"healthz", b"metrics"))
            await face.telemetry.until(ConnectionTimedOut)
            async with peers(face, 1) as (peer,):
                peer.send(PROBE)
                assert await peer.answer() == 200


async def test_newcomers_wait_where_all_places_are_taken_and_producers_go_on(running: Any) -> None:
    async with serving(running, connections=3, head_s=4 * SHORT_S, idle_s=LONG_S) as face:
        async with peers(face, 1) as (producer,):
            producer.send(put(b"first"))
            assert await producer.answer() == 200
            async with peers(face, 8) as crowd:
                for each in crowd:
                    each.send(HALF_HEAD)
                async with peers(face, 1) as (newcomer,):
                    newcomer.send(put(b"new"))
                    answering = asyncio.create_task(newcomer.answer())
                    sent = 0
                    while not answering.done():
                        producer.send(put(b"more"))
                        assert await producer.answer() == 200
                        sent += 1
                    assert answering.result() == 200
                    taken = face.service.taken["clicks"]
                    assert sorted(taken) == [b"first", *[b"more"] * sent, b"new"]
                    assert sent > 1, "the newcomer did not have to wait"
            await times_out(face)
            producer.send(put(b"last"))
            assert await producer.answer() == 200, "there is room again, and time between requests"
        assert face.telemetry.of(ConnectionsFull) == [ConnectionsFull(3)], "told once, however often it was full"
        full = face.telemetry.metrics.registry.get_sample_value("firehose_connections_full_total")
        assert full > 1
        assert not face.telemetry.of(UnexpectedError, AcceptFailed)


async def test_idle_connections_make_room_where_all_places_are_taken(running: Any) -> None:
    async with serving(running, connections=2, head_s=SHORT_S, idle_s=LONG_S) as face, peers(face, 2) as idle:
        for each in idle:
            each.send(PROBE)
            assert await each.answer() == 200
        async with peers(face, 1) as (newcomer,):
            newcomer.send(PROBE)
            assert await newcomer.answer() == 200
            assert b"" in [await each.rest() for each in idle[:1]]


async def test_every_place_can_be_taken(running: Any) -> None:
    async with serving(running, connections=20, head_s=LONG_S) as face, peers(face, 20) as found:
        for each in found:
            each.send(PROBE)
        assert [await each.answer() for each in found] == [200] * 20
        assert not face.telemetry.of(ConnectionsFull)


async def test_who_leaves_before_being_in_gives_its_place_back(running: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(running, connections=1, head_s=LONG_S) as face:
        loop = asyncio.get_running_loop()
        let_in = loop.connect_accepted_socket

        async def fail_once(*_: Any) -> Any:
            monkeypatch.setattr(loop, "connect_accepted_socket", let_in)
            raise OSError("gone")

        monkeypatch.setattr(loop, "connect_accepted_socket", fail_once)
        async with peers(face, 2) as (gone, newcomer):
            assert await gone.rest() == b""
            newcomer.send(PROBE)
            assert await newcomer.answer() == 200


async def test_without_descriptors_newcomers_wait(running: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "_RETRY_S", SHORT_S)
    async with serving(running, head_s=LONG_S) as face:
        host, port = face.url.removeprefix("http://").split(":")
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        with socket.socket() as client, contextlib.ExitStack() as spare:
            client.setblocking(False)
            # every number below the limit is taken, so that the next one is above it
            highest = max(int(each) for each in os.listdir("/proc/self/fd"))
            while (taken := os.dup(0)) < highest:
                spare.callback(os.close, taken)
            os.close(taken)
            resource.setrlimit(resource.RLIMIT_NOFILE, (taken, hard))
            try:
                await asyncio.get_running_loop().sock_connect(client, (host, int(port)))
                await asyncio.get_running_loop().sock_sendall(client, PROBE)
                await face.telemetry.until(AcceptFailed)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            async with asyncio.timeout(PATIENCE_S):
                assert (await asyncio.get_running_loop().sock_recv(client, 12)) == b"HTTP/1.1 200"
        (event,) = face.telemetry.of(AcceptFailed)
        assert "Too many open files" in event.error


async def test_a_body_that_stops_is_given_up(running: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "STALL_S", SHORT_S)
    async with running() as face:
        face.service.add("clicks")
        async with peers(face, 1) as (peer,):
            peer.send(put(b"half", length=8))
            assert await peer.answer() == 408
        (event,) = face.telemetry.events
        assert (event.code, event.reason) == ("RequestTimeoutException", "The body stopped arriving for 0.05 s.")


async def test_a_broken_chunk_in_a_later_packet_is_given_up(running: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "STALL_S", SHORT_S)
    async with running() as face:
        face.service.add("clicks")
        async with peers(face, 1) as (peer,):
            peer.send(HALF_HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
            peer.send(b"zz\r\n")
            assert await peer.answer() in (400, 408)
        assert face.service.taken == {}


@pytest.mark.parametrize(("descriptors", "connections"), [(0, 1), (256, 128), (1_024, 512), (2**20, 4_096)])
def test_half_of_the_descriptors_are_for_connections(descriptors: int, connections: int) -> None:
    assert door.connections_allowed(descriptors) == connections


def test_the_limits_of_the_document_are_those_of_the_service() -> None:
    text = (Path(__file__).parents[2] / "docs" / "http.md").read_text()
    limits = Limits()
    assert f"| a request's head | {limits.head_s:g} s, " in text
    assert f"| a pause between two requests | {limits.idle_s:g} s, " in text
    assert f"| half of the open files that the process may have, {limits.connections:,} at most |" in text
    assert f"| a pause within the body | {bodies.STALL_S} s |" in text
