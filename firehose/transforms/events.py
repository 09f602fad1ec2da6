"""What happens between a stream and its function: one dataclass for each kind of event."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import ClassVar

from firehose.telemetry import Event, Metrics


@dataclass(frozen=True, slots=True)
class FunctionInvoked(Event):
    """A function answered for some records. Units: `ok_bytes` of the records as they were given."""

    stream: str
    function: str
    attempt: int
    records: int
    ok: int
    ok_bytes: int
    dropped: int
    failed: int
    took_ms: int

    def measure(self, metrics: Metrics) -> None:
        _measure_attempt(metrics, self.stream, "Ok", self.took_ms)
        for result, records in (("ok", self.ok), ("dropped", self.dropped), ("failed", self.failed)):
            _measure_records(metrics, self.stream, result, records)
        metrics.count(
            "transform_ok_bytes_total", "Bytes of the records that functions transformed, before.",
            self.ok_bytes, stream=self.stream,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class FunctionFailed(Event):
    """An invocation gave nothing. `is_given_up`: its records go to the error output; else it is tried again.

    `detail`: the traceback or output, empty where the attempt before said the same.
    """

    level: ClassVar[int] = logging.WARNING
    stream: str
    function: str
    attempt: int
    records: int
    took_ms: int
    code: str
    reason: str
    detail: str
    is_given_up: bool

    def measure(self, metrics: Metrics) -> None:
        _measure_attempt(metrics, self.stream, self.code, self.took_ms)
        if self.is_given_up:
            _measure_records(metrics, self.stream, "failed", self.records)


def _measure_attempt(metrics: Metrics, stream: str, outcome: str, took_ms: int) -> None:
    labels = {"stream": stream, "outcome": outcome}
    metrics.count("transform_invocations_total", "Invocations of functions, by outcome.", **labels)
    metrics.observe("transform_invocation_seconds", "Time of one invocation.", took_ms / 1_000, **labels)


def _measure_records(metrics: Metrics, stream: str, result: str, records: int) -> None:
    metrics.count("transform_records_total", "Records that functions saw.", records, stream=stream, result=result)
