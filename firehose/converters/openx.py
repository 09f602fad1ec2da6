"""The OpenX deserializer. Source: 4.3."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from firehose.components import ComponentConfig
from firehose.converters.book import Book
from firehose.converters.json_text import OBJECT
from firehose.converters.records import RecordConverter
from firehose.converters.rules import OPENX
from firehose.errors import InvalidError
from firehose.hive_types import INVALID_SCHEMA, arrow_schema, parse_columns
from firehose.protocols import Converter, TableSchema

Name = Annotated[str, StringConstraints(pattern=r"^\S+$", max_length=1024)]
JsonKey = Annotated[str, StringConstraints(pattern=r"\S", max_length=1024)]


class OpenXConfig(ComponentConfig):
    """JSON as the OpenX SerDe reads it."""

    type: Literal["openx"] = "openx"
    case_insensitive: bool = True
    """Match keys to columns without regard to case, and lower-case the keys of maps and of objects kept as text."""
    convert_dots_in_json_keys_to_underscores: bool = False
    """Let the key `a.b` feed the column or field `a_b`."""
    column_to_json_key_mappings: dict[Name, JsonKey] = Field(default_factory=dict)
    """Which key feeds a column, where it is not the column's name; holds for fields of structs at every depth."""

    def build(self, schema: TableSchema) -> Converter:
        """Return the converter of records into `schema`. Errors: InvalidError naming table, column and position."""
        return openx_converter(self, schema)


def openx_converter(config: OpenXConfig, table: TableSchema) -> RecordConverter:
    """Return the reference converter with the rules of OpenX. Errors: as `OpenXConfig.build`."""
    where = f"table {table.database}.{table.table}, version {table.version}"
    columns = parse_columns(table.columns, table=where)
    json_keys = {name.lower(): key for name, key in config.column_to_json_key_mappings.items()}
    remarks: list[str] = []
    book = Book(
        table=where,
        cells=OPENX,
        remark=remarks.append,
        case_insensitive=config.case_insensitive,
        dots_to_underscores=config.convert_dots_in_json_keys_to_underscores,
        json_keys=json_keys,
    )
    row = book.of(columns)[OBJECT]
    if unused := sorted(json_keys.keys() - book.used_names):
        message = f"column_to_json_key_mappings names {', '.join(unused)}, but no column or field is called so"
        raise InvalidError(f"{where}: {message}", code=INVALID_SCHEMA)
    return RecordConverter(arrow_schema(columns), row, remarks)
