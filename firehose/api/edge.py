"""What every route shares: memory for its body, an answer for each error, and one event when it is over."""

from __future__ import annotations

import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from firehose.api import bodies
from firehose.api.events import RequestAnswered, RequestFailed
from firehose.api.wire import INTERNAL_FAILURE, INTERNAL_MESSAGE, WireError
from firehose.clock import Clock
from firehose.errors import FirehoseError
from firehose.telemetry import Emitter, UnexpectedError


@dataclass(slots=True)
class Exchange:
    """One request while it is answered: what its event will say."""

    operation: str
    lease: bodies.Lease
    code: str = "OK"
    rows: int = 0
    reason: str = ""


Work = Callable[[web.Request, Exchange], Awaitable[web.Response]]
Handler = Callable[[web.Request], Awaitable[web.Response]]


class Edge:
    """Makes handlers of what answers requests. Nothing a request does comes out of here but an answer."""

    def __init__(self, *, clock: Clock, telemetry: Emitter) -> None:
        self._clock = clock
        self._telemetry = telemetry
        self._bodies = bodies.Bodies(bodies.MAX_TOTAL_BYTES)

    def handler(
        self,
        operation: str,
        work: Work,
        *,
        translate: Callable[[FirehoseError], WireError],
        refuse: Callable[[WireError], web.Response],
    ) -> Handler:
        """Return a handler: `work` answers, `translate` finds words for our errors, `refuse` writes them down."""

        async def handle(request: web.Request) -> web.Response:
            started_ms = self._clock.monotonic_ms()
            with self._bodies.lease() as lease:
                exchange = Exchange(operation, lease)
                try:
                    response = await work(request, exchange)
                except WireError as error:
                    exchange.code, exchange.reason, response = error.code, error.message, refuse(error)
                except FirehoseError as error:
                    known = translate(error)
                    exchange.code, exchange.reason, response = known.code, str(error), refuse(known)
                except Exception as error:  # noqa: BLE001 - the last frame of ours: a bug is told and answered
                    text = "".join(traceback.format_exception(error))
                    self._telemetry.emit(UnexpectedError(where=f"api.{exchange.operation}", error=text))
                    exchange.code, exchange.reason = INTERNAL_FAILURE, repr(error)
                    response = refuse(WireError(INTERNAL_FAILURE, INTERNAL_MESSAGE, status=500))
            self._finish(exchange, response.status, self._clock.monotonic_ms() - started_ms)
            return response

        return handle

    def _finish(self, exchange: Exchange, status: int, took_ms: int) -> None:
        kind = RequestFailed if exchange.code == INTERNAL_FAILURE else RequestAnswered
        operation, code, body_bytes = exchange.operation, exchange.code, exchange.lease.read_bytes
        self._telemetry.emit(kind(operation, code, status, exchange.rows, body_bytes, took_ms, exchange.reason))
