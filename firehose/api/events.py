"""What the HTTP face tells."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import ClassVar

from firehose.telemetry import Event, Metrics


@dataclass(frozen=True, slots=True)
class RequestAnswered(Event):
    """A request was answered. `operation` and `code` are bounded, `code` is `OK` on success; `reason` is for people.

    Units: `body_bytes` as sent on the wire, `took_ms` from its headers to the answer.
    """

    level: ClassVar[int] = logging.DEBUG
    operation: str
    code: str
    status: int
    rows: int
    body_bytes: int
    took_ms: int
    reason: str = ""

    def measure(self, metrics: Metrics) -> None:
        operation = self.operation
        metrics.count("requests_total", "Requests answered.", operation=operation, code=self.code)
        metrics.observe("request_seconds", "Time to answer a request.", self.took_ms / 1_000, operation=operation)
        if self.rows:
            metrics.count("request_records_total", "Records taken by requests.", self.rows, operation=operation)
        if self.body_bytes:
            metrics.count("request_bytes_total", "Bytes of request bodies.", self.body_bytes, operation=operation)


@dataclass(frozen=True, slots=True)
class RequestFailed(RequestAnswered):
    """A request failed on our side. The producer keeps its data and tries again."""

    level: ClassVar[int] = logging.WARNING


@dataclass(frozen=True, slots=True)
class RequestMalformed(Event):
    """Somebody sent what is no HTTP request, or not all of one. It was answered 400, or hung up on."""

    level: ClassVar[int] = logging.DEBUG
    reason: str

    def measure(self, metrics: Metrics) -> None:
        metrics.count("malformed_requests_total", "Requests that were no HTTP, or broke off.")


@dataclass(frozen=True, slots=True)
class ConnectionTimedOut(Event):
    """A connection was closed because its peer took too long. `code`: what was waited for (`head`, `rest`, `idle`)."""

    level: ClassVar[int] = logging.DEBUG
    code: str

    def measure(self, metrics: Metrics) -> None:
        text = "Connections closed because nothing came, by what was waited for."
        metrics.count("connections_timed_out_total", text, code=self.code)


@dataclass(frozen=True, slots=True)
class ConnectionsFull(Event):
    """As many connections as the process can bear; newcomers wait until one leaves. A higher limit of open files
    (`ulimit -n`, `LimitNOFILE=`) allows more.
    """

    level: ClassVar[int] = logging.WARNING
    connections: int

    def measure(self, metrics: Metrics) -> None:
        metrics.count("connections_full_total", "Times that newcomers had to wait for a connection to end.")


@dataclass(frozen=True, slots=True)
class AcceptFailed(Event):
    """The system gives no socket for a newcomer, for want of descriptors or memory. It waits and is tried again."""

    level: ClassVar[int] = logging.ERROR
    error: str

    def measure(self, metrics: Metrics) -> None:
        metrics.count("accept_failures_total", "Newcomers that the system gave no socket for, tried again.")
