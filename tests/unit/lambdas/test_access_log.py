from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

COMMON = b'127.0.0.1 - frank [10/Oct/2000:13:55:36 -0700] "GET /apache_pb.gif HTTP/1.0" 200 2326'
COMBINED = COMMON + b' "http://www.example.com/start.html" "Mozilla/4.08 [en] (Win98; I ;Nav)"'


@pytest.fixture(scope="module")
def access_log(load: Any) -> Any:
    return load("access_log")


def with_request(request: bytes) -> bytes:
    return b'203.0.113.7 - - [17/May/2015:10:05:03 +0000] "' + request + b'" 400 0 "-" "-"'


def test_a_combined_line(access_log: Any) -> None:
    assert access_log.parse(COMBINED) == {
        "host": "127.0.0.1",
        "ident": None,
        "user": "frank",
        "time": "2000-10-10T20:55:36Z",
        "method": "GET",
        "path": "/apache_pb.gif",
        "protocol": "HTTP/1.0",
        "request": None,
        "status": 200,
        "bytes": 2326,
        "referrer": "http://www.example.com/start.html",
        "agent": "Mozilla/4.08 [en] (Win98; I ;Nav)",
        "forwarded_for": None,
    }


def test_the_example_of_the_docstring(access_log: Any, run: Any) -> None:
    line, expected = access_log.__doc__.split("The line\n\n")[1].split("\n\nbecomes\n\n")
    ((result, data),) = run(access_log, line.strip().encode())
    assert (result, json.loads(data)) == ("Ok", json.loads(expected.split("\n\nTimes")[0]))


def test_a_common_line_has_the_same_fields(access_log: Any) -> None:
    common, combined = access_log.parse(COMMON), access_log.parse(COMBINED)
    assert common == combined | {"referrer": None, "agent": None}


def test_dashes_are_null(access_log: Any) -> None:
    found = access_log.parse(b'::1 - - [17/May/2015:10:05:03 +0000] "HEAD / HTTP/1.1" 304 - "-" "-"')
    assert found["host"] == "::1"
    assert [found[name] for name in ("ident", "user", "bytes", "referrer", "agent")] == [None] * 5


def test_zero_bytes_are_a_number(access_log: Any) -> None:
    assert access_log.parse(with_request(b"GET / HTTP/1.1"))["bytes"] == 0


@pytest.mark.parametrize(
    ("request_", "method", "path", "protocol"),
    [
        (b"GET / HTTP/1.1", "GET", "/", "HTTP/1.1"),
        (b"POST /a%20b?c=d&e HTTP/2.0", "POST", "/a%20b?c=d&e", "HTTP/2.0"),
        (b"GET /with blanks in it HTTP/1.1", "GET", "/with blanks in it", "HTTP/1.1"),
        (b"GET /old", "GET", "/old", None),
        (b"OPTIONS * HTTP/1.0", "OPTIONS", "*", "HTTP/1.0"),
        (b"CONNECT example.com:443 HTTP/1.1", "CONNECT", "example.com:443", "HTTP/1.1"),
        (rb"GET /\"quoted\" HTTP/1.1", "GET", '/"quoted"', "HTTP/1.1"),
        (rb"GET /caf\xc3\xa9 HTTP/1.1", "GET", "/café", "HTTP/1.1"),
    ],
)
def test_requests(access_log: Any, request_: bytes, method: str, path: str, protocol: str | None) -> None:
    found = access_log.parse(with_request(request_))
    assert (found["method"], found["path"], found["protocol"]) == (method, path, protocol)
    assert found["request"] is None


@pytest.mark.parametrize(
    ("request_", "kept"),
    [
        (b"-", "-"),
        (b"", ""),
        (b"GET", "GET"),
        (rb"\x16\x03\x01\x02", "\x16\x03\x01\x02"),
        (rb"\x80\xff", "\x80\xff"),
        (rb"quit\n", "quit\n"),
        (b"\\\\", "\\"),
    ],
)
def test_what_is_no_http_request_is_kept(access_log: Any, request_: bytes, kept: str) -> None:
    found = access_log.parse(with_request(request_))
    assert found["request"] == kept
    assert (found["method"], found["path"], found["protocol"], found["status"]) == (None, None, None, 400)


def test_quotes_and_backslashes_in_referrer_and_agent(access_log: Any) -> None:
    found = access_log.parse(COMMON + rb' "http://x/?q=\"a b\"" "agent \"X\" \\ \x22y\x22 \t."')
    assert found["referrer"] == 'http://x/?q="a b"'
    assert found["agent"] == 'agent "X" \\ "y" \t.'


