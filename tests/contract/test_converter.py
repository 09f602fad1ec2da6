"""What every engine of every deserializer must do, row by row, code by code: records, batches, and hostile ones."""

from __future__ import annotations

import json
import time

import pytest

from firehose import arrow
from firehose.converters.failures import MALFORMED_DATA, PARSE_ERROR
from firehose.converters.json_text import MAX_KEY_LENGTH
from tests.contract.converters import ALL_TYPES, MISMATCH, Convert, build, column, converting, engines, rows, table

BOTH = engines("openx", "hive")


@pytest.fixture(params=BOTH, ids="-".join)
def convert(request: pytest.FixtureRequest) -> Convert:
    return converting(*request.param)


@pytest.mark.parametrize("hive_type", ALL_TYPES)
def test_null_and_a_missing_key_are_null(convert: Convert, hive_type: str) -> None:
    assert rows(convert('{"v":null}', "{}", v=hive_type)) == [{"v": None}, {"v": None}]


@pytest.mark.parametrize("hive_type", ALL_TYPES)
@pytest.mark.parametrize("value", ["{}", "[]", '"\u2603"', "1e5000", "-1.5", "true", "false", "null", '{"x":[{}]}'])
def test_every_pair_of_type_and_value_is_a_row_or_a_failure(convert: Convert, hive_type: str, value: str) -> None:
    converted = convert('{"v":' + value + "}", v=hive_type)
    assert converted.columns.num_rows + len(converted.failed) == 1
    if converted.columns.num_rows and value != "null":
        assert rows(converted)[0]["v"] is not None


# --- records that are not what they should be ------------------------------------------------------------------------


def unexpected(offset: int) -> str:
    return f"Encountered malformed JSON. Unexpected text at byte offset {offset}."


def ends(offset: int) -> str:
    return f"Encountered malformed JSON. Unexpected end at byte offset {offset}."


NOT_JSON: list[tuple[bytes, str]] = [
    (b"not json", unexpected(0)),
    (b"{", ends(1)),
    (b'{"a":1', ends(6)),
    (b'{"a":1,}', unexpected(7)),
    (b'{"a":1 "b":2}', unexpected(7)),
    (b'{"a" 1}', unexpected(5)),
    (b"{a:1}", unexpected(1)),
    (b"{'a':1}", unexpected(1)),
    (b'{"a":1}}', unexpected(7)),
    (b'{"a":1},{"a":2}', unexpected(7)),
    (b'{"a":1} x', unexpected(8)),
    (b'{"a":[1,]}', unexpected(8)),
    (b'{"a":NaN}', unexpected(5)),
    (b'{"a":Infinity}', unexpected(5)),
    (b'{"a":-Infinity}', unexpected(5)),
    (b'{"a":01}', unexpected(6)),
    (b'{"a":+1}', unexpected(5)),
    (b'{"a":1.}', unexpected(6)),
    (b'{"a":.5}', unexpected(5)),
    (b'{"a":1e}', unexpected(6)),
    (b'{"a":True}', unexpected(5)),
    (b'{"a":"x', unexpected(5)),
    (b'{"a":"\n"}', unexpected(5)),
    (b'{"a":"\x00"}', unexpected(5)),
    (b'{"a":"\\x"}', unexpected(5)),
    (b'{"a":"\\u12"}', unexpected(5)),
    (b'{"a":"\\ud800"}', unexpected(5)),
    (b'{"a":"\\udc00"}', unexpected(5)),
    (b'{"a":"\\ud800\\u0041"}', unexpected(5)),
    (b'{"a":"\\\\\\uD800"}', unexpected(5)),
    (b'{"\\uDFFF":1}', unexpected(1)),
    (b'{"other":"\\ud800"}', unexpected(9)),
    (b'{"a":/* no */1}', unexpected(5)),
    (b"\xef\xbb\xbf{}", unexpected(0)),
    (b"\xc2\xa0{}", unexpected(0)),
    ('{"é":01}'.encode(), unexpected(7)),
    (b"[1,2", ends(4)),
    (b'5 {"a":', ends(7)),
]


@pytest.mark.parametrize(("record", "message"), NOT_JSON, ids=[repr(record) for record, _ in NOT_JSON])
def test_what_is_not_json_is_a_parse_error(convert: Convert, record: bytes, message: str) -> None:
    converted = convert(b'{"a":1}', record, b'{"a":2}', a="int")
    assert rows(converted) == [{"a": 1}, {"a": 2}]
    assert converted.failed.tolist() == [1]
    assert (list(converted.codes), list(converted.messages)) == ([PARSE_ERROR], [message])


