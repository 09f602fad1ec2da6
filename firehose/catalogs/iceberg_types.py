"""Iceberg's types as Hive's, and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pyiceberg import types as iceberg

from firehose.errors import InvalidError
from firehose.hive_types import INVALID_TYPE, Array, Decimal, HiveType, Map, Primitive, Struct, Text

#: A moment with a zone and one without are one in Hive; so are text and the text of a UUID.
_HIVE: Mapping[type[iceberg.IcebergType], str] = {
    iceberg.BooleanType: "boolean",
    iceberg.IntegerType: "int",
    iceberg.LongType: "bigint",
    iceberg.FloatType: "float",
    iceberg.DoubleType: "double",
    iceberg.DateType: "date",
    iceberg.TimestampType: "timestamp",
    iceberg.TimestamptzType: "timestamp",
    iceberg.StringType: "string",
    iceberg.UUIDType: "string",
    iceberg.BinaryType: "binary",
    iceberg.FixedType: "binary",
}

_ICEBERG: Mapping[str, type[iceberg.PrimitiveType]] = {
    "boolean": iceberg.BooleanType,
    "tinyint": iceberg.IntegerType,
    "smallint": iceberg.IntegerType,
    "int": iceberg.IntegerType,
    "bigint": iceberg.LongType,
    "float": iceberg.FloatType,
    "double": iceberg.DoubleType,
    "date": iceberg.DateType,
    "timestamp": iceberg.TimestampType,
    "string": iceberg.StringType,
    "binary": iceberg.BinaryType,
}


def to_hive(found: iceberg.IcebergType, *, column: str) -> HiveType:
    """Return the type of `column` (for people) as Hive's. Errors: InvalidError where Hive has no such type."""
    match found:
        case iceberg.DecimalType():
            return Decimal(found.precision, found.scale)
        case iceberg.ListType():
            return Array(to_hive(found.element_type, column=column))
        case iceberg.MapType():
            return Map(to_hive(found.key_type, column=column), to_hive(found.value_type, column=column))
        case iceberg.StructType():
            return Struct(
                tuple((_plain(each.name, column), to_hive(each.field_type, column=column)) for each in found.fields)
            )
    word = _HIVE.get(type(found))
    if word is None:
        message = f"{column}: records cannot be converted to Iceberg's type {found}; Hive has none like it"
        raise InvalidError(message, code=INVALID_TYPE)
    return Primitive(word)


def _plain(name: str, column: str) -> str:
    if "`" in name:  # where a name ends in the text of a type would be anybody's guess
        raise InvalidError(f"{column}: the name of its field {name!r} has a backquote in it", code=INVALID_TYPE)
    return name


def from_hive(wanted: HiveType, ids: Iterator[int]) -> iceberg.IcebergType:
    """Return a type of Hive as Iceberg's, in which every field may be NULL. `ids`: numbers for its fields."""
    match wanted:
        case Primitive(word):
            return _ICEBERG[word]()
        case Decimal(precision, scale):
            return iceberg.DecimalType(precision, scale)
        case Text():
            return iceberg.StringType()
        case Array(item):
            return iceberg.ListType(next(ids), from_hive(item, ids), element_required=False)
        case Map(key, value):
            key_id, value_id = next(ids), next(ids)
            return iceberg.MapType(key_id, from_hive(key, ids), value_id, from_hive(value, ids), value_required=False)
        case Struct(fields):
            return iceberg.StructType(
                *(iceberg.NestedField(next(ids), name, from_hive(each, ids), required=False) for name, each in fields)
            )
