"""Timestamp patterns as Java's DateTimeFormatter reads them, which is how key prefixes are written.

A pattern is read once, `render` then only formats: it cannot fail for any time, so a key always comes out. Text is US
English, weeks begin on Sunday and week 1 holds January 1st. Seconds are the finest unit of a key: fractions are zero.

Two things Java does otherwise. A value wider than its padding (`pM` in October) is printed unpadded, where Java gives
no result at all. Long and generic zone names (`zzzz`, `v`) are refused when the pattern is read, because the zone
database has no names to print; `z` prints its abbreviation, which in some zones is a number.

Source: java.time.format.DateTimeFormatter, JDK 8 to 18; JDK 19 gave `F` another meaning.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

Render = Callable[[datetime], str]
Number = Callable[[datetime], int]

# fmt: off
MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)
# fmt: on
WEEKDAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
QUARTERS = ("1st quarter", "2nd quarter", "3rd quarter", "4th quarter")

#: Days from 0001-01-01, which Python counts from, to 1858-11-17, where the modified Julian day begins.
MODIFIED_JULIAN_EPOCH = 678_576

#: The widest number that Java formats.
MAX_DIGITS = 19


@dataclass(frozen=True, slots=True)
class TimestampPattern:
    """A pattern that was read and found valid."""

    text: str
    _parts: tuple[str | Render, ...]

    def render(self, moment: datetime) -> str:
        """Return `moment`, which must know its time zone, in this pattern."""
        return "".join(part if isinstance(part, str) else part(moment) for part in self._parts)

    @classmethod
    def parse(cls, text: str) -> TimestampPattern:
        """Read a pattern. Errors: ValueError, saying what in it is wrong."""
        return cls(text, tuple(_parts_of(text)))

    @property
    def letters(self) -> frozenset[str]:
        """The letters that stand for something, without what is quoted."""
        return frozenset(filter(_is_letter, re.sub("'[^']*'", "", self.text)))


def doubts(letters: frozenset[str]) -> Iterator[str]:
    """Yield what is legal in the patterns of one key, but likely means something else than its writer thought."""
    if "Y" in letters and not letters & set("wW"):
        yield "Y is the year of the week, another one around New Year; for the year write yyyy"
    is_minute_for_month = not letters & set("HhKkAN") or ("d" in letters and not letters & set("ML"))
    if "m" in letters and is_minute_for_month:
        yield "m is the minute; for the month write MM"
    if "D" in letters and (letters & set("ML") or ("m" in letters and is_minute_for_month)):
        yield "D is the day of the year; for the day of the month write dd"
    if letters & set("hK") and not letters & set("aB"):
        yield "h and K count to 12 only, so morning and afternoon have the same keys; for the hour of the day write HH"


def _parts_of(text: str) -> list[str | Render]:
    parts: list[str | Render] = []
    at, depth = 0, 0
    while at < len(text):
        char = text[at]
        if _is_letter(char):
            part, at = _field(text, at)
            parts.append(part)
            continue
        if char == "'":
            quoted, at = _quoted(text, at)
            parts.append(quoted)
            continue
        if char in "{}#":
            raise ValueError(f"timestamp pattern {text!r}: {char!r} is reserved; put it in single quotes")
        # an optional section is always printed: an instant in a time zone has every field
        depth += {"[": 1, "]": -1}.get(char, 0)
        if depth < 0:
            raise ValueError(f"timestamp pattern {text!r}: ']' without a '[' before it")
        if char not in "[]":
            parts.append(char)
        at += 1
    return parts


def _is_letter(char: str) -> bool:
    return char.isascii() and char.isalpha()


def _run_end(text: str, at: int) -> int:
    """Return where the run of equal characters that begins at `at` ends."""
    return at + len(text[at:]) - len(text[at:].lstrip(text[at]))


def _quoted(text: str, start: int) -> tuple[str, int]:
    """Return the literal whose opening quote is at `start`, and where it ends; a doubled quote stands for one."""
    at = start + 1
    while (at := text.find("'", at)) >= 0:
        if text[at : at + 2] != "''":
            return text[start + 1 : at].replace("''", "'") or "'", at + 1
        at += 2
    raise ValueError(f"timestamp pattern {text!r}: a single quote is not closed")


def _field(text: str, start: int) -> tuple[Render, int]:
    """Return what renders the run of letters at `start`, with the padding before it, and where it ends."""
    end, width = _run_end(text, start), 0
    if text[start] == "p":
        start, width = end, end - start
        if start == len(text) or not _is_letter(text[start]):
            raise ValueError(f"timestamp pattern {text!r}: 'p' (padding) must be followed by a letter to pad")
        end = _run_end(text, start)
    letter, count = text[start], end - start
    try:
        counts, make = LETTERS[letter]
    except KeyError:
        raise ValueError(f"timestamp pattern {text!r}: {letter!r} is not a letter of timestamp patterns") from None
    if count not in counts:
        if letter in "zv":
            raise ValueError(f"timestamp pattern {text!r}: long zone names are not available; use z, VV, XXX or OOOO")
        allowed = ", ".join(letter * each for each in counts if each <= 5)
        raise ValueError(f"timestamp pattern {text!r}: {letter * count!r} has no meaning; allowed: {allowed}")
    render = make(count)
    return (lambda moment: render(moment).rjust(width)) if width else render, end


# --- what the letters mean -------------------------------------------------------------------------------------------

Letter = tuple[Collection[int], Callable[[int], Render]]


def _number(value: Number, widest: int = 2) -> Letter:
    """A number, filled with zeros to the count of letters."""
    return range(1, widest + 1), lambda count: lambda moment: f"{value(moment):0{count}d}"


def _year(value: Number) -> Letter:
    """A year: two letters are its last two digits."""

    def make(count: int) -> Render:
        if count == 2:
            return lambda moment: f"{value(moment) % 100:02d}"
        return lambda moment: f"{value(moment):0{count}d}"

    return range(1, MAX_DIGITS + 1), make


def _text(value: Number, full: Collection[str], short: Collection[str], narrow: Collection[str]) -> dict[int, Render]:
    """Names by the count of letters: 3 short, 4 full, 5 narrow. `value` counts from 1."""

    def names(of: Collection[str]) -> Render:
        listed = tuple(of)
        return lambda moment: listed[value(moment) - 1]

    return {3: names(short), 4: names(full), 5: names(narrow)}


def _by_count(renders: dict[int, Render]) -> Letter:
    return renders, renders.__getitem__


def _with_digits(value: Number, names: dict[int, Render], *, digits: int = 2) -> Letter:
    """A number for one letter (or two), a name for more."""
    numbers: dict[int, Render] = {count: _number(value)[1](count) for count in range(1, digits + 1)}
    return _by_count(numbers | names)


def _us_weekday(moment: datetime) -> int:
    """Return 1 for Sunday to 7 for Saturday."""
    return moment.isoweekday() % 7 + 1


def _week_end(moment: datetime) -> datetime:
    """Return the Saturday of the week: with January 1st always in week 1, it says which year the week belongs to."""
    return moment + timedelta(days=7 - _us_weekday(moment))


def _day_of_year(moment: datetime) -> int:
    return moment.timetuple().tm_yday


def _week_of_month(moment: datetime) -> int:
    before_the_first = _us_weekday(moment.replace(day=1)) - 1
    return (moment.day + before_the_first - 1) // 7 + 1


def _second_of_day(moment: datetime) -> int:
    return moment.hour * 3600 + moment.minute * 60 + moment.second


def _day_period(moment: datetime) -> str:
    """Return the part of the day, as CLDR names them in English."""
    if moment.minute == 0 and moment.hour % 12 == 0:
        return "noon" if moment.hour else "midnight"
    if 6 <= moment.hour < 12:
        return "in the morning"
    if 12 <= moment.hour < 18:
        return "in the afternoon"
    return "in the evening" if 18 <= moment.hour < 21 else "at night"


def _narrow_day_period(moment: datetime) -> str:
    return {"noon": "n", "midnight": "mi"}.get(_day_period(moment), _day_period(moment))


def _offset(moment: datetime) -> tuple[str, int, int, int]:
    """Return the offset from UTC as sign, hours, minutes and seconds."""
    offset = moment.utcoffset()
    assert offset is not None, "a time in a key knows its time zone"
    seconds = int(offset.total_seconds())
    return "-" if seconds < 0 else "+", abs(seconds) // 3600, abs(seconds) // 60 % 60, abs(seconds) % 60


def _iso_offset(colon: str, *, zero: str, minutes: bool | None = True, seconds: bool = False) -> Render:
    """Return what renders +HH, +HHMM or +HHMMSS. `minutes` None: only where they are not zero; so are seconds."""

    def render(moment: datetime) -> str:
        sign, hours, minute, second = _offset(moment)
        text = f"{sign}{hours:02d}" + (f"{colon}{minute:02d}" if minutes or minute else "")
        text += f"{colon}{second:02d}" if seconds and second else ""
        return zero if not text.strip("+-0:") else text

    return render


def _iso_offsets(zeros: tuple[str, str, str]) -> dict[int, Render]:
    """The five forms of `X` and `x`. `zeros`: what stands for no offset in +HH, +HHMM and +HH:MM."""
    hours, compact, colon = zeros
    return {
        1: _iso_offset("", zero=hours, minutes=None),
        2: _iso_offset("", zero=compact),
        3: _iso_offset(":", zero=colon),
        4: _iso_offset("", zero=compact, seconds=True),
        5: _iso_offset(":", zero=colon, seconds=True),
    }


def _gmt_offset(*, full: bool) -> Render:
    def render(moment: datetime) -> str:
        sign, hours, minutes, seconds = _offset(moment)
        if not (hours or minutes or seconds):
            return "GMT"
        text = f"GMT{sign}{hours:02d}:{minutes:02d}" if full else f"GMT{sign}{hours}"
        if not full and (minutes or seconds):
            text += f":{minutes:02d}"
        return text + (f":{seconds:02d}" if seconds else "")

    return render


def _quarter(moment: datetime) -> int:
    return (moment.month + 2) // 3


_MONTH = _text(lambda m: m.month, MONTHS, [name[:3] for name in MONTHS], [name[0] for name in MONTHS])
_QUARTER = _text(_quarter, QUARTERS, ("Q1", "Q2", "Q3", "Q4"), "1234")
_WEEKDAY = _text(_us_weekday, WEEKDAYS, [name[:3] for name in WEEKDAYS], [name[0] for name in WEEKDAYS])
_OFFSET = _iso_offset("", zero="+0000")

#: Every letter with the counts it may come in, and what renders it for a count.
LETTERS: dict[str, Letter] = {
    "G": _by_count(dict.fromkeys((1, 2, 3), lambda m: "AD") | {4: lambda m: "Anno Domini", 5: lambda m: "A"}),
    "u": _year(lambda m: m.year),
    "y": _year(lambda m: m.year),
    "Y": _year(lambda m: _week_end(m).year),
    "Q": _with_digits(_quarter, _QUARTER),
    "q": _with_digits(_quarter, _QUARTER),
    "M": _with_digits(lambda m: m.month, _MONTH),
    "L": _with_digits(lambda m: m.month, _MONTH),
    "w": _number(lambda m: (_day_of_year(_week_end(m)) - 1) // 7 + 1),
    "W": _number(_week_of_month, widest=1),
    "D": _number(_day_of_year, widest=3),
    "d": _number(lambda m: m.day),
    "F": _number(lambda m: (m.day - 1) % 7 + 1, widest=1),
    "g": _number(lambda m: m.toordinal() - MODIFIED_JULIAN_EPOCH, widest=MAX_DIGITS),
    "E": _by_count(dict.fromkeys((1, 2), _WEEKDAY[3]) | _WEEKDAY),
    "e": _with_digits(_us_weekday, _WEEKDAY),
    "c": _with_digits(_us_weekday, _WEEKDAY, digits=1),
    "a": _by_count({1: lambda m: "AM" if m.hour < 12 else "PM"}),
    "B": _by_count({1: _day_period, 4: _day_period, 5: _narrow_day_period}),
    "H": _number(lambda m: m.hour),
    "k": _number(lambda m: m.hour or 24),
    "K": _number(lambda m: m.hour % 12),
    "h": _number(lambda m: m.hour % 12 or 12),
    "m": _number(lambda m: m.minute),
    "s": _number(lambda m: m.second),
    "S": _number(lambda m: 0, widest=9),
    "n": _number(lambda m: 0, widest=MAX_DIGITS),
    "A": _number(lambda m: _second_of_day(m) * 10**3, widest=MAX_DIGITS),
    "N": _number(lambda m: _second_of_day(m) * 10**9, widest=MAX_DIGITS),
    "V": _by_count({2: lambda m: str(m.tzinfo)}),
    "v": _by_count({}),
    "z": _by_count(dict.fromkeys((1, 2, 3), lambda m: m.tzname() or "")),
    "Z": _by_count(dict.fromkeys((1, 2, 3), _OFFSET) | {4: _gmt_offset(full=True), 5: _iso_offsets(("Z",) * 3)[5]}),
    "O": _by_count({1: _gmt_offset(full=False), 4: _gmt_offset(full=True)}),
    "X": _by_count(_iso_offsets(("Z", "Z", "Z"))),
    "x": _by_count(_iso_offsets(("+00", "+0000", "+00:00"))),
}
