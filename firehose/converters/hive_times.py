"""Moments and days as HiveJsonSerDe reads them, in UTC. Source: 4.4.

The formats that are configured are tried in turn; the first that a text has the form of decides. A text that has none
of their forms is read as java.sql reads it:

    yyyy-[M]M-[d]d [h]h:[m]m:[s]s[.fraction]     for moments, with up to nine digits of a fraction
    yyyy-[M]M-[d]d                               for days

Blanks around these are ignored. Java lets 31 February become 3 March, and 25:00 tomorrow; here such texts fail.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime

from firehose.converters.failures import unreadable
from firehose.converters.joda import JodaFormat
from firehose.converters.times import days_of_day, days_of_micros, in_range, micros_of, micros_of_millis

#: The word for milliseconds since 1970, in any case.
MILLIS = "millis"

_MILLIS = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")
_TWO = "([0-9]{1,2})"
_DEFAULT = re.compile(rf"([0-9]{{4}})-{_TWO}-{_TWO} {_TWO}:{_TWO}:{_TWO}(?:\.([0-9]{{1,9}}))?")
#: What Java trims.
_BLANKS = "".join(map(chr, range(33)))


def check_format(text: str) -> str:
    """Return a format that can be followed. Errors: ValueError, naming the letter that cannot."""
    if text.lower() != MILLIS:
        JodaFormat.parse(text)
    return text


class HiveTimes:
    """Reads times in the formats of one deserializer."""

    def __init__(self, formats: Iterable[str] = ()) -> None:
        self._readers = [_millis if each.lower() == MILLIS else JodaFormat.parse(each).read for each in formats]

    def micros_of_text(self, text: str, hive_type: str = "timestamp") -> tuple[int, bool]:
        """Return microseconds since 1970 and whether finer digits were cut. Errors: MismatchError."""
        try:
            found = self._formatted(text) or _default(text)
        except ValueError:
            raise unreadable(text, hive_type) from None
        if found is None:
            raise unreadable(text, hive_type)
        micros, is_cut = found
        return in_range(micros, text), is_cut

    def days_of_text(self, text: str) -> tuple[int, bool]:
        """Return days since 1970 and whether a time of day was cut. Errors: MismatchError."""
        try:
            found = self._formatted(text)
        except ValueError:
            raise unreadable(text, "date") from None
        if found is not None:
            micros, is_cut = found
            return days_of_micros(in_range(micros, text), is_cut)
        days = days_of_day(text.strip(_BLANKS))
        if days is None:
            raise unreadable(text, "date")
        return days, False

    def _formatted(self, text: str) -> tuple[int, bool] | None:
        """Return what the first format says that the text has the form of. Errors: ValueError, MismatchError."""
        return next((found for read in self._readers if (found := read(text)) is not None), None)


def _millis(text: str) -> tuple[int, bool] | None:
    return micros_of_millis(text) if _MILLIS.fullmatch(text) else None


def _default(text: str) -> tuple[int, bool] | None:
    """Return what java.sql.Timestamp.valueOf makes of a text. Errors: ValueError."""
    found = _DEFAULT.fullmatch(text.strip(_BLANKS))
    if found is None:
        return None
    *numbers, fraction = found.groups()
    year, month, day, hour, minute, second = map(int, numbers)
    return micros_of(datetime(year, month, day, hour, minute, second), fraction)
