"""What the contract of converters is tried with: every engine, of every deserializer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from firehose import arrow
from firehose.components import ComponentConfig
from firehose.converters.hive import HiveConfig, hive_converter
from firehose.converters.openx import OpenXConfig, openx_converter
from firehose.protocols import Converted, Converter, TableSchema

Build = Callable[[Any, TableSchema], Converter]

#: Each engine by its name, with what it builds for a deserializer; all must agree.
ENGINES: Mapping[str, Mapping[str, Build]] = {"reference": {"openx": openx_converter, "hive": hive_converter}}
CONFIGS: Mapping[str, type[ComponentConfig]] = {"openx": OpenXConfig, "hive": HiveConfig}

#: `convert(*records, options=..., **columns)`.
Convert = Callable[..., Converted]

MISMATCH = "Data does not match the schema. "


def table(**columns: str) -> TableSchema:
    return TableSchema("db", "t", "1", tuple(columns.items()))


def engines(*deserializers: str) -> list[tuple[str, str]]:
    """Return each engine with each of the deserializers it has."""
    return [(engine, each) for engine, builds in ENGINES.items() for each in deserializers if each in builds]


def build(engine: str, deserializer: str, schema: TableSchema, options: Mapping[str, Any] | None = None) -> Converter:
    return ENGINES[engine][deserializer](CONFIGS[deserializer].model_validate(options or {}), schema)


def converting(engine: str, deserializer: str) -> Convert:
    def call(*records: bytes | str, options: Mapping[str, Any] | None = None, **columns: str) -> Converted:
        data = [record.encode() if isinstance(record, str) else record for record in records]
        return build(engine, deserializer, table(**columns), options).convert(arrow.binary_column(data))

    return call


def rows(converted: Converted) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = converted.columns.to_pylist(maps_as_pydicts="strict")
    return found


#: A column of each type.
ALL_TYPES = (
    *("boolean", "tinyint", "smallint", "int", "bigint", "float", "double", "decimal(5,2)", "string", "char(3)"),
    *("varchar(3)", "binary", "timestamp", "date", "array<int>", "map<string,int>", "struct<a:int>"),
)


# --- messages --------------------------------------------------------------------------------------------------------


def column(text: str, *, path: str = "v") -> str:
    return f"Column {path}: {text}"


def no_such(text: str, hive_type: str) -> str:
    return column(f'the string "{text}" cannot be read as {hive_type}.')


def no_kind(shown: str, hive_type: str) -> str:
    return column(f"{shown} cannot be read as {hive_type}.")
