"""CPU seconds for each GB of records, stage by stage, beside the least that could do the same: `make bench`.

    put      a request is answered when its records are on disk; the floor answers the same requests and keeps nothing
    convert  JSON to the columns of a table; the floors read the same JSON, but turn what does not fit into NULL, or
             leave it a Python object
    write    the columns to a Parquet file that is synced and delivered; the floor is the bare Parquet writer
    whole    the service from put to delivered file, all its processes; the floor is the sum of the floors

Records are nested JSON of about 425 bytes; a GB is one of their own bytes, before base64. Every number is the median of
a few rounds, in which all sides take turns, so that a busy moment of the machine meets all of them.

    .venv/bin/python -m benchmarks.main --records 200000 --rounds 3
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from aiohttp import web

from benchmarks import put
from benchmarks.convert import COLUMNS, STRUCTURE
from benchmarks.load import STREAM, records, send_from_another_process, tree_cpu_seconds, write_requests
from firehose import arrow
from firehose.aws import AwsClients
from firehose.clock import SystemClock
from firehose.components import Environment
from firehose.converters.openx import OpenXConfig
from firehose.delivery.outbox import Outbox
from firehose.encoders.parquet import ParquetConfig
from firehose.executors import InlineExecutor
from firehose.filesystem import OsFileSystem
from firehose.kernels import SLAB_BYTES
from firehose.protocols import Delivery, TableSchema
from firehose.records import RowSet
from firehose.sinks.file import FileSink
from firehose.telemetry import Telemetry
from proof.service import Service, running

CONFIG = f"""
catalogs:
  tables: {{type: file, path: catalog}}
streams:
  {STREAM}:
    convert: {{format: parquet, table: web.events, compression: zstd}}
    buffer: {{size: 64MiB, interval: 300s}}
    sink: {{type: file, path: lake}}
