"""Strict JSON, and nothing of it lost."""

from __future__ import annotations

import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firehose.converters.failures import MALFORMED_DATA, PARSE_ERROR, RecordError
from firehose.converters.json_text import MAX_DEPTH, Value, compact, explain, read_objects, read_values


def read(text: str | bytes) -> list[Value]:
    return read_values(memoryview(text.encode() if isinstance(text, str) else text))


def test_kinds_are_told_by_type_and_nothing_is_lost() -> None:
    text = '{"a":[1,2.50,-1E+09],"a":"x","b":{"c":null},"d":true,"e":false,"f":{},"g":[]}'
    assert read(text) == [
        (
            ("a", [b"1", b"2.50", b"-1E+09"]),
            ("a", "x"),
            ("b", (("c", None),)),
            ("d", True),
            ("e", False),
            ("f", ()),
            ("g", []),
        )
    ]


def test_several_values_end_to_end() -> None:
    assert read(' {"a":1}{"a":2}\n[3]\t"x" ') == [(("a", b"1"),), (("a", b"2"),), [b"3"], "x"]


def test_long_numbers_keep_their_digits() -> None:
    digits = "9" * 100_000
    assert read(f"[{digits},0.{digits}]") == [[digits.encode(), f"0.{digits}".encode()]]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=15,
)
#: Texts near JSON: pieces of it in any order.
NEAR_JSON = st.lists(
    st.sampled_from(["{", "}", "[", "]", ",", ":", " ", "\n", "1", "-", "0", ".", "e", '"', "\\", "a", "true", "null"])
    | st.sampled_from(['"a"', '"b":', '{"a":1}', "\\u00e9", "\\ud83d", "\\ude00", "\\\\", "\x00", "\x7f", "é", "NaN"]),
    max_size=12,
).map("".join)


@given(JSON, st.booleans(), st.sampled_from([None, 1, "\t"]))
def test_compact_text_is_the_same_json(value: object, is_ascii: bool, indent: int | str | None) -> None:
    text = json.dumps(value, ensure_ascii=is_ascii, indent=indent)
    try:
        [found] = read(text)
    except RecordError:
        assert "\\ud" in text or "\\uD" in text, "only half a surrogate may fail"
        return
    assert compact(found) == json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def test_compact_text_can_have_lower_case_keys() -> None:
    [value] = read('{"A":{"B":["C",{"D":"E"}]}}')
    assert compact(value, lower_keys=True) == '{"a":{"b":["C",{"d":"E"}]}}'
    assert compact(value) == '{"A":{"B":["C",{"D":"E"}]}}'


def test_compact_text_of_the_deepest_value() -> None:
    text = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert compact(read(text)[0]) == text


def _is_json(text: str) -> bool:
    try:
        orjson.loads(text)
    except (orjson.JSONDecodeError, TypeError):
        return False
    return True


@given(NEAR_JSON)
def test_one_value_is_taken_exactly_where_another_strict_reader_takes_it(text: str) -> None:
    if any(part in text for part in ("1e", "0e")):
        return  # numbers out of the range of doubles are the other reader's to refuse
    try:
        is_one_value = len(read(text)) == 1
    except RecordError:
        is_one_value = False
    assert is_one_value == _is_json(text)


@given(NEAR_JSON | JSON.map(json.dumps).map(lambda text: text[:-1]))
def test_the_explanation_finds_something_exactly_where_the_reader_failed(text: str) -> None:
    try:
        read(text)
    except RecordError as error:
        is_control = "Illegal character" in error.message
        assert error.code == (MALFORMED_DATA if is_control else PARSE_ERROR)
        offset = int(error.message.rsplit(" ", 1)[1].rstrip("."))
        assert 0 <= offset <= len(text.encode())
        is_end = "Unexpected end" in error.message
        assert is_end == (
            offset == len(text.rstrip(" \t\r\n").encode()) or not text.encode()[offset:].strip(b" \t\r\n")
        )


@given(NEAR_JSON)
def test_what_stands_before_the_offset_is_not_the_fault(text: str) -> None:
    try:
        read(text)
    except RecordError as error:
        offset = int(error.message.rsplit(" ", 1)[1].rstrip("."))
        before = text.encode()[:offset].decode()
        again = explain(before).message
        assert "Unexpected end" in again, "cut there, the text is only unfinished"


@pytest.mark.parametrize("depth", [MAX_DEPTH, MAX_DEPTH + 1])
@pytest.mark.parametrize("around", ["{}", '{"a":"]]]]"}', "[[],[]]"])
def test_depth_counts_brackets_that_are_open_at_once(depth: int, around: str) -> None:
    text = around + "[" * depth + "]" * depth + around
    if depth <= MAX_DEPTH:
        read(text)
    else:
        with pytest.raises(RecordError, match="Nested more than 128 deep"):
            read(text)


@pytest.mark.parametrize(
    "tail", ['"' + '\\"' * 500_000, '"' * 500_001, "\\" * 500_000, " " * 1_000_000, "1 " * 300_000]
)
@pytest.mark.parametrize("head", ["", "[" * 200 + "]" * 200, '{"a":' * 127, "\\ud83d"])
def test_hostile_texts_take_linear_time(head: str, tail: str) -> None:
    try:
        read(head + tail)
    except RecordError as error:
        assert "byte offset" in error.message


def test_hostile_nesting_is_refused_without_recursion() -> None:
    for text in ("[" * 2_000_000, '{"a":' * 500_000, "[" * 1000 + "]" * 1000):
        with pytest.raises(RecordError, match="Nested more than"):
            read_objects(memoryview(text.encode()))
