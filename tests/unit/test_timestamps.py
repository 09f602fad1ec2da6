"""Timestamp patterns, against what Java's DateTimeFormatter made of them (JDK 17, Locale.US)."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from firehose.timestamps import TimestampPattern

#: Pattern, what Java makes of 2026-07-13T14:05:09Z in UTC, and of 2024-12-31T23:59:59Z in America/St_Johns.
JAVA = [
    ("G", "AD", "AD"),
    ("GG", "AD", "AD"),
    ("GGG", "AD", "AD"),
    ("GGGG", "Anno Domini", "Anno Domini"),
    ("GGGGG", "A", "A"),
    ("u", "2026", "2024"),
    ("uu", "26", "24"),
    ("uuu", "2026", "2024"),
    ("uuuu", "2026", "2024"),
    ("uuuuu", "02026", "02024"),
    ("uuuuuu", "002026", "002024"),
    ("y", "2026", "2024"),
    ("yy", "26", "24"),
    ("yyy", "2026", "2024"),
    ("yyyy", "2026", "2024"),
    ("yyyyy", "02026", "02024"),
    ("yyyyyy", "002026", "002024"),
    ("D", "194", "366"),
    ("DD", "194", "366"),
    ("DDD", "194", "366"),
    ("M", "7", "12"),
    ("MM", "07", "12"),
    ("MMM", "Jul", "Dec"),
    ("MMMM", "July", "December"),
    ("MMMMM", "J", "D"),
    ("L", "7", "12"),
    ("LL", "07", "12"),
    ("LLL", "Jul", "Dec"),
    ("LLLL", "July", "December"),
    ("LLLLL", "J", "D"),
    ("d", "13", "31"),
    ("dd", "13", "31"),
    ("Q", "3", "4"),
    ("QQ", "03", "04"),
    ("QQQ", "Q3", "Q4"),
    ("QQQQ", "3rd quarter", "4th quarter"),
    ("QQQQQ", "3", "4"),
    ("q", "3", "4"),
    ("qq", "03", "04"),
    ("qqq", "Q3", "Q4"),
    ("qqqq", "3rd quarter", "4th quarter"),
    ("qqqqq", "3", "4"),
    ("Y", "2026", "2025"),
    ("YY", "26", "25"),
    ("YYY", "2026", "2025"),
    ("YYYY", "2026", "2025"),
    ("YYYYY", "02026", "02025"),
    ("YYYYYY", "002026", "002025"),
    ("w", "29", "1"),
    ("ww", "29", "01"),
    ("W", "3", "5"),
    ("E", "Mon", "Tue"),
    ("EE", "Mon", "Tue"),
    ("EEE", "Mon", "Tue"),
    ("EEEE", "Monday", "Tuesday"),
    ("EEEEE", "M", "T"),
    ("e", "2", "3"),
    ("ee", "02", "03"),
    ("eee", "Mon", "Tue"),
    ("eeee", "Monday", "Tuesday"),
    ("eeeee", "M", "T"),
    ("c", "2", "3"),
    ("ccc", "Mon", "Tue"),
    ("cccc", "Monday", "Tuesday"),
    ("ccccc", "M", "T"),
    ("F", "6", "3"),
    ("a", "PM", "PM"),
    ("B", "in the afternoon", "in the evening"),
    ("BBBB", "in the afternoon", "in the evening"),
    ("BBBBB", "in the afternoon", "in the evening"),
    ("h", "2", "8"),
    ("hh", "02", "08"),
    ("K", "2", "8"),
    ("KK", "02", "08"),
    ("k", "14", "20"),
    ("kk", "14", "20"),
    ("H", "14", "20"),
    ("HH", "14", "20"),
    ("m", "5", "29"),
    ("mm", "05", "29"),
    ("s", "9", "59"),
    ("ss", "09", "59"),
    ("S", "0", "0"),
    ("SSSSS", "00000", "00000"),
    ("A", "50709000", "73799000"),
    ("AAAAA", "50709000", "73799000"),
    ("n", "0", "0"),
    ("nnnnn", "00000", "00000"),
    ("N", "50709000000000", "73799000000000"),
    ("NNNNN", "50709000000000", "73799000000000"),
    ("g", "61234", "60675"),
    ("gg", "61234", "60675"),
    ("ggg", "61234", "60675"),
    ("gggg", "61234", "60675"),
    ("ggggg", "61234", "60675"),
    ("gggggg", "061234", "060675"),
    ("VV", "UTC", "America/St_Johns"),
    ("z", "UTC", "NST"),
    ("zz", "UTC", "NST"),
    ("zzz", "UTC", "NST"),
    ("O", "GMT", "GMT-3:30"),
    ("OOOO", "GMT", "GMT-03:30"),
    ("X", "Z", "-0330"),
    ("XX", "Z", "-0330"),
    ("XXX", "Z", "-03:30"),
    ("XXXX", "Z", "-0330"),
    ("XXXXX", "Z", "-03:30"),
    ("x", "+00", "-0330"),
    ("xx", "+0000", "-0330"),
    ("xxx", "+00:00", "-03:30"),
    ("xxxx", "+0000", "-0330"),
    ("xxxxx", "+00:00", "-03:30"),
    ("Z", "+0000", "-0330"),
    ("ZZ", "+0000", "-0330"),
    ("ZZZ", "+0000", "-0330"),
    ("ZZZZ", "GMT", "GMT-03:30"),
    ("ZZZZZ", "Z", "-03:30"),
    ("SSSSSSSSS", "000000000", "000000000"),
    ("AAAAAAAAA", "050709000", "073799000"),
    ("AAAAAAAAAAAAAAAAAAA", "0000000000050709000", "0000000000073799000"),
    ("nnnnnnnnn", "000000000", "000000000"),
    ("nnnnnnnnnnnnnnnnnnn", "0000000000000000000", "0000000000000000000"),
    ("NNNNNNNNN", "50709000000000", "73799000000000"),
    ("NNNNNNNNNNNNNNNNNNN", "0000050709000000000", "0000073799000000000"),
    ("yyyy/MM/dd/HH/", "2026/07/13/14/", "2024/12/31/20/"),
    ("'year='yyyy'/month='MM", "year=2026/month=07", "year=2024/month=12"),
    ("''yyyy", "'2026", "'2024"),
    ("'o''clock' HH", "o'clock 14", "o'clock 20"),
    ("yyyy[-MM[-dd]]", "2026-07-13", "2024-12-31"),
    ("[yyyy", "2026", "2024"),
    ("pppd", " 13", " 31"),
    ("ppdppH", "1314", "3120"),
    ("yyyy-MM-dd'T'HH:mm:ss.SSSXXX", "2026-07-13T14:05:09.000Z", "2024-12-31T20:29:59.000-03:30"),
    ("EEE, d MMM uuuu", "Mon, 13 Jul 2026", "Tue, 31 Dec 2024"),
    ("YYYY-'W'ww", "2026-W29", "2025-W01"),
    ("yyyy年MM月", "2026年07月", "2024年12月"),
]


def rendered(pattern: str, unix_s: int, time_zone: str = "UTC") -> str:
    return TimestampPattern.parse(pattern).render(datetime.fromtimestamp(unix_s, ZoneInfo(time_zone)))


@pytest.mark.parametrize(("pattern", "in_july", "on_new_years_eve"), JAVA)
def test_patterns_mean_what_they_mean_in_java(pattern: str, in_july: str, on_new_years_eve: str) -> None:
    assert rendered(pattern, 1_783_951_509) == in_july
    assert rendered(pattern, 1_735_689_599, "America/St_Johns") == on_new_years_eve


@pytest.mark.parametrize(
    ("date", "expected"),
    [
        ("2023-01-01", "2023-01-1"),  # a Sunday begins both the week and the year
        ("2022-12-31", "2022-53-5"),
        ("2020-12-26", "2020-52-4"),
        ("2020-12-27", "2021-01-5"),  # the week that holds January 1st is the next year's
        ("2017-01-01", "2017-01-1"),
        ("2028-12-31", "2029-01-6"),
    ],
)
def test_weeks_begin_on_sunday_and_the_first_holds_january_first(date: str, expected: str) -> None:
    moment = datetime.fromisoformat(date).replace(tzinfo=ZoneInfo("UTC"))
    assert TimestampPattern.parse("YYYY-ww-W").render(moment) == expected


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        ("00:00", "24 0 0 12 AM midnight mi"),
        ("00:30", "24 0 0 12 AM at night at night"),
        ("06:00", "6 6 6 6 AM in the morning in the morning"),
        ("12:00", "12 12 0 12 PM noon n"),
        ("12:01", "12 12 0 12 PM in the afternoon in the afternoon"),
        ("18:00", "18 18 6 6 PM in the evening in the evening"),
        ("21:00", "21 21 9 9 PM at night at night"),
    ],
)
def test_hours_of_all_kinds(time: str, expected: str) -> None:
    moment = datetime.fromisoformat(f"2026-07-13T{time}").replace(tzinfo=ZoneInfo("UTC"))
    assert TimestampPattern.parse("k H K h a B BBBBB").render(moment) == expected


def test_offsets_with_seconds_and_across_daylight_saving() -> None:
    forms = "X XX XXX XXXX XXXXX O OOOO Z ZZZZ ZZZZZ"
    assert rendered(forms, 0, "Africa/Monrovia") == (
        "-0044 -0044 -00:44 -004430 -00:44:30 GMT-0:44:30 GMT-00:44:30 -0044 GMT-00:44:30 -00:44:30"
    )
    assert rendered("z XXX", 1_772_953_199, "America/New_York") == "EST -05:00"
    assert rendered("z XXX", 1_772_953_200, "America/New_York") == "EDT -04:00"


def test_padding_never_fails_where_java_would() -> None:
    assert rendered("ppMMMM", 1_783_951_509) == "July"
    assert rendered("pM", 1_735_689_599) == "12"


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("b", "'b' is not a letter"),
        ("yyyy-MMMMMM", "'MMMMMM' has no meaning; allowed: M, MM, MMM, MMMM, MMMMM"),
        ("ddd", "allowed: d, dd"),
        ("cc", "allowed: c, ccc"),
        ("BB", "allowed: B, BBBB"),
        ("OO", "allowed: O, OOOO"),
        ("V", "allowed: VV"),
        ("SSSSSSSSSS", "has no meaning"),
        ("zzzz", "long zone names are not available"),
        ("vvvv", "long zone names are not available"),
        ("'abc", "not closed"),
        ("'''", "not closed"),
        ("]", "']' without a '['"),
        ("[yyyy]]", "']' without a '['"),
        ("{yyyy}", "'{' is reserved"),
        ("#", "'#' is reserved"),
        ("p", "must be followed by a letter"),
        ("ppp-", "must be followed by a letter"),
        ("ppp'x'd", "must be followed by a letter"),
    ],
)
def test_a_wrong_pattern_is_refused_with_its_reason(pattern: str, reason: str) -> None:
    with pytest.raises(ValueError) as refused:
        TimestampPattern.parse(pattern)
    assert reason in str(refused.value)
