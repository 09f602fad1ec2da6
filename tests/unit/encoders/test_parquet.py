"""Parquet files, read back by three readers that share no code."""

from __future__ import annotations

import json
import math
from datetime import date, datetime
from decimal import Decimal
from errno import ENOSPC
from io import BytesIO
from pathlib import Path
from typing import Any

import duckdb
import fastparquet
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from pyarrow import parquet
from pydantic import ValidationError

from firehose import arrow
from firehose.converters.openx import OpenXConfig
from firehose.encoders.parquet import ParquetConfig
from firehose.protocols import TableSchema
from tests.unit.converters.tables import Case, cases

relaxed = settings(
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture], deadline=None, max_examples=40
)


def write(*batches: pa.RecordBatch, **options: Any) -> bytes:
    out = BytesIO()
    writer = ParquetConfig.model_validate({"table": "db.t", **options}).encoder().open(out, batches[0].schema)
    for each in batches:
        writer.write(each)
    assert writer.close().rows == sum(each.num_rows for each in batches)
    return out.getvalue()


def convert(columns: dict[str, str], *records: str) -> pa.RecordBatch:
    schema = TableSchema("db", "t", "1", tuple(columns.items()))
    converted = OpenXConfig().build(schema).convert(arrow.binary_column([record.encode() for record in records]))
    assert list(converted.messages) == []
    return converted.columns


def converted(case: Case) -> pa.RecordBatch:
    return OpenXConfig().build(case.schema).convert(arrow.binary_column(case.records)).columns


@relaxed
@given(cases())
def test_pyarrow_reads_rows_and_types_back(case: Case) -> None:
    columns = converted(case)
    table = parquet.read_table(BytesIO(write(columns)))
    assert table.schema.equals(columns.schema)
    assert table.to_pylist(maps_as_pydicts="strict") == case.rows


