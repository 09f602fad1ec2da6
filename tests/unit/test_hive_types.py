"""Hive's types, as people and catalogs write them."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firehose.errors import InvalidError
from firehose.hive_types import (
    INVALID_SCHEMA,
    INVALID_TYPE,
    MAX_TYPE_DEPTH,
    VALIDATION,
    Array,
    Decimal,
    HiveType,
    Map,
    Primitive,
    Struct,
    Text,
    arrow_schema,
    arrow_type,
    parse_columns,
    parse_type,
)
from tests.unit.converters.tables import TYPES

INT, STRING = Primitive("int"), Primitive("string")


def parse(text: str) -> HiveType:
    return parse_type(text, where="here")


@pytest.mark.parametrize(
    ("text", "expected", "arrow"),
    [
        ("boolean", Primitive("boolean"), pa.bool_()),
        ("tinyint", Primitive("tinyint"), pa.int8()),
        ("smallint", Primitive("smallint"), pa.int16()),
        ("int", INT, pa.int32()),
        ("bigint", Primitive("bigint"), pa.int64()),
        ("float", Primitive("float"), pa.float32()),
        ("double", Primitive("double"), pa.float64()),
        ("string", STRING, pa.string()),
        ("binary", Primitive("binary"), pa.binary()),
        ("timestamp", Primitive("timestamp"), pa.timestamp("us")),
        ("date", Primitive("date"), pa.date32()),
        ("decimal", Decimal(10, 0), pa.decimal128(10, 0)),
        ("decimal(5)", Decimal(5, 0), pa.decimal128(5, 0)),
        ("decimal(38,38)", Decimal(38, 38), pa.decimal128(38, 38)),
        ("char(255)", Text("char", 255), pa.string()),
        ("varchar(65535)", Text("varchar", 65535), pa.string()),
        ("array<int>", Array(INT), pa.list_(pa.field("element", pa.int32()))),
        ("map<string,int>", Map(STRING, INT), pa.map_(pa.string(), pa.int32())),
        ("struct<a:int>", Struct((("a", INT),)), pa.struct([("a", pa.int32())])),
        (" STRUCT < A : Int , b:DECIMAL ( 3 , 1 ) > ", Struct((("A", INT), ("b", Decimal(3, 1)))), None),
        ("struct<user-agent:string,1xx:int>", Struct((("user-agent", STRING), ("1xx", INT))), None),
        ("struct<`a b:c`:int>", Struct((("a b:c", INT),)), None),
        ("array<map<string,struct<a:array<int>>>>", Array(Map(STRING, Struct((("a", Array(INT)),)))), None),
    ],
)
def test_a_type_is_read(text: str, expected: HiveType, arrow: pa.DataType | None) -> None:
    assert parse(text) == expected
    if arrow is not None:
        assert arrow_type(parse(text)) == arrow


@pytest.mark.parametrize(
    ("text", "position", "message"),
    [
        ("", 1, "expected a type, found the end"),
        ("inte", 1, "'inte' is not a Hive type; the types are boolean"),
        ("set<int>", 1, "'set' is not a Hive type; use array<T>"),
        ("array<integer>", 7, "'integer' is not a Hive type; use int"),
        ("int>", 4, "expected the end of the type, found '>'"),
        ("int string", 5, "expected the end of the type, found 'string'"),
        ("array", 6, "expected '<', found the end"),
        ("array<int", 10, "expected '>', found the end"),
        ("array<int,int>", 10, "expected '>', found ','"),
        ("array<>", 7, "expected a type, found '>'"),
        ("map<string>", 11, "expected ',', found '>'"),
        ("map<array<int>,int>", 5, "array<int> cannot be the key of a map"),
        ("map<struct<a:int>,int>", 5, "struct<a:int> cannot be the key of a map"),
        ("struct<>", 8, "expected the name of a field, found '>'"),
        ("struct<a>", 9, "expected ':', found '>'"),
        ("struct<a:int,>", 14, "expected the name of a field, found '>'"),
        ("struct<a:int,A:int>", 14, "field 'A' stands there twice"),
        ("struct<a int>", 10, "expected ':', found 'int'"),
        ("struct<`a:int>", 8, "expected the name of a field, found '`'"),
        ("decimal(39,0)", 9, "expected a precision from 1 to 38, found '39'"),
        ("decimal(0)", 9, "expected a precision from 1 to 38, found '0'"),
        ("decimal(5,6)", 11, "expected a scale from 0 to 5, found '6'"),
        ("decimal(5,-1)", 11, "expected a scale from 0 to 5, found '-1'"),
        ("decimal(5,2", 12, "expected ')', found the end"),
        ("char", 5, "expected '(', found the end"),
        ("char(256)", 6, "expected a length from 1 to 255, found '256'"),
        ("varchar(0)", 9, "expected a length from 1 to 65535, found '0'"),
        ("varchar(" + "9" * 5000 + ")", 9, "expected a length"),
        ("varchar(٣)", 9, "expected a length"),
        ("array<" * (MAX_TYPE_DEPTH + 1) + "int", 6 * MAX_TYPE_DEPTH + 1, "nested more than 64 deep"),
        ("array<" * 100_000, 6 * MAX_TYPE_DEPTH + 1, "nested more than 64 deep"),
    ],
)
def test_what_is_no_type_is_refused_with_its_position(text: str, position: int, message: str) -> None:
    with pytest.raises(InvalidError) as caught:
        parse(text)
    assert str(caught.value).startswith("here, type ")
    assert f"position {position}: {message}" in str(caught.value)
    assert caught.value.code == INVALID_TYPE


@given(TYPES)
def test_a_type_reads_back_from_its_text(hive_type: HiveType) -> None:
    assert parse(str(hive_type)) == hive_type


@given(st.text("aeint<>,:()` mapstrucdl1", max_size=20))
def test_any_text_is_a_type_or_an_error(text: str) -> None:
    try:
        arrow_type(parse(text))
    except InvalidError as error:
        assert "position" in str(error)


def test_columns_become_a_schema_in_order() -> None:
    row = parse_columns([("Id", "bigint"), ("tags", "array<string>")], table="table db.t")
    assert arrow_schema(row) == pa.schema([("Id", pa.int64()), ("tags", pa.list_(pa.field("element", pa.string())))])


@pytest.mark.parametrize(
    ("columns", "code", "message"),
    [
        ([], INVALID_SCHEMA, "table db.t has no columns; add at least one"),
        ([("a", "int"), ("A", "int")], INVALID_SCHEMA, "table db.t: column 'A' stands there twice (case is ignored)"),
        ([(" ", "int")], VALIDATION, "table db.t: a column has no name"),
        ([("a", " ")], VALIDATION, "table db.t: column 'a' has no type"),
        ([("a", "array<uniontype<int,string>>")], INVALID_SCHEMA, "position 7: uniontype cannot be filled from JSON"),
        ([("a", "int"), ("b", "set<int>")], INVALID_TYPE, "column 'b', type 'set<int>', position 1: 'set' is not a"),
    ],
)
def test_columns_that_make_no_table_are_refused(columns: list[tuple[str, str]], code: str, message: str) -> None:
    with pytest.raises(InvalidError) as caught:
        parse_columns(columns, table="table db.t")
    assert message in str(caught.value)
    assert caught.value.code == code
