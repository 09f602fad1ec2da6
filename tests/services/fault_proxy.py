"""A proxy in front of a real S3 server that fails as it is told: what no real server does on demand.

    with FaultProxy("http://127.0.0.1:9000").running() as proxy:
        proxy.fault = Reset(after_bytes=100_000, on=("part",))
        proxy.fault = None

It passes on every byte as it came, the Host header too: signatures hold.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.services.server import free_port

#: How much of a body is taken at once.
PIECE_BYTES = 2**16

#: How long the server may take for one answer.
PATIENCE_S = 60


@dataclass(frozen=True)
class Seen:
    """A request: what it asked for, when it began (monotonic), and the fault that it met."""

    operation: str
    target: str
    at_s: float
    fault: Fault | None


class FaultProxy:
    """Listens on a port of its own and passes requests on to `endpoint`, unless `fault` says otherwise."""

    def __init__(self, endpoint: str) -> None:
        self.address = urlsplit(endpoint).netloc
        # an explicit port: a socket keeps it while it does not listen, so nobody else gets it meanwhile
        port = free_port()
        self._listener = socket.create_server(("127.0.0.1", port))
        self.endpoint = f"http://127.0.0.1:{port}"
        #: Every request, in the order in which they came.
        self.seen: list[Seen] = []
        self._changed = threading.Condition()
        self._fault: Fault | None = None
        self._connections: set[socket.socket] = set()
        self._is_closed = False

    @contextmanager
    def running(self) -> Iterator[FaultProxy]:
        """Serve while the block runs."""
        thread = threading.Thread(target=self._accept, name="fault proxy")
        thread.start()
        try:
            yield self
        finally:
            with self._changed:
                self._is_closed, self._fault = True, None
                self._changed.notify_all()
            self._hang_up()
            self._listener.close()
            thread.join()

    @property
    def fault(self) -> Fault | None:
        """What happens to requests that begin from now on; None: nothing."""
        return self._fault

    @fault.setter
    def fault(self, fault: Fault | None) -> None:
        with self._changed:
            was_refusing, self._fault = isinstance(self._fault, Refuse), fault
            if was_refusing and not isinstance(fault, Refuse):
                self._listener.listen()
            self._changed.notify_all()
        if isinstance(fault, Refuse):
            self._hang_up()

    def struck(self, fault: Fault) -> int:
        """Return how many requests met a fault."""
        return sum(each.fault is fault for each in list(self.seen))

    def stands(self, fault: Fault, wait_s: float) -> bool:
        """Return after `wait_s` whether the fault is still there, or False at once when it goes."""
        with self._changed:
            return not self._changed.wait_for(lambda: self._fault is not fault, wait_s)

    def meet(self, method: str, target: str) -> Fault | None:
        """Note a request and return the fault that it meets."""
        operation = operation_of(method, target)
        with self._changed:
            fault = self._fault
            if fault is not None and not fault.matches(operation, target, self.struck(fault)):
                fault = None
            self.seen.append(Seen(operation, target, time.monotonic(), fault))
        return fault

    def _hang_up(self) -> None:
        """Stop listening without giving up the port, and end all connections."""
        for each in [self._listener, *self._connections]:
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it is not connected any more

    def _accept(self) -> None:
        while True:
            try:
                connection, address = self._listener.accept()
            except OSError:
                with self._changed:
                    self._changed.wait_for(lambda: self._is_closed or not isinstance(self._fault, Refuse))
                    if self._is_closed:
                        return
                continue
            threading.Thread(target=self._serve, args=(connection, address), daemon=True).start()

    def _serve(self, connection: socket.socket, address: Any) -> None:
        server: Any = self  # all that a handler asks of its server is what `_Exchange` does
        self._connections.add(connection)
        try:
            with connection:
                _Exchange(connection, address, server)
        except OSError:
            pass  # one of the two sides went away, by a fault or because its process ended
        finally:
            self._connections.discard(connection)


def operation_of(method: str, target: str) -> str:
    """Return what a request asks for: put, begin, part, complete, abort, head, get, list, delete or other."""
    split = urlsplit(target)
    names = parse_qs(split.query, keep_blank_values=True)
    has_key = "/" in split.path.strip("/")
    match method:
        case "PUT" if has_key:
            return "part" if "partNumber" in names else "put"
        case "POST":
            return "begin" if "uploads" in names else "complete" if "uploadId" in names else "other"
        case "GET":
            return "get" if has_key else "list"
        case "DELETE":
            return "abort" if "uploadId" in names else "delete"
        case "HEAD":
            return "head"
    return "other"


class _Exchange(BaseHTTPRequestHandler):
    """One connection of a client: each request meets its fault, or is passed on."""

    protocol_version = "HTTP/1.1"
    server: Any

    def serve(self) -> None:
        fault: Fault | None = self.server.meet(self.command, self.path)
        if fault is None:
            self.pass_on()
        else:
            fault.strike(self)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = serve

    def handle_expect_100(self) -> bool:
        return True  # told to go on by `body`, once it is wanted

    def log_message(self, *args: Any) -> None:
        pass

    @property
    def expects_continue(self) -> bool:
        """True where the client keeps its body back until it is told to go on."""
        return bool(self.headers.get("Expect", "").lower() == "100-continue")

    def body(self) -> Iterator[bytes]:
        """Yield the request's body as it comes, framed as it is."""
        if self.expects_continue:
            self.send_response_only(100)
            self.end_headers()
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            size = -1
            while size:
                yield (line := self.rfile.readline())
                size = int(line.partition(b";")[0], 16)
                yield self.rfile.read(size + 2) if size else b"".join(iter(self.rfile.readline, b"\r\n")) + b"\r\n"
            return
        left = int(self.headers.get("Content-Length", 0))
        while left:
            piece = self.rfile.read1(min(left, PIECE_BYTES))
            if not piece:
                raise ConnectionError("the client went away")
            left -= len(piece)
            yield piece

    @contextmanager
    def sent(self, body: Iterable[bytes]) -> Iterator[HTTPConnection]:
        """Send the request to the server, with `body`; the block may take the answer."""
        with closing(HTTPConnection(self.server.address, timeout=PATIENCE_S)) as server:
            server.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() != "expect":
                    server.putheader(name, value)
            server.endheaders()
            for piece in body:
                server.send(piece)
            yield server

    def pass_on(self) -> None:
        """Let the server answer."""
        with self.sent(self.body()) as server:
            self.reply(server.getresponse())

    def reply(self, answer: HTTPResponse, body_bytes: int | None = None) -> None:
        """Send the server's answer, or its head and the first bytes of its body."""
        body = answer.read()
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                self.send_header(name, value)
        if self.command == "HEAD":
            self.send_header("Content-Length", answer.getheader("Content-Length", "0"))
        elif answer.status != 204:
            self.send_header("Content-Length", f"{len(body)}")
        self.end_headers()
        self.wfile.write(body[:body_bytes])

    def reset(self) -> None:
        """End the connection with RST."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True


# --- faults ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False)
class Fault(ABC):
    """Strikes requests for the operations `on` (none: for all) whose target holds `path`, the first `times` of them."""

    on: tuple[str, ...] = ()
    path: str = ""
    times: int | None = None

    def matches(self, operation: str, target: str, struck: int) -> bool:
        """Return whether a request meets this fault, after so many that did."""
        is_meant = not self.on or operation in self.on
        return is_meant and self.path in target and (self.times is None or struck < self.times)

    @abstractmethod
    def strike(self, exchange: _Exchange) -> None:
        """Do to a request what this fault does."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Refuse(Fault):
    """Nobody listens on the port, and who is connected is cut off."""

    def strike(self, exchange: _Exchange) -> None:
        exchange.reset()  # it came in just before the port was closed


