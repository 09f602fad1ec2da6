"""Telemetry that remembers."""

from __future__ import annotations

from typing import TypeVar

from firehose.telemetry import Event

E = TypeVar("E", bound=Event)


class RecordingTelemetry:
    """Keeps every event, for tests to look at."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)

    def of(self, kind: type[E]) -> list[E]:
        """Return the events of one kind, in order."""
        return [event for event in self.events if isinstance(event, kind)]
