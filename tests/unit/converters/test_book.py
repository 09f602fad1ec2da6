"""Rules are made once for each type, however deep and wide a table is."""

from __future__ import annotations

import json

import pytest

from firehose import arrow
from firehose.converters.book import COLUMNS, Book
from firehose.converters.hive import HiveConfig
from firehose.converters.openx import OpenXConfig
from firehose.converters.rules import HIVE, OPENX
from firehose.hive_types import MAX_TYPE_DEPTH, TYPE_WORDS, Array, Primitive
from firehose.protocols import TableSchema

BOTH = pytest.mark.parametrize("config", [OpenXConfig(), HiveConfig()], ids=["openx", "hive"])


def test_both_tables_have_every_type_and_every_kind_of_value() -> None:
    assert set(OPENX) == set(HIVE) == set(TYPE_WORDS)
    assert all(tuple(cells) == COLUMNS for table in (OPENX, HIVE) for cells in table.values())


def test_a_type_is_made_once() -> None:
    book = Book("t", OPENX, remark=lambda word: None)
    assert book.of(Array(Primitive("int"))) is book.of(Array(Primitive("int")))


@BOTH
@pytest.mark.parametrize("layer", ["array<{}>", "struct<a:{}>"])
def test_the_deepest_table_is_made_at_once(config: OpenXConfig | HiveConfig, layer: str) -> None:
    hive_type, value = "int", 7
    nested: object = value
    for _ in range(MAX_TYPE_DEPTH - 1):
        hive_type = layer.format(hive_type)
        nested = [nested] if "array" in layer else {"A": nested}
    converter = config.build(TableSchema("db", "t", "1", (("v", hive_type),)))
    converted = converter.convert(arrow.binary_column([json.dumps({"v": nested}).encode()]))
    assert (converted.columns.num_rows, list(converted.messages)) == (1, [])


@BOTH
def test_a_table_of_many_columns(config: OpenXConfig | HiveConfig) -> None:
    columns = tuple((f"c{number}", f"struct<f{number}:array<bigint>>") for number in range(2000))
    record = json.dumps({name: {f"f{name[1:]}": [1]} for name, _ in columns}).encode()
    converted = config.build(TableSchema("db", "t", "1", columns)).convert(arrow.binary_column([record]))
    assert converted.columns.column("c1999").to_pylist() == [{"f1999": [1]}]
