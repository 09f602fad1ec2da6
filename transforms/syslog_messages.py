r"""Turns syslog messages, RFC 5424 with structured data and RFC 3164, into JSON.

An AWS Lambda function for Firehose: runs here (`functions: {syslog: {path: transforms/syslog_messages.py}}`) and,
unchanged, on AWS Lambda with the handler `syslog_messages.handler`. The message

    <165>1 2026-01-02T03:04:05.678+01:00 web-1 shop 4711 ID47 [order@32473 id="7" total="9.90"] paid

becomes

    {"facility":"local4","severity":"notice","time":"2026-01-02T02:04:05.678Z","host":"web-1","app":"shop",
     "process_id":"4711","message_id":"ID47","data":{"order@32473":{"id":"7","total":"9.90"}},"message":"paid"}

and so does, without message id and data, `<34>Oct 11 22:14:15 web-1 su[7]: 'su root' failed`, with or without its
priority, and with an RFC 3339 time as rsyslog writes it. Times are UTC. RFC 3164 has neither year nor zone: the year is
the last in which the message is at most a day ahead of its arrival, the zone is the environment variable
`SYSLOG_TIME_ZONE` (default: UTC). A parameter given twice becomes a list. A record with several lines becomes several
objects, one a line; a record with a line that does not match fails as a whole.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

FACILITIES = (
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "ntp",
    "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
)  # fmt: skip
SEVERITIES = ("emergency", "alert", "critical", "error", "warning", "notice", "info", "debug")

_RFC3339 = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)"
_RFC5424 = re.compile(rf"<(\d{{1,3}})>1 (-|{_RFC3339}) (\S+) (\S+) (\S+) (\S+) (.*)", re.DOTALL)
_RFC3164 = re.compile(
    rf"(?:<(\d{{1,3}})>)?([A-Z][a-z]{{2}} [ \d]?\d \d\d:\d\d:\d\d|{_RFC3339}) (\S+) "
    r"(?:([^\s:\[\]]+)(?:\[([^\]\s]*)\])?:(?: |$))?(.*)",
    re.DOTALL,
)
_ELEMENT = re.compile(r'\[([^\s=\]"]+)((?: [^\s=\]"]+="(?:[^"\\\]]|\\.)*")*) ?\]', re.DOTALL)
_PARAMETER = re.compile(r' ([^\s=\]"]+)="((?:[^"\\\]]|\\.)*)"', re.DOTALL)
_ESCAPE = re.compile(r'\\(["\\\]])')

# not strptime's %b, which follows the locale
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Answer Firehose's event."""
    zone = ZoneInfo(os.environ.get("SYSLOG_TIME_ZONE", "UTC"))
    return {"records": [_transformed(record, zone) for record in event["records"]]}


def _transformed(record: dict[str, Any], zone: tzinfo) -> dict[str, Any]:
    arrival = datetime.fromtimestamp(record["approximateArrivalTimestamp"] / 1_000, UTC)
    try:
        lines = [line for line in base64.b64decode(record["data"]).decode().split("\n") if line.strip()]
        if not lines:
            raise ValueError("the record is empty")
        found = [parse(line.rstrip("\r"), arrival, zone) for line in lines]
    except (ValueError, binascii.Error):
        return {"recordId": record["recordId"], "result": "ProcessingFailed", "data": record["data"]}
    text = "\n".join(json.dumps(each, ensure_ascii=False, separators=(",", ":")) for each in found)
    return {"recordId": record["recordId"], "result": "Ok", "data": base64.b64encode(text.encode()).decode()}


def parse(line: str, arrival: datetime, zone: tzinfo = UTC) -> dict[str, Any]:
    """Return the fields of one message that came at `arrival`. Errors: ValueError where it is of neither format."""
    if (found := _RFC5424.fullmatch(line)) is not None:
        priority, time, host, app, process_id, message_id, rest = found.groups()
        data, message = _structured(rest)
        message = message.removeprefix("\ufeff")
        moment = None if time == "-" else _utc(time)
    elif (found := _RFC3164.fullmatch(line)) is not None:
        priority, time, host, app, process_id, message = found.groups()
        message_id, data = None, {}
        moment = _utc(time) if time[0].isdigit() else _latest(time, arrival, zone)
    else:
        raise ValueError("not a syslog message")
    facility, severity = _meaning(priority)
    return {
        "facility": facility,
        "severity": severity,
        "time": moment,
        "host": _value(host),
        "app": _value(app),
        "process_id": _value(process_id),
        "message_id": _value(message_id),
        "data": data or None,
        "message": message,
    }


def _value(field: str | None) -> str | None:
    return None if field in (None, "-", "") else field


def _meaning(priority: str | None) -> tuple[str | None, str | None]:
    if priority is None:
        return None, None
    facility, severity = divmod(int(priority), 8)
    if facility >= len(FACILITIES):
        raise ValueError(f"no such priority: {priority}")
    return FACILITIES[facility], SEVERITIES[severity]


def _structured(text: str) -> tuple[dict[str, dict[str, Any]], str]:
    """Return structured data and message from what stands behind the message id."""
    data: dict[str, dict[str, Any]] = {}
    at = 0
    if text.startswith("-"):
        at = 1
    else:
        while (element := _ELEMENT.match(text, at)) is not None:
            parameters = data.setdefault(element[1], {})
            for name, value in _PARAMETER.findall(element[2]):
                _add(parameters, name, _ESCAPE.sub(r"\1", value))
            at = element.end()
    if at == 0 or text[at : at + 1] not in ("", " "):
        raise ValueError("the structured data is damaged")
    return data, text[at + 1 :]


def _add(parameters: dict[str, Any], name: str, value: str) -> None:
    if name not in parameters:
        parameters[name] = value
    elif isinstance(parameters[name], list):
        parameters[name].append(value)
    else:
        parameters[name] = [parameters[name], value]


def _utc(text: str) -> str:
    whole, fraction = text[:19], re.findall(r"\.\d+", text)
    offset = text[-6:] if text[-1] != "Z" else "+00:00"
    moment = datetime.fromisoformat(whole + offset).astimezone(UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S") + "".join(fraction) + "Z"


def _latest(text: str, arrival: datetime, zone: tzinfo) -> str:
    month, day = _MONTHS.index(text[:3]) + 1, int(text[4:6])
    hour, minute, second = map(int, text[-8:].split(":"))
    moments = []
    for year in (arrival.year - 1, arrival.year, arrival.year + 1):
        try:
            moments.append(datetime(year, month, day, hour, minute, second, tzinfo=zone))
        except ValueError:  # 29 February, which not every year has, or a date that none has
            pass
    possible = [moment for moment in moments if moment <= arrival + timedelta(days=1)]
    if not possible:
        raise ValueError(f"no such time: {text}")
    return possible[-1].astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
