"""Where connections come in: no more at once than the process can bear, and none that keeps its place by doing nothing.

Half of the descriptors are for connections, so that log, sinks and children always find some. When all places are
taken, newcomers wait in the kernel's backlog. They are not turned away with 503: that answer needs the descriptor that
is missing, is lost when the socket closes before it was read, and would fail the probes of a service that is well. They
do not wait for long: while it is full, whoever has no request under way gives up its place after `head_s`.

aiohttp knows one limit, `keepalive_timeout`, for a pause between requests and for half a head alike. asyncio's own
server takes whoever comes, and where no descriptor is left it tries again ever more often (CPython gh-151615).
"""

from __future__ import annotations

import asyncio
import enum
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from aiohttp import StreamReader, web

from firehose.api.events import AcceptFailed, ConnectionsFull, ConnectionTimedOut
from firehose.telemetry import Sparing

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

#: A connection costs about 20 KiB with its parser; behind a proxy a few dozen are many.
MAX_CONNECTIONS: Final = 4_096
#: Heads are sent in one piece; slow networks lose some of its packets.
HEAD_S: Final = 10.0
#: Longer than proxies keep connections (nginx, ALB: 60 s), so that they close first and never send into a closed one.
IDLE_S: Final = 75.0

#: How many may wait for their place.
_BACKLOG: Final = 128
#: Nobody tells when a descriptor is free again.
_RETRY_S: Final = 1.0
_TOO_SLOW: Final = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


