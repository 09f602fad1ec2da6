"""The cells of types without a type inside: what reads one kind of value as one of them. `rules` says which goes where.

What a type cannot hold to the last digit fails the record, where Firehose wraps round or rounds in silence.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable, Mapping
from typing import Any

from firehose.converters import numbers, times
from firehose.converters.book import CUT_TEXT, Book, Cell, Rule
from firehose.converters.failures import MismatchError, quoted, unreadable
from firehose.converters.json_text import ARRAY, BOOLEAN, NUMBER, OBJECT, STRING, Value, compact
from firehose.hive_types import Decimal, HiveType, Primitive, Text

#: What messages call values: containers by their kind alone, scalars with what they are.
_CONTAINERS: Mapping[type, str] = {OBJECT: "an object", ARRAY: "an array"}
_SCALARS: Mapping[type, str] = {STRING: "the string ", NUMBER: "the number ", BOOLEAN: ""}
_BOOLEAN_TEXTS = {True: "true", False: "false"}


def unfit(value: Value, this: HiveType, *, firehose: str | None = None) -> MismatchError:
    """Return the failure of a value of a kind that `this` is not read from."""
    shown = _CONTAINERS.get(type(value)) or _SCALARS[type(value)] + quoted(compact(value))
    return MismatchError(f"{shown} cannot be read as {quoted(str(this))}.", firehose=firehose)


def fails(book: Book, this: HiveType) -> Rule:
    """4.5: a mismatch fails the whole record."""

    def refuse(value: Value) -> Any:
        raise unfit(value, this)

    return refuse


# --- boolean ---------------------------------------------------------------------------------------------------------


def truth(book: Book, this: HiveType) -> Rule:
    """4.5: true and false are themselves."""
    return bool


def truth_text(book: Book, this: HiveType) -> Rule:
    """Ours: "true" and "false" in any case. OpenX and Hive take any other text for false, too."""

    def read(text: str) -> bool:
        lowered = text.lower()
        if lowered not in ("true", "false"):
            raise unreadable(text, "boolean")
        return lowered == "true"

    return read


# --- numbers ---------------------------------------------------------------------------------------------------------


def whole(book: Book, this: Primitive) -> Rule:
    """Ours: a number that is whole and in range. OpenX and Hive cut what stands behind the point."""
    return numbers.integers(this.word)


def whole_text(book: Book, this: Primitive) -> Rule:
    """4.5: a string of digits is its number."""
    return numbers.integers_from_text(this.word)


def real(book: Book, this: Primitive) -> Rule:
    """4.6: the nearest number that the type has. Ours: one beyond its range is not infinity, but fails."""
    return numbers.floats(this.word)


def real_text(book: Book, this: Primitive) -> Rule:
    """4.5: a string that holds a number is its number, in Java's spelling."""
    return numbers.floats_from_text(this.word)


def exact(book: Book, this: Decimal) -> Rule:
    """4.6, and ours: all digits, or the record fails. Hive rounds, and makes NULL of what is too large."""
    read = numbers.decimals(this.precision, this.scale)
    return lambda text: read(text.decode())


def exact_text(book: Book, this: Decimal) -> Rule:
    """4.5 has whole and floating numbers from strings; ours: decimals, too."""
    read = numbers.decimals(this.precision, this.scale)

    def read_text(text: str) -> Any:
        if not numbers.is_number(text):
            raise unreadable(text, str(this))
        return read(text)

    return read_text


# --- text ------------------------------------------------------------------------------------------------------------


def text(book: Book, this: HiveType) -> Rule:
    """A string is itself."""
    return str


def digits(book: Book, this: HiveType) -> Rule:
    """4.5: a number is its text, as it was written."""
    return bytes.decode


def truth_word(book: Book, this: HiveType) -> Rule:
    """4.5, and ours: true and false are these words."""
    return _BOOLEAN_TEXTS.__getitem__


def json_text(book: Book, this: HiveType) -> Rule:
    """4.5: an object or array is its JSON without blanks; 4.3: its keys are in lower case, as everywhere."""
    lower_keys = book.case_insensitive

    def read(value: Value) -> str:
        return compact(value, lower_keys=lower_keys)

    return read


def folded(book: Book, this: HiveType) -> Rule:
    """4.3: keys of maps are in lower case, too. Only where they are text: a time's T or base64 would not survive it."""
    return str.lower if book.case_insensitive else str


def cut(cell: Cell) -> Cell:
    """4.5: text longer than a char or varchar is cut to its length in characters; it is counted."""

    def make(book: Book, this: Text) -> Rule:
        read, remark = cell(book, this), book.remark

        def cutting(value: Value) -> str:
            whole_text: str = read(value)
            if len(whole_text) > this.length:
                remark(CUT_TEXT)
            return whole_text[: this.length]

        return cutting

    return make


# --- bytes -----------------------------------------------------------------------------------------------------------


def base64_bytes(book: Book, this: HiveType) -> Rule:
    """Ours: JSON has no bytes, and base64 is how they travel in it. Standard alphabet, padded, no blanks."""

    def read(value: str) -> bytes:
        try:
            return binascii.a2b_base64(value, strict_mode=True)
        except ValueError:
            raise unreadable(value, "binary") from None

    return read


def utf8_bytes(book: Book, this: HiveType) -> Rule:
    """Hive: the bytes of the text itself."""
    return str.encode


# --- times -----------------------------------------------------------------------------------------------------------


def _times(of_text: Callable[[Book, str], Callable[[str], tuple[int, bool]]], *, is_number: bool = False) -> Cell:
    """Return a cell that reads `timestamp` or `date`; microseconds are kept, finer digits are cut and counted."""

    def make(book: Book, this: Primitive) -> Rule:
        read = of_text(book, this.word)
        return book.counting_cuts((lambda number: read(number.decode())) if is_number else read)

    return make


def _openx_text(book: Book, word: str) -> Callable[[str], tuple[int, bool]]:
    return times.days_of_text if word == "date" else times.micros_of_text


def _openx_number(book: Book, word: str) -> Callable[[str], tuple[int, bool]]:
    if word == "date":
        return lambda number: times.days_of_micros(*times.micros_of_number(number))
    return times.micros_of_number


def _hive_text(book: Book, word: str) -> Callable[[str], tuple[int, bool]]:
    return book.times.days_of_text if word == "date" else book.times.micros_of_text


#: 4.3: the two forms, or a number in a string; a date is read as a timestamp is, or from a day alone.
openx_time_text = _times(_openx_text)
#: 4.3: seconds below 1e12, milliseconds from there on.
openx_time = _times(_openx_number, is_number=True)
#: 4.4: the formats that are configured, then java.sql's; the digits of a number are text to them, like a string.
hive_time_text, hive_time = _times(_hive_text), _times(_hive_text, is_number=True)
