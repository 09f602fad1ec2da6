"""The real application over a service that keeps what it is given in memory."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import aiohttp
import boto3
import pyarrow as pa
import pytest
from aiohttp import web
from botocore.config import Config

from firehose.api.door import Door, Limits
from firehose.api.server import build_app, build_runner
from firehose.config.models import StreamConfig
from firehose.errors import ConflictError, NotFoundError
from firehose.ports import AdminHandler, PutAnswer, StreamView
from firehose.telemetry import Event, Sparing, Telemetry
from firehose.testing import FakeClock

#: How long anything may take on a machine that is busy with other things.
PATIENCE_S = 30

NOW_MS = 1_783_951_509_000  # 2026-07-13T14:05:09Z


class MemoryService:
    """Keeps streams and records; `fail` is raised by the next puts, `gate` holds them back while it is not set."""

    region = "eu-central-1"
    account = "123456789012"

    def __init__(self) -> None:
        self.views: dict[str, StreamView] = {}
        self.taken: dict[str, list[bytes]] = {}
        self.tokens: list[bytes] = []
        self.fail: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.waiting = asyncio.Semaphore(0)

    def add(self, name: str, words: Mapping[str, Any] | None = None, **changes: Any) -> StreamView:
        config = StreamConfig.model_validate(words or {"sink": {"type": "s3", "bucket": "lake"}})
        view: dict[str, Any] = {"uid": f"uid-{name}", "status": "ACTIVE", "version": 1, "created_ms": NOW_MS}
        view |= {"updated_ms": None, "origin": "config", "config": config}
        self.views[name] = StreamView(name=name, **(view | changes))
        return self.views[name]

    async def put(self, name: str, data: pa.LargeBinaryArray, *, token: bytes = b"") -> PutAnswer:
        if self.stream(name).status != "ACTIVE":
            raise NotFoundError(f"stream {name!r} is not active")
        self.waiting.release()
        await self.gate.wait()
        if self.fail is not None:
            raise self.fail
        log = self.taken.setdefault(name, [])
        first = len(log)
        log.extend(data.to_pylist())
        self.tokens.append(token)
        return PutAnswer("log-3f2a", first, len(data), f"uid-of-{name}")

    def stream(self, name: str) -> StreamView:
        if name not in self.views:
            raise NotFoundError(f"no stream {name!r}")
        return self.views[name]

    def streams(self) -> list[StreamView]:
        return [view for _, view in sorted(self.views.items())]

    async def create_stream(self, name: str, config: StreamConfig, *, definition: dict[str, Any]) -> StreamView:
        if name in self.views:
            raise ConflictError(f"stream {name!r} exists")
        view = self.add(name, origin="api", definition=definition)
        self.views[name] = StreamView(**{f: getattr(view, f) for f in view.__slots__} | {"config": config})
        return self.views[name]

    async def delete_stream(self, name: str) -> None:
        if self.stream(name).origin == "config":
            raise ConflictError(f"stream {name!r} comes from a file; remove it from the file")
        del self.views[name]


class SteadyHealth:
    """Health as the test says."""

    live = (True, "")
    ready = (True, "")

    def is_live(self) -> tuple[bool, str]:
        return self.live

    def is_ready(self) -> tuple[bool, str]:
        return self.ready


class HeardTelemetry(Telemetry):
    """Remembers events."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[Event] = []
        self.heard = asyncio.Event()

    def emit(self, event: Event) -> None:
        super().emit(event)
        self.events.append(event)
        self.heard.set()

    def of(self, *kinds: type[Event]) -> list[Event]:
        """Return the events of these kinds."""
        return [event for event in self.events if isinstance(event, kinds)]

    async def until(self, kind: type[Event]) -> None:
        """Return once an event of this kind was heard."""
        async with asyncio.timeout(PATIENCE_S):
            while not self.of(kind):
                self.heard.clear()
                await self.heard.wait()


class Face:
    """A running application with what a test wants to look at."""

    url = ""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.session = session
        self.service = MemoryService()
        self.telemetry = HeardTelemetry()
        self.health = SteadyHealth()

    async def call(self, operation: str, body: Any, **headers: str) -> tuple[int, dict[str, Any], Mapping[str, str]]:
        """Send one call as raw JSON; return status, body and headers of the answer."""
        sent = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": f"Firehose_20150804.{operation}"}
        data = io.BytesIO(body if isinstance(body, bytes) else json.dumps(body).encode())
        async with self.session.post(self.url, headers=sent | headers, data=data) as response:
            return response.status, await response.json(content_type=None), response.headers

    async def refused(self, operation: str, body: Any) -> tuple[str, str]:
        """Return code and message of a call that must fail with status 400."""
        status, answer, headers = await self.call(operation, body)
        assert status == 400, answer
        assert headers["x-amzn-ErrorType"] == answer["__type"]
        return answer["__type"], answer["message"]


@asynccontextmanager
async def _serving(app: web.Application, limits: Limits, telemetry: Telemetry) -> AsyncIterator[str]:
    runner = build_runner(app)
    await runner.setup()
    try:
        await Door(runner, "127.0.0.1", 0, limits=limits, telemetry=Sparing(telemetry, FakeClock())).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def _running(
    credentials: Mapping[str, str] | None = None,
    admin: Mapping[str, AdminHandler] | None = None,
    admin_token: str = "",
    now_ms: int = NOW_MS,
    limits: Limits | None = None,
) -> AsyncIterator[Face]:
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        face = Face(session)
        app = build_app(
            face.service,
            clock=FakeClock(now_ms),
            telemetry=face.telemetry,
            credentials=credentials or {},
            admin=admin,
            admin_token=admin_token,
            health=face.health,
        )
        async with _serving(app, limits or Limits(), face.telemetry) as url:
            face.url = url
            yield face


@pytest.fixture
def running() -> Callable[..., Any]:
    """Return a context manager that runs an application: `async with running(credentials=...) as face`."""
    return _running


@pytest.fixture
async def face() -> AsyncIterator[Face]:
    """An open application with the stream `clicks`."""
    async with _running() as face:
        face.service.add("clicks")
        yield face


class Boto:
    """boto3 on another thread: `await boto.put_record(...)`."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.exceptions, self.meta = client.exceptions, client.meta

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        return lambda **members: asyncio.to_thread(partial(getattr(self._client, name), **members))


@pytest.fixture
def boto() -> Callable[..., Any]:
    """Return a context manager with a boto3 client for a face: no retries, so that each test sees the first answer."""

    @asynccontextmanager
    async def connected(face: Face, *, key: str = "AKIDEXAMPLE", secret: str = "anything") -> AsyncIterator[Boto]:
        client = await asyncio.to_thread(
            boto3.client,
            "firehose",
            endpoint_url=face.url,
            region_name="eu-central-1",
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            config=Config(retries={"total_max_attempts": 1}),
        )
        try:
            yield Boto(client)
        finally:
            client.close()

    return connected
