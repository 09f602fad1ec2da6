"""Formats of Joda-Time: what they read, what they do not, and which are refused."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firehose.converters.joda import JodaFormat

EPOCH = datetime(1970, 1, 1)


def read(text_format: str, text: str) -> datetime | None:
    found = JodaFormat.parse(text_format).read(text)
    return None if found is None else EPOCH + timedelta(microseconds=found[0])


@pytest.mark.parametrize(
    ("text_format", "text", "expected"),
    [
        # years: digits as they come, as many as letters before another number
        ("yyyy", "2026", datetime(2026, 1, 1)),
        ("y", "2026", datetime(2026, 1, 1)),
        ("YYYY", "2026", datetime(2026, 1, 1)),
        ("yyyy", "+2026", datetime(2026, 1, 1)),
        ("yyyy-MM", "26-02", datetime(26, 2, 1)),
        ("yyyyMMdd", "20260203", datetime(2026, 2, 3)),
        ("yyyyMMdd", "2026123", datetime(2026, 12, 3)),  # a number takes what it can, and gives nothing back
        ("yyyyMMddHHmmssSSS", "20260203040506789", datetime(2026, 2, 3, 4, 5, 6, 789_000)),
        # two digits: a hundred years from 1946
        ("yy-M", "26-1", datetime(2026, 1, 1)),
        ("yy-M", "45-1", datetime(2045, 1, 1)),
        ("yy-M", "46-1", datetime(1946, 1, 1)),
        ("yy-M", "99-1", datetime(1999, 1, 1)),
        ("yy-M", "00-1", datetime(2000, 1, 1)),
        ("yy-M", "2026-1", datetime(2026, 1, 1)),
        ("yy-M", "126-1", datetime(126, 1, 1)),
        ("yy-M", "+26-1", datetime(26, 1, 1)),
        ("yyMMdd", "260203", datetime(2026, 2, 3)),
        ("YY/M", "26/2", datetime(2026, 2, 1)),
        ("xx-ww", "26-10", datetime(2026, 3, 5)),
        # months by number and by name
        ("M/d/yyyy", "7/4/2026", datetime(2026, 7, 4)),
        ("MM/dd/yyyy", "7/4/2026", datetime(2026, 7, 4)),
        ("d MMM yyyy", "4 Jul 2026", datetime(2026, 7, 4)),
        ("d MMM yyyy", "4 JULY 2026", datetime(2026, 7, 4)),
        ("d MMMM yyyy", "4 jul 2026", datetime(2026, 7, 4)),
        ("ddMMMyyyy", "04may2026", datetime(2026, 5, 4)),
        # days of the year, and of the week
        ("yyyy-DDD", "2024-366", datetime(2024, 12, 31)),
        ("yyyyDDD", "2026001", datetime(2026, 1, 1)),
        ("xxxx-'W'ww-e", "2026-W01-1", datetime(2025, 12, 29)),
        ("xxxx-'W'ww", "2026-W10", datetime(2026, 3, 5)),
        ("xxxx w EEEE", "2020 53 Sunday", datetime(2021, 1, 3)),
        ("e", "1", datetime(1969, 12, 29)),
        ("EEE, dd MMM yyyy", "Sun, 06 Nov 1994", datetime(1994, 11, 6)),
        ("EEEE, dd MMM yyyy", "SUNDAY, 06 Nov 1994", datetime(1994, 11, 6)),
        ("e dd MM yyyy", "7 06 11 1994", datetime(1994, 11, 6)),
        ("E yyyy DDD", "Wed 2026 007", datetime(2026, 1, 7)),
        # hours
        ("H:m", "0:0", datetime(1970, 1, 1)),
        ("H:m", "23:59", datetime(1970, 1, 1, 23, 59)),
        ("kk:mm", "24:00", datetime(1970, 1, 1)),
        ("kk:mm", "1:05", datetime(1970, 1, 1, 1, 5)),
        ("hh:mm a", "12:30 AM", datetime(1970, 1, 1, 0, 30)),
        ("hh:mm a", "12:30 PM", datetime(1970, 1, 1, 12, 30)),
        ("hh:mm a", "01:30 pm", datetime(1970, 1, 1, 13, 30)),
        ("KK:mm a", "0:30 PM", datetime(1970, 1, 1, 12, 30)),
        ("h:mm", "3:30", datetime(1970, 1, 1, 3, 30)),
        ("a", "PM", datetime(1970, 1, 1, 12)),
        ("HH:mm a", "13:00 PM", datetime(1970, 1, 1, 13)),
        # fractions
        ("ss.S", "05.6", datetime(1970, 1, 1, 0, 0, 5, 600_000)),
        ("ss.SSS", "05.6", datetime(1970, 1, 1, 0, 0, 5, 600_000)),
        ("ss.SSSSSS", "05.678901", datetime(1970, 1, 1, 0, 0, 5, 678_901)),
        ("ss.SSSSSSSSS", "05.000000999", datetime(1970, 1, 1, 0, 0, 5)),
        # offsets and zones
        ("HHZ", "03Z", datetime(1970, 1, 1, 3)),
        ("HHZ", "03z", datetime(1970, 1, 1, 3)),
        ("HHZ", "03+02", datetime(1970, 1, 1, 1)),
        ("HHZ", "03-0230", datetime(1970, 1, 1, 5, 30)),
        ("HHZ", "03+02:30", datetime(1970, 1, 1, 0, 30)),
        ("HHZZ", "03+0230", datetime(1970, 1, 1, 0, 30)),
        ("HHZZ", "03+00:00:01", datetime(1970, 1, 1, 2, 59, 59)),
        ("HHZ", "03-001530", datetime(1970, 1, 1, 3, 15, 30)),
        ("HH z", "03 GMT", datetime(1970, 1, 1, 3)),
        ("HH z", "03 UTC", datetime(1970, 1, 1, 3)),
        ("HH z", "03 UT", datetime(1970, 1, 1, 3)),
        ("HH zzz", "03 EST", datetime(1970, 1, 1, 8)),
        ("HH z", "03 PDT", datetime(1970, 1, 1, 10)),
        # literal text, in any case
        ("yyyy-MM-dd'T'HH:mm:ss'Z'", "2026-07-04t05:06:07z", datetime(2026, 7, 4, 5, 6, 7)),
        ("yyyy 'o''clock' HH", "2026 O'CLOCK 05", datetime(2026, 1, 1, 5)),
        ("yyyy''MM", "2026'07", datetime(2026, 7, 1)),
        ("'yyyy'yyyy", "YYYY2026", datetime(2026, 1, 1)),
        ("yyyy'T", "2026T", datetime(2026, 1, 1)),
        ("[yyyy.MM] $*+", "[2026.07] $*+", datetime(2026, 7, 1)),
        ("yyyy年M月", "2026年7月", datetime(2026, 7, 1)),
        # what people write
        ("yyyy-MM-dd'T'HH:mm:ss.SSSZZ", "2026-07-04T05:06:07.089+02:00", datetime(2026, 7, 4, 3, 6, 7, 89_000)),
        ("dd/MMM/yyyy:HH:mm:ss Z", "10/Oct/2000:13:55:36 -0700", datetime(2000, 10, 10, 20, 55, 36)),
        ("EEE MMM dd HH:mm:ss Z yyyy", "Sat Jul 04 05:06:07 +0000 2026", datetime(2026, 7, 4, 5, 6, 7)),
        ("MM/dd/yyyy hh:mm:ss a", "7/4/2026 5:06:07 PM", datetime(2026, 7, 4, 17, 6, 7)),
    ],
)
def test_a_text_is_read(text_format: str, text: str, expected: datetime) -> None:
    assert read(text_format, text) == expected


@pytest.mark.parametrize(
    ("text_format", "text"),
    [
        ("yyyy-MM-dd", ""),
        ("yyyy-MM-dd", "2026-01-02 "),
        ("yyyy-MM-dd", " 2026-01-02"),
        ("yyyy-MM-dd", "2026-01-02\n"),
        ("yyyy-MM-dd", "2026-001-02"),
        ("yyyy-MM-dd", "2026-01-"),
        ("yyyy-MM-dd", "\u0662\u0660\u0662\u0666-01-02"),
        ("yyMMdd", "6MMdd"),
        ("YYYY", "+2026"),
        ("MMM", "jUL"),
        ("MMM", "Juli"),
        ("E", "Montag"),
        ("a", "Am"),
        ("ss.S", "05.67"),
        ("ss.S", "05."),
        ("HHZ", "03+2"),
        ("HHZ", "03+24"),
        ("HHZ", "03+02:"),
        ("HHZ", "03+02:6"),
        ("HHZ", "03+0260"),
        ("HH z", "03 CET"),
        ("HH z", "03 gmt"),
        ("'T'yyyy", "U2026"),
        ("yyyy", "9" * 5000),
    ],
)
def test_a_text_of_another_form_is_not_read(text_format: str, text: str) -> None:
    assert read(text_format, text) is None


@pytest.mark.parametrize(
    ("text_format", "text"),
    [
        ("yyyy-MM-dd", "2026-02-29"),
        ("yyyy-MM-dd", "2026-13-01"),
        ("yyyy-MM-dd", "2026-00-01"),
        ("yyyy-MM-dd", "2026-01-00"),
        ("yyyy-MM-dd", "0000-01-01"),
        ("yyyy-MM-dd", "-5-01-01"),
        ("yyyy-MM-dd", "10000-01-01"),
        ("yyyy-DDD", "2026-366"),
        ("yyyy-DDD", "2026-000"),
        ("xxxx-ww", "2026-54"),
        ("xxxx-ww", "2025-53"),
        ("e", "8"),
        ("HH", "24"),
        ("kk", "0"),
        ("hh", "0"),
        ("hh", "13"),
        ("KK", "12"),
        ("mm", "60"),
        ("ss", "60"),
        # what contradicts itself
        ("EEE, dd MMM yyyy", "Mon, 06 Nov 1994"),
        ("E yyyy DDD", "Mon 2026 007"),
        ("HH:mm a", "01:00 PM"),
        ("HH:mm a", "13:00 AM"),
    ],
)
def test_a_text_that_says_no_moment_is_an_error(text_format: str, text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read(text_format, text)


def test_digits_finer_than_microseconds_are_cut_and_told() -> None:
    seconds = JodaFormat.parse("ss.SSSSSSSSS")
    assert seconds.read("05.123456789") == (5_123_456, True)
    assert seconds.read("05.123456000") == (5_123_456, False)


@pytest.mark.parametrize(
    ("text_format", "message"),
    [
        ("GGyyyy", "'GG' is the era, and all years here are after Christ; leave it out"),
        ("CC", "'CC' is the century; write the year, yyyy"),
        ("HH ZZZ", "'ZZZ' is the name of a place; write the offset, Z"),
        ("HH zzzz", "'zzzz' is the long name of a time zone, which Joda-Time cannot read either; write the offset, Z"),
        ("yyyy-MM-ddTHH", "'T' is no letter of Joda-Time; put it in single quotes, 'T'"),
        ("HHXXX", "'XXX' is no letter of Joda-Time; the offset is Z"),
        ("uuuu", "'uuuu' is no letter of Joda-Time; the year is y"),
        ("LL", "'LL' is no letter of Joda-Time; put text in single quotes"),
        ("at HH", "'t' is no letter of Joda-Time; put text in single quotes"),
        ("yyyy-mm-dd HH:mm", "'mm' and 'mm' both say the minute; leave one out"),
        ("HH kk", "'HH' and 'kk' both say the hour; leave one out"),
        ("yyyy YY", "'yyyy' and 'YY' both say the year; leave one out"),
        ("Z z", "'Z' and 'z' both say the zone; leave one out"),
        ("E e", "'E' and 'e' both say the day of week; leave one out"),
        ("MM MMM", "'MM' and 'MMM' both say the month; leave one out"),
        ("HH hh a", "'HH' and 'hh' both say the hour; leave one out"),
        ("yyyy-ww", "'ww' is of weeks, and goes with x, w, e and E, not with 'yyyy'"),
        ("xxxx-MM-dd", "'xxxx' is of weeks, and goes with x, w, e and E, not with 'MM'"),
        ("yyyy-MM-DD", "'DD' is the day of the year, and goes without 'MM'; the day of the month is d"),
        ("E yyyy", "'E' is a day of some week, and 'yyyy' does not say which; add the day, d"),
        ("e MM", "'e' is a day of some week, and 'MM' does not say which; add the day, d"),
        ("yyyy-mm-dd", "'dd' is a day of some month, and 'yyyy' does not say which; add the month, M"),
    ],
)
def test_a_format_that_cannot_be_followed_is_refused(text_format: str, message: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(f"timestamp format {text_format!r}: {message}")):
        JodaFormat.parse(text_format)


MOMENTS = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31))


@given(MOMENTS)
def test_what_python_writes_is_read_back(moment: datetime) -> None:
    year = f"{moment.year:04d}"
    iso = moment.isocalendar()
    forms = {
        "yyyy-MM-dd'T'HH:mm:ss.SSSSSS": f"{year}{moment:-%m-%dT%H:%M:%S.%f}",
        "EEEE, d MMMM yyyy, hh:mm:ss.SSSSSS a": f"{moment:%A, %d %B} {year}{moment:, %I:%M:%S.%f %p}",
        "yyyyDDDHHmmssSSSSSS": f"{year}{moment:%j%H%M%S%f}",
        "xxxx-'W'ww-e kk:mm:ss.SSSSSSZ": f"{iso.year:04d}-W{iso.week}-{iso.weekday} "
        f"{moment.hour or 24}:{moment:%M:%S.%f}+0000",
    }
    assert {each: read(each, text) for each, text in forms.items()} == dict.fromkeys(forms, moment)


@given(st.text("yYxwMdDeEaHhKkmsSzZGC'T-:. q", max_size=14), st.text("0123456789+-:. TZAPMJan'", max_size=20))
def test_any_format_is_refused_or_reads_any_text(text_format: str, text: str) -> None:
    try:
        found = JodaFormat.parse(text_format)
    except ValueError as error:
        assert repr(text_format) in str(error)
        return
    try:
        found.read(text)
    except ValueError:
        pass