@relaxed
@given(case=cases())
def test_duckdb_reads_rows_back(case: Case, tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    path.write_bytes(write(converted(case)))
    relation = duckdb.read_parquet(str(path))
    assert [dict(zip(relation.columns, row, strict=True)) for row in relation.fetchall()] == case.rows


EVERYTHING = {
    "flag": "boolean",
    "tiny": "tinyint",
    "small": "smallint",
    "whole": "int",
    "big": "bigint",
    "single": "float",
    "twice": "double",
    "money": "decimal(10,2)",
    "huge": "decimal(38,3)",
    "text": "string",
    "short": "varchar(5)",
    "fixed": "char(3)",
    "body": "binary",
    "at": "timestamp",
    "day": "date",
    "list": "array<int>",
    "texts": "map<string,string>",
    "user": "struct<id:bigint,nick:string>",
    "items": "array<struct<sku:string,price:decimal(5,2)>>",
    "groups": "map<string,array<struct<n:int>>>",
}
ROW = {
    "flag": True,
    "tiny": -1,
    "small": 2,
    "whole": 3,
    "big": 2**40,
    "single": 1.5,
    "twice": 0.1,
    "money": 12.34,
    "huge": 1,
    "text": "naïve",
    "short": "abcdefgh",
    "fixed": "abc",
    "body": "AAEC",
    "at": "2026-01-02T03:04:05.678901Z",
    "day": "2026-01-02",
    "list": [1, None, 3],
    "texts": {"a": "x", "b": None},
    "user": {"id": 7, "nick": "Ada"},
    "items": [{"sku": "s1", "price": 1.5}, {"sku": None}],
    "groups": {"g": [{"n": 1}], "h": []},
}
EXPECTED = ROW | {
    "money": Decimal("12.34"),
    "huge": Decimal("1.000"),
    "short": "abcde",
    "body": b"\x00\x01\x02",
    "at": datetime(2026, 1, 2, 3, 4, 5, 678901),
    "day": date(2026, 1, 2),
    "items": [{"sku": "s1", "price": Decimal("1.50")}, {"sku": None, "price": None}],
}


@pytest.fixture
def everything(tmp_path: Path) -> Path:
    path = tmp_path / "everything.parquet"
    path.write_bytes(write(convert(EVERYTHING, json.dumps(ROW), "{}")))
    return path


def test_duckdb_sees_the_types_that_the_table_declares(everything: Path) -> None:
    relation = duckdb.read_parquet(str(everything))
    assert dict(zip(relation.columns, map(str, relation.types), strict=True)) == {
        "flag": "BOOLEAN",
        "tiny": "TINYINT",
        "small": "SMALLINT",
        "whole": "INTEGER",
        "big": "BIGINT",
        "single": "FLOAT",
        "twice": "DOUBLE",
        "money": "DECIMAL(10,2)",
        "huge": "DECIMAL(38,3)",
        "text": "VARCHAR",
        "short": "VARCHAR",
        "fixed": "VARCHAR",
        "body": "BLOB",
        "at": "TIMESTAMP",
        "day": "DATE",
        "list": "INTEGER[]",
        "texts": "MAP(VARCHAR, VARCHAR)",
        "user": "STRUCT(id BIGINT, nick VARCHAR)",
        "items": "STRUCT(sku VARCHAR, price DECIMAL(5,2))[]",
        "groups": "MAP(VARCHAR, STRUCT(n INTEGER)[])",
    }
    first, second = relation.fetchall()
    assert dict(zip(relation.columns, first, strict=True)) == EXPECTED
    assert set(second) == {None}


#: What fastparquet cannot read: values nested in lists and maps.
NOT_FOR_FASTPARQUET = ("items", "groups")


def test_fastparquet_reads_the_same_values() -> None:
    columns = {name: each for name, each in EVERYTHING.items() if name not in NOT_FOR_FASTPARQUET}
    body = write(convert(columns, json.dumps({name: ROW[name] for name in columns}), "{}"))
    frame = fastparquet.ParquetFile(BytesIO(body)).to_pandas()
    first, second = frame.iloc[0].to_dict(), frame.iloc[1].to_dict()
    assert {name: first.pop(name) for name in ("user.id", "user.nick")} == {"user.id": 7, "user.nick": "Ada"}
    assert (first.pop("at").to_pydatetime(), first.pop("day").date()) == (EXPECTED["at"], EXPECTED["day"])
    assert math.isclose(first.pop("money"), 12.34), "it reads decimals as doubles"
    assert first.pop("huge") == 1.0
    assert first == {name: EXPECTED[name] for name in columns if name not in ("user", "at", "day", "money", "huge")}
    assert all(value is None or value != value or str(value) in ("<NA>", "NaT") for value in second.values())


def test_the_file_is_laid_out_for_readers_of_today(everything: Path) -> None:
    file = parquet.ParquetFile(everything)
    assert file.metadata.format_version == "2.6"
    assert file.metadata.metadata is None, "no copy of the schema that only Arrow reads"
    fields = {field.path: field for field in map(file.schema.column, range(file.metadata.num_columns))}
    assert fields["at"].physical_type == "INT64"
    assert json.loads(fields["at"].logical_type.to_json()) == {
        "Type": "Timestamp",
        "isAdjustedToUTC": False,
        "timeUnit": "microseconds",
        "is_from_converted_type": False,
        "force_set_converted_type": False,
    }
    assert fields["day"].physical_type == "INT32"
    assert fields["huge"].physical_type == "FIXED_LEN_BYTE_ARRAY"
    assert {"list.list.element", "texts.key_value.key", "items.list.element.sku"} <= set(fields)
    for number in range(file.metadata.num_columns):
        column = file.metadata.row_group(0).column(number)
        assert column.is_stats_set
        assert column.compression == "SNAPPY"


@pytest.mark.parametrize(
    ("options", "compression"),
    [
        ({}, "SNAPPY"),
        ({"compression": "none"}, "UNCOMPRESSED"),
        ({"compression": "gzip"}, "GZIP"),
        ({"compression": "gzip", "level": 9}, "GZIP"),
        ({"compression": "zstd"}, "ZSTD"),
        ({"compression": "zstd", "level": 19}, "ZSTD"),
    ],
)
def test_compression(options: dict[str, Any], compression: str) -> None:
    columns = convert({"text": "string"}, *(f'{{"text":"{"abc" * 50}{number}"}}' for number in range(200)))
    file = parquet.ParquetFile(BytesIO(write(columns, **options)))
    assert file.metadata.row_group(0).column(0).compression == compression
    assert file.read().column("text").to_pylist() == columns.column("text").to_pylist()


def test_a_higher_level_makes_the_file_smaller() -> None:
    text = " ".join(str(number * 7919 % 10007) for number in range(20_000))
    columns = convert({"text": "string"}, json.dumps({"text": text}))
    for compression, low, high in (("gzip", 1, 9), ("zstd", 1, 19)):
        assert len(write(columns, compression=compression, level=high)) < len(
            write(columns, compression=compression, level=low)
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"level": 3}, "with compression snappy it must be not given"),
        ({"compression": "none", "level": 1}, "with compression none it must be not given"),
        ({"compression": "gzip", "level": 10}, "with compression gzip it must be from 1 to 9"),
        ({"compression": "zstd", "level": 0}, "with compression zstd it must be from 1 to 22"),
        ({"compression": "SNAPPY"}, "Input should be 'snappy', 'gzip', 'zstd' or 'none'"),
        ({"block_size": "1KiB"}, "greater than or equal to 1048576"),
        ({"block_size": "4GiB"}, "less than or equal to 2147483647"),
        ({"page_size": "1KiB"}, "greater than or equal to 8192"),
        ({"page_version": 3}, "Input should be 1 or 2"),
        ({"timestamps": "millis"}, "Input should be 'micros' or 'int96'"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        ParquetConfig.model_validate({"table": "db.t", **options})
    assert message in str(caught.value)


def numbers(count: int, start: int = 0) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"n": pa.array(range(start, start + count), pa.int64())})


