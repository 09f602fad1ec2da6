"""What every engine of the OpenX deserializer must do: each value in each type, options, times (4.3, 4.5, 4.6)."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from firehose.converters.failures import INVALID_RECORD, MALFORMED_DATA
from tests.contract.converters import MISMATCH, Convert, column, converting, engines, no_such, rows


@pytest.fixture(params=engines("openx"), ids="-".join)
def convert(request: pytest.FixtureRequest) -> Convert:
    return converting(*request.param)


# --- what the service itself was seen to do, word for word -----------------------------------------------------------

#: Column type, value, and what came out: 4.5 line by line.
SEEN: list[tuple[str, str, Any]] = [
    ("int", '"3"', 3),
    ("bigint", '"3"', 3),
    ("array<string>", '"one"', ["one"]),
    ("array<struct<a:int>>", '{"a":1}', [{"a": 1}]),
    ("struct<a:int,b:string>", '[1,"x",true]', {"a": 1, "b": "x"}),
    ("struct<a:int,b:string>", "[1]", {"a": 1, "b": None}),
    ("struct<a:int,b:string>", "{}", {"a": None, "b": None}),
    ("struct<a:int,b:string>", '{"b":"x"}', {"a": None, "b": "x"}),
    ("struct<a:int>", '{"other":true}', {"a": None}),
    ("string", '{ "A" : [ 1 ] }', '{"a":[1]}'),
    ("string", "[ 1, 2 ]", "[1,2]"),
    ("array<string>", "[1,2.5]", ["1", "2.5"]),
    ("char(2)", '"abc"', "ab"),
    ("varchar(2)", '"abc"', "ab"),
]
SEEN_TO_FAIL: list[tuple[str, str, str]] = [
    ("double", '"oops"', 'Data does not match the schema. For input string: "oops"'),
    ("struct<a:int>", "42", "Data does not match the schema. Data is not JSONObject  but java.lang.Long with value 42"),
    ("map<string,int>", "[1]", "Data does not match the schema. Column v: an array cannot be read as map<string,int>."),
    ("struct<a:struct<b:int>>", '{"a":{"b":"oops"}}', 'Data does not match the schema. For input string: "oops"'),
]


@pytest.mark.parametrize(("hive_type", "value", "expected"), SEEN, ids=[f"{t}-{v}" for t, v, _ in SEEN])
def test_what_firehose_was_seen_to_make_of_a_value(convert: Convert, hive_type: str, value: str, expected: Any) -> None:
    assert rows(convert('{"v":' + value + "}", v=hive_type)) == [{"v": expected}]


@pytest.mark.parametrize(("hive_type", "value", "message"), SEEN_TO_FAIL, ids=[t for t, _, _ in SEEN_TO_FAIL])
def test_what_firehose_was_seen_to_refuse(convert: Convert, hive_type: str, value: str, message: str) -> None:
    converted = convert('{"v":' + value + "}", v=hive_type)
    assert (list(converted.codes), list(converted.messages)) == (["DataFormatConversion.MalformedData"], [message])


def test_records_that_show_both_options_at_once(convert: Convert) -> None:
    assert rows(convert('{"UserId":{"Sub":1}}', userid="struct<sub:int>")) == [{"userid": {"sub": 1}}]
    assert list(convert('{"t":"2026-01-01T00:00:00+00:00"}', t="timestamp").codes) == [MALFORMED_DATA]


# --- one value in one column: what it becomes ------------------------------------------------------------------------

BECOMES: list[tuple[str, str, Any]] = [
    ("boolean", "true", True),
    ("boolean", "false", False),
    ("boolean", '"true"', True),
    ("boolean", '"FALSE"', False),
    ("tinyint", "-128", -128),
    ("tinyint", "127", 127),
    ("smallint", "-32768", -32768),
    ("int", "2147483647", 2147483647),
    ("int", '"3"', 3),
    ("int", '"+3"', 3),
    ("int", '"-007"', -7),
    ("int", "3.0", 3),
    ("int", "3e0", 3),
    ("int", "30e-1", 3),
    ("int", "-0", 0),
    ("int", "0e999999999", 0),
    ("bigint", "9223372036854775807", 2**63 - 1),
    ("bigint", "-9223372036854775808", -(2**63)),
    ("bigint", "9.223372036854775807e18", 2**63 - 1),
    ("float", "1.5", 1.5),
    ("float", "16777217", 16777216.0),
    ("float", "3.4028235e38", 3.4028234663852886e38),
    ("double", "1", 1.0),
    ("double", "0.1", 0.1),
    ("double", "-1.7976931348623157e308", -1.7976931348623157e308),
    ("double", "1e-400", 0.0),
    ("double", '"1.5"', 1.5),
    ("double", '".5"', 0.5),
    ("double", '"Infinity"', float("inf")),
    ("double", '"-Infinity"', float("-inf")),
    ("decimal(5,2)", "999.99", Decimal("999.99")),
    ("decimal(5,2)", "1", Decimal("1.00")),
    ("decimal(5,2)", "1.100", Decimal("1.10")),
    ("decimal(5,2)", "1e2", Decimal("100.00")),
    ("decimal(5,2)", '"-1.5"', Decimal("-1.50")),
    ("decimal(5,2)", "0e-999999999", Decimal("0.00")),
    ("decimal(38,0)", "9" * 38, Decimal("9" * 38)),
    ("decimal(38,38)", "0." + "1" * 38, Decimal("0." + "1" * 38)),
    ("decimal", "1234567890", Decimal(1234567890)),
    ("string", '"text"', "text"),
    ("string", '""', ""),
    ("string", '"null"', "null"),
    ("string", "3.10", "3.10"),
    ("string", "1E+05", "1E+05"),
    ("string", "-0", "-0"),
    ("string", "12345678901234567890123", "12345678901234567890123"),
    ("string", "true", "true"),
    ("string", "false", "false"),
    ("string", '"\\ud83d\\ude00\\u00e9\\u0000\\/"', "\U0001f600\xe9\x00/"),
    ("string", '"\\\\ud800"', "\\ud800"),
    ("string", '[ 1 , 2.50 , "a\\u00e9\\n" , null , true , { } , [ ] ]', '[1,2.50,"a\xe9\\n",null,true,{},[]]'),
    ("string", '{"Outer": {"Inner": [{"K": "V"}]}, "B": 1}', '{"outer":{"inner":[{"k":"V"}]},"b":1}'),
    ("string", '{"A": 1, "a": 2}', '{"a":1,"a":2}'),
    ("char(3)", '"abc"', "abc"),
    ("char(3)", '"a"', "a"),
    ("varchar(2)", '"\U0001f600\U0001f601\U0001f602"', "\U0001f600\U0001f601"),
    ("varchar(4)", "3.10", "3.10"),
    ("varchar(9)", '{"A":1}', '{"a":1}'),
    ("binary", '"aGk="', b"hi"),
    ("binary", '""', b""),
    ("timestamp", '"2026-01-02T03:04:05Z"', datetime(2026, 1, 2, 3, 4, 5)),
    ("timestamp", '"2026-01-02T03:04:05"', datetime(2026, 1, 2, 3, 4, 5)),
    ("timestamp", '"2026-01-02T03:04:05.6Z"', datetime(2026, 1, 2, 3, 4, 5, 600_000)),
    ("timestamp", '"2026-01-02 03:04:05.123456"', datetime(2026, 1, 2, 3, 4, 5, 123_456)),
    ("timestamp", '"2026-1-2 03:04:05"', datetime(2026, 1, 2, 3, 4, 5)),
    ("timestamp", '"0001-01-01T00:00:00Z"', datetime(1, 1, 1)),
    ("timestamp", '"9999-12-31T23:59:59.999999Z"', datetime(9999, 12, 31, 23, 59, 59, 999_999)),
    ("timestamp", "1767225600", datetime(2026, 1, 1)),
    ("timestamp", "1767225600.5", datetime(2026, 1, 1, 0, 0, 0, 500_000)),
    ("timestamp", "1767225600123", datetime(2026, 1, 1, 0, 0, 0, 123_000)),
    ("timestamp", "1767225600123.25", datetime(2026, 1, 1, 0, 0, 0, 123_250)),
    ("timestamp", "1.7672256e9", datetime(2026, 1, 1)),
    ("timestamp", '"1767225600"', datetime(2026, 1, 1)),
    ("timestamp", '"1767225600123"', datetime(2026, 1, 1, 0, 0, 0, 123_000)),
    ("timestamp", "0", datetime(1970, 1, 1)),
    ("timestamp", "0e999999999", datetime(1970, 1, 1)),
    ("timestamp", "1e-999999999", datetime(1970, 1, 1)),
    ("timestamp", "-1", datetime(1969, 12, 31, 23, 59, 59)),
    ("timestamp", "1000000000000", datetime(2001, 9, 9, 1, 46, 40)),
    ("timestamp", "-1000000000000", datetime(1938, 4, 24, 22, 13, 20)),
    ("timestamp", '"1e12"', datetime(2001, 9, 9, 1, 46, 40)),
    ("timestamp", '"-1000000000000"', datetime(1938, 4, 24, 22, 13, 20)),
    ("timestamp", "253402300799", datetime(9999, 12, 31, 23, 59, 59)),
    ("timestamp", "-62135596800", datetime(1, 1, 1)),
    ("timestamp", "-0.5", datetime(1969, 12, 31, 23, 59, 59, 500_000)),
    ("timestamp", '"1767225600.5"', datetime(2026, 1, 1, 0, 0, 0, 500_000)),
    ("timestamp", '"2026-01-02T03:04:05.123456000Z"', datetime(2026, 1, 2, 3, 4, 5, 123_456)),
    ("date", '"2026-01-02"', date(2026, 1, 2)),
    ("date", '"2026-1-2"', date(2026, 1, 2)),
    ("date", '"2026-01-02T00:00:00Z"', date(2026, 1, 2)),
    ("date", "1767225600", date(2026, 1, 1)),
    ("date", '"1767225600000"', date(2026, 1, 1)),
    ("date", '"2026-1-2 00:00:00"', date(2026, 1, 2)),
    ("date", "-86400", date(1969, 12, 31)),
    ("array<int>", "[]", []),
    ("array<int>", '[1, null, "3"]', [1, None, 3]),
    ("array<int>", "5", [5]),
    ("array<string>", '"notanarray"', ["notanarray"]),
    ("array<string>", "[1, 2.0, true]", ["1", "2.0", "true"]),
    ("array<string>", '[["a","b"]]', ['["a","b"]']),
    ("array<boolean>", "false", [False]),
    ("array<struct<a:int>>", '{"a":1}', [{"a": 1}]),
    ("array<array<int>>", "[1, [2, 3]]", [[1], [2, 3]]),
    ("map<string,int>", "{}", {}),
    ("map<string,int>", '{"MixedKey": 1, "b": null}', {"mixedkey": 1, "b": None}),
    ("map<int,string>", '{"1": "a", "-2": "b"}', {1: "a", -2: "b"}),
    ("map<date,int>", '{"2026-01-02": 1}', {date(2026, 1, 2): 1}),
    ("map<timestamp,int>", '{"2026-01-02T03:04:05Z": 1}', {datetime(2026, 1, 2, 3, 4, 5): 1}),
    ("map<binary,int>", '{"aGk=": 1}', {b"hi": 1}),
    ("map<double,int>", '{"Infinity": 1, "1E3": 2}', {float("inf"): 1, 1000.0: 2}),
    ("map<varchar(3),int>", '{"ABCDE": 1}', {"abc": 1}),
    ("map<string,array<string>>", '{"k": "v"}', {"k": ["v"]}),
    ("struct<sub:int>", '{"Sub":1}', {"sub": 1}),
    ("struct<a:int,b:string>", "{}", {"a": None, "b": None}),
    ("struct<a:int,b:string>", "[7]", {"a": 7, "b": None}),
    ("struct<a:int,b:string>", "[]", {"a": None, "b": None}),
    ("struct<a:struct<b:array<map<string,double>>>>", '{"A":{"B":[{"C":1}]}}', {"a": {"b": [{"c": 1.0}]}}),
]


@pytest.mark.parametrize(("hive_type", "value", "expected"), BECOMES, ids=[f"{t}-{v[:30]}" for t, v, _ in BECOMES])
def test_a_value_becomes(convert: Convert, hive_type: str, value: str, expected: Any) -> None:
    converted = convert('{"v":' + value + "}", v=hive_type)
    assert converted.messages == []
    assert rows(converted) == [{"v": expected}]


def test_nan_as_text_is_a_double(convert: Convert) -> None:
    [row] = rows(convert('{"v":"NaN"}', v="double"))
    assert np.isnan(row["v"])


# --- one value in one column: why it fails ---------------------------------------------------------------------------


def for_input(text: str) -> str:
    return f'For input string: "{text}"'


FAILS: list[tuple[str, str, str]] = [
    ("boolean", "1", column("the number 1 cannot be read as boolean.")),
    ("boolean", '"yes"', no_such("yes", "boolean")),
    ("boolean", "{}", column("an object cannot be read as boolean.")),
    ("boolean", "[true]", column("an array cannot be read as boolean.")),
    ("tinyint", "128", column("128 is out of the range of tinyint.")),
    ("tinyint", '"-129"', column("-129 is out of the range of tinyint.")),
    ("smallint", "32768", column("32768 is out of the range of smallint.")),
    ("int", "2147483648", column("2147483648 is out of the range of int.")),
    ("int", "3.7", column("3.7 is not a whole number, as int needs.")),
    ("int", '"3.7"', for_input("3.7")),
    ("int", '"3.0"', for_input("3.0")),
    ("int", '"3e0"', for_input("3e0")),
    ("int", '" 3"', for_input(" 3")),
    ("int", '"1_000"', for_input("1_000")),
    ("int", '"\u0663"', for_input("\u0663")),
    ("int", '""', for_input("")),
    ("int", "true", column("true cannot be read as int.")),
    ("int", "1e999999999", column("1e999999999 is out of the range of int.")),
    ("int", "1e-999999999", column("1e-999999999 is not a whole number, as int needs.")),
    ("bigint", "9223372036854775808", column("9223372036854775808 is out of the range of bigint.")),
    ("bigint", "9" * 5000, column("9" * 200 + "... is out of the range of bigint.")),
    ("bigint", '"' + "9" * 5000 + '"', column("9" * 200 + "... is out of the range of bigint.")),
    ("bigint", "[1]", column("an array cannot be read as bigint.")),
    ("float", "3.5e38", column("3.5e38 is out of the range of float.")),
    ("float", '"1e39"', column("1e39 is out of the range of float.")),
    ("double", "1e400", column("1e400 is out of the range of double.")),
    ("double", '"oops"', for_input("oops")),
    ("double", '"nan"', for_input("nan")),
    ("double", '"1e"', for_input("1e")),
    ("double", '"1_0"', for_input("1_0")),
    ("double", '" 1"', for_input(" 1")),
    ("double", "false", column("false cannot be read as double.")),
    ("decimal(5,2)", "1000", column("1000 does not fit decimal(5,2).")),
    ("decimal(5,2)", "1.005", column("1.005 does not fit decimal(5,2).")),
    ("decimal(5,2)", "1e-3", column("1e-3 does not fit decimal(5,2).")),
    ("decimal(5,2)", "1e999999999", column("1e999999999 does not fit decimal(5,2).")),
    ("decimal(5,2)", '"Infinity"', no_such("Infinity", "decimal(5,2)")),
    ("decimal(5,2)", '"NaN"', no_such("NaN", "decimal(5,2)")),
    ("decimal(5,2)", "1e99999999999999999999", column("1e99999999999999999999 is out of range.")),
    ("decimal(5,2)", "true", column("true cannot be read as decimal(5,2).")),
    ("binary", '"aGk"', no_such("aGk", "binary")),
    ("binary", '"aG k="', no_such("aG k=", "binary")),
    ("binary", '"\xe9"', no_such("\xe9", "binary")),
    ("binary", "1", column("the number 1 cannot be read as binary.")),
    ("timestamp", '"2026-01-01T00:00:00+00:00"', no_such("2026-01-01T00:00:00+00:00", "timestamp")),
    ("timestamp", '"2026-01-01T00:00:00+02:00"', no_such("2026-01-01T00:00:00+02:00", "timestamp")),
    ("timestamp", '"2026-1-1T00:00:00Z"', no_such("2026-1-1T00:00:00Z", "timestamp")),
    ("timestamp", '"2026-01-01 00:00:00Z"', no_such("2026-01-01 00:00:00Z", "timestamp")),
    ("timestamp", '"2026-01-01 0:00:00"', no_such("2026-01-01 0:00:00", "timestamp")),
    ("timestamp", '"2026-01-01"', no_such("2026-01-01", "timestamp")),
    ("timestamp", '"2026-02-30T00:00:00Z"', no_such("2026-02-30T00:00:00Z", "timestamp")),
    ("timestamp", '"2026-01-01T24:00:00Z"', no_such("2026-01-01T24:00:00Z", "timestamp")),
    ("timestamp", '"2026-01-01T23:59:60Z"', no_such("2026-01-01T23:59:60Z", "timestamp")),
    ("timestamp", '"2026-01-01T00:00:00.Z"', no_such("2026-01-01T00:00:00.Z", "timestamp")),
    ("timestamp", '"2026-01-01T00:00:00.1234567890Z"', no_such("2026-01-01T00:00:00.1234567890Z", "timestamp")),
    ("timestamp", '"0000-01-01T00:00:00Z"', no_such("0000-01-01T00:00:00Z", "timestamp")),
    ("timestamp", '"2026-01-01T00:00:00Z\\n"', no_such("2026-01-01T00:00:00Z\n", "timestamp")),
    ("timestamp", '""', no_such("", "timestamp")),
    ("timestamp", "999999999999", column("999999999999 is a moment out of the years 1 to 9999.")),
    ("timestamp", "-999999999999", column("-999999999999 is a moment out of the years 1 to 9999.")),
    ("timestamp", '"999999999999.9"', column("999999999999.9 is a moment out of the years 1 to 9999.")),
    ("timestamp", "253402300800", column("253402300800 is a moment out of the years 1 to 9999.")),
    ("date", "999999999999", column("999999999999 is a moment out of the years 1 to 9999.")),
    ("timestamp", '"2026-01-01T00:00:00z"', no_such("2026-01-01T00:00:00z", "timestamp")),
    ("timestamp", '"2026-01-01T00:00Z"', no_such("2026-01-01T00:00Z", "timestamp")),
    ("timestamp", '"2026-01-01 00:00:00+00:00"', no_such("2026-01-01 00:00:00+00:00", "timestamp")),
    ("date", '"2026-01-01T00:00:00+00:00"', no_such("2026-01-01T00:00:00+00:00", "date")),
    ("timestamp", "253402300800000", column("253402300800000 is a moment out of the years 1 to 9999.")),
    ("timestamp", "1e999999999", column("1e999999999 is a moment out of the years 1 to 9999.")),
    ("timestamp", "true", column("true cannot be read as timestamp.")),
    ("date", '"2026-02-30"', no_such("2026-02-30", "date")),
    ("date", '"02/01/2026"', no_such("02/01/2026", "date")),
    ("date", "[]", column("an array cannot be read as date.")),
    ("array<int>", '[1,"x"]', for_input("x")),
    ("array<int>", '"x"', for_input("x")),
    ("array<map<string,int>>", "5", column("the number 5 cannot be read as map<string,int>.")),
    ("map<string,int>", "[]", column("an array cannot be read as map<string,int>.")),
    ("map<string,int>", '"a"', column('the string "a" cannot be read as map<string,int>.')),
    ("map<string,int>", '{"a":{}}', column("an object cannot be read as int.", path="v['a']")),
    ("map<string,int>", '{"A":1,"a":2}', column('duplicate key "a".', path="v['a']")),
    ("map<int,int>", '{"1":1,"01":2}', column('duplicate key "01".', path="v['01']")),
    ("map<varchar(1),int>", '{"ab":1,"AC":2}', column('duplicate key "AC".', path="v['AC']")),
    ("struct<a:int>", "42", "Data is not JSONObject  but java.lang.Long with value 42"),
    ("struct<a:int>", "4.20", "Data is not JSONObject  but java.lang.Double with value 4.20"),
    ("struct<a:int>", '"x"', "Data is not JSONObject  but java.lang.String with value x"),
    ("struct<a:int>", "true", "Data is not JSONObject  but java.lang.Boolean with value true"),
    ("struct<a:int>", '["x"]', for_input("x")),
    ("struct<a:int>", "[true]", column("true cannot be read as int.", path="v.a")),
    ("array<boolean>", "[true,1]", column("the number 1 cannot be read as boolean.", path="v[1]")),
    ("map<int,array<date>>", '{"1":["x"]}', no_such("x", "date").replace("v:", "v['1'][0]:")),
    (
        "map<string,map<string,int>>",
        '{"' + "k" * 300 + '":{"a":true}}',
        column("true cannot be read as int.", path="v['" + "k" * 197 + "..."),
    ),
    ("struct<a:int>", '{"a":1,"A":1}', column('duplicate key "a".', path="v.a")),
    ("struct<a:int>", '{"a":null,"a":1}', column('duplicate key "a".', path="v.a")),
    (
        "struct<a:array<struct<b:int>>>",
        '{"a":[{"b":1},{"b":{}}]}',
        column("an object cannot be read as int.", path="v.a[1].b"),
    ),
]


@pytest.mark.parametrize(("hive_type", "value", "message"), FAILS, ids=[f"{t}-{v[:30]}" for t, v, _ in FAILS])
def test_a_value_fails_its_record_alone(convert: Convert, hive_type: str, value: str, message: str) -> None:
    converted = convert('{"good":1}', '{"good":2,"v":' + value + "}", '{"good":3}', good="int", v=hive_type)
    assert rows(converted) == [{"good": 1, "v": None}, {"good": 3, "v": None}]
    assert converted.failed.tolist() == [1]
    assert list(converted.codes) == [MALFORMED_DATA]
    assert list(converted.messages) == [MISMATCH + message]


@pytest.mark.parametrize(
    ("hive_type", "value", "detail"),
    [
        ("int", '"oops"', 'Column v: the string "oops" cannot be read as int.'),
        ("array<double>", '[1,"oops"]', 'Column v[1]: the string "oops" cannot be read as double.'),
        ("struct<a:struct<b:int>>", '{"a":42}', "Column v.a: the number 42 cannot be read as struct<b:int>."),
        ("boolean", "1", ""),
    ],
)
def test_what_firehoses_words_leave_out_is_in_the_details(
    convert: Convert, hive_type: str, value: str, detail: str
) -> None:
    converted = convert('{"v":' + value + "}", "{", '{"v":null}', v=hive_type)
    assert list(converted.details) == [detail, ""]


@pytest.mark.parametrize(
    ("hive_type", "value", "detail"),
    [
        ("map<int,int>", '{"x":1}', """Column v['x']: the string "x" cannot be read as int."""),
        ("map<tinyint,int>", '{"128":1}', "Column v['128']: 128 is out of the range of tinyint."),
        ("map<boolean,int>", '{"yes":1}', """Column v['yes']: the string "yes" cannot be read as boolean."""),
        ("map<date,int>", '{"1":1,"x":1}', """Column v['x']: the string "x" cannot be read as date."""),
        ("map<int,string>", '{"1":{"x":1},"":2}', """Column v['']: the string "" cannot be read as int."""),
        ("map<binary,int>", '{"a":1}', """Column v['a']: the string "a" cannot be read as binary."""),
    ],
)
def test_a_key_that_is_none_of_its_map_has_a_code_of_its_own(
    convert: Convert, hive_type: str, value: str, detail: str
) -> None:
    converted = convert('{"v":' + value + "}", v=hive_type)
    assert list(converted.codes) == [INVALID_RECORD]
    assert list(converted.messages) == [
        f"Record is not as per schema. One or more map keys were invalid for {hive_type}."
    ]
    assert list(converted.details) == [detail]


def test_a_key_deep_inside_and_the_value_of_a_map_are_told_with_their_places(convert: Convert) -> None:
    converted = convert('{"v":[{"k":{"1":2,"b":3}}]}', '{"v":[{"k":{"1":true}}]}', v="array<struct<k:map<int,int>>>")
    assert list(converted.codes) == [INVALID_RECORD, MALFORMED_DATA]
    assert converted.details[0] == """Column v[0].k['b']: the string "b" cannot be read as int."""
    assert converted.messages[1] == MISMATCH + column("true cannot be read as int.", path="v[0].k['1']")


def test_text_of_the_deepest_value(convert: Convert) -> None:
    text = "[" * 127 + "]" * 127
    assert rows(convert('{"a":' + text + "}", a="string")) == [{"a": text}]


# --- options ---------------------------------------------------------------------------------------------------------


def test_keys_match_in_any_case_at_every_depth(convert: Convert) -> None:
    record = '{"USERID":{"SUB":1,"List":[{"Deep":{"KEY":"Value"}}]},"ÉTÉ":2}'
    columns = {"userId": "struct<Sub:int,LIST:array<struct<deep:map<string,string>>>>", "été": "int"}
    assert rows(convert(record, **columns)) == [
        {"userId": {"Sub": 1, "LIST": [{"deep": {"key": "Value"}}]}, "été": 2},
    ]


def test_without_case_insensitive_keys_stay_as_they_are(convert: Convert) -> None:
    record = '{"userid":1,"UserId":2,"M":{"A":1,"a":2},"m":{"A":1,"a":2},"text":{"A":{"B":1}}}'
    columns = {"userid": "int", "m": "map<string,int>", "text": "string"}
    converted = convert(record, options={"case_insensitive": False}, **columns)
    assert rows(converted) == [{"userid": 1, "m": {"A": 1, "a": 2}, "text": '{"A":{"B":1}}'}]
    assert converted.remarks == {"unknown_key": 2}


def test_dots_in_keys_feed_columns_with_underscores(convert: Convert) -> None:
    record = '{"a.b":1,"S.T":{"x.Y.z":2},"m":{"k.l":3}}'
    columns = {"a_b": "int", "s_t": "struct<x_y_z:int>", "m": "map<string,int>"}
    options = {"convert_dots_in_json_keys_to_underscores": True}
    assert rows(convert(record, options=options, **columns)) == [{"a_b": 1, "s_t": {"x_y_z": 2}, "m": {"k.l": 3}}]
    assert rows(convert('{"a.b":1}', a_b="int")) == [{"a_b": None}]


def test_a_dotted_and_an_underscored_key_for_one_column_fail(convert: Convert) -> None:
    options = {"convert_dots_in_json_keys_to_underscores": True}
    assert list(convert('{"a_b":1,"a.b":2}', options=options, a_b="int").messages) == [
        f'{MISMATCH}Column a_b: duplicate key "a.b".'
    ]


def test_mappings_feed_columns_and_fields_from_other_keys_only(convert: Convert) -> None:
    options = {"column_to_json_key_mappings": {"ts": "timestamp", "useragent": "User-Agent"}}
    columns = {"ts": "bigint", "headers": "struct<useragent:string>"}
    converted = convert(
        '{"Timestamp":1,"headers":{"User-Agent":"x"}}',
        '{"ts":1,"headers":{"useragent":"x"}}',
        options=options,
        **columns,
    )
    assert rows(converted) == [{"ts": 1, "headers": {"useragent": "x"}}, {"ts": None, "headers": {"useragent": None}}]
    assert converted.remarks == {"unknown_key": 2}


def test_mappings_can_tell_keys_apart_that_differ_in_case(convert: Convert) -> None:
    options = {"case_insensitive": False, "column_to_json_key_mappings": {"url1": "URL", "url2": "Url"}}
    assert rows(convert('{"URL":1,"Url":2}', options=options, url1="int", url2="int")) == [{"url1": 1, "url2": 2}]


# --- remarks ---------------------------------------------------------------------------------------------------------


def test_what_is_ignored_or_cut_is_counted(convert: Convert) -> None:
    converted = convert(
        '{"s":{"a":1,"b":2},"x":{"y":{"z":1}}}',
        '{"s":[1,2,3],"c":"long","v":[1,2]}',
        '{"t":"2026-01-01 00:00:00.0000001","d":"2026-01-01T12:00:00Z"}',
        '{"t":1767225600.0000001,"d":1767225600.5,"c":"lon"}',
        s="struct<a:int>",
        c="char(3)",
        v="varchar(3)",
        t="timestamp",
        d="date",
    )
    assert converted.remarks == {"unknown_key": 2, "extra_item": 2, "cut_text": 2, "cut_time": 4}
    assert [row["c"] for row in rows(converted)] == [None, "lon", None, "lon"]
    assert rows(converted)[1]["v"] == "[1,"
    assert [row["d"] for row in rows(converted)[2:]] == [date(2026, 1, 1)] * 2


def test_finer_digits_before_1970_are_cut_towards_the_past(convert: Convert) -> None:
    [row] = rows(convert('{"t":-0.0000001}', t="timestamp"))
    assert row["t"] == datetime(1969, 12, 31, 23, 59, 59, 999_999)


def test_without_case_insensitive_a_key_in_another_case_never_matches(convert: Convert) -> None:
    converted = convert(
        '{"UserId":1,"s":{"Sub":1}}', options={"case_insensitive": False}, userid="int", s="struct<sub:int>"
    )
    assert rows(converted) == [{"userid": None, "s": {"sub": None}}]
    assert converted.remarks == {"unknown_key": 2}


def test_without_case_insensitive_keys_that_differ_in_case_are_two(convert: Convert) -> None:
    converted = convert('{"a":1,"A":2}', options={"case_insensitive": False}, a="int")
    assert rows(converted) == [{"a": 1}]
    again = convert('{"a":1,"a":2}', options={"case_insensitive": False}, a="int")
    assert list(again.messages) == [MISMATCH + column('duplicate key "a".', path="a")]


def test_keys_of_maps_that_are_text_are_lowered_and_others_keep_what_they_need(convert: Convert) -> None:
    record = '{"m":{"Ab":{"Cd":1}},"b":{"QUI=":1},"t":{"2026-01-02T03:04:05Z":1},"x":{"K":{"L":{"M":1}}}}'
    columns = {"m": "map<string,map<string,int>>", "b": "map<binary,int>", "t": "map<timestamp,int>"}
    [row] = rows(convert(record, x="map<string,string>", **columns))
    assert row["m"] == {"ab": {"cd": 1}}
    assert row["b"] == {b"AB": 1}
    assert row["t"] == {datetime(2026, 1, 2, 3, 4, 5): 1}
    assert row["x"] == {"k": '{"l":{"m":1}}'}
    [row] = rows(convert(record, options={"case_insensitive": False}, x="map<string,string>", **columns))
    assert (row["m"], row["x"]) == ({"Ab": {"Cd": 1}}, {"K": '{"L":{"M":1}}'})


def test_dots_and_case_together(convert: Convert) -> None:
    options = {"convert_dots_in_json_keys_to_underscores": True, "case_insensitive": False}
    record = '{"A.b":1,"a.B":2,"s":[{"X.y.Z":3,"x.y.z":4}],"t":{"k.l":5}}'
    columns = {"A_b": "int", "s": "array<struct<X_y_Z:int>>", "t": "string"}
    converted = convert(record, options=options, **columns)
    assert rows(converted) == [{"A_b": 1, "s": [{"X_y_Z": 3}], "t": '{"k.l":5}'}]
    assert converted.remarks == {"unknown_key": 2}


def test_a_mapped_column_is_fed_by_no_key_with_dots(convert: Convert) -> None:
    options = {"convert_dots_in_json_keys_to_underscores": True, "column_to_json_key_mappings": {"a_b": "other"}}
    assert rows(convert('{"a.b":1}', '{"other":2}', options=options, a_b="int")) == [{"a_b": None}, {"a_b": 2}]


def test_mappings_go_by_the_case_that_the_option_says(convert: Convert) -> None:
    mappings = {"column_to_json_key_mappings": {"TS": "TimeStamp"}}
    records = ('{"timestamp":1}', '{"TimeStamp":2}', '{"s":{"TIMESTAMP":3}}')
    columns = {"ts": "int", "s": "struct<Ts:int>"}
    assert [row["ts"] for row in rows(convert(*records, options=mappings, **columns))] == [1, 2, None]
    assert rows(convert(*records, options=mappings, **columns))[2]["s"] == {"Ts": 3}
    exact = mappings | {"case_insensitive": False}
    assert [row["ts"] for row in rows(convert(*records, options=exact, **columns))] == [None, 2, None]
    assert rows(convert(*records, options=exact, **columns))[2]["s"] == {"Ts": None}


def test_a_key_with_blanks_feeds_the_column_it_is_mapped_to(convert: Convert) -> None:
    options = {"column_to_json_key_mappings": {"agent": "User Agent"}}
    assert rows(convert('{"user agent":"x"}', options=options, agent="string")) == [{"agent": "x"}]