@pytest.mark.parametrize(
    ("user", "read"),
    [
        (b"frank de Boer", "frank de Boer"),
        (b"-frank", "-frank"),
        (b"DOMAIN\\\\frank", "DOMAIN\\frank"),
        (rb"\"frank\"", '"frank"'),
        (rb"fr\xc3\xa4nk", "fränk"),
        (b"frank[1]", "frank[1]"),
        (b"frank@example.com", "frank@example.com"),
    ],
)
def test_users(access_log: Any, user: bytes, read: str) -> None:
    assert access_log.parse(COMMON.replace(b"frank", user))["user"] == read


@pytest.mark.parametrize(
    "user",
    [
        b"",
        b" ",
        b"- -",
        b"- frank",
        b"frank -",
        b"frank  Boer",
        b" frank",
        b"frank [x]",
        b'frank "de" Boer',
        b"frank\tBoer",
        b"frank\x00",
        b"frank\\",
        b"five words are no name",
    ],
)
def test_what_is_no_user_fails_instead_of_shifting_columns(access_log: Any, user: bytes) -> None:
    with pytest.raises(ValueError, match="not a line of an access log"):
        access_log.parse(COMMON.replace(b"frank", user))


def test_a_line_that_begins_with_its_virtual_host_is_of_another_format(access_log: Any) -> None:
    with pytest.raises(ValueError, match="not a line"):
        access_log.parse(b"www.example.com:443 " + COMBINED.replace(b"frank", b"-"))


def test_nginx_adds_who_it_was_forwarded_for(access_log: Any) -> None:
    assert access_log.parse(COMBINED + b' "203.0.113.7, 10.0.0.1"')["forwarded_for"] == "203.0.113.7, 10.0.0.1"
    assert access_log.parse(COMBINED + b' "-"')["forwarded_for"] is None


def test_an_agent_that_was_cut_off_is_kept(access_log: Any) -> None:
    assert access_log.parse(COMBINED[:-10])["agent"] == "Mozilla/4.08 [en] (Win98"


@pytest.mark.parametrize(
    ("time", "utc"),
    [
        (b"31/Dec/2015:23:59:59 -0130", "2016-01-01T01:29:59Z"),
        (b"01/Jan/2016:00:00:00 +0530", "2015-12-31T18:30:00Z"),
        (b"29/Feb/2024:12:00:00 +0000", "2024-02-29T12:00:00Z"),
    ],
)
def test_times_are_utc(access_log: Any, time: bytes, utc: str) -> None:
    assert access_log.parse(COMMON.replace(b"10/Oct/2000:13:55:36 -0700", time))["time"] == utc


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"hello",
        COMMON[:40],
        COMMON.replace(b"200", b"2000"),
        COMMON.replace(b"2326", b"23x6"),
        COMMON.replace(b"10/Oct", b"10/Okt"),
        COMMON.replace(b"10/Oct", b"31/Feb"),
        COMMON.replace(b" -0700", b""),
        COMMON.replace(b'"GET', b"GET"),
        COMMON + b' "http://x/"',
        COMBINED + b" tail",
        b'{"json":true}',
        b"\x1f\x8b\x08binary\xff",
    ],
)
def test_a_line_of_another_kind_fails_with_its_data(access_log: Any, run: Any, line: bytes) -> None:
    assert run(access_log, COMMON, line, COMBINED)[1] == ("ProcessingFailed", line)


def test_line_ends_do_not_matter_and_none_is_added(access_log: Any, run: Any) -> None:
    (plain,), (lf,), (crlf,) = (run(access_log, COMBINED + end) for end in (b"", b"\n", b"\r\n"))
    assert plain == lf == crlf
    assert b"\n" not in plain[1]


def test_several_lines_become_several_objects(access_log: Any, run: Any) -> None:
    ((result, data),) = run(access_log, COMMON + b"\n" + COMBINED + b"\n")
    assert result == "Ok"
    assert [json.loads(line)["agent"] is None for line in data.split(b"\n")] == [True, False]
    assert run(access_log, COMMON + b"\nbad\n")[0][0] == "ProcessingFailed"


def test_a_hostile_line_takes_no_time(access_log: Any, run: Any) -> None:
    for line in (b"a b " + b" [" * 200_000, b'a b c [t] "' + b"\\" * 400_001, b"a " * 300_000):
        assert run(access_log, line)[0][0] == "ProcessingFailed"


@settings(max_examples=100, deadline=None)
@given(
    agent=st.text(st.characters(codec="utf-8", exclude_characters="\n"), min_size=1).filter(lambda text: text != "-")
)
def test_whatever_an_agent_says_comes_back(agent: str, load: Any) -> None:
    # as Apache writes it: quotes and backslashes with a backslash, all that is not printable ASCII as \xHH
    escaped = "".join(
        f"\\{character}" if character in '"\\'
        else character if " " <= character <= "~"
        else "".join(f"\\x{byte:02x}" for byte in character.encode())
        for character in agent
    )  # fmt: skip
    found = load("access_log").parse(COMMON + b' "-" "' + escaped.encode() + b'"')
    assert found["agent"] == agent