def row_groups(body: bytes) -> list[int]:
    metadata = parquet.ParquetFile(BytesIO(body)).metadata
    return [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]


def test_small_batches_share_a_row_group() -> None:
    body = write(*(numbers(100, start) for start in range(0, 5000, 100)), block_size="1MiB")
    assert row_groups(body) == [5000]
    assert parquet.read_table(BytesIO(body)).column("n").to_pylist() == list(range(5000))


def test_row_groups_end_at_the_block_size_whatever_comes_at_once() -> None:
    rows_of_a_block = 2**20 // 8
    assert row_groups(write(numbers(4 * rows_of_a_block), block_size="1MiB")) == [rows_of_a_block] * 4
    pieces = [numbers(rows_of_a_block // 2)] * 5
    assert row_groups(write(*pieces, block_size="1MiB")) == [rows_of_a_block, rows_of_a_block, rows_of_a_block // 2]


def test_no_more_than_a_block_waits_in_memory() -> None:
    out = BytesIO()
    config = ParquetConfig.model_validate({"table": "db.t", "block_size": "1MiB", "compression": "none"})
    writer = config.encoder().open(out, numbers(1).schema)
    before = pa.total_allocated_bytes()
    for start in range(0, 100 * 2**14, 2**14):
        writer.write(numbers(2**14, start))
        assert pa.total_allocated_bytes() - before < 4 * 2**20
    assert out.tell() > 8 * 2**20
    writer.close()


def test_pages_and_dictionaries_follow_their_options() -> None:
    columns = pa.RecordBatch.from_pydict({"text": pa.array(["the same words again"] * 50_000)})
    assert len(write(columns, compression="none")) * 20 < len(write(columns, compression="none", dictionary=False))
    small = write(columns, compression="none", dictionary=False, page_size="8KiB")
    assert len(small) > len(write(columns, compression="none", dictionary=False)), "each page has its header"


@pytest.mark.parametrize("version", [1, 2])
def test_pages_have_the_version_that_was_asked_for(version: int) -> None:
    body = write(numbers(1000), page_version=version, dictionary=False)
    offset = parquet.ParquetFile(BytesIO(body)).metadata.row_group(0).column(0).data_page_offset
    header = fastparquet.cencoding.from_buffer(np.frombuffer(body[offset:], np.uint8), "PageHeader")
    assert (header.data_page_header is not None, header.data_page_header_v2 is not None) == (version == 1, version == 2)
    assert parquet.read_table(BytesIO(body)).column("n").to_pylist() == list(range(1000))


@pytest.mark.parametrize("page_version", [1, 2])
def test_timestamps_may_be_those_of_hive_before_version_4(page_version: int, tmp_path: Path) -> None:
    times = [
        datetime(1, 1, 1),
        datetime(1582, 10, 4, 23, 59, 59, 999999),
        datetime(1969, 12, 31, 23, 59, 59, 999999),
        datetime(1970, 1, 1),
        datetime(2026, 1, 2, 3, 4, 5, 678901),
        datetime(9999, 12, 31, 23, 59, 59, 999999),
        None,
    ]
    columns = {"at": pa.array(times, pa.timestamp("us")), "list": pa.array([times] * 7, pa.list_(pa.timestamp("us")))}
    body = write(pa.RecordBatch.from_pydict(columns), timestamps="int96", page_version=page_version)
    path = tmp_path / "times.parquet"
    path.write_bytes(body)
    group = parquet.ParquetFile(path).metadata.row_group(0)
    assert [group.column(number).physical_type for number in (0, 1)] == ["INT96", "INT96"]
    relation = duckdb.read_parquet(str(path))
    assert list(map(str, relation.types)) == ["TIMESTAMP", "TIMESTAMP[]"]
    assert relation.fetchall() == [(each, times) for each in times]
    found = parquet.read_table(path, coerce_int96_timestamp_unit="us")
    assert found.column("at").to_pylist() == times


def test_an_error_of_the_disk_keeps_its_number() -> None:
    class Full(BytesIO):
        def write(self, data: Any, /) -> int:
            raise OSError(ENOSPC, "No space left on device")

    with pytest.raises(OSError) as caught:
        ParquetConfig(table="a.b").encoder().open(Full(), numbers(1).schema).close()
    assert caught.value.errno == ENOSPC


def test_an_object_without_rows_has_its_columns_all_the_same() -> None:
    body = write(convert(EVERYTHING))
    assert parquet.read_schema(BytesIO(body)).names == list(EVERYTHING)
    assert row_groups(body) == []
