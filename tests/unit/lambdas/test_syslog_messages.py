from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

ARRIVAL = datetime(2026, 1, 1, 0, 0, tzinfo=UTC)
SAMPLE = r'<165>1 2003-10-11T22:14:15.003Z host app 42 ID47 [ex@1 a="1" b="\"\\\]"][other@2] Something'


@pytest.fixture(scope="module")
def syslog(load: Any) -> Any:
    return load("syslog_messages")


def test_the_examples_of_the_docstring(syslog: Any, run: Any) -> None:
    message, expected = syslog.__doc__.split("The message\n\n")[1].split("\n\nbecomes\n\n")
    ((result, data),) = run(syslog, message.strip().encode())
    assert (result, json.loads(data)) == ("Ok", json.loads(expected.split("\n\nand so")[0]))


def test_rfc5424_with_everything(syslog: Any) -> None:
    assert syslog.parse(SAMPLE, ARRIVAL) == {
        "facility": "local4",
        "severity": "notice",
        "time": "2003-10-11T22:14:15.003Z",
        "host": "host",
        "app": "app",
        "process_id": "42",
        "message_id": "ID47",
        "data": {"ex@1": {"a": "1", "b": '"\\]'}, "other@2": {}},
        "message": "Something",
    }


def test_rfc5424_with_nothing(syslog: Any) -> None:
    found = syslog.parse("<0>1 - - - - - -", ARRIVAL)
    assert found.pop("message") == ""
    assert (found.pop("facility"), found.pop("severity")) == ("kern", "emergency")
    assert set(found.values()) == {None}


@pytest.mark.parametrize(
    ("rest", "data", "message"),
    [
        ("- hello", None, "hello"),
        ("-", None, ""),
        ("- \ufeffbyte order mark", None, "byte order mark"),
        ("- [not data] text", None, "[not data] text"),
        ("[a]", {"a": {}}, ""),
        ('[a x="1" x="2" x="3"] m', {"a": {"x": ["1", "2", "3"]}}, "m"),
        ('[a x=""] m', {"a": {"x": ""}}, "m"),
        (r'[a x="C:\temp\] \n"] m', {"a": {"x": r"C:\temp] \n"}}, "m"),
        ('[a x="é \u2028"] two\nlines', {"a": {"x": "é \u2028"}}, "two\nlines"),
        ("[a] [b]", {"a": {}}, "[b]"),
    ],
)
def test_structured_data_and_message(syslog: Any, rest: str, data: Any, message: str) -> None:
    found = syslog.parse(f"<34>1 2003-10-11T22:14:15Z h a - - {rest}", ARRIVAL)
    assert (found["data"], found["message"]) == (data, message)


@pytest.mark.parametrize(
    "line",
    [
        "<34>1 2003-10-11T22:14:15Z h a - - [a x=1] m",
        '<34>1 2003-10-11T22:14:15Z h a - - [a x="1] m',
        '<34>1 2003-10-11T22:14:15Z h a - - [a x="1"]m',
        "<34>1 2003-10-11T22:14:15Z h a - - no data",
        "<34>1 2003-13-11T22:14:15Z h a - - -",
        "<34>1 yesterday h a - - -",
        "<192>1 - - - - - -",
        "<34>Oct 32 22:14:15 h a: m",
        "<34>Okt 11 22:14:15 h a: m",
        "<34>Oct 11 25:14:15 h a: m",
        "<200>Oct 11 22:14:15 h a: m",
        "just text",
        "<34>",
        "",
    ],
)
def test_what_is_damaged_or_no_syslog_fails_with_its_data(syslog: Any, run: Any, line: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        syslog.parse(line, ARRIVAL)
    assert run(syslog, SAMPLE.encode(), line.encode())[1] == ("ProcessingFailed", line.encode())


def test_bytes_that_are_not_utf8_fail(syslog: Any, run: Any) -> None:
    assert run(syslog, b"<34>Oct 11 22:14:15 h a: \xff")[0][0] == "ProcessingFailed"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("<34>Oct 11 22:14:15 web su: 'su root' failed", ("auth", "critical", "web", "su", None, "'su root' failed")),
        ("Oct  1 22:14:15 web su[7]: text", (None, None, "web", "su", "7", "text")),
        ("<6>Oct 11 22:14:15 web kernel: [1.5] usb", ("kern", "info", "web", "kernel", None, "[1.5] usb")),
        ("<6>Oct 11 22:14:15 web last message repeated 2 times",
         ("kern", "info", "web", None, None, "last message repeated 2 times")),
        ("<6>Oct 11 22:14:15 ::1 %ASA-6-302013: Built", ("kern", "info", "::1", "%ASA-6-302013", None, "Built")),
        ("<13>Oct 11 22:14:15 web app[a-1]:", ("user", "notice", "web", "app", "a-1", "")),
        ("<13>Oct 11 22:14:15 web url http://x/", ("user", "notice", "web", None, None, "url http://x/")),
        ("2026-01-02T03:04:05.678901+01:00 web cron[9]: ran", (None, None, "web", "cron", "9", "ran")),
    ],
)  # fmt: skip
def test_rfc3164(syslog: Any, line: str, expected: tuple[str | None, ...]) -> None:
    found = syslog.parse(line, ARRIVAL)
    names = ("facility", "severity", "host", "app", "process_id", "message")
    assert tuple(found[name] for name in names) == expected
    assert (found["message_id"], found["data"]) == (None, None)


