"""JSON as records hold it: one or several values end to end, strict, and nothing of what was written gets lost.

A value's kind is its Python type, so that rules are looked up and not asked for:

    kind      Python type
    object    tuple of (key, value) pairs: repeated keys and their order stay
    array     list
    string    str
    number    bytes, its text as written: 3.10 stays 3.10, and no digit of a long number is lost
    boolean   bool
    null      None

Strict means RFC 8259 in UTF-8: no NaN, no Infinity, no byte order mark, no bare control character, no surrogate without
its other half, no key beyond `MAX_KEY_LENGTH`, and at most `MAX_DEPTH` brackets open at once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from types import NoneType
from typing import NoReturn

from firehose.converters.failures import MALFORMED_DATA, PARSE_ERROR, MismatchError, RecordError

Value = tuple[tuple[str, "Value"], ...] | list["Value"] | str | bytes | bool | None
Pairs = tuple[tuple[str, Value], ...]

OBJECT, ARRAY, STRING, NUMBER, BOOLEAN, NULL = tuple, list, str, bytes, bool, NoneType

#: How many brackets may be open at once. Real records stay below 20; without a limit, a hostile one ends the process.
MAX_DEPTH = 128

#: How many characters a key may have. Firehose refuses longer ones, too (12.2).
MAX_KEY_LENGTH = 262_144

BLANKS = " \t\r\n"


def read_objects(record: memoryview) -> list[Pairs]:
    """Return the objects that `record` holds. Errors: RecordError, saying what is wrong first, and where.

    What is not JSON comes before all else, even behind an array or a scalar, which are no records either.
    """
    values = read_values(record)
    if not values:
        raise RecordError(MALFORMED_DATA, "The record was empty or contained only whitespace.")
    objects = [value for value in values if isinstance(value, OBJECT)]
    if len(objects) < len(values):
        raise MismatchError("A record must hold JSON objects, not arrays or scalars.")
    return objects


def read_values(record: memoryview) -> list[Value]:
    """Return the JSON values that `record` holds end to end, blanks between them or not. Errors: RecordError."""
    try:
        text = str(record, "utf-8")
    except UnicodeDecodeError as error:
        message = f"The record is not valid UTF-8, at byte offset {error.start}."
        raise RecordError(MALFORMED_DATA, message) from error
    if text.count("{") + text.count("[") > MAX_DEPTH and _is_too_deep(text):
        raise explain(text)
    if "\\u" in text and _has_lone_surrogate(text):
        raise explain(text)
    values: list[Value] = []
    at, end = 0, len(text.rstrip(BLANKS))
    while at < end:
        if text[at] in BLANKS:
            at = _blanks(text, at)
        try:
            value, at = _DECODER.raw_decode(text, at)
        except ValueError as error:
            raise explain(text) from error
        values.append(value)
    if end > MAX_KEY_LENGTH and _has_long_key(values):
        raise MismatchError(f"A key is longer than {MAX_KEY_LENGTH} characters.")
    return values


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


#: `tuple` and `str.encode` run in C, which makes this faster than hooks of our own: 130 MB a CPU second.
_DECODER = json.JSONDecoder(
    object_pairs_hook=tuple, parse_int=str.encode, parse_float=str.encode, parse_constant=_refuse_constant
)
_BLANKS = re.compile(f"[{BLANKS}]*")


def _blanks(text: str, at: int) -> int:
    found = _BLANKS.match(text, at)
    assert found is not None
    return found.end()


#: Every escape, the two halves of a surrogate pair as one; group 1 is half of a pair on its own.
_ESCAPE = re.compile(r"\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]|(u[dD][89a-fA-F])|.)", re.DOTALL)


def _has_lone_surrogate(text: str) -> bool:
    """Say whether a \\u escape stands for half a character. The decoder takes it, but no UTF-8 can hold it."""
    return any(found[1] for found in _ESCAPE.finditer(text))


#: A string without an end goes to the end of the text, and nothing is tried twice: else this took quadratic time.
_STRINGS_AND_ALL_BUT_BRACKETS = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[^"\[\]{}]++', re.DOTALL)


def _is_too_deep(text: str) -> bool:
    """Say whether more than `MAX_DEPTH` brackets are open at once, before the decoder recurses into them."""
    depth = 0
    for bracket in _STRINGS_AND_ALL_BUT_BRACKETS.sub("", text):
        depth += 1 if bracket in "{[" else -1
        if depth > MAX_DEPTH:
            return True
    return False


def _has_long_key(values: list[Value]) -> bool:
    waiting = list(values)
    while waiting:
        value = waiting.pop()
        if isinstance(value, tuple):
            if any(len(key) > MAX_KEY_LENGTH for key, _ in value):
                return True
            waiting += [each for _, each in value]
        elif isinstance(value, list):
            waiting += value
    return False


# --- what is wrong with a text that is not JSON ----------------------------------------------------------------------

_TOKEN = re.compile(
    r"""[ \t\r\n]*+(
        [{}\[\],:]
      | "(?:[^"\\\x00-\x1f]++
          | \\["\\/bfnrt]
          | \\u(?![dD][89a-fA-F])[0-9a-fA-F]{4}
          | \\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}
        )*+"
      | -?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][+-]?[0-9]++)?+
      | true | false | null
    )""",
    re.VERBOSE,
)
_VALUE = '{["0'
_CLOSERS = {"{": "}", "[": "]"}
#: Between tokens they are not malformed JSON to Firehose, but malformed data (12.2).
_CONTROLS = frozenset(map(chr, range(32)))


def explain(text: str) -> RecordError:
    """Return why `text` is refused: the first token that cannot stand where it stands, or one bracket too many.

    For texts that are refused only. Independent of the decoder, so that every engine can give the same message: the
    offset is where a token begins, tokens being as long as they can be.
    """
    due: list[str] = []
    expected, at = _VALUE, 0
    while found := _TOKEN.match(text, at):
        kind = found[1][0] if found[1][0] in '{}[],:"' else "0"
        if kind not in expected:
            break
        at = found.end()
        if kind in _CLOSERS:
            due.append(_CLOSERS[kind])
            if len(due) > MAX_DEPTH:
                return MismatchError(f"Nested more than {MAX_DEPTH} deep at byte offset {_offset(text, at - 1)}.")
            expected = '"}' if kind == "{" else _VALUE + "]"
        elif kind == ":":
            expected = _VALUE
        elif kind == ",":
            expected = '"' if due[-1] == "}" else _VALUE
        elif kind == '"' and expected in ('"', '"}'):
            expected = ":"
        else:
            if kind in "}]":
                due.pop()
            expected = f",{due[-1]}" if due else _VALUE
    at = _blanks(text, at)
    if text[at : at + 1] in _CONTROLS:
        return MismatchError(f"Illegal character found between tokens at byte offset {_offset(text, at)}.")
    detail = "Unexpected end" if at == len(text) else "Unexpected text"
    return RecordError(PARSE_ERROR, f"Encountered malformed JSON. {detail} at byte offset {_offset(text, at)}.")


def _offset(text: str, at: int) -> int:
    return len(text[:at].encode())


# --- values as text --------------------------------------------------------------------------------------------------

_ENCODER = json.JSONEncoder(ensure_ascii=False)


def compact(value: Value, *, lower_keys: bool = False) -> str:
    """Return `value` as JSON without blanks: numbers as written, strings with no escape that is not needed."""
    parts: list[str] = []
    _write(value, parts.append, lower_keys)
    return "".join(parts)


def _write(value: Value, add: Callable[[str], None], lower_keys: bool) -> None:
    if isinstance(value, tuple):
        before = "{"
        for key, each in value:
            add(f"{before}{_ENCODER.encode(key.lower() if lower_keys else key)}:")
            _write(each, add, lower_keys)
            before = ","
        add("}" if value else "{}")
    elif isinstance(value, list):
        before = "["
        for each in value:
            add(before)
            _write(each, add, lower_keys)
            before = ","
        add("]" if value else "[]")
    else:
        add(value.decode() if isinstance(value, bytes) else _ENCODER.encode(value))
