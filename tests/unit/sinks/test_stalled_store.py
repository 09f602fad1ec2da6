"""A store that takes a connection, and then nothing more: no request may wait for it for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from firehose.components import BuildContext
from firehose.errors import UnavailableError
from firehose.protocols import Delivery
from firehose.sinks import bucket
from firehose.sinks.s3 import S3SinkConfig

MIB = 2**20


@asynccontextmanager
async def store(speak: Callable[[asyncio.StreamReader, asyncio.StreamWriter], object]) -> AsyncIterator[str]:
    """Run a server that does what `speak` does with each connection, and then nothing."""
    is_over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await speak(reader, writer)  # type: ignore[misc] # an async function
        await is_over.wait()
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        is_over.set()
        server.close()


async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.pause_reading()  # type: ignore[attr-defined] # sockets have it


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")


async def deaf_after_it_said_continue(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    writer.transport.pause_reading()  # type: ignore[attr-defined] # sockets have it


@pytest.mark.parametrize("speak", [deaf, silent, deaf_after_it_said_continue])
async def test_a_store_that_takes_nothing_more_is_given_up(
    speak: Callable[[asyncio.StreamReader, asyncio.StreamWriter], object],
    build_context: BuildContext,
    make_delivery: Callable[..., Delivery],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bucket, "STALLED_S", 0.5)
    async with store(speak) as endpoint:
        config = S3SinkConfig(bucket="lake", endpoint_url=endpoint, conditional="always")
        with pytest.raises(UnavailableError, match="took nothing more of the body for 0 s"):
            await asyncio.wait_for(config.build(build_context).deliver(make_delivery(b"x" * 32 * MIB)), 20)


async def test_a_store_that_takes_a_little_now_and_then_is_waited_for(
    build_context: BuildContext, make_delivery: Callable[..., Delivery], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket, "STALLED_S", 1.0)
    taken = 0

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal taken
        head = await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        size = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        while taken < size:
            taken += len(await reader.read(MIB))
            await asyncio.sleep(0.02)
        writer.write(b'HTTP/1.1 200 OK\r\nETag: "e"\r\nContent-Length: 0\r\n\r\n')

    async with store(slow) as endpoint:
        config = S3SinkConfig(bucket="lake", endpoint_url=endpoint, conditional="always")
        begun = asyncio.get_running_loop().time()
        await asyncio.wait_for(config.build(build_context).deliver(make_delivery(b"x" * 24 * MIB)), 60)
        assert taken == 24 * MIB and asyncio.get_running_loop().time() - begun > 1.5
