"""MB of JSON per CPU second: the reference converter beside DuckDB's and Arrow's readers, which have no such rules.

They are what a conversion costs at the least, and what it would lose: both turn or refuse more than they may. Rounds
alternate, the best of each counts: the rest is noise from other processes. Two more rows show that bad records are
cheap for us, and what the Parquet file after it costs.

    .venv/bin/python benchmarks/convert.py --records 40000 --rounds 5
"""

from __future__ import annotations

import argparse
import io
import json
import random
import time
from collections.abc import Callable

import duckdb
import pyarrow as pa
import pyarrow.json as arrow_json

from firehose import arrow
from firehose.converters.openx import OpenXConfig
from firehose.encoders.parquet import ParquetConfig
from firehose.protocols import TableSchema

COLUMNS = {
    "event_id": "string",
    "event_time": "timestamp",
    "event_type": "string",
    "user": "struct<id:bigint,country:string,premium:boolean>",
    "context": "struct<ip:string,user_agent:string,page:string,geo:struct<lat:double,lon:double>>",
    "items": "array<struct<sku:string,quantity:int,price:double>>",
    "tags": "array<string>",
}
STRUCTURE = {
    "event_id": "VARCHAR",
    "event_time": "TIMESTAMP",
    "event_type": "VARCHAR",
    "user": {"id": "BIGINT", "country": "VARCHAR", "premium": "BOOLEAN"},
    "context": {
        "ip": "VARCHAR",
        "user_agent": "VARCHAR",
        "page": "VARCHAR",
        "geo": {"lat": "DOUBLE", "lon": "DOUBLE"},
    },
    "items": [{"sku": "VARCHAR", "quantity": "INTEGER", "price": "DOUBLE"}],
    "tags": ["VARCHAR"],
}


def event(dice: random.Random) -> bytes:
    """Return one nested event of about 425 bytes."""
    item = {"sku": f"SKU-{dice.randrange(1000):04}", "quantity": dice.randrange(9), "price": dice.randrange(9999) / 100}
    body = {
        "event_id": f"{dice.getrandbits(64):016x}",
        "event_time": f"2026-01-02T{dice.randrange(24):02}:{dice.randrange(60):02}:05.678Z",
        "event_type": dice.choice(["click", "view", "buy"]),
        "user": {"id": dice.randrange(10**9), "country": "DE", "premium": dice.random() < 0.5},
        "context": {
            "ip": f"10.1.{dice.randrange(256)}.{dice.randrange(256)}",
            "user_agent": "Mozilla/5.0 (X11; Linux x86_64) Firefox/128.0",
            "page": f"/products/{dice.randrange(10**4)}",
            "geo": {"lat": round(dice.uniform(-90, 90), 4), "lon": round(dice.uniform(-180, 180), 4)},
        },
        "items": [item, item],
        "tags": ["spring", "sale"],
    }
    return json.dumps(body, separators=(",", ":")).encode()


def with_bad_ones(records: list[bytes]) -> list[bytes]:
    """Return the records, of which every hundredth is cut off."""
    return [record if number % 100 else record[:-9] for number, record in enumerate(records)]


def sides(records: list[bytes]) -> dict[str, Callable[[], object]]:
    """Return what is measured, by name; the first is the one that the others are compared with."""
    converter = OpenXConfig().build(TableSchema("db", "events", "1", tuple(COLUMNS.items())))
    data, spoilt = arrow.binary_column(records), arrow.binary_column(with_bad_ones(records))
    columns = converter.convert(data).columns
    connection = duckdb.connect()
    connection.execute("SET threads = 1")
    table = pa.table({"data": pa.array([record.decode() for record in records])})
    connection.register("records", table)
    query = f"SELECT unnest(json_transform(data, '{json.dumps(STRUCTURE)}')) FROM records"
    lines = pa.py_buffer(b"\n".join(records))
    options = arrow_json.ParseOptions(explicit_schema=converter.schema)
    reading = arrow_json.ReadOptions(use_threads=False)

    def write_parquet() -> None:
        writer = ParquetConfig(table="db.events").encoder().open(io.BytesIO(), converter.schema)
        writer.write(columns)
        writer.close()

    return {
        "reference": lambda: converter.convert(data),
        "reference, 1% malformed": lambda: converter.convert(spoilt),
        "duckdb json_transform": lambda: connection.sql(query).to_arrow_table(),
        "pyarrow.json": lambda: arrow_json.read_json(pa.BufferReader(lines), reading, options),
        "parquet, snappy": write_parquet,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=40_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    dice = random.Random(1)
    records = [event(dice) for _ in range(arguments.records)]
    total_bytes = sum(map(len, records))
    print(f"{len(records)} events of {total_bytes / len(records):.0f} bytes")
    runs = sides(records)
    best = dict.fromkeys(runs, float("inf"))
    for _ in range(arguments.rounds):
        for name, run in runs.items():
            before = time.process_time()
            run()
            best[name] = min(best[name], time.process_time() - before)
    floor = next(iter(best.values()))
    for name, seconds in best.items():
        print(f"{name:26} {total_bytes / 1e6 / seconds:6.0f} MB/s {floor / seconds:6.2f} x")


if __name__ == "__main__":
    main()