BLANK = "The record was empty or contained only whitespace."


def illegal(offset: int) -> str:
    return f"{MISMATCH}Illegal character found between tokens at byte offset {offset}."


NO_OBJECT = MISMATCH + "A record must hold JSON objects, not arrays or scalars."
NOT_A_RECORD: list[tuple[bytes, str]] = [
    (b"", BLANK),
    (b" \t\r\n", BLANK),
    (b"[]", NO_OBJECT),
    (b'[{"a":1}]', NO_OBJECT),
    (b"5", NO_OBJECT),
    (b'"x"', NO_OBJECT),
    (b"null", NO_OBJECT),
    (b'{"a":1}[1]', NO_OBJECT),
    (b'{"a":1}\n2', NO_OBJECT),
    (b"\x00", illegal(0)),
    (b'{"a":1}\x00', illegal(7)),
    (b'{"a":\x011}', illegal(5)),
    (b'{"a"\x0b:1}', illegal(4)),
    (b'{"a":1\x1f,"b":2}', illegal(6)),
    (b'{"a":"\xff"}', "The record is not valid UTF-8, at byte offset 6."),
    (b'{"a":"\xed\xa0\x80"}', "The record is not valid UTF-8, at byte offset 6."),
    (b'{"a":"\xc0\x80"}', "The record is not valid UTF-8, at byte offset 6."),
]


@pytest.mark.parametrize(("record", "message"), NOT_A_RECORD, ids=[repr(record) for record, _ in NOT_A_RECORD])
def test_what_is_no_record_is_malformed_data(convert: Convert, record: bytes, message: str) -> None:
    converted = convert(record, b'{"a":2}', a="int")
    assert rows(converted) == [{"a": 2}]
    assert converted.failed.tolist() == [0]
    assert (list(converted.codes), list(converted.messages)) == ([MALFORMED_DATA], [message])


def nested(depth: int) -> bytes:
    """An object of `depth` brackets."""
    return b'{"a":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


def test_nesting_up_to_the_limit_is_fine_and_beyond_it_fails(convert: Convert) -> None:
    converted = convert(nested(128), nested(129), nested(10_000), nested(1_000_000), b="int")
    assert converted.columns.num_rows == 1
    too_deep = MISMATCH + "Nested more than 128 deep at byte offset 132."
    assert list(converted.messages) == [too_deep] * 3
    assert list(converted.codes) == [MALFORMED_DATA] * 3


def test_brackets_in_strings_and_side_by_side_are_not_depth(convert: Convert) -> None:
    flat = json.dumps({"a": "[{" * 500 + '"', "b": [{}] * 500})
    assert len(rows(convert(flat, a="string"))) == 1


def test_of_too_deep_and_not_json_the_first_one_counts(convert: Convert) -> None:
    converted = convert(b"{]" + b"[" * 500, b'{"a":' + b"[" * 500, a="int")
    assert list(converted.codes) == [PARSE_ERROR, MALFORMED_DATA]


def test_what_is_not_json_comes_before_a_mismatch_in_the_same_record(convert: Convert) -> None:
    converted = convert('{"a":true}{"a":', '{"a":true,"b":false}', a="int", b="int")
    assert list(converted.codes) == [PARSE_ERROR, MALFORMED_DATA]
    assert converted.messages[1] == MISMATCH + column("true cannot be read as int.", path="a")


def test_the_first_mismatch_in_the_record_is_told_whatever_the_order_of_columns(convert: Convert) -> None:
    converted = convert('{"b":false,"a":true}', a="int", b="int")
    assert list(converted.messages) == [MISMATCH + column("false cannot be read as int.", path="b")]


def test_keys_are_as_long_as_firehose_takes_them(convert: Convert) -> None:
    key = "k" * MAX_KEY_LENGTH
    fine = ['{"' + key + '":1,"a":2}', '{"a":3,"u":{"' + "\u00e9" * MAX_KEY_LENGTH + '":[]}}']
    too_long = ['{"' + key + '+":1}', '{"a":1,"u":[1,{"x":{"' + key + '+":2}}]}']
    converted = convert(*fine, *too_long, '{"a":4}', a="int")
    assert rows(converted) == [{"a": 2}, {"a": 3}, {"a": 4}]
    assert converted.failed.tolist() == [2, 3]
    assert list(converted.codes) == [MALFORMED_DATA] * 2
    assert list(converted.messages) == [MISMATCH + "A key is longer than 262144 characters."] * 2


