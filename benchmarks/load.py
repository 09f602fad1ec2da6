"""The load that all stages bear, and what it costs the processes that bear it.

As a command it is the producer, in a process of its own so that its CPU is nobody's cost:

    .venv/bin/python -m benchmarks.load URL FILE

sends each line of FILE as the body of one PutRecordBatch, over a few connections, each as fast as it is answered.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from pathlib import Path

import aiohttp
import orjson
import pybase64

from benchmarks.convert import event

#: What one PutRecordBatch may hold.
BATCH_RECORDS = 500
CONNECTIONS = 4

STREAM = "events"
HEADERS = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "Firehose_20150804.PutRecordBatch"}


def records(count: int) -> list[bytes]:
    """Return nested JSON events of about 425 bytes, always the same ones."""
    dice = random.Random(1)
    return [event(dice) for _ in range(count)]


def write_requests(found: list[bytes], path: Path) -> None:
    """Write the bodies of the requests that put these records, one a line."""
    with path.open("wb") as file:
        for start in range(0, len(found), BATCH_RECORDS):
            batch = [{"Data": pybase64.b64encode(each).decode()} for each in found[start : start + BATCH_RECORDS]]
            file.write(orjson.dumps({"DeliveryStreamName": STREAM, "Records": batch}, option=orjson.OPT_APPEND_NEWLINE))


async def send(url: str, path: Path) -> None:
    """Send every request, each once. Errors: RuntimeError where a record is refused."""
    waiting = iter(path.read_bytes().splitlines())

    async def lane(session: aiohttp.ClientSession) -> None:
        for body in waiting:
            async with session.post(url, data=body, headers=HEADERS) as answer:
                text = await answer.read()
                if answer.status != 200 or orjson.loads(text)["FailedPutCount"]:
                    raise RuntimeError(f"{url} answered {answer.status}: {text[:500]!r}")

    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as lanes:
        for _ in range(CONNECTIONS):
            lanes.create_task(lane(session))


async def send_from_another_process(url: str, path: Path) -> None:
    """Return when a producer has sent everything."""
    command = (sys.executable, "-m", "benchmarks.load", url, str(path))
    producer = await asyncio.create_subprocess_exec(*command, cwd=Path(__file__).parents[1])
    if await producer.wait():
        raise RuntimeError("the producer failed")


def tree_cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process and all below it have used so far, ended ones included. Linux only."""
    parents, ticks = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # behind the name in brackets, which may hold anything: state, parent, ... and from the 12th on the times
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has just ended; its parent has its times
        parents[int(stat.parent.name)] = int(fields[1])
        ticks[int(stat.parent.name)] = sum(map(int, fields[11:15]))
    tree, waiting = 0, [pid]
    while waiting:
        each = waiting.pop()
        tree += ticks.get(each, 0)
        waiting += [child for child, parent in parents.items() if parent == each]
    return tree / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    asyncio.run(send(sys.argv[1], Path(sys.argv[2])))
