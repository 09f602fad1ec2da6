"""The way in for producers: open while the service is ready. Probes and metrics are answered to the last."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from firehose.api import plain, wire
from firehose.api.wire import SERVICE_UNAVAILABLE, WireError
from firehose.ports import Health

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Gate:
    """Turns requests away while the service is not ready, and knows when those let in are answered."""

    def __init__(self, health: Health) -> None:
        self._health = health
        self._under_way = 0
        self.idle = asyncio.Event()
        self.idle.set()

    @web.middleware
    async def attend(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Middleware. A request that was let in is finished, whatever becomes of the service's readiness."""
        if request.method == "GET":
            return await handler(request)
        is_ready, reason = self._health.is_ready()
        if not is_ready:
            return _turned_away(request, f"The service is {reason}; send again.")
        self._under_way += 1
        self.idle.clear()
        try:
            return await handler(request)
        finally:
            self._under_way -= 1
            if not self._under_way:
                self.idle.set()


def _turned_away(request: web.Request, message: str) -> web.StreamResponse:
    error = WireError(SERVICE_UNAVAILABLE, message, status=503)
    return wire.refusal(error) if request.path == "/" else plain.refusal(error)


#: Where the application keeps its gate.
GATE: Final = web.AppKey("gate", Gate)
