"""A table with every Hive type, alone and nested, and rows that go to the ends of each."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from io import BytesIO
from typing import Any

import pyarrow as pa

from firehose.components import ConvertConfig
from firehose.hive_types import arrow_schema, parse_columns

COLUMNS = {
    "flag": "boolean",
    "tiny": "tinyint",
    "small": "smallint",
    "whole": "int",
    "big": "bigint",
    "single": "float",
    "twice": "double",
    "money": "decimal(10,2)",
    "medium": "decimal(18,0)",
    "huge": "decimal(38,3)",
    "text": "string",
    "fixed": "char(3)",
    "short": "varchar(5)",
    "body": "binary",
    "at": "timestamp",
    "far": "timestamp",
    "day": "date",
    "far_day": "date",
    "list": "array<int>",
    "names": "array<string>",
    "texts": "map<string,string>",
    "counts": "map<int,bigint>",
    "user": "struct<id:bigint,nick:string>",
    "items": "array<struct<sku:string,price:decimal(5,2),at:timestamp>>",
    "groups": "map<string,array<struct<n:int>>>",
    "deep": "struct<list:array<map<string,int>>,user:struct<tags:array<array<string>>>>",
}
NOTHING: dict[str, Any] = dict.fromkeys(COLUMNS)

USUAL: dict[str, Any] = {
    "flag": True,
    "tiny": -1,
    "small": 2,
    "whole": 3,
    "big": 2**40,
    "single": 1.5,
    "twice": 0.1,
    "money": Decimal("12.34"),
    "medium": Decimal(7),
    "huge": Decimal("1.000"),
    "text": "naïve 小組 \U0001f600 \x00 \n\t\"'",
    "fixed": "abc",
    "short": "äöüßé",
    "body": b"\x00\x01\xff",
    "at": datetime(2026, 1, 2, 3, 4, 5, 678901),
    "far": datetime(2026, 1, 2),
    "day": date(2026, 1, 2),
    "far_day": date(2026, 1, 2),
    "list": [1, None, 3],
    "names": ["", None, "c"],
    "texts": {"a": "x", "b": None, "": ""},
    "counts": {-1: 2**62, 0: None},
    "user": {"id": 7, "nick": "Ada"},
    "items": [{"sku": "s1", "price": Decimal("1.50"), "at": datetime(2000, 2, 29)}, None, {}],
    "groups": {"g": [{"n": 1}, None, {"n": None}], "h": [], "i": None},
    "deep": {"list": [{"a": 1, "b": None}, None, {}], "user": {"tags": [["x", None, ""], [], None]}},
}
LEAST: dict[str, Any] = NOTHING | {
    "flag": False,
    "tiny": -(2**7),
    "small": -(2**15),
    "whole": -(2**31),
    "big": -(2**63),
    "single": -3.4028234663852886e38,
    "twice": -1.7976931348623157e308,
    "money": Decimal("-99999999.99"),
    "medium": Decimal("-999999999999999999"),
    "huge": Decimal("-99999999999999999999999999999999999.999"),
    "text": "",
    "fixed": "",
    "short": "",
    "body": b"",
    "at": datetime(1700, 1, 1, 0, 0, 1),
    "far": datetime(1, 1, 1),
    "day": date(1700, 1, 1),
    "far_day": date(1, 1, 1),
    "list": [],
    "names": [],
    "texts": {},
    "counts": {},
    "user": {},
    "items": [],
    "groups": {},
    "deep": {"list": [], "user": None},
}
MOST: dict[str, Any] = NOTHING | {
    "flag": True,
    "tiny": 2**7 - 1,
    "small": 2**15 - 1,
    "whole": 2**31 - 1,
    "big": 2**63 - 1,
    "single": 1.401298464324817e-45,
    "twice": 5e-324,
    "money": Decimal("99999999.99"),
    "medium": Decimal("999999999999999999"),
    "huge": Decimal("99999999999999999999999999999999999.999"),
    "text": "x" * 3000,
    "fixed": "\U0001f600" * 3,
    "short": "zzzzz",
    "body": bytes(range(256)),
    "at": datetime(2261, 12, 31, 23, 59, 59, 999999),
    "far": datetime(9999, 12, 31, 23, 59, 59, 999999),
    "day": date(2261, 12, 31),
    "far_day": date(9999, 12, 31),
    "list": [-(2**31), 2**31 - 1],
    "names": ["y" * 100] * 5,
    "texts": {str(number): "z" * number for number in range(20)},
    "counts": {2**31 - 1: -(2**63)},
    "user": {"id": None, "nick": ""},
    "items": [{"sku": None, "price": Decimal("-999.99"), "at": datetime(1969, 12, 31, 23, 59, 59)}],
    "groups": {"": [{}]},
    "deep": {"list": None, "user": {"tags": None}},
}

SCHEMA: pa.Schema = arrow_schema(parse_columns(COLUMNS.items(), table="every_type"))
TYPES = {field.name: field.type for field in SCHEMA}


def every_row(count: int) -> Iterator[dict[str, Any]]:
    """Yield so many rows: the usual with numbers that go up, and between them those at the ends, and those of NULLs."""
    for number in range(count):
        if number % 7 == 3:
            yield (NOTHING, LEAST, MOST)[number // 7 % 3]
        else:
            yield USUAL | {"whole": number, "text": f"{USUAL['text']} {number} " + "pad " * 400}


def batch_of(rows: list[dict[str, Any]], schema: pa.Schema = SCHEMA) -> pa.RecordBatch:
    """Return the rows as columns."""
    return pa.RecordBatch.from_pylist(rows, schema=schema)


def filled(value: Any, kind: pa.DataType) -> Any:
    """Return a value as readers give it: fields of structs that were left out are NULL."""
    if value is None:
        return None
    if pa.types.is_struct(kind):
        return {field.name: filled(value.get(field.name), field.type) for field in kind}
    if pa.types.is_map(kind):
        return {key: filled(each, kind.item_type) for key, each in value.items()}
    if pa.types.is_list(kind):
        return [filled(each, kind.value_type) for each in value]
    return value


def without_zone(value: Any) -> Any:
    """Return a value of ORC as it went in: its reader says of each time that it is in UTC."""
    match value:
        case datetime():
            return value.replace(tzinfo=None)
        case dict():
            return {key: without_zone(each) for key, each in value.items()}
        case list():
            return [without_zone(each) for each in value]
    return value


def in_whole_seconds(value: Any) -> Any:
    """Return a value as ORC keeps it: without the fractions of times before 1970."""
    match value:
        case datetime() if value.year < 1970:
            return value.replace(microsecond=0)
        case dict():
            return {key: in_whole_seconds(each) for key, each in value.items()}
        case list():
            return [in_whole_seconds(each) for each in value]
    return value


def encoded(config: ConvertConfig, *batches: pa.RecordBatch) -> bytes:
    """Return the object that an encoder makes of some batches."""
    out = BytesIO()
    writer = config.encoder().open(out, batches[0].schema)
    for each in batches:
        writer.write(each)
    assert writer.close().rows == sum(each.num_rows for each in batches)
    return out.getvalue()
