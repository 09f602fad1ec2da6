"""Numbers as JSON and strings write them, into the types of a table: exactly, or not at all."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal, DecimalException, Inexact, InvalidOperation

from firehose.converters.failures import MismatchError, no_number, quoted

#: The bounds of Hive's whole numbers.
INTEGER_BITS = {"tinyint": 8, "smallint": 16, "int": 32, "bigint": 64}

#: Arithmetic that never rounds; it costs only the digits that are there.
EXACT = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN)

#: The first double that is infinity as a float: half a step beyond the largest float.
_FLOAT_BOUND = 2.0**128 - 2.0**103
#: What Java writes and reads for doubles that are no numbers.
_NOT_NUMBERS = frozenset(("NaN", "Infinity", "+Infinity", "-Infinity"))

_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_WHOLE = re.compile(r"[+-]?[0-9]+")


def is_number(text: str) -> bool:
    """Say whether a string holds a number: as in JSON, or with a plus, leading zeros, or one side of the point."""
    return _NUMBER.fullmatch(text) is not None


def parse_number(text: str) -> Decimal:
    """Return the exact value of a number's text. Errors: MismatchError beyond any exponent that could be meant."""
    try:
        return Decimal(text)
    except InvalidOperation:
        raise MismatchError(f"{quoted(text)} is out of range.") from None


def integers(type_word: str) -> Callable[[bytes], int]:
    """Return what reads a JSON number as `type_word`: 3, 3.0 and 3e0 are 3; 3.7 is refused, as is what is too large."""
    high = 2 ** (INTEGER_BITS[type_word] - 1) - 1
    low = -high - 1

    def read(text: bytes) -> int:
        try:
            number = int(text)
        except ValueError:  # a point, an exponent, or thousands of digits
            number = _whole(text.decode(), type_word)
        if low <= number <= high:
            return number
        raise MismatchError(f"{quoted(text.decode())} is out of the range of {type_word}.")

    return read


def _whole(text: str, type_word: str) -> int:
    number = parse_number(text)
    if number.adjusted() > 19:  # 2**63 has 19 digits; and 1e999999999 is not to be written out
        return 0 if not number else 2**64
    if number != number.to_integral_value(context=EXACT):
        raise MismatchError(f"{quoted(text)} is not a whole number, as {type_word} needs.")
    return int(number)


def integers_from_text(type_word: str) -> Callable[[str], int]:
    """Return what reads a string as `type_word`: digits with or without a sign, nothing else."""
    read = integers(type_word)

    def read_text(text: str) -> int:
        if _WHOLE.fullmatch(text) is None:
            raise no_number(text, type_word)
        return read(text.encode())

    return read_text


def floats(type_word: str) -> Callable[[bytes | str], float]:
    """Return what reads a number as `float` or `double`: the nearest one, but never infinity."""
    bound = _FLOAT_BOUND if type_word == "float" else math.inf

    def read(text: bytes | str) -> float:
        number = float(text)
        if -bound < number < bound:
            return number
        raise MismatchError(
            f"{quoted(text if isinstance(text, str) else text.decode())} is out of the range of {type_word}."
        )

    return read


def floats_from_text(type_word: str) -> Callable[[str], float]:
    """Return what reads a string as `float` or `double`: a number, or NaN and the infinities as Java spells them."""
    read = floats(type_word)

    def read_text(text: str) -> float:
        if is_number(text):
            return read(text)
        if text in _NOT_NUMBERS:
            return float(text)
        raise no_number(text, type_word)

    return read_text


def decimals(precision: int, scale: int) -> Callable[[str], Decimal]:
    """Return what reads a number as `decimal(precision, scale)`: exactly; nothing is rounded, zeros may be added."""
    context = Context(prec=precision, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[Inexact, InvalidOperation])
    step = Decimal((0, (1,), -scale))

    def read(text: str) -> Decimal:
        number = parse_number(text)
        try:
            return number.quantize(step, context=context) if number else Decimal(0)
        except DecimalException:
            raise MismatchError(f"{quoted(text)} does not fit decimal({precision},{scale}).") from None

    return read
