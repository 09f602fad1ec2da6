"""CPU seconds per GB of PutRecordBatch, through the whole application, beside the floor of Python in the same run.

The floor is a bare aiohttp handler that decodes the JSON and the base64 of a request and answers with ids, without a
check, a column or a service. The application has a service that discards what it is given. Both are driven by the same
client in another process; what is measured is the CPU time of the server's process alone. Rounds alternate, and the
ratio is that of the best rounds. `ratio_of_rounds` shows how far single rounds stray from it: on a busy machine CPU
time grows too (shared caches), and a run whose rounds differ by more than a tenth says little.

    .venv/bin/python benchmarks/put.py --requests 400 --rounds 5
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from typing import Any

import orjson
import pyarrow as pa
import pybase64
from aiohttp import web

from firehose.api.server import build_app, build_runner
from firehose.clock import SystemClock
from firehose.config.models import StreamConfig
from firehose.errors import NotFoundError
from firehose.ports import PutAnswer, StreamView
from firehose.telemetry import Telemetry

RECORDS = 500
RECORD_BYTES = 425
CONNECTIONS = 4


class DiscardingService:
    """Takes everything, keeps nothing."""

    region = "us-east-1"
    account = "000000000000"

    def __init__(self) -> None:
        self._next = 0

    async def put(self, name: str, data: pa.LargeBinaryArray, *, token: bytes = b"") -> PutAnswer:
        first = self._next
        self._next += len(data)
        return PutAnswer("log-0123456789abcdef-put", first, len(data), "0123456789abcdef")

    def stream(self, name: str) -> StreamView:
        raise NotFoundError(name)

    def streams(self) -> list[StreamView]:
        return []

    async def create_stream(self, name: str, config: StreamConfig, *, definition: dict[str, Any]) -> StreamView:
        raise NotImplementedError

    async def delete_stream(self, name: str) -> None:
        raise NotImplementedError


class Well:
    """Health that never fails."""

    def is_live(self) -> tuple[bool, str]:
        return True, ""

    is_ready = is_live


def application() -> web.AppRunner:
    """Return the application with a discarding service."""
    return build_runner(
        build_app(
            DiscardingService(),
            clock=SystemClock(),
            telemetry=Telemetry(),
            credentials={},
            admin=None,
            admin_token="",
            health=Well(),
        )
    )


def floor() -> web.AppRunner:
    """Return the least that could answer: what aiohttp, orjson and pybase64 cost by themselves."""

    async def handle(request: web.Request) -> web.Response:
        body = orjson.loads(await request.read())
        data = [pybase64.b64decode(record["Data"], validate=True) for record in body["Records"]]
        ids = [{"RecordId": str(number)} for number in range(len(data))]
        return web.Response(body=orjson.dumps({"FailedPutCount": 0, "RequestResponses": ids}))

    app = web.Application(client_max_size=2**23)
    app.router.add_post("/", handle)
    return web.AppRunner(app, access_log=None)


def request_bytes(port: int) -> bytes:
    """Return one PutRecordBatch as it stands on the wire."""
    record = json.dumps({"user": "u-1234567", "path": "/a/b", "ms": 1234, "agent": "x" * 400}).encode()[:RECORD_BYTES]
    data = pybase64.b64encode(record).decode()
    body = orjson.dumps({"DeliveryStreamName": "clicks", "Records": [{"Data": data}] * RECORDS})
    head = (
        f"POST / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/x-amz-json-1.1\r\n"
        "X-Amz-Target: Firehose_20150804.PutRecordBatch\r\namz-sdk-invocation-id: 8b3f6a3e-0000-4000-8000-000000000000"
        f"\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def drive(port: int, requests: int) -> None:
    """Send `requests` over a few connections, each as fast as it is answered."""
    message = request_bytes(port)

    async def send(count: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
        for _ in range(count):
            writer.write(message)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(int(length.split(b":")[1]))
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*(send(requests // CONNECTIONS) for _ in range(CONNECTIONS)))


async def cpu_seconds(runner: web.AppRunner, requests: int) -> float:
    """Return the CPU time this process needs to answer `requests` from another one."""
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        port = runner.addresses[0][1]
        began = time.process_time()
        client = await asyncio.create_subprocess_exec(
            sys.executable, __file__, "--drive", str(port), "--requests", str(requests)
        )
        assert await client.wait() == 0, "the client failed"
        return time.process_time() - began
    finally:
        await runner.cleanup()


async def compare(requests: int, rounds: int) -> None:
    """Print both sides and their ratio, as one JSON object."""
    gigabytes = requests * RECORDS * RECORD_BYTES / 1e9
    least, whole = [], []
    for _ in range(rounds):
        least.append(await cpu_seconds(floor(), requests))
        whole.append(await cpu_seconds(application(), requests))
    report = {
        "floor_cpu_seconds_per_gb": round(min(least) / gigabytes, 2),
        "application_cpu_seconds_per_gb": round(min(whole) / gigabytes, 2),
        "ratio": round(min(whole) / min(least), 2),
        "ratio_of_rounds": sorted(round(ours / theirs, 2) for theirs, ours in zip(least, whole, strict=True)),
    }
    print(json.dumps(report))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=400, help="requests of 500 records each, per round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--drive", type=int, metavar="PORT", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.drive:
        asyncio.run(drive(given.drive, given.requests))
    else:
        asyncio.run(compare(given.requests, given.rounds))


if __name__ == "__main__":
    main()
