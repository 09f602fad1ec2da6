"""When undelivered rows are given up."""

from __future__ import annotations

from firehose.clock import Clock


class Retention:
    """Gives rows a time to be delivered, in all of which their stream was delivering.

    A service that was stopped over the weekend, or a stream that was paused, had no chance to deliver: the time begins
    anew with each start and each resume. `retention_ms` None: nothing is ever given up.
    """

    def __init__(self, retention_ms: int | None, clock: Clock) -> None:
        self._retention_ms = retention_ms
        self._clock = clock
        self._begun_ms = clock.monotonic_ms()

    def begin(self) -> None:
        """Begin to count anew."""
        self._begun_ms = self._clock.monotonic_ms()

    def limit_ms(self) -> int | None:
        """Return when the youngest rows arrived that are given up now, None where none are. Units: Unix ms."""
        if self._retention_ms is None or self._clock.monotonic_ms() - self._begun_ms < self._retention_ms:
            return None
        return self._clock.now_ms() - self._retention_ms
