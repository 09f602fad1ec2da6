"""What happens is told once: each event is one dataclass, and emitting it writes both its log line and its metrics.

An event class says what it is in its docstring, carries its fields with their units, and names the metrics it moves.
Metric labels are bounded: stream, outlet, stage, code; never a key, a record or a message. Nothing is emitted per
record.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import re
import sys
import textwrap
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from firehose.clock import Clock

LOGGER = logging.getLogger("firehose")

#: The level of events that only move metrics: below DEBUG, so that they are never logged.
MEASUREMENT = 1

Metric = Counter | Gauge | Histogram
M = TypeVar("M", Counter, Gauge, Histogram)


class Event:
    """Base of all events. `level` follows consequence: ERROR means data is at stake or somebody must act."""

    level: ClassVar[int] = logging.INFO

    def measure(self, metrics: Metrics) -> None:
        """Move the metrics this event stands for. Default: none."""


class Emitter(Protocol):
    """Where events go."""

    def emit(self, event: Event) -> None:
        """Write the event's log line and move its metrics."""
        ...


class Metrics:
    """All metrics of one process, made on first use so that each event class can declare its own beside itself."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._known: dict[str, Metric] = {}

    def count(self, name: str, help_text: str, amount: float = 1, /, **labels: str) -> None:
        """Add `amount` to the counter `name`."""
        self._metric(Counter, name, help_text, labels).inc(amount)

    def gauge(self, name: str, help_text: str, value: float, /, **labels: str) -> None:
        """Set the gauge `name`."""
        self._metric(Gauge, name, help_text, labels).set(value)

    def observe(self, name: str, help_text: str, value: float, /, **labels: str) -> None:
        """Put `value` into the histogram `name`."""
        self._metric(Histogram, name, help_text, labels).observe(value)

    def forget(self, name: str, /, **labels: str) -> None:
        """Let go of what a metric says of a thing that is no more."""
        metric = self._known.get(name)
        if metric is not None:
            metric.remove(*labels.values())

    def _metric(self, kind: type[M], name: str, help_text: str, labels: dict[str, str]) -> M:
        metric = self._known.get(name)
        if metric is None:
            metric = kind(f"firehose_{name}", help_text, tuple(labels), registry=self.registry)
            self._known[name] = metric
        assert isinstance(metric, kind)
        return metric.labels(**labels) if labels else metric


class Telemetry:
    """Emits events as structured log lines and metrics."""

    def __init__(self, metrics: Metrics | None = None) -> None:
        self.metrics = metrics or Metrics()

    def emit(self, event: Event) -> None:
        event.measure(self.metrics)
        if LOGGER.isEnabledFor(event.level):
            LOGGER.log(event.level, _words(type(event).__name__), extra={"event": event})


class Sparing:
    """Emits what may happen a thousand times a second: of each kind a line a minute, and every one is measured."""

    def __init__(self, telemetry: Telemetry, clock: Clock, *, every_ms: int = 60_000) -> None:
        self._telemetry = telemetry
        self._clock = clock
        self._every_ms = every_ms
        self._told_ms: dict[tuple[type[Event], str], int] = {}

    def emit(self, event: Event, kind: str = "") -> None:
        """Emit `event`, without its line where one of the same class and `kind`, which is bounded, was just told."""
        key, now_ms = (type(event), kind), self._clock.monotonic_ms()
        told_ms = self._told_ms.get(key)
        if told_ms is None or now_ms - told_ms >= self._every_ms:
            self._told_ms[key] = now_ms
            self._telemetry.emit(event)
        else:
            event.measure(self._telemetry.metrics)


def _words(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, event, then the event's fields."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        line |= _fields(record)
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class PlainLines(logging.Formatter):
    """The same for people at a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {name: str(value).rstrip("\n") for name, value in _fields(record).items()}
        inline = " ".join(f"{name}={_quoted(value)}" for name, value in fields.items() if "\n" not in value)
        moment = time.strftime("%H:%M:%S", time.localtime(record.created))
        text = f"{moment} {record.levelname.lower():7} {record.getMessage()} {inline}".rstrip()
        longer = [f"  {name}:\n{textwrap.indent(value, '    ')}" for name, value in fields.items() if "\n" in value]
        if record.exc_info:
            longer.append(self.formatException(record.exc_info))
        return "\n".join((text, *longer))


def _quoted(value: str) -> str:
    """Return a value so that one sees where it ends."""
    return value if re.fullmatch(r'[^\s"=]+', value) else json.dumps(value, ensure_ascii=False)


def _fields(record: logging.LogRecord) -> dict[str, object]:
    event = getattr(record, "event", None)
    return (
        {f.name: getattr(event, f.name) for f in dataclasses.fields(event)} if dataclasses.is_dataclass(event) else {}
    )


def configure_logging(*, level: str, style: str) -> None:
    """Send log lines to stderr. `style`: `json` for machines, `plain` for people."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if style == "json" else PlainLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    LOGGER.setLevel(level.upper())


@dataclass(frozen=True, slots=True)
class UnexpectedError(Event):
    """A bug of ours was caught where it could do no harm. Please report it."""

    level: ClassVar[int] = logging.ERROR
    where: str
    error: str

    def measure(self, metrics: Metrics) -> None:
        metrics.count("unexpected_errors_total", "Bugs of the service itself, caught.", where=self.where)


LoopHandler = Callable[[asyncio.AbstractEventLoop, dict[str, Any]], None]


def loop_handler(telemetry: Sparing) -> LoopHandler:
    """Return what tells of errors that reached the event loop, for `set_exception_handler`: nobody else caught them."""

    def handle(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error, message = context.get("exception"), context["message"]
        text = "".join(traceback.format_exception(error)) if error is not None else ""
        telemetry.emit(UnexpectedError("event_loop", f"{message}\n{text}".rstrip()), type(error).__name__)

    return handle
