"""What every engine of the hive deserializer must do: each value in each type, and its times (4.4)."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pytest

from firehose.converters.failures import INVALID_RECORD, MALFORMED_DATA
from tests.contract.converters import MISMATCH, Convert, column, converting, engines, no_kind, no_such, rows


@pytest.fixture(params=engines("hive"), ids="-".join)
def convert(request: pytest.FixtureRequest) -> Convert:
    return converting(*request.param)


# --- one value in one column -----------------------------------------------------------------------------------------

BECOMES: list[tuple[str, str, Any]] = [
    ("boolean", "true", True),
    ("boolean", '"False"', False),
    ("tinyint", "-128", -128),
    ("smallint", "32767", 32767),
    ("int", "3", 3),
    ("int", "3.0", 3),
    ("int", "3e0", 3),
    ("bigint", "-9223372036854775808", -(2**63)),
    ("float", "1.5", 1.5),
    ("double", "1e-400", 0.0),
    ("decimal(5,2)", "999.99", Decimal("999.99")),
    ("string", '"text"', "text"),
    ("string", "3.10", "3.10"),
    ("string", "true", "true"),
    ("string", '"{\\"A\\":1}"', '{"A":1}'),
    ("char(3)", '"abcd"', "abc"),
    ("varchar(4)", "3.1000", "3.10"),
    ("binary", '"h\u00e9"', b"h\xc3\xa9"),
    ("binary", '"aGk="', b"aGk="),
    ("timestamp", '"2026-01-02 03:04:05"', datetime(2026, 1, 2, 3, 4, 5)),
    ("timestamp", '"2026-1-2 3:4:5.678"', datetime(2026, 1, 2, 3, 4, 5, 678_000)),
    ("timestamp", '" 2026-01-02 03:04:05.123456000\\n"', datetime(2026, 1, 2, 3, 4, 5, 123_456)),
    ("timestamp", '"0001-01-01 00:00:00"', datetime(1, 1, 1)),
    ("timestamp", '"9999-12-31 23:59:59.999999"', datetime(9999, 12, 31, 23, 59, 59, 999_999)),
    ("date", '"2026-01-02"', date(2026, 1, 2)),
    ("date", '" 2026-1-2"', date(2026, 1, 2)),
    ("array<int>", "[]", []),
    ("array<int>", "[1,null]", [1, None]),
    ("array<string>", '[1,"a",true]', ["1", "a", "true"]),
    ("map<string,int>", '{"MixedKey":1,"mixedkey":2,"b":null}', {"MixedKey": 1, "mixedkey": 2, "b": None}),
    ("map<int,string>", '{"1":"a","-2":"b"}', {1: "a", -2: "b"}),
    ("map<boolean,int>", '{"true":1}', {True: 1}),
    ("map<date,int>", '{"2026-01-02":1}', {date(2026, 1, 2): 1}),
    ("map<double,int>", '{"1.5":1}', {1.5: 1}),
    ("map<decimal(3,1),int>", '{"1.5":1}', {Decimal("1.5"): 1}),
    ("map<varchar(2),int>", '{"ABC":1}', {"AB": 1}),
    ("struct<sub:int>", '{"Sub":1,"other":[{}]}', {"sub": 1}),
    ("struct<a:int,b:string>", "{}", {"a": None, "b": None}),
    ("struct<a:array<map<string,struct<b:double>>>>", '{"A":[{"K":{"B":1}}]}', {"a": [{"K": {"b": 1.0}}]}),
]


@pytest.mark.parametrize(("hive_type", "value", "expected"), BECOMES, ids=[f"{t}-{v[:30]}" for t, v, _ in BECOMES])
def test_a_value_becomes(convert: Convert, hive_type: str, value: str, expected: Any) -> None:
    converted = convert('{"v":' + value + "}", v=hive_type)
    assert list(converted.messages) == []
    assert rows(converted) == [{"v": expected}]


FAILS: list[tuple[str, str, str]] = [
    ("boolean", "1", no_kind("the number 1", "boolean")),
    ("boolean", '"yes"', no_such("yes", "boolean")),
    ("int", '"123"', no_kind('the string "123"', "int")),
    ("tinyint", '"1"', no_kind('the string "1"', "tinyint")),
    ("bigint", '""', no_kind('the string ""', "bigint")),
    ("float", '"1.5"', no_kind('the string "1.5"', "float")),
    ("double", '"NaN"', no_kind('the string "NaN"', "double")),
    ("decimal(5,2)", '"1.5"', no_kind('the string "1.5"', "decimal(5,2)")),
    ("int", "3.7", column("3.7 is not a whole number, as int needs.")),
    ("int", "2147483648", column("2147483648 is out of the range of int.")),
    ("int", "true", no_kind("true", "int")),
    ("double", "1e400", column("1e400 is out of the range of double.")),
    ("decimal(5,2)", "1.005", column("1.005 does not fit decimal(5,2).")),
    ("string", '{"inner":1}', no_kind("an object", "string")),
    ("string", "[1]", no_kind("an array", "string")),
    ("char(3)", "{}", no_kind("an object", "char(3)")),
    ("varchar(3)", "[]", no_kind("an array", "varchar(3)")),
    ("binary", "1", no_kind("the number 1", "binary")),
    ("timestamp", '"2026-01-02T03:04:05Z"', no_such("2026-01-02T03:04:05Z", "timestamp")),
    ("timestamp", '"2026-01-02"', no_such("2026-01-02", "timestamp")),
    ("timestamp", '"2026-01-02 03:04"', no_such("2026-01-02 03:04", "timestamp")),
    ("timestamp", '"2026-01-02 03:04:05."', no_such("2026-01-02 03:04:05.", "timestamp")),
    ("timestamp", '"2026-02-30 00:00:00"', no_such("2026-02-30 00:00:00", "timestamp")),
    ("timestamp", '"2026-01-02 25:00:00"', no_such("2026-01-02 25:00:00", "timestamp")),
    ("timestamp", '"2026-01-02 03:04:05.1234567890"', no_such("2026-01-02 03:04:05.1234567890", "timestamp")),
    ("timestamp", '"26-01-02 03:04:05"', no_such("26-01-02 03:04:05", "timestamp")),
    ("timestamp", "1767225600", no_such("1767225600", "timestamp")),
    ("timestamp", "true", no_kind("true", "timestamp")),
    ("date", '"2026-02-30"', no_such("2026-02-30", "date")),
    ("date", '"2026-01-02 03:04:05"', no_such("2026-01-02 03:04:05", "date")),
    ("date", "20260102", no_such("20260102", "date")),
    ("array<int>", "5", no_kind("the number 5", "array<int>")),
    ("array<int>", "{}", no_kind("an object", "array<int>")),
    ("array<int>", '[1,"2"]', column('the string "2" cannot be read as int.', path="v[1]")),
    ("map<string,int>", "[]", no_kind("an array", "map<string,int>")),
    ("map<string,int>", '{"a":1,"a":2}', column('duplicate key "a".', path="v['a']")),
    ("struct<a:int>", "[1]", no_kind("an array", "struct<a:int>")),
    ("struct<a:int>", "42", no_kind("the number 42", "struct<a:int>")),
    ("struct<a:int>", '"x"', no_kind('the string "x"', "struct<a:int>")),
]


@pytest.mark.parametrize(("hive_type", "value", "message"), FAILS, ids=[f"{t}-{v[:30]}" for t, v, _ in FAILS])
def test_a_value_fails_its_record_alone(convert: Convert, hive_type: str, value: str, message: str) -> None:
    converted = convert('{"good":1}', '{"good":2,"v":' + value + "}", '{"good":3}', good="int", v=hive_type)
    assert rows(converted) == [{"good": 1, "v": None}, {"good": 3, "v": None}]
    assert converted.failed.tolist() == [1]
    assert list(converted.codes) == [MALFORMED_DATA]
    assert list(converted.messages) == [MISMATCH + message]


def test_a_key_that_is_none_of_its_map_has_a_code_of_its_own(convert: Convert) -> None:
    converted = convert('{"v":{"x":1}}', v="map<int,int>")
    assert list(converted.codes) == [INVALID_RECORD]
    assert list(converted.messages) == [
        "Record is not as per schema. One or more map keys were invalid for map<int,int>."
    ]
    assert list(converted.details) == ["""Column v['x']: the string "x" cannot be read as int."""]


def test_what_is_ignored_or_cut_is_counted(convert: Convert) -> None:
    converted = convert(
        '{"s":{"a":1,"b":2},"x":{"y":1},"c":"long"}',
        '{"t":"2026-01-01 00:00:00.0000001","d":"2026/01/01 12"}',
        options={"timestamp_formats": ["yyyy/MM/dd HH"]},
        s="struct<a:int>",
        c="char(3)",
        t="timestamp",
        d="date",
    )
    assert converted.remarks == {"unknown_key": 2, "cut_text": 1, "cut_time": 2}
    assert rows(converted)[1]["d"] == date(2026, 1, 1)


# --- formats of times ------------------------------------------------------------------------------------------------


def timestamps(convert: Convert, *values: str, formats: list[str]) -> list[datetime | str]:
    """Return what each value becomes as a timestamp, or why it fails."""
    found: list[datetime | str] = []
    for value in values:
        converted = convert('{"v":' + value + "}", options={"timestamp_formats": formats}, v="timestamp")
        found.append(converted.messages[0] if len(converted.failed) else rows(converted)[0]["v"])
    return found


def test_formats_are_tried_in_turn_and_javas_at_the_last(convert: Convert) -> None:
    formats = ["yyyy-MM-dd'T'HH:mm:ssZ", "millis", "dd/MM/yyyy"]
    values = ('"2026-01-02T03:04:05+0200"', "1767225600123", '"2/1/2026"', '"2026-01-02 03:04:05.6"')
    assert timestamps(convert, *values, formats=formats) == [
        datetime(2026, 1, 2, 1, 4, 5),
        datetime(2026, 1, 1, 0, 0, 0, 123_000),
        datetime(2026, 1, 2),
        datetime(2026, 1, 2, 3, 4, 5, 600_000),
    ]
    assert timestamps(convert, '"2026.01.02"', "true", formats=formats) == [
        MISMATCH + no_such("2026.01.02", "timestamp"),
        MISMATCH + no_kind("true", "timestamp"),
    ]


def test_the_first_format_that_fits_decides_even_where_a_later_one_would_do(convert: Convert) -> None:
    formats = ["MM/dd/yyyy", "dd/MM/yyyy"]
    assert timestamps(convert, '"2/1/2026"', '"31/1/2026"', formats=formats) == [
        datetime(2026, 2, 1),
        MISMATCH + no_such("31/1/2026", "timestamp"),
    ]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0", datetime(1970, 1, 1)),
        ("-1", datetime(1969, 12, 31, 23, 59, 59, 999_000)),
        ('"1767225600123"', datetime(2026, 1, 1, 0, 0, 0, 123_000)),
        ("1767225600123.25", datetime(2026, 1, 1, 0, 0, 0, 123_250)),
        ("253402300800000", MISMATCH + column("253402300800000 is a moment out of the years 1 to 9999.")),
        ("1e3", MISMATCH + no_such("1e3", "timestamp")),
        ('"+1"', MISMATCH + no_such("+1", "timestamp")),
    ],
)
def test_millis_are_milliseconds_since_1970(convert: Convert, value: str, expected: datetime | str) -> None:
    assert timestamps(convert, value, formats=["MILLIS"]) == [expected]


def test_offsets_may_not_lead_out_of_the_years_of_a_column(convert: Convert) -> None:
    early, late = '"0001-01-01T00:00+0100"', '"9999-12-31T23:59-0100"'
    assert timestamps(convert, early, late, formats=["yyyy-MM-dd'T'HH:mmZ"]) == [
        MISMATCH + column("0001-01-01T00:00+0100 is a moment out of the years 1 to 9999."),
        MISMATCH + column("9999-12-31T23:59-0100 is a moment out of the years 1 to 9999."),
    ]


def test_numbers_are_text_to_formats(convert: Convert) -> None:
    assert (
        timestamps(convert, "20260102030405", '"20260102030405"', formats=["yyyyMMddHHmmss"])
        == [datetime(2026, 1, 2, 3, 4, 5)] * 2
    )


def test_dates_and_keys_of_maps_are_read_in_the_formats_too(convert: Convert) -> None:
    options = {"timestamp_formats": ["dd/MM/yyyy", "millis"]}
    record = '{"d":"2/1/2026","m":{"2/1/2026":1},"t":{"1767312000000":2}}'
    converted = convert(
        record, '{"d":1767312000000}', options=options, d="date", m="map<date,int>", t="map<timestamp,int>"
    )
    first, second = rows(converted)
    assert first == {"d": date(2026, 1, 2), "m": {date(2026, 1, 2): 1}, "t": {datetime(2026, 1, 2): 2}}
    assert second["d"] == date(2026, 1, 2)
    assert converted.remarks == {}
