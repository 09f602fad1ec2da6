r"""Turns lines of Apache and NGINX access logs, in the common and combined formats, into JSON.

An AWS Lambda function for Firehose: runs here (`functions: {access_log: {path: transforms/access_log.py}}`) and,
unchanged, on AWS Lambda with the handler `access_log.handler`. The line

    203.0.113.7 - ann [17/May/2015:12:05:03 +0200] "GET /a?b=1 HTTP/1.1" 200 512 "https://example.com/" "Mozilla/5.0"

becomes

    {"host":"203.0.113.7","ident":null,"user":"ann","time":"2015-05-17T10:05:03Z","method":"GET","path":"/a?b=1",
     "protocol":"HTTP/1.1","request":null,"status":200,"bytes":512,"referrer":"https://example.com/",
     "agent":"Mozilla/5.0","forwarded_for":null}

Times are UTC, because Firehose's OpenX reader refuses offsets. A `-` is null. A request that is no HTTP request (`-`,
or the start of a TLS handshake) is kept as it came in `request`; method, path and protocol are null then. `\"`, `\\`
and `\xHH` are undone. NGINX's usual third quoted field is `forwarded_for`. The agent may be cut off at the end of the
line. A record with several lines becomes several objects, one a line; one with a line that does not match fails as a
whole.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

_QUOTED = rb'"((?:[^"\\]|\\.)*)"'
# A name may have a few words, but no quotes or control characters, which servers escape. A word that is a `-` or begins
# with `[` would be a field of another format: its columns must not land under other names.
_WORD = rb'(?!- |\[)(?:[^\s"\\\x00-\x1f]|\\.)+'
_USER = rb"(-|" + _WORD + rb"(?: " + _WORD + rb"){0,3})"
_LINE = re.compile(
    rb"(\S+) (\S+) " + _USER + rb" \[([^\]]{1,40})\] " + _QUOTED + rb" (\d{3}|-) (\d+|-)"
    rb"(?: " + _QUOTED + rb" (?:" + _QUOTED + rb"(?: " + _QUOTED + rb')?|"([^"]*)))?\s*'
)
_TIME = re.compile(r"(\d\d)/(\w{3})/(\d{4}):(\d\d):(\d\d):(\d\d) ([+-])(\d\d)(\d\d)")
_REQUEST = re.compile(r"([A-Za-z]+) (\S.*?)(?: (HTTP/\d+(?:\.\d+)?))?")
_ESCAPE = re.compile(rb"\\(x[0-9A-Fa-f]{2}|.)")
_ESCAPED = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"f": b"\f", b"v": b"\v"}

# not strptime's %b, which follows the locale
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Answer Firehose's event."""
    return {"records": [_transformed(record) for record in event["records"]]}


def _transformed(record: dict[str, Any]) -> dict[str, Any]:
    try:
        lines = [line for line in base64.b64decode(record["data"]).split(b"\n") if line.strip()]
        if not lines:
            raise ValueError("the record is empty")
        text = "\n".join(json.dumps(parse(line), ensure_ascii=False, separators=(",", ":")) for line in lines)
    except (ValueError, binascii.Error):
        return {"recordId": record["recordId"], "result": "ProcessingFailed", "data": record["data"]}
    return {"recordId": record["recordId"], "result": "Ok", "data": base64.b64encode(text.encode()).decode()}


def parse(line: bytes) -> dict[str, Any]:
    """Return the fields of one line. Errors: ValueError where it is not of these formats."""
    found = _LINE.fullmatch(line)
    if found is None:
        raise ValueError("not a line of an access log")
    host, ident, user, time, request, status, size, referrer, agent, forwarded_for, cut_agent = found.groups()
    asked = _REQUEST.fullmatch(_text(request) or "")
    method, path, protocol = asked.groups() if asked else (None, None, None)
    return {
        "host": host.decode(),
        "ident": _text(ident),
        "user": _text(user),
        "time": _utc(time.decode()),
        "method": method,
        "path": path,
        "protocol": protocol,
        "request": None if asked else _unescaped(request),
        "status": _number(status),
        "bytes": _number(size),
        "referrer": _text(referrer),
        "agent": _text(agent or cut_agent),
        "forwarded_for": _text(forwarded_for),
    }


def _text(field: bytes | None) -> str | None:
    return None if field in (None, b"-", b"") else _unescaped(field)


def _number(field: bytes) -> int | None:
    return None if field == b"-" else int(field)


def _unescaped(field: bytes) -> str:
    raw = _ESCAPE.sub(_unescaped_byte, field)
    try:
        return raw.decode()
    except UnicodeDecodeError:  # what clients send is not always UTF-8; this loses nothing
        return raw.decode("latin-1")


def _unescaped_byte(found: re.Match[bytes]) -> bytes:
    escape = found[1]
    return bytes([int(escape[1:], 16)]) if len(escape) == 3 else _ESCAPED.get(escape, escape)


def _utc(text: str) -> str:
    found = _TIME.fullmatch(text)
    if found is None:
        raise ValueError(f"not a time of an access log: {text}")
    day, month, year, hour, minute, second, sign, hours, minutes = found.groups()
    offset = timedelta(hours=int(hours), minutes=int(minutes)) * (-1 if sign == "-" else 1)
    local = datetime(int(year), _MONTHS.index(month) + 1, int(day), int(hour), int(minute), int(second))
    moment = local.replace(tzinfo=timezone(offset))
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
