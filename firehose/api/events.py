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
