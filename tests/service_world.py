"""The whole service in one process, on a real disk, under a clock that only tests move."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pybase64

from firehose import arrow
from firehose.config.models import Configuration, ServerConfig, StreamConfig
from firehose.datadir import DataDirectory
from firehose.operations import VERBS
from firehose.service import Service
from firehose.service.runner import StreamRunner
from firehose.testing import FakeClock, RecordingTelemetry

#: How long a test waits for what the service does in real threads.
PATIENCE_S = 120

#: A function that fails what begins with `bad`, unless the file MARK says that it was repaired.
FUNCTION = """
import base64, os

def handler(event, context):
    is_repaired = os.path.exists(os.environ["MARK"])
    answers = []
    for record in event["records"]:
        is_bad = base64.b64decode(record["data"]).startswith(b"bad") and not is_repaired
        answers.append({"recordId": record["recordId"], "result": "ProcessingFailed" if is_bad else "Ok",
                        "data": record["data"]})
    return {"records": answers}
"""


class ServiceWorld:
    """What outlives the service: its directory, the lake, and time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.lake = folder / "lake"
        self.lake.mkdir()
        self.clock = FakeClock()
        self.telemetry = RecordingTelemetry()
        self.mark = folder / "repaired"
        (folder / "check.py").write_text(FUNCTION)

    def config(self, name: str = "clicks", **changes: Any) -> StreamConfig:
        """Return a stream whose objects go to the lake at once."""
        words: dict[str, Any] = {
            "buffer": {"interval": "0s"},
            "sink": {"type": "file", "path": str(self.lake), "prefix": f"{name}/"},
            "failed": {"prefix": f"{name}-failed/!{{firehose:error-output-type}}/"},
        }
        return StreamConfig.model_validate(words | changes)

    def checked(self, name: str = "clicks", **changes: Any) -> StreamConfig:
        """Return a stream that fails what begins with `bad`."""
        return self.config(name, transforms=[{"type": "lambda", "function": "check"}], **changes)

    def configuration(self, **streams: StreamConfig) -> Configuration:
        function = {"path": str(self.folder / "check.py"), "environment": {"MARK": str(self.mark)}}
        return Configuration(server=ServerConfig(), functions={"check": function}, streams=streams)

    @asynccontextmanager
    async def opened(self, configuration: Configuration | None = None) -> AsyncIterator[Service]:
        """Open the service as commands do where none runs; with a configuration, as a start does."""
        directory = DataDirectory(self.data)
        directory.take()
        try:
            service = await Service.open(
                configuration or self.configuration(),
                directory,
                self.clock,
                self.telemetry,
                keep_definitions=configuration is None,
            )
            try:
                yield service
            finally:
                await service.close()
        finally:
            directory.release()

    @asynccontextmanager
    async def running(self, **streams: StreamConfig) -> AsyncIterator[Service]:
        """Run a service; leaving the block stops it as a signal does."""
        async with self.running_as(self.configuration(**streams)) as service:
            yield service

    @asynccontextmanager
    async def running_as(self, configuration: Configuration) -> AsyncIterator[Service]:
        """Run a service with this configuration."""
        async with self.opened(configuration) as service:
            started = asyncio.Event()
            task = asyncio.create_task(service.run(started))
            try:
                await started.wait()
                yield service
                if task.done():
                    task.result()
            finally:
                task.cancel()
                await asyncio.wait([task])

    async def leap(self, duration_ms: int) -> None:
        """Let time pass at once: whoever sleeps wakes up late, as on a machine that was suspended."""
        self.clock._now_ms += duration_ms
        await self.clock.advance(0)

    async def until(self, is_so: Callable[[], Any], what: str = "it", *, patience_s: float = PATIENCE_S) -> None:
        """Let time pass until `is_so` holds; its answer may be awaitable."""
        deadline = time.monotonic() + patience_s
        while True:
            found = is_so()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return
            assert time.monotonic() < deadline, f"{what} did not happen in {patience_s} s: {self.telemetry.events[-5:]}"
            await self.clock.advance(100)
            await asyncio.sleep(0.002)  # threads need real time

    async def delivered(self, service: Service, *names: str) -> None:
        """Let time pass until nothing waits any more."""

        async def is_delivered() -> bool:
            streams = (await ask(service, "status"))["streams"]
            return not any(each["backlog_records"] for each in streams if not names or each["name"] in names)

        await self.until(is_delivered, "delivery")

    def records(self, prefix: str = "clicks") -> Counter[bytes]:
        """Return the records in the lake under a prefix."""
        files = [path for path in (self.lake / prefix).rglob("*") if path.is_file()]
        return Counter(line for path in files for line in path.read_bytes().splitlines())

    def failures(self, prefix: str = "clicks") -> Counter[bytes]:
        """Return the original bytes of the records in the error output."""
        files = [path for path in (self.lake / f"{prefix}-failed").rglob("*") if path.is_file()]
        lines = [line for path in files for line in path.read_bytes().splitlines()]
        return Counter(pybase64.b64decode(orjson.loads(line)["rawData"]) for line in lines)

    def error_objects(self, prefix: str = "clicks") -> list[Path]:
        """Return the error objects, oldest first."""
        files = [path for path in (self.lake / f"{prefix}-failed").rglob("*") if path.is_file()]
        return sorted(files, key=lambda path: path.stat().st_mtime_ns)


async def ask(service: Service, verb: str, **parameters: Any) -> Any:
    """Return what a verb answers, as JSON hands it on."""
    return json.loads(json.dumps(await VERBS[verb](service, parameters)))


async def put(service: Service, name: str, *records: bytes) -> None:
    await service.put(name, arrow.binary_column(list(records)))


async def total(service: Service, name: str = "clicks") -> dict[str, int]:
    """Return the terms of one stream's account that are not 0; it must close, for each hour."""
    (account,) = (await ask(service, "audit", stream=name))["streams"]
    assert account["closes"], account
    return {term: rows for term, rows in account["total"].items() if rows}


def runner_of(service: Service, name: str = "clicks") -> StreamRunner:
    return service.runners[name]


def open_objects(service: Service, name: str = "clicks") -> int:
    """Return how many finished objects are on their way; -1 where the stream does not work yet."""
    worker = service.runners[name].worker
    return worker.open_objects if worker is not None else -1


def break_lake(world: ServiceWorld) -> Callable[[], None]:
    """Take the lake away; returns what brings it back."""
    aside = world.folder / "lake-aside"
    world.lake.rename(aside)
    world.lake.write_text("a file stands here")

    def repair() -> None:
        world.lake.unlink()
        aside.rename(world.lake)

    return repair