@dataclass(frozen=True, kw_only=True, eq=False)
class Answer(Fault):
    """Answers with an error of S3, without asking the server. As with AWS, an answer to HEAD has no body."""

    status: int
    code: str

    def strike(self, exchange: _Exchange) -> None:
        if not exchange.expects_continue:
            for _ in exchange.body():
                pass
        body = f"<?xml version='1.0'?><Error><Code>{self.code}</Code><Message>by a fault</Message></Error>".encode()
        if exchange.command == "HEAD":
            body = b""
        exchange.send_response_only(self.status)
        exchange.send_header("Content-Type", "application/xml")
        exchange.send_header("Content-Length", f"{len(body)}")
        # the client may or may not send the body that it kept back
        exchange.send_header("Connection", "close")
        exchange.end_headers()
        exchange.wfile.write(body)


@dataclass(frozen=True, kw_only=True, eq=False)
class Reset(Fault):
    """Takes so much of the request's body, then resets the connection.

    The server hears nothing of it: S3Proxy would keep the piece as a file, and fail at every listing from then on.
    """

    after_bytes: int

    def strike(self, exchange: _Exchange) -> None:
        body, left = exchange.body(), self.after_bytes
        while left > 0 and (piece := next(body, b"")):
            left -= len(piece)
        exchange.reset()


@dataclass(frozen=True, kw_only=True, eq=False)
class LoseReply(Fault):
    """Lets the server do it, then resets the connection instead of telling the client."""

    def strike(self, exchange: _Exchange) -> None:
        with exchange.sent(exchange.body()) as server:
            server.getresponse().read()
            exchange.reset()


@dataclass(frozen=True, kw_only=True, eq=False)
class CutAnswer(Fault):
    """Passes on the head of the answer and so much of its body, then ends the connection."""

    after_bytes: int

    def strike(self, exchange: _Exchange) -> None:
        with exchange.sent(exchange.body()) as server:
            exchange.reply(server.getresponse(), self.after_bytes)
            exchange.close_connection = True


@dataclass(frozen=True, kw_only=True, eq=False)
class Trickle(Fault):
    """Passes on the request's body slowly for as long as the fault stands, then the rest at once."""

    bytes_per_s: int

    def strike(self, exchange: _Exchange) -> None:
        with exchange.sent(self._slowly(exchange)) as server:
            exchange.reply(server.getresponse())

    def _slowly(self, exchange: _Exchange) -> Iterator[bytes]:
        step = max(1, self.bytes_per_s // 10)
        for piece in exchange.body():
            for start in range(0, len(piece), step):
                exchange.server.stands(self, 0.1)
                yield piece[start : start + step]