def connections_allowed(descriptors: int) -> int:
    """Return how many connections a process with so many descriptors can bear."""
    return max(1, min(MAX_CONNECTIONS, descriptors // 2))


@dataclass(frozen=True, slots=True)
class Limits:
    """What a connection may take: `head_s` for the head of a request, `idle_s` between two requests."""

    connections: int = MAX_CONNECTIONS
    head_s: float = HEAD_S
    idle_s: float = IDLE_S


class _Phase(enum.Enum):
    """What a connection without a request under way is waited for."""

    HEAD = "head"
    #: The peer has its answer, but has not sent all of the body it spoke of; aiohttp reads on for a while.
    REST = "rest"
    IDLE = "idle"


class Connection(asyncio.Protocol):
    """One connection: hands everything on to aiohttp's handler, and remembers what its peer owes, and since when."""

    def __init__(self, handler: web.RequestHandler, door: Door) -> None:
        self._handler = handler
        self._door = door
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._under_way = 0
        self._phase = _Phase.HEAD
        self._has_spoken = False
        self._since_s = self._loop.time()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._door.connections.add(self)
        self._handler.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        self._has_spoken = True
        if self._phase is _Phase.IDLE:
            self._enter(_Phase.HEAD)
        self._handler.data_received(data)

    def eof_received(self) -> bool | None:
        self._handler.eof_received()
        return None

    def pause_writing(self) -> None:
        self._handler.pause_writing()

    def resume_writing(self) -> None:
        self._handler.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._handler.connection_lost(exc)
        self._door.let_go(self)

    def begin(self) -> None:
        """The head of a request is there. From here on its handler sees to the time it takes."""
        self._under_way += 1

    def finish(self, body: StreamReader) -> None:
        """The request is answered; what is left of its body is no head."""
        self._under_way -= 1
        self._enter(_Phase.REST)
        body.on_eof(self._finish_rest)

    def _finish_rest(self) -> None:
        if self._phase is _Phase.REST:
            self._phase = _Phase.IDLE

    def _enter(self, phase: _Phase) -> None:
        self._phase, self._since_s = phase, self._loop.time()

    def expire(self, now_s: float, *, head_s: float, idle_s: float) -> str:
        """Close where the peer took too long; return what it owed then, else an empty text."""
        limit_s = head_s if self._phase is _Phase.HEAD else idle_s
        if self._under_way or now_s - self._since_s < limit_s or self._transport is None:
            return ""
        if self._phase is _Phase.HEAD and self._has_spoken and not self._transport.is_closing():
            self._transport.write(_TOO_SLOW)
        if self._transport.get_write_buffer_size():
            self._transport.abort()  # a peer that does not read would keep its place until it does
        else:
            self._transport.close()
        return self._phase.value


@web.middleware
async def attend(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Tell the connection of a request when that begins and ends. Middleware."""
    connection = request.transport.get_protocol() if request.transport is not None else None
    if not isinstance(connection, Connection):
        return await handler(request)
    connection.begin()
    try:
        return await handler(request)
    finally:
        connection.finish(request.content)


class Door(web.BaseSite):
    """Listens on one port and lets connections in."""

    def __init__(self, runner: web.BaseRunner, host: str, port: int, *, limits: Limits, telemetry: Sparing) -> None:
        super().__init__(runner)
        self.connections: set[Connection] = set()
        self._free = limits.connections
        self._host = host
        self._port = port
        self._limits = limits
        self._telemetry = telemetry
        self._loop = asyncio.get_running_loop()
        self._listeners: list[socket.socket] = []
        self._arriving: set[asyncio.Task[None]] = set()
        self._is_full = False
        self._sweeping: asyncio.TimerHandle | None = None
        self._retrying: asyncio.TimerHandle | None = None

    @property
    def name(self) -> str:
        return f"http://{self._host}:{self._port}"

    async def start(self) -> None:
        """Bind and listen. Errors: OSError."""
        await super().start()
        # asyncio resolves and binds; what it accepts with stays unused
        server = await self._loop.create_server(asyncio.Protocol, self._host, self._port, start_serving=False)
        self._server = server
        for bound in server.sockets:
            listener = bound.dup()
            self._listeners.append(listener)
            listener.setblocking(False)
            listener.listen(_BACKLOG)
        self._listen()
        self._sweep()

    async def stop(self) -> None:
        """Listen no more; who is connected stays so."""
        self._deafen()
        for timer in (self._sweeping, self._retrying):
            if timer is not None:
                timer.cancel()
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        if self._arriving:
            await asyncio.wait(self._arriving)
        await super().stop()

    # --- letting in --------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        for listener in self._listeners:
            self._loop.add_reader(listener, self._accept, listener)

    def _deafen(self) -> None:
        for listener in self._listeners:
            self._loop.remove_reader(listener)

    def _accept(self, listener: socket.socket) -> None:
        """Let in who waits, and somebody does, as far as there is room."""
        if not self._free:
            self._is_full = True
            self._deafen()
            self._telemetry.emit(ConnectionsFull(self._limits.connections))
            return
        for _ in range(min(_BACKLOG, self._free)):  # then others have their turn
            try:
                connected, _address = listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionAbortedError:
                continue
            except OSError as error:
                self._deafen()
                self._retrying = self._loop.call_later(_RETRY_S, self._listen)
                self._telemetry.emit(AcceptFailed(str(error)))
                return
            self._free -= 1
            task = self._loop.create_task(self._let_in(connected))
            self._arriving.add(task)
            task.add_done_callback(self._arriving.discard)

    async def _let_in(self, connected: socket.socket) -> None:
        try:
            connected.setblocking(False)
            await self._loop.connect_accepted_socket(self._connection, connected)
        except OSError:  # it left before it was in
            connected.close()
            self._vacate()

    def _connection(self) -> Connection:
        assert self._runner.server is not None
        return Connection(self._runner.server(), self)

    # --- letting go --------------------------------------------------------------------------------------------------

    def let_go(self, connection: Connection) -> None:
        """Give its place to the next one."""
        self.connections.discard(connection)
        self._vacate()

    def _vacate(self) -> None:
        self._free += 1
        if self._is_full:
            self._is_full = False
            self._listen()

    def _sweep(self) -> None:
        """Close connections that keep their places for nothing."""
        limits, now_s = self._limits, self._loop.time()
        idle_s = min(limits.head_s, limits.idle_s) if self._is_full else limits.idle_s
        for connection in list(self.connections):
            owed = connection.expire(now_s, head_s=limits.head_s, idle_s=idle_s)
            if owed:
                self._telemetry.emit(ConnectionTimedOut(owed), owed)
        self._sweeping = self._loop.call_later(limits.head_s / 10, self._sweep)