def test_keys_match_columns_and_fields_in_any_case(convert: Convert) -> None:
    record = '{"USERID":{"SUB":1,"List":[{"Deep":2}]},"ÉTÉ":3,"Other":4}'
    columns = {"userId": "struct<Sub:int,LIST:array<struct<deep:int>>>", "été": "int"}
    converted = convert(record, **columns)
    assert rows(converted) == [{"userId": {"Sub": 1, "LIST": [{"deep": 2}]}, "été": 3}]
    assert converted.remarks == {"unknown_key": 1}


def test_keys_that_differ_in_case_alone_fail_as_both_cannot_be_kept(convert: Convert) -> None:
    converted = convert('{"a":1,"A":2}', '{"s":{"b":1,"B":1}}', '{"U":1,"u":2}', a="int", s="struct<b:int>")
    assert list(converted.codes) == [MALFORMED_DATA] * 2
    assert list(converted.messages) == [
        MISMATCH + column('duplicate key "a".', path="a"),
        MISMATCH + column('duplicate key "b".', path="s.b"),
    ]
    assert converted.columns.num_rows == 1, "keys without a column may come twice"


def test_characters_are_cut_not_bytes_and_cuts_are_counted(convert: Convert) -> None:
    emoji = "\U0001f600\U0001f601\U0001f602\U0001f603"
    converted = convert(json.dumps({"c": emoji, "v": "äöüß"}), '{"c":"abc","v":12345}', c="char(3)", v="varchar(3)")
    assert rows(converted) == [{"c": emoji[:3], "v": "äöü"}, {"c": "abc", "v": "123"}]
    assert converted.remarks == {"cut_text": 3}


# --- records that want to stop us ------------------------------------------------------------------------------------

MAX_RECORD = 1_024_000


