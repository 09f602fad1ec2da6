"""Events told sparingly, and what reaches the event loop."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
from prometheus_client import generate_latest

from firehose.telemetry import (
    LOGGER,
    Event,
    JsonLines,
    Metrics,
    PlainLines,
    Sparing,
    Telemetry,
    UnexpectedError,
    loop_handler,
)
from firehose.testing import FakeClock


@dataclass(frozen=True, slots=True)
class Knocked(Event):
    level: ClassVar[int] = logging.WARNING
    who: str

    def measure(self, metrics: Metrics) -> None:
        metrics.count("knocks_total", "Knocks.")


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """What stands in the log."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(JsonLines())
    LOGGER.addHandler(handler)
    yield text
    LOGGER.removeHandler(handler)


def lines(written: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in written.getvalue().splitlines()]


async def test_one_line_a_minute_and_every_one_counted(written: io.StringIO) -> None:
    clock, telemetry = FakeClock(), Telemetry()
    sparing = Sparing(telemetry, clock)
    for number in range(1_000):
        sparing.emit(Knocked(str(number)))
    await clock.advance(60_000)
    sparing.emit(Knocked("late"))
    assert [line["who"] for line in lines(written)] == ["0", "late"]
    assert b"firehose_knocks_total 1001.0" in generate_latest(telemetry.metrics.registry)


def test_kinds_are_told_apart(written: io.StringIO) -> None:
    sparing = Sparing(Telemetry(), FakeClock())
    for kind in ("a", "b", "a"):
        sparing.emit(Knocked(kind), kind)
    sparing.emit(UnexpectedError("here", "x"), "a")
    assert [(line["event"], line.get("who")) for line in lines(written)] == [
        ("knocked", "a"),
        ("knocked", "b"),
        ("unexpected_error", None),
    ]


async def test_what_reaches_the_loop_is_one_line_with_its_traceback_in_a_field(
    written: io.StringIO, caplog: pytest.LogCaptureFixture
) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(loop_handler(Sparing(Telemetry(), FakeClock())))
    done = asyncio.Event()

    def fail(error: Exception) -> None:
        raise error

    for error in (OSError("first"), OSError("second"), ValueError("third")):
        loop.call_soon(fail, error)
    loop.call_exception_handler({"message": "no exception at all"})
    loop.call_soon(done.set)
    await done.wait()
    found = lines(written)
    assert [(line["level"], line["event"], line["where"]) for line in found] == [
        ("error", "unexpected_error", "event_loop")
    ] * 3
    assert [line["error"].splitlines()[-1] for line in found] == [
        "no exception at all",
        "OSError: first",
        "ValueError: third",
    ]
    assert "in fail" in found[1]["error"]
    assert not [record for record in caplog.records if record.name == "asyncio"]


@pytest.mark.parametrize(
    ("who", "line"),
    [
        ("Ann", "knocked who=Ann"),
        ("Ann of the hill", 'knocked who="Ann of the hill"'),
        ("", 'knocked who=""'),
        ("a=b", 'knocked who="a=b"'),
        ("Ann\n", "knocked who=Ann"),
        ("Ann\nand Bob\n", "knocked\n  who:\n    Ann\n    and Bob"),
    ],
)
def test_plain_lines_show_where_a_value_ends(who: str, line: str) -> None:
    record = logging.LogRecord("firehose", logging.WARNING, "x.py", 1, "knocked", None, None)
    record.event = Knocked(who)
    assert PlainLines().format(record).partition(" warning ")[2] == line