"""

#: What each server is given before it is measured: what only a first request costs is no running cost.
WARM_UP_RECORDS = 20_000

#: How often a service is asked whether it is done: seldom, because the answer is its cost, too.
ASK_S = 0.25

#: The CPU seconds of every round, by stage and side.
Costs = dict[tuple[str, str], list[float]]


class Bench:
    """The same records for every stage, and a folder on the disk that is measured."""

    def __init__(self, found: list[bytes], folder: Path) -> None:
        self.folder = folder
        self.requests, self.warm_up = folder / "requests", folder / "warm-up"
        self.records = found
        self.data_bytes = sum(map(len, found))
        self._slabs = list(slabs(found))
        self._converter = OpenXConfig().build(TableSchema("web", "events", "1", tuple(COLUMNS.items())))
        self._table = pa.Table.from_batches([self._converter.convert(slab).columns for slab in self._slabs])
        write_requests(found, self.requests)
        self.warm_up_records = min(WARM_UP_RECORDS, len(found))
        write_requests(found[: self.warm_up_records], self.warm_up)
        (folder / "catalog" / "web").mkdir(parents=True)
        (folder / "catalog" / "web" / "events.yaml").write_text(json.dumps({"columns": COLUMNS}))
        (folder / "lake").mkdir()
        (folder / "firehose.yaml").write_text(CONFIG)

    def round(self, costs: Costs) -> None:
        """Let every side take its turn once."""
        costs["put", "ours"].append(self._service(self._put, is_paused=True))
        costs["put", "aiohttp, orjson, pybase64"].append(asyncio.run(self._bare_put()))
        costs["convert", "ours"].append(cpu_seconds(self._convert))
        costs["convert", "DuckDB json_transform"].append(cpu_seconds(self._json_transform))
        costs["convert", "orjson.loads"].append(cpu_seconds(self._loads))
        costs["write", "ours"].append(cpu_seconds(self._write))
        costs["write", "pyarrow write_table"].append(cpu_seconds(self._write_table))
        costs["whole", "ours"].append(self._service(self._whole))

    def _service(self, work: Callable[[Service], None], *, is_paused: bool = False) -> float:
        """Return what `work` costs a service of its own, all its processes, once it has seen a few records."""
        config = self.folder / "firehose.yaml"
        with tempfile.TemporaryDirectory(dir=self.folder) as home, running(config, Path(home), {}) as service:
            asyncio.run(send_from_another_process(service.url, self.warm_up))
            service.deliver()
            if is_paused:
                service.ask("pause", stream=STREAM)
            before = tree_cpu_seconds(service.pid)
            work(service)
            cost = tree_cpu_seconds(service.pid) - before
            total = service.ask("audit")["streams"][0]["total"]
        sent = self.warm_up_records + len(self.records)
        assert total["accepted"] == sent and (is_paused or total["delivered"] == sent), total
        return cost

    def _put(self, service: Service) -> None:
        asyncio.run(send_from_another_process(service.url, self.requests))

    def _whole(self, service: Service) -> None:
        self._put(service)
        service.deliver(ask_s=ASK_S)

    async def _bare_put(self) -> float:
        runner = put.floor()
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        await send_from_another_process(url, self.warm_up)
        before = time.process_time()
        await send_from_another_process(url, self.requests)
        cost = time.process_time() - before
        await runner.cleanup()
        return cost

    def _convert(self) -> None:
        for slab in self._slabs:
            assert not len(self._converter.convert(slab).failed)

    def _json_transform(self) -> None:
        with duckdb.connect() as connection:
            for slab in self._slabs:
                connection.register("slab", pa.table({"data": slab.cast(pa.large_string())}))
                query = f"SELECT unnest(json_transform(data, '{json.dumps(STRUCTURE)}')) FROM slab"
                assert len(connection.sql(query).to_arrow_table()) == len(slab)

    def _loads(self) -> None:
        for record in self.records:
            orjson.loads(record)

    def _write(self) -> None:
        files = OsFileSystem()
        environment = Environment(
            SystemClock(), Telemetry(), InlineExecutor(), files, self.folder, AwsClients(), log=None
        )
        outbox = Outbox(self.folder / "outbox", files)
        outbox.recover(())
        file = outbox.begin(outbox.new_path())
        output = file.new_object()
        writer = ParquetConfig(table="web.events", compression="zstd").encoder().open(output, self._table.schema)
        for batch in self._table.to_batches():
            writer.write(batch)
        writer.close()
        outbox.seal(file)
        key = hashlib.sha256(str(time.monotonic_ns()).encode()).hexdigest()
        rows = RowSet.of_range("shard", 0, len(self.records) - 1)
        delivery = Delivery(key, file.path, output.offset, output.body_bytes, output.checksum, rows)
        asyncio.run(FileSink(self.folder / "lake", environment).deliver(delivery))
        outbox.discard(file)

    def _write_table(self) -> None:
        pq.write_table(self._table, self.folder / "bare.parquet", compression="zstd", compression_level=1)


def slabs(found: list[bytes]) -> Iterator[pa.LargeBinaryArray]:
    """Yield the records in columns of the size that the service converts at a time."""
    batch: list[bytes] = []
    for record in found:
        batch.append(record)
        if len(batch) * len(record) >= SLAB_BYTES:
            yield arrow.binary_column(batch)
            batch = []
    if batch:
        yield arrow.binary_column(batch)


def cpu_seconds(work: Callable[[], None]) -> float:
    """Return the CPU time of this process, all its threads, that `work` takes."""
    before = time.process_time()
    work()
    return time.process_time() - before


def show(costs: Costs, data_bytes: int) -> None:
    """Print each stage's cost beside its floors."""
    a_gb = {side: statistics.median(rounds) / data_bytes * 1e9 for side, rounds in costs.items()}
    floors = [
        ("put", "aiohttp, orjson, pybase64"),
        ("convert", "DuckDB json_transform"),
        ("write", "pyarrow write_table"),
    ]
    a_gb["whole", "the sum of put, DuckDB, pyarrow"] = sum(a_gb[floor] for floor in floors)
    print(f"\n{'CPU seconds for each GB':24}{'ours':>8}{'floor':>8}{'ratio':>8}   floor")
    for stage, side in a_gb:
        if side != "ours":
            ours, floor = a_gb[stage, "ours"], a_gb[stage, side]
            print(f"{stage:24}{ours:8.1f}{floor:8.1f}{ours / floor:8.2f}   {side}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to work: a folder on the disk to measure")
    given = parser.parse_args()
    costs: Costs = defaultdict(list)
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        bench = Bench(records(given.records), Path(folder))
        print(f"{given.records:,} records, {bench.data_bytes / 1e6:.1f} MB, medians of {given.rounds} rounds")
        for _ in range(given.rounds):
            bench.round(costs)
    show(costs, bench.data_bytes)


if __name__ == "__main__":
    main()
