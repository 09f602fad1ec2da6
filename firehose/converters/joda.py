"""Timestamp formats as Joda-Time's DateTimeFormat reads texts with them, for the hive deserializer. Source: 4.4.

    y Y   year; yy is a year from 1946 to 2045           H k   hour, 0 to 23 or 1 to 24
    M d   month (MMM: its name), day of the month        K h   hour of the half day, 0 to 11 or 1 to 12
    D     day of the year                                a     AM or PM
    x w   year of the week, week of the year             m s   minute, second
    e E   day of the week, 1 for Monday, or its name     S     fraction of the second
    Z ZZ  offset: Z, +02, +0200, +02:00, with seconds    z     UT, UTC, GMT, and EST to PDT

A number takes as many digits as it finds up to those of its greatest value, however many letters it has, but a year
before another number takes as many as letters. Names are English, short or long, in capitals or not, but not mixed.
What is no letter stands for itself, as does what is in single quotes; case is ignored. What a format leaves out is that
of 1970-01-01T00:00:00Z.

A format is read once. One that cannot be followed exactly is refused then, as is one that says a thing twice, like the
hour of the day beside that of the half day, of which Joda-Time silently takes one, or a day of no month. Two other
things that it passes over fail the record: a day of the week that is not that of the date, and AM or PM that is not
that of the hour. It cuts fractions to milliseconds, where microseconds are kept here, and the years of `yy` move with
its clock: from 80 before the current year to 19 after it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import zip_longest
from typing import Any, NoReturn

from firehose.converters.times import micros_of
from firehose.timestamps import MONTHS, WEEKDAYS

#: The first of the hundred years that two digits can mean: what Joda-Time takes in 2026, and no clock.
FIRST_OF_TWO_DIGITS = 1946

#: What is read from a text, by the name of the field.
Fields = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class JodaFormat:
    """A format that was read and found valid."""

    text: str
    _regex: re.Pattern[str]
    #: What reads each group of the expression.
    _readers: tuple[tuple[str, Callable[[str], Any]], ...]
    _date: Callable[[Fields], date]

    @classmethod
    def parse(cls, text: str) -> JodaFormat:
        """Read a format. Errors: ValueError, naming the letter that cannot be followed."""
        letters: dict[str, str] = {}
        readers: list[tuple[str, Callable[[str], Any]]] = []
        parts: list[str] = []
        tokens = [found[0] for found in _TOKEN.finditer(text)]
        for token, following in zip_longest(tokens, tokens[1:], fillvalue=""):
            if not token[0].isalpha() or not token[0].isascii():
                parts.append(f"(?i:{re.escape(_unquoted(token))})")
                continue
            name, pattern, read = _field(text, token, is_before_number=_is_number(following))
            if name in letters:
                _refuse(text, f"{letters[name]!r} and {token!r} both say the {name.replace('_', ' ')}; leave one out")
            letters[name] = token
            readers.append((name, read))
            parts.append(f"(?P<{name}>{pattern})")
        return cls(text, re.compile("".join(parts)), tuple(readers), _way_to_date(text, letters))

    def read(self, text: str) -> tuple[int, bool] | None:
        """Return microseconds since 1970 and whether finer digits were cut; None where the text has another form.

        Errors: ValueError where it has this form, and says no moment: 31 February, or a Monday that was a Tuesday.
        """
        found = self._regex.fullmatch(text)
        if found is None:
            return None
        fields = {name: read(found[name]) for name, read in self._readers}
        day = self._date(fields)
        if fields.get("day_of_week", day.isoweekday()) != day.isoweekday():
            raise ValueError("another day of the week")
        moment = datetime(day.year, day.month, day.day, _hour(fields), fields.get("minute", 0), fields.get("second", 0))
        micros, is_cut = micros_of(moment, fields.get("fraction"))
        return micros - fields.get("zone", 0) * 1_000_000, is_cut


# --- tokens ----------------------------------------------------------------------------------------------------------

#: A run of one letter, or of what is none; quoted text belongs to the latter, also where its quote is never closed.
_TOKEN = re.compile(r"([A-Za-z])\1*+|(?:''|'(?:[^']|'')*+(?:'|\Z)|[^A-Za-z'])+")


def _unquoted(token: str) -> str:
    return "'".join(part.replace("'", "") for part in token.split("''"))


def _is_number(token: str) -> bool:
    return token[:1] in set("xyYdhHmsSeDwkK") or token in ("M", "MM")


def _refuse(text: str, why: str) -> NoReturn:
    raise ValueError(f"timestamp format {text!r}: {why}")


# --- what the letters mean -------------------------------------------------------------------------------------------

#: The name of a field, the expression that finds it, and what reads it.
Field = tuple[str, str, Callable[[str], Any]]


def _number(name: str, low: int, high: int, *, zero: int | None = None) -> Field:
    """A number in its range, of any digits up to those of its greatest value; `zero` is another word for 0."""

    def read(text: str) -> int:
        number = int(text)
        if not low <= number <= high:
            raise ValueError(f"{number} is no {name}")
        return 0 if number == zero else number

    return name, rf"[0-9]{{1,{len(str(high))}}}+", read


def _names(name: str, values: Iterable[tuple[str, Any]]) -> Field:
    """A name, as it is given, in capitals or in small letters."""
    known = {spelled: value for word, value in values for spelled in (word, word.upper(), word.lower())}
    longest_first = sorted(known, key=len, reverse=True)
    return name, f"(?>{'|'.join(longest_first)})", known.__getitem__


def _short_and_long(words: Iterable[str]) -> Iterator[tuple[str, int]]:
    for number, word in enumerate(words, 1):
        yield from ((word, number), (word[:3], number))


def _year(name: str, count: int, *, is_before_number: bool, signed: bool = True) -> Field:
    """A year. Two letters take two digits of a century, and where no other number follows, all the digits of a year."""
    if count == 2:
        pattern = r"[0-9]{2}" if is_before_number else r"[+-]?[0-9]{1,9}+"
        return name, pattern, _year_of_two_digits
    most = count if is_before_number else max(count, 9)
    sign = "[+-]?" if signed and most > 1 else ""
    return name, rf"{sign}[0-9]{{1,{most}}}+", int


def _year_of_two_digits(text: str) -> int:
    if len(text) == 2 and text.isdigit():
        return FIRST_OF_TWO_DIGITS + (int(text) - FIRST_OF_TWO_DIGITS) % 100
    return int(text)


def _seconds_of_offset(text: str) -> int:
    digits = text[1:].replace(":", "").ljust(6, "0")
    seconds = int(digits[:2]) * 3600 + int(digits[2:4]) * 60 + int(digits[4:6])
    return -seconds if text[0] == "-" else seconds


_60 = "[0-5][0-9]"
_OFFSET: Field = (
    "zone",
    rf"[Zz]|[+-](?:[01][0-9]|2[0-3])(?:(?::{_60}(?::{_60})?+)|(?:{_60}(?:{_60})?+))?+",
    _seconds_of_offset,
)
#: Hours from UTC. Joda-Time knows these eleven names.
_ZONES = {"UT": 0, "UTC": 0, "GMT": 0}
_ZONES |= {"EST": -5, "EDT": -4, "CST": -6, "CDT": -5, "MST": -7, "MDT": -6, "PST": -8, "PDT": -7}

_FIELDS: Mapping[str, Field] = {
    "M": _number("month", 1, 12),
    "d": _number("day", 1, 31),
    "D": _number("day_of_year", 1, 366),
    "w": _number("week", 1, 53),
    "e": _number("day_of_week", 1, 7),
    "E": _names("day_of_week", _short_and_long((*WEEKDAYS[1:], WEEKDAYS[0]))),
    "MMM": _names("month", _short_and_long(MONTHS)),
    "H": _number("hour", 0, 23),
    "k": _number("hour", 1, 24, zero=24),
    "K": _number("hour_of_half_day", 0, 11),
    "h": _number("hour_of_half_day", 1, 12, zero=12),
    "a": _names("half_day", (("AM", 0), ("PM", 12))),
    "m": _number("minute", 0, 59),
    "s": _number("second", 0, 59),
    "Z": _OFFSET,
    "z": ("zone", f"(?>{'|'.join(sorted(_ZONES, key=len, reverse=True))})", lambda name: _ZONES[name] * 3600),
}

#: Letters that are not followed, and why.
_REFUSED: Mapping[str, str] = {
    "G": "is the era, and all years here are after Christ; leave it out",
    "C": "is the century; write the year, yyyy",
    "ZZZ": "is the name of a place; write the offset, Z",
    "zzzz": "is the long name of a time zone, which Joda-Time cannot read either; write the offset, Z",
    "T": "is no letter of Joda-Time; put it in single quotes, 'T'",
    "X": "is no letter of Joda-Time; the offset is Z",
    "u": "is no letter of Joda-Time; the year is y",
}
#: How many letters mean something else, at least.
_LONG = {"MMM": 3, "ZZZ": 3, "zzzz": 4}


def _field(text: str, token: str, *, is_before_number: bool) -> Field:
    """Return what a run of letters stands for. Errors: ValueError."""
    letter, count = token[0], len(token)
    match letter:
        case "y" | "Y":
            return _year("year", count, is_before_number=is_before_number, signed=letter == "y")
        case "x":
            return _year("year_of_weeks", count, is_before_number=is_before_number)
        case "S":
            return "fraction", rf"[0-9]{{1,{count}}}+", str
    key = next((each for each, least in _LONG.items() if each[0] == letter and count >= least), letter)
    if key not in _FIELDS:
        _refuse(text, f"{token!r} {_REFUSED.get(key, 'is no letter of Joda-Time; put text in single quotes')}")
    return _FIELDS[key]


# --- from fields to a moment -----------------------------------------------------------------------------------------


def _way_to_date(text: str, letters: Mapping[str, str]) -> Callable[[Fields], date]:
    """Return what makes a day of the fields: by month and day, by day of the year, or by week.

    Errors: ValueError for fields that do not go together.
    """

    def first(*names: str) -> str:
        return next((repr(letters[name]) for name in names if name in letters), "")

    week, month, hour = first("year_of_weeks", "week"), first("month", "day"), first("hour")
    has_day = "day" in letters or "day_of_year" in letters
    if week and (other := first("year", "month", "day", "day_of_year")):
        _refuse(text, f"{week} is of weeks, and goes with x, w, e and E, not with {other}")
    if month and (other := first("day_of_year")):
        _refuse(text, f"{other} is the day of the year, and goes without {month}; the day of the month is d")
    if hour and (other := first("hour_of_half_day")):
        _refuse(text, f"{hour} and {other} both say the hour; leave one out")
    if "day_of_week" in letters and not has_day and (other := first("year", "month")):
        _refuse(text, f"{first('day_of_week')} is a day of some week, and {other} does not say which; add the day, d")
    if "day" in letters and "month" not in letters and (other := first("year")):
        _refuse(text, f"{first('day')} is a day of some month, and {other} does not say which; add the month, M")
    if week or ("day_of_week" in letters and not has_day):
        return _day_of_week
    return _day_of_year if "day_of_year" in letters else _day_of_month


def _day_of_month(fields: Fields) -> date:
    return date(fields.get("year", 1970), fields.get("month", 1), fields.get("day", 1))


def _day_of_year(fields: Fields) -> date:
    day = date(fields.get("year", 1970), 1, 1) + timedelta(fields["day_of_year"] - 1)
    if day.year != fields.get("year", 1970):
        raise ValueError("the year has no such day")
    return day


def _day_of_week(fields: Fields) -> date:
    # 1970-01-01 was a Thursday
    return date.fromisocalendar(fields.get("year_of_weeks", 1970), fields.get("week", 1), fields.get("day_of_week", 4))


def _hour(fields: Fields) -> int:
    half_day: int = fields.get("half_day", 0)
    if "hour" not in fields:
        return half_day + int(fields.get("hour_of_half_day", 0))
    hour: int = fields["hour"]
    if "half_day" in fields and half_day != hour // 12 * 12:
        raise ValueError("another half of the day")
    return hour