@pytest.mark.parametrize(
    ("time", "utc"),
    [
        ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z"),
        ("2026-01-01T00:30:00.5+01:00", "2025-12-31T23:30:00.5Z"),
        ("2026-01-02T03:04:05.123456-03:30", "2026-01-02T06:34:05.123456Z"),
        ("2026-01-02T03:04:05.123456789Z", "2026-01-02T03:04:05.123456789Z"),
    ],
)
def test_rfc3339_times_become_utc_to_the_last_digit(syslog: Any, time: str, utc: str) -> None:
    assert syslog.parse(f"<34>1 {time} h a - - -", ARRIVAL)["time"] == utc
    assert syslog.parse(f"{time} h a: m", ARRIVAL)["time"] == utc


@pytest.mark.parametrize(
    ("arrival", "time", "utc"),
    [
        ("2026-07-01T00:00:00", "Jun 30 23:59:59", "2026-06-30T23:59:59Z"),
        ("2026-01-01T00:00:05", "Dec 31 23:59:59", "2025-12-31T23:59:59Z"),
        ("2025-12-31T23:59:58", "Jan  1 00:00:01", "2026-01-01T00:00:01Z"),  # a clock ahead of ours
        ("2026-01-01T00:00:00", "Jul  1 00:00:00", "2025-07-01T00:00:00Z"),
        ("2026-06-01T00:00:00", "Jun  3 00:00:00", "2025-06-03T00:00:00Z"),
        ("2025-03-01T00:00:00", "Feb 29 12:00:00", "2024-02-29T12:00:00Z"),
        ("2024-03-01T00:00:00", "Feb 29 12:00:00", "2024-02-29T12:00:00Z"),
    ],
)
def test_the_year_is_the_last_that_is_not_ahead_of_the_arrival(syslog: Any, arrival: str, time: str, utc: str) -> None:
    moment = datetime.fromisoformat(arrival).replace(tzinfo=UTC)
    assert syslog.parse(f"{time} h a: m", moment)["time"] == utc


def test_the_zone_of_times_without_one_can_be_set(syslog: Any, run: Any, monkeypatch: Any) -> None:
    assert syslog.parse("Jul  1 12:00:00 h a: m", ARRIVAL, ZoneInfo("Europe/Berlin"))["time"] == "2025-07-01T10:00:00Z"
    monkeypatch.setenv("SYSLOG_TIME_ZONE", "America/New_York")
    ((_, data),) = run(syslog, b"Dec 31 12:00:00 h a: m")
    assert json.loads(data)["time"] == "2025-12-31T17:00:00Z"
    monkeypatch.setenv("SYSLOG_TIME_ZONE", "Mars/Base")
    with pytest.raises(ZoneInfoNotFoundError):
        run(syslog, b"Dec 31 12:00:00 h a: m")


def test_several_lines_become_several_objects(syslog: Any, run: Any) -> None:
    ((result, data),) = run(syslog, b"Oct  1 22:14:15 h a: one\r\nOct  1 22:14:15 h a: two\n")
    assert (result, [json.loads(line)["message"] for line in data.split(b"\n")]) == ("Ok", ["one", "two"])


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(
        st.text("abcXYZ09@._", min_size=1, max_size=8),
        st.dictionaries(st.text("abcXYZ09._", min_size=1, max_size=8), st.text(max_size=20), max_size=4),
        min_size=1,
        max_size=4,
    ),
    st.text(max_size=30),
)
def test_structured_data_comes_back(load: Any, data: dict[str, dict[str, str]], message: str) -> None:
    def escaped(value: str) -> str:
        return value.replace("\\", r"\\").replace('"', r"\"").replace("]", r"\]")

    text = "".join(
        f"[{name}" + "".join(f' {key}="{escaped(value)}"' for key, value in parameters.items()) + "]"
        for name, parameters in data.items()
    )
    found = load("syslog_messages").parse(f"<34>1 - h a p m {text} {message}", ARRIVAL)
    assert found["data"] == data
    assert found["message"] == message.removeprefix("\ufeff")
