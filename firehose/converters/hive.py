"""The hive deserializer: HiveJsonSerDe, which is HCatalog's reader. Source: 4.4."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints

from firehose.components import ComponentConfig
from firehose.converters.book import Book
from firehose.converters.hive_times import HiveTimes, check_format
from firehose.converters.json_text import OBJECT
from firehose.converters.records import RecordConverter
from firehose.converters.rules import HIVE
from firehose.errors import InvalidError
from firehose.hive_types import INVALID_SCHEMA, arrow_schema, parse_columns
from firehose.protocols import Converter, TableSchema

TimestampFormat = Annotated[str, StringConstraints(pattern=r"\S", max_length=1024), AfterValidator(check_format)]


class HiveConfig(ComponentConfig):
    """JSON as Hive's own SerDe reads it: numbers are no strings, and what is nested never becomes text."""

    type: Literal["hive"] = "hive"
    timestamp_formats: list[TimestampFormat] = Field(default_factory=list)
    """How times are written, tried in turn: patterns of Joda-Time, or `millis`; `yyyy-MM-dd HH:mm:ss.f` at the last."""

    def build(self, schema: TableSchema) -> Converter:
        """Return the converter of records into `schema`. Errors: InvalidError naming table, column and position."""
        return hive_converter(self, schema)


def hive_converter(config: HiveConfig, table: TableSchema) -> RecordConverter:
    """Return the reference converter with the rules of Hive. Errors: as `HiveConfig.build`."""
    where = f"table {table.database}.{table.table}, version {table.version}"
    columns = parse_columns(table.columns, table=where)
    if dotted := next((name for name, _ in columns.fields if "." in name), None):
        message = (
            f"the hive deserializer cannot fill column {dotted!r}, for the dot in its name; rename it, or use openx"
        )
        raise InvalidError(f"{where}: {message}", code=INVALID_SCHEMA)
    remarks: list[str] = []
    book = Book(table=where, cells=HIVE, remark=remarks.append, times=HiveTimes(config.timestamp_formats))
    return RecordConverter(arrow_schema(columns), book.of(columns)[OBJECT], remarks)
