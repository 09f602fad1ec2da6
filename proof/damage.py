"""Ways in which lines are damaged in life, each with the reason that the error output must give for it.

All can be undone, by the functions beside: that is what a repair is. None is undone here, so that the two are written
independently of each other.
"""

from __future__ import annotations

import base64
import json
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

#: Which part of the service refuses a record, and with what code.
Reason = tuple[str, str]

REFUSED: Reason = ("transform", "Lambda.ProcessingFailedStatus")
NOT_JSON: Reason = ("convert", "DataFormatConversion.ParseError")
NOT_THE_TABLE: Reason = ("convert", "DataFormatConversion.MalformedData")

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@dataclass(frozen=True, slots=True)
class Damage:
    """One way. `apply` returns the line as it is where it cannot be damaged so."""

    name: str
    reason: Reason
    apply: Callable[[bytes], bytes]


def _month_as_number(line: bytes) -> bytes:
    def number(found: re.Match[bytes]) -> bytes:
        return b"/%02d/" % (_MONTHS.index(found[1].decode()) + 1)

    return re.sub(rb"/([A-Z][a-z]{2})/(?=\d{4}:)", number, line, count=1)


ACCESS_LOG = (
    Damage("typographic quotes", REFUSED, lambda line: line.replace(b'"', "”".encode())),
    Damage("wrapped in JSON by a shipper", REFUSED, lambda line: json.dumps({"log": line.decode("latin-1")}).encode()),
    Damage("UTF-16", REFUSED, lambda line: line.decode("latin-1").encode("utf-16-le")),
    Damage("month as a number", REFUSED, _month_as_number),
    Damage("base64", REFUSED, base64.b64encode),
    # a line of a log, but no row of the table: this one passes the function
    Damage(
        "size beyond 64 bits",
        NOT_THE_TABLE,
        lambda line: re.sub(rb'(" \d{3} [1-9]\d*) ', rb"\g<1>%s " % (b"0" * 20), line, count=1),
    ),
)

NGINX_STATUS = (
    Damage("printed by Python", NOT_JSON, lambda line: repr(json.loads(line)).encode()),
    Damage("comma before the last brace", NOT_JSON, lambda line: line.rstrip()[:-1] + b",}"),
    Damage("JSON in a JSON string", NOT_THE_TABLE, lambda line: json.dumps(line.decode()).encode()),
    Damage(
        "a count with its unit",
        NOT_THE_TABLE,
        lambda line: re.sub(rb'("requests":\{"total":)(\d+)', rb'\1"\2 requests"', line, count=1),
    ),
    Damage("a key twice", NOT_THE_TABLE, lambda line: re.sub(rb'("pid":\d+)', rb"\1,\1", line, count=1)),
)


@dataclass(frozen=True, slots=True)
class Sent:
    """One line as it is, and as it was sent."""

    line: bytes
    record: bytes
    damage: Damage | None = None


def damaged(lines: Sequence[bytes], ways: Sequence[Damage], *, seed: int, percent: int = 1) -> list[Sent]:
    """Return the lines, of which `percent` are damaged: which ones the seed decides, the ways take turns."""
    chosen = sorted(random.Random(seed).sample(range(len(lines)), len(lines) * percent // 100))
    sent = [Sent(line, line) for line in lines]
    for turn, index in enumerate(chosen):
        line = lines[index]
        for way in (*ways[turn % len(ways) :], *ways[: turn % len(ways)]):
            if (record := way.apply(line)) != line:
                sent[index] = Sent(line, record, way)
                break
        else:
            raise ValueError(f"no way to damage {line!r}")
    return sent
