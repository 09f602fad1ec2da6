"""Why the ingest log is made of segment files: their cost beside SQLite's, for the same rows on the same disk.

Each store makes the same puts durable: large ones one after the other, then small ones from many producers at once.
SQLite runs with WAL and synchronous=FULL, the setting that survives a power cut; once with the records' bytes as they
are and once compressed as a frame is, so that it is seen what compression does and what the store does. It commits per
put, and, for small puts, also per group of 64, which is what a group commit in front of it would give.

Run: .venv/bin/python benchmarks/log_store.py [folder on the disk to measure]
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import random
import sqlite3
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import zstandard

from firehose import arrow
from firehose.clock import SystemClock
from firehose.executors import ThreadExecutor
from firehose.filesystem import OsFileSystem
from firehose.log import IngestLog
from firehose.protocols import Read
from firehose.telemetry import Telemetry

LARGE_PUTS, LARGE_BYTES = 128, 2**20
SMALL_PUTS, SMALL_BYTES, PRODUCERS = 8_000, 4 * 2**10, 64

#: Each store takes its turn this often, so that a busy moment of the machine does not decide.
ROUNDS = 4

COLUMNS = ("write MB/s", "per CPU s", "read/CPU s", "written MB", "on disk MB", "wall", "CPU")


@dataclass(frozen=True)
class Cost:
    """What it took. Units: seconds; bytes that went to the disk, and that lie there in the end."""

    cpu: float
    wall: float
    written_bytes: int
    disk_bytes: int


def record(number: int, chance: random.Random) -> bytes:
    """Return a JSON event of about 425 bytes, with what compresses and what does not."""
    return json.dumps(
        {
            "id": f"{chance.getrandbits(128):032x}",
            "time": 1_767_225_600_000 + number * 7,
            "user": {
                "id": chance.randrange(10**7),
                "name": chance.choice(["ann", "bob", "cleo", "dora"]),
                "plan": "free",
            },
            "page": f"/shop/{chance.randrange(5_000)}/item/{chance.randrange(10**6)}",
            "agent": f"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/{chance.randrange(90, 140)}.0",
            "tags": [chance.choice(["new", "sale", "mobile", "search", "cart"]) for _ in range(4)],
            "scores": [round(chance.random(), 6) for _ in range(6)],
            "session": f"{chance.getrandbits(64):016x}",
        }
    ).encode()


def puts_of(count: int, size_bytes: int) -> list[pa.LargeBinaryArray]:
    """Return `count` puts of about `size_bytes` each; a few different ones, taken in turn."""
    chance = random.Random(1)
    puts = []
    for _ in range(min(count, 64)):
        records: list[bytes] = []
        while sum(map(len, records)) < size_bytes:
            records.append(record(len(records), chance))
        puts.append(arrow.binary_column(records))
    return [puts[number % len(puts)] for number in range(count)]


async def measured(work: Callable[[], Awaitable[None]], folder: Path) -> Cost:
    cpu, wall, written = time.process_time(), time.perf_counter(), written_bytes()
    await work()
    cpu, wall, written = time.process_time() - cpu, time.perf_counter() - wall, written_bytes() - written
    return Cost(cpu, wall, written, sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()))


def written_bytes() -> int:
    """Return the bytes this process had written to disks. Linux only; elsewhere 0."""
    try:
        lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next(int(line.split()[1]) for line in lines if line.startswith("write_bytes:"))


async def log_write(puts: Sequence[pa.LargeBinaryArray], producers: int, folder: Path) -> tuple[Cost, Cost]:
    """Return what it costs to put everything, and to read it again."""
    executor = ThreadExecutor(threads=2, name="log")
    log = await IngestLog.open(
        folder,
        files=OsFileSystem(),
        executor=executor,
        clock=SystemClock(),
        telemetry=Telemetry(),
        quota_bytes=2**40,
    )
    left = iter(puts)

    async def produce() -> None:
        for put in left:
            await log.append("stream", put, arrival_ms=1_767_225_600_000)

    async def write() -> None:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(producers):
                tasks.create_task(produce())

    async def read() -> None:
        shard = log.open_shard("stream", log.shard("put"), after=-1)
        rows = 0
        while isinstance(got := await shard.read(max_bytes=4 * 2**20, max_wait_ms=0), Read):
            rows += len(got.batch)
        assert rows == sum(len(put) for put in puts)

    written = await measured(write, folder)
    reading = await measured(read, folder)
    await log.close()
    executor.close()
    return written, reading


async def sqlite_write(
    puts: Sequence[pa.LargeBinaryArray], group: int, *, compressed: bool, folder: Path
) -> tuple[Cost, Cost]:
    """Return the same for a table of one row a put, committed `group` puts at a time."""
    connection = sqlite3.connect(folder / "log.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(
        "CREATE TABLE frames (stream TEXT, first INTEGER, lengths BLOB, data BLOB, PRIMARY KEY (stream, first))"
    )
    compressor = zstandard.ZstdCompressor(level=1)

    async def write() -> None:
        first = 0
        for begin in range(0, len(puts), group):
            connection.execute("BEGIN IMMEDIATE")
            for put in puts[begin : begin + group]:
                lengths, data = arrow.byte_lengths(put).astype("<i4").tobytes(), bytes(arrow.values_of(put))
                body = compressor.compress(data) if compressed else data
                connection.execute("INSERT INTO frames VALUES ('stream', ?, ?, ?)", (first, lengths, body))
                first += len(put)
            connection.execute("COMMIT")

    async def read() -> None:
        rows = 0
        for lengths, body in connection.execute(
            "SELECT lengths, data FROM frames WHERE stream = 'stream' ORDER BY first"
        ):
            data = zstandard.ZstdDecompressor().decompress(body) if compressed else body
            rows += len(arrow.binary_column_from_lengths(_ints(lengths), data))
        assert rows == sum(len(put) for put in puts)

    written = await measured(write, folder)
    reading = await measured(read, folder)
    connection.close()
    return written, reading


def _ints(body: bytes) -> arrow.Ints:
    return arrow.ints(pa.Array.from_buffers(pa.int32(), len(body) // 4, [None, pa.py_buffer(body)]))


async def compare(title: str, count: int, size_bytes: int, producers: int, place: str | None) -> None:
    puts = puts_of(count, size_bytes)
    megabytes = sum(arrow.values_of(put).nbytes for put in puts) / 1e6
    contenders: dict[str, Callable[[Path], Awaitable[tuple[Cost, Cost]]]] = {
        "segments": lambda folder: log_write(puts, producers, folder),
        "sqlite": lambda folder: sqlite_write(puts, 1, compressed=False, folder=folder),
        "sqlite zstd": lambda folder: sqlite_write(puts, 1, compressed=True, folder=folder),
    }
    if producers > 1:
        contenders["sqlite zstd, groups"] = lambda folder: sqlite_write(puts, producers, compressed=True, folder=folder)
    best: dict[str, tuple[Cost, Cost]] = {}
    for _ in range(ROUNDS):
        for name, run in contenders.items():
            with tempfile.TemporaryDirectory(dir=place) as folder:
                costs = await run(Path(folder))
            best[name] = _best(best.get(name, costs), costs)
    print(f"\n{title}: {megabytes:.0f} MB, {sum(map(len, puts)):,} records, best of {ROUNDS}")
    print(f"{'':20}" + "".join(f"{column:>12}" for column in COLUMNS))
    base = best["segments"][0]
    for name, (written, reading) in best.items():
        rates = (megabytes / written.wall, megabytes / written.cpu, megabytes / reading.cpu)
        sizes = (written.written_bytes / 1e6, written.disk_bytes / 1e6)
        ratios = (f"{written.wall / base.wall:.1f}x", f"{written.cpu / base.cpu:.1f}x")
        print(f"{name:20}" + "".join(f"{value:12.0f}" for value in rates + sizes) + "".join(f"{r:>12}" for r in ratios))


def _best(one: tuple[Cost, Cost], other: tuple[Cost, Cost]) -> tuple[Cost, Cost]:
    pairs = zip(one, other, strict=True)
    wrote, read = (dataclasses.replace(a, cpu=min(a.cpu, b.cpu), wall=min(a.wall, b.wall)) for a, b in pairs)
    return wrote, read


async def main() -> None:
    place = sys.argv[1] if len(sys.argv) > 1 else None
    await compare("puts of 1 MiB, one after the other", LARGE_PUTS, LARGE_BYTES, 1, place)
    await compare(f"puts of 4 KiB from {PRODUCERS} producers", SMALL_PUTS, SMALL_BYTES, PRODUCERS, place)


if __name__ == "__main__":
    asyncio.run(main())