def filled(before: str, fill: str, after: str = "") -> str:
    """Return a record of the greatest size that a producer may send."""
    return before + fill * ((MAX_RECORD - len(before) - len(after)) // len(fill)) + after


TYPES = {"i": "bigint", "f": "double", "m": "decimal(38,10)", "t": "timestamp", "d": "date", "s": "string"}
COLUMNS = TYPES | {"a": "array<int>", "k": "map<bigint,int>", "r": "struct<x:int>"}

HOSTILE: dict[str, tuple[str, str | None]] = {
    "whole number": (filled('{"i":', "1", "}"), MALFORMED_DATA),
    "floating number": (filled('{"f":', "1", "}"), MALFORMED_DATA),
    "many digits behind the point": (filled('{"f":0.', "1", "}"), None),
    "whole, with zeros behind the point": (filled('{"i":3.', "0", "}"), None),
    "decimal": (filled('{"m":', "1", "}"), MALFORMED_DATA),
    "decimal with many digits": (filled('{"m":0.', "1", "}"), MALFORMED_DATA),
    "seconds": (filled('{"t":', "1", "}"), MALFORMED_DATA),
    "a day in text": (filled('{"d":"', "1", '"}'), MALFORMED_DATA),
    "blanks in a day": (filled('{"d":"', " ", '"}'), MALFORMED_DATA),
    "digits for a struct": (filled('{"r":', "1", "}"), MALFORMED_DATA),
    "key of a map": (filled('{"k":{"', "1", '":1}}'), MALFORMED_DATA),
    "exponent": (filled('{"f":1e', "9", "}"), MALFORMED_DATA),
    "infinity": ('{"f":1e400}', MALFORMED_DATA),
    "beyond bigint": ('{"i":9223372036854775808}', MALFORMED_DATA),
    "10,000 arrays": ('{"a":' + "[" * 10_000 + "]" * 10_000 + "}", MALFORMED_DATA),
    "arrays without an end": (filled('{"a":', "["), MALFORMED_DATA),
    "objects without an end": (filled("", '{"r":'), MALFORMED_DATA),
    "a string without an end": (filled('{"s":"', '\\"'), PARSE_ERROR),
    "half of a character": (filled('{"s":"', "\\ud800\\udc00", '\\ud800"}'), PARSE_ERROR),
    "a mark of byte order": ("\ufeff{}", PARSE_ERROR),
    "a zero between tokens": ('{"i":1}\x00', MALFORMED_DATA),
    "a zero in a string": ('{"s":"\x00"}', PARSE_ERROR),
    "an escaped zero": ('{"s":"\\u0000"}', None),
    "many items": (filled('{"a":[', "1,", "1]}"), None),
    "many scalars": (filled("", "1 "), MALFORMED_DATA),
    "many objects": (filled("", "{}"), None),
    "many keys": ("{" + ",".join(f'"k{number}":1' for number in range(70_000)) + "}", None),
    "the same key": (filled("{", '"i":1,', '"i":1}'), MALFORMED_DATA),
    "text": (filled('{"s":"', "é", '"}'), None),
    "blanks": (filled("", " "), MALFORMED_DATA),
}


@pytest.mark.parametrize(("record", "code"), HOSTILE.values(), ids=HOSTILE)
def test_no_record_stops_the_others(convert: Convert, record: str, code: str | None) -> None:
    before = time.process_time()
    converted = convert('{"i":1}', record, '{"i":2}', **COLUMNS)
    assert time.process_time() - before < 5, "takes more than linear time"
    assert list(converted.codes) == ([] if code is None else [code])
    assert converted.failed.tolist() == ([] if code is None else [1])
    whole_numbers = converted.columns.column("i").to_pylist()
    assert (whole_numbers[0], whole_numbers[-1]) == (1, 2)
    assert all(len(message) < 1000 for message in converted.messages), "messages quote the beginning of a value"


# --- several objects in a record -------------------------------------------------------------------------------------


@pytest.mark.parametrize("between", ["", "\n", "\r\n", " ", "\t \n"])
def test_a_record_may_hold_several_objects(convert: Convert, between: str) -> None:
    record = between.join(["", '{"a":1}', '{"a":2}', '{"a":3}', ""])
    assert rows(convert(record, '{"a":4}', a="int")) == [{"a": 1}, {"a": 2}, {"a": 3}, {"a": 4}]


@pytest.mark.parametrize("bad", ['{"a":"x"}', "5", "{", '{"a":1,"a":1}'])
@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_record_with_one_bad_object_fails_as_a_whole(convert: Convert, bad: str, position: int) -> None:
    objects = ['{"a":1,"u":0}', '{"a":2,"u":0}']
    objects.insert(position, bad)
    converted = convert('{"a":0}', "\n".join(objects), '{"a":9}', a="int")
    assert rows(converted) == [{"a": 0}, {"a": 9}]
    assert converted.failed.tolist() == [1]
    assert converted.remarks == {}, "what a failed record left out is not left out"


# --- batches ---------------------------------------------------------------------------------------------------------


def test_no_records_give_no_rows(convert: Convert) -> None:
    converted = convert(a="int")
    assert (converted.columns.num_rows, len(converted.failed), converted.columns.schema.names) == (0, 0, ["a"])


def test_a_batch_of_failures_gives_no_rows(convert: Convert) -> None:
    converted = convert("x", "y", a="struct<b:array<int>>")
    assert (converted.columns.num_rows, converted.failed.tolist()) == (0, [0, 1])


def test_failures_in_a_large_batch_keep_their_positions_and_spoil_nothing(convert: Convert) -> None:
    count = 30_000
    bad = {number: "{" if number % 200 else '{"a":[{"b":1},{"b":"x"}],"n":5}' for number in range(0, count, 100)}
    records = [bad.get(n, json.dumps({"n": n, "a": [{"b": n}, {"b": None}], "text": "x" * 50})) for n in range(count)]
    converted = convert(*records, n="int", a="array<struct<b:int>>", text="string")
    assert converted.failed.tolist() == sorted(bad)
    assert list(converted.codes) == [PARSE_ERROR if n % 200 else MALFORMED_DATA for n in sorted(bad)]
    good = [n for n in range(count) if n not in bad]
    assert converted.columns.column("n").to_pylist() == good
    assert converted.columns.column("a").to_pylist() == [[{"b": n}, {"b": None}] for n in good]


def test_a_slice_of_a_column_is_converted_as_it_is() -> None:
    data = arrow.binary_column([b"{", b'{"a":1}', b'{"a":2}', b"{"])
    for each in BOTH:
        converted = build(*each, table(a="int")).convert(data.slice(1, 2))
        assert rows(converted) == [{"a": 1}, {"a": 2}]
        assert converted.failed.tolist() == []


def test_a_converter_carries_nothing_from_batch_to_batch() -> None:
    for each in BOTH:
        converter = build(*each, table(a="int"))
        converter.convert(arrow.binary_column([b'{"x":1}', b'{"y":1', b'{"a":"z"}']))
        again = converter.convert(arrow.binary_column([b'{"a":1}']))
        assert (rows(again), again.failed.tolist(), again.remarks) == ([{"a": 1}], [], {})
