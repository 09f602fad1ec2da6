"""Moments and days as OpenX reads them, in UTC. Source: 4.3.

A text in one of two forms, each with up to nine digits of a fraction:

    yyyy-MM-dd'T'HH:mm:ss[.fraction][Z]     every field with all its digits; no other zone than Z
    yyyy-[M]M-[d]d HH:mm:ss[.fraction]      month and day with one digit or two

or a number, in JSON or as text, fractions allowed: seconds since 1970 below 1e12, milliseconds from there on (both
signs). For days, also `yyyy-[M]M-[d]d`. All from year 1 to year 9999, which is what Hive's types hold.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from decimal import ROUND_FLOOR, Decimal

from firehose.converters.failures import MismatchError, quoted, unreadable
from firehose.converters.numbers import EXACT, is_number, parse_number

#: From here on a number counts milliseconds: as seconds it would be the year 33658.
FIRST_MILLISECONDS = 10**12

DAY_MICROS = 86_400_000_000
_EPOCH = datetime(1970, 1, 1)
_MICROSECOND = timedelta(microseconds=1)
_MIN_MICROS = (datetime.min - _EPOCH) // _MICROSECOND
_MAX_MICROS = (datetime.max - _EPOCH) // _MICROSECOND
#: More digits before the point than any moment of year 9999 has in milliseconds.
_MAX_DIGITS = 15

_CLOCK = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"
_FRACTION = r"(?:\.([0-9]{1,9}))?"
_T_FORM = re.compile(rf"([0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}T{_CLOCK}){_FRACTION}Z?")
_SPACE_FORM = re.compile(rf"([0-9]{{4}})-([0-9]{{1,2}})-([0-9]{{1,2}}) ({_CLOCK}){_FRACTION}")
_DAY = re.compile(r"([0-9]{4})-([0-9]{1,2})-([0-9]{1,2})")


def micros_of_text(text: str, hive_type: str = "timestamp") -> tuple[int, bool]:
    """Return microseconds since 1970 and whether finer digits were cut. Errors: MismatchError."""
    if found := _T_FORM.fullmatch(text):
        moment, fraction = found.groups()
    elif found := _SPACE_FORM.fullmatch(text):
        year, month, day, clock, fraction = found.groups()
        moment = f"{year}-{month:0>2}-{day:0>2}T{clock}"
    elif is_number(text):
        return micros_of_number(text)
    else:
        raise unreadable(text, hive_type)
    try:
        return micros_of(datetime.fromisoformat(moment), fraction)
    except ValueError:
        raise unreadable(text, hive_type) from None


def micros_of(moment: datetime, fraction: str | None) -> tuple[int, bool]:
    """Return microseconds since 1970 of whole seconds with the digits of a fraction, and whether some were cut."""
    micros = (moment - _EPOCH) // _MICROSECOND
    if fraction is None:
        return micros, False
    return micros + int(fraction[:6].ljust(6, "0")), fraction[6:].strip("0") != ""


def micros_of_number(text: str) -> tuple[int, bool]:
    """Return microseconds since 1970 and whether finer digits were cut. Errors: MismatchError."""
    number = parse_number(text)
    is_seconds = number.copy_abs() < FIRST_MILLISECONDS
    return _scaled(number, 6 if is_seconds else 3, text)


def micros_of_millis(text: str) -> tuple[int, bool]:
    """Return microseconds since 1970 of a number of milliseconds, as above. Errors: MismatchError."""
    return _scaled(parse_number(text), 3, text)


def _scaled(number: Decimal, places: int, text: str) -> tuple[int, bool]:
    if number and number.adjusted() >= _MAX_DIGITS:
        raise out_of_range(text)
    micros = number.scaleb(places, EXACT) if number else Decimal(0)
    whole = micros.to_integral_value(ROUND_FLOOR, EXACT)
    if not _MIN_MICROS <= whole <= _MAX_MICROS:
        raise out_of_range(text)
    return int(whole), whole != micros


def days_of_text(text: str) -> tuple[int, bool]:
    """Return days since 1970 and whether a time of day was cut. Errors: MismatchError."""
    days = days_of_day(text)
    return days_of_micros(*micros_of_text(text, "date")) if days is None else (days, False)


def days_of_day(text: str) -> int | None:
    """Return days since 1970 of `yyyy-[M]M-[d]d`; None where the text has another form. Errors: MismatchError."""
    found = _DAY.fullmatch(text)
    if found is None:
        return None
    year, month, day = found.groups()
    try:
        return (datetime(int(year), int(month), int(day)) - _EPOCH).days
    except ValueError:
        raise unreadable(text, "date") from None


def days_of_micros(micros: int, is_cut: bool) -> tuple[int, bool]:
    """Return the day that the moment lies in, and whether it was any other moment than the day's first."""
    days, rest = divmod(micros, DAY_MICROS)
    return days, is_cut or rest > 0


def in_range(micros: int, text: str) -> int:
    """Return a moment that a column can hold. Errors: MismatchError for others, quoting the text they come from."""
    if not _MIN_MICROS <= micros <= _MAX_MICROS:
        raise out_of_range(text)
    return micros


def out_of_range(text: str) -> MismatchError:
    return MismatchError(f"{quoted(text)} is a moment out of the years 1 to 9999.")
