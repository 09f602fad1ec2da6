"""Who waits for rows is woken by the append that brings them; nobody polls."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from firehose.log.index import Key


class Bell:
    """Wakes those who listen for rows of one stream and lane."""

    def __init__(self) -> None:
        self.is_closed = False
        self._listeners: dict[Key, set[asyncio.Event]] = {}

    @contextmanager
    def listening(self, key: Key) -> Iterator[asyncio.Event]:
        """Yield an event that is set whenever rows of `key` come, and when the log closes."""
        event = asyncio.Event()
        self._listeners.setdefault(key, set()).add(event)
        try:
            yield event
        finally:
            self._listeners[key].discard(event)
            if not self._listeners[key]:
                del self._listeners[key]

    def ring(self, key: Key) -> None:
        """Say that rows of `key` have come."""
        for event in self._listeners.get(key, ()):
            event.set()

    def close(self) -> None:
        """Wake everybody: the log is closed."""
        self.is_closed = True
        for events in self._listeners.values():
            for event in events:
                event.set()
