"""Iceberg's types as Hive's, and back."""

from __future__ import annotations

from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyiceberg import types as iceberg

from firehose.catalogs.iceberg_types import from_hive, to_hive
from firehose.errors import InvalidError
from firehose.hive_types import parse_type

REQUIRED = iceberg.NestedField(1, "Sku", iceberg.UUIDType(), required=True)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (iceberg.BooleanType(), "boolean"),
        (iceberg.IntegerType(), "int"),
        (iceberg.LongType(), "bigint"),
        (iceberg.FloatType(), "float"),
        (iceberg.DoubleType(), "double"),
        (iceberg.DecimalType(38, 9), "decimal(38,9)"),
        (iceberg.DateType(), "date"),
        (iceberg.TimestampType(), "timestamp"),
        (iceberg.TimestamptzType(), "timestamp"),
        (iceberg.StringType(), "string"),
        (iceberg.UUIDType(), "string"),
        (iceberg.BinaryType(), "binary"),
        (iceberg.FixedType(16), "binary"),
        (iceberg.ListType(1, iceberg.LongType(), True), "array<bigint>"),
        (iceberg.MapType(1, iceberg.StringType(), 2, iceberg.DateType(), False), "map<string,date>"),
        (iceberg.StructType(REQUIRED), "struct<Sku:string>"),
        (iceberg.StructType(iceberg.NestedField(1, "a, b:c", iceberg.LongType())), "struct<`a, b:c`:bigint>"),
        (iceberg.ListType(2, iceberg.StructType(REQUIRED), False), "array<struct<Sku:string>>"),
    ],
)
def test_a_type_that_hive_has(theirs: iceberg.IcebergType, ours: str) -> None:
    found = to_hive(theirs, column="column 'a'")
    assert str(found) == ours
    assert parse_type(ours, where="") == found


TIME = iceberg.TimeType()


@pytest.mark.parametrize(
    "theirs",
    [
        TIME,
        iceberg.TimestampNanoType(),
        iceberg.TimestamptzNanoType(),
        iceberg.UnknownType(),
        iceberg.ListType(1, TIME, True),
        iceberg.MapType(1, iceberg.StringType(), 2, TIME, False),
        iceberg.MapType(1, TIME, 2, iceberg.StringType(), False),
        iceberg.StructType(iceberg.NestedField(1, "b", TIME)),
    ],
    ids=str,
)
def test_a_type_that_hive_does_not_have_is_refused_with_its_column(theirs: iceberg.IcebergType) -> None:
    with pytest.raises(InvalidError, match=r"^column 'a': .* Hive has none like it") as caught:
        to_hive(theirs, column="column 'a'")
    assert caught.value.code == "DataFormatConversion.InvalidTypeFormat"


def test_a_name_cannot_break_out_of_its_quotes() -> None:
    field = iceberg.NestedField(1, "b`:int,`c", iceberg.LongType())
    with pytest.raises(InvalidError, match=r"column 'a': .* has a backquote"):
        to_hive(iceberg.StructType(field), column="column 'a'")


PRIMITIVES = [
    *("boolean", "int", "bigint", "float", "double", "date", "timestamp", "string", "binary"),
    *("decimal(1,0)", "decimal(38,38)"),
]
TYPES = st.recursive(
    st.sampled_from(PRIMITIVES),
    lambda inner: st.one_of(
        inner.map("array<{}>".format),
        st.builds("map<{},{}>".format, st.sampled_from(PRIMITIVES), inner),
        st.builds("struct<a:{},`b c`:{}>".format, inner, inner),
    ),
    max_leaves=8,
)


@given(TYPES)
def test_what_becomes_iceberg_s_comes_back_with_a_number_for_each_field(text: str) -> None:
    ids = count(1)
    theirs = from_hive(parse_type(text, where=""), ids)
    assert str(to_hive(theirs, column="")) == text
    numbers = {each.field_id for each in _fields(theirs)}
    assert numbers == set(range(1, next(ids)))
    assert not any(each.required for each in _fields(theirs))


def _fields(found: iceberg.IcebergType) -> list[iceberg.NestedField]:
    match found:
        case iceberg.ListType():
            fields = [found.element_field]
        case iceberg.MapType():
            fields = [found.value_field, _optional(found.key_field)]
        case iceberg.StructType():
            fields = [*found.fields]
        case _:
            return []
    return fields + [inner for each in fields for inner in _fields(each.field_type)]


def _optional(key: iceberg.NestedField) -> iceberg.NestedField:
    assert key.required, "there is no map without keys"
    return key.model_copy(update={"required": False})


@pytest.mark.parametrize(
    ("text", "becomes"),
    [("tinyint", "int"), ("smallint", "int"), ("char(3)", "string"), ("varchar(9)", "string")],
)
def test_a_type_that_iceberg_does_not_have_becomes_the_next_one(text: str, becomes: str) -> None:
    assert str(to_hive(from_hive(parse_type(text, where=""), count(1)), column="")) == becomes
