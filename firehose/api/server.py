"""The HTTP server: which path is answered by what."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from aiohttp import web
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from firehose.api import plain, wire
from firehose.api.admin import Admin
from firehose.api.auth import Keys
from firehose.api.complaints import complaints
from firehose.api.door import attend
from firehose.api.edge import Edge
from firehose.api.gate import GATE, Gate
from firehose.api.ingest import Ingest
from firehose.api.target import FirehoseApi
from firehose.api.wire import WireError
from firehose.clock import Clock
from firehose.executors import Executor, InlineExecutor
from firehose.ports import AdminHandler, Health, StreamService
from firehose.telemetry import Sparing, Telemetry

#: Requests of SDKs arrive in pieces of up to this size: fewer turns of the event loop for each.
_READ_BYTES: Final = 2**18

#: Where the application keeps what aiohttp writes its complaints to.
COMPLAINTS: Final = web.AppKey("complaints", logging.Logger)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def build_app(
    service: StreamService,
    *,
    clock: Clock,
    telemetry: Telemetry,
    credentials: Mapping[str, str],
    admin: Mapping[str, AdminHandler] | None,
    admin_token: str,
    health: Health,
    executor: Executor | None = None,
) -> web.Application:
    """Return the application. `credentials`: secret access keys by access key id; none: everybody may send.

    `executor` expands and splits large plain bodies away from the event loop.
    """
    keys = Keys(credentials, clock)
    edge = Edge(clock=clock, telemetry=telemetry)
    api = FirehoseApi(service, keys)
    ingest = Ingest(service, keys, executor or InlineExecutor())
    gate = Gate(health)
    app = web.Application(middlewares=[attend, _answer_strays, gate.attend])
    app[GATE] = gate
    app[COMPLAINTS] = complaints(Sparing(telemetry, clock))
    app.router.add_post("/", edge.handler("unknown", api.answer, translate=wire.wire_error, refuse=wire.refusal))
    app.router.add_post(
        "/streams/{name}/records",
        edge.handler("ingest", ingest.answer, translate=plain.translate, refuse=plain.refusal),
    )
    if admin is not None:
        door = Admin(admin, admin_token)
        app.router.add_post(
            "/-/admin/{verb}", edge.handler("admin", door.answer, translate=plain.translate, refuse=plain.refusal)
        )
    app.router.add_get("/healthz", _health(health.is_live))
    app.router.add_get("/readyz", _health(health.is_ready))
    app.router.add_get("/metrics", _metrics(telemetry))
    return app


def build_runner(app: web.Application, *, grace_s: float = 2.0) -> web.AppRunner:
    """Return what serves `app`. Requests under way when it is told to stop may take `grace_s` to end.

    Bodies are handed on as they were sent: signatures are over those bytes, and what they expand to is bounded here and
    not by aiohttp.
    """
    return web.AppRunner(
        app,
        auto_decompress=False,
        access_log=None,
        logger=app[COMPLAINTS],
        read_bufsize=_READ_BYTES,
        shutdown_timeout=grace_s,
    )


@web.middleware
async def _answer_strays(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer what no route takes in the two ways of speech of this server."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        if request.path == "/":
            message = f"{request.method} / is no operation; the Firehose API is POST / with X-Amz-Target."
            return wire.refusal(WireError("UnknownOperationException", message, status=error.status))
        message = f"{request.method} {request.path}: {error.reason}"
        return plain.refusal(WireError(error.reason.replace(" ", ""), message, status=error.status))


def _health(ask: Callable[[], tuple[bool, str]]) -> Handler:
    async def handle(_request: web.Request) -> web.Response:
        is_well, reason = ask()
        return web.Response(text=(reason or "ok") + "\n", status=200 if is_well else 503)

    return handle


def _metrics(telemetry: Telemetry) -> Handler:
    async def handle(_request: web.Request) -> web.Response:
        body = generate_latest(telemetry.metrics.registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    return handle
