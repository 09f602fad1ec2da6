"""Time comes from outside, so that tests can own it. Inside the product time is Unix milliseconds UTC, a plain int."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

HOUR_MS = 3_600_000


class Clock(Protocol):
    """What may be known of time. Cores take `now_ms` as an argument instead; only workers hold a clock."""

    def now_ms(self) -> int:
        """Return Unix milliseconds, UTC."""
        ...

    def monotonic_ms(self) -> int:
        """Return milliseconds that never go back, from an unknown start: for durations, timeouts and backoff."""
        ...

    async def sleep_ms(self, duration_ms: int) -> None:
        """Return after `duration_ms`; at once, but not before other tasks had their turn, where it is 0."""
        ...

    async def wait(self, event: asyncio.Event, timeout_ms: int | None) -> bool:
        """Return true as soon as `event` is set, or false after `timeout_ms` (None: wait for ever)."""
        ...


class SystemClock:
    """The machine's clock."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_ms(self) -> int:
        return time.monotonic_ns() // 1_000_000

    async def sleep_ms(self, duration_ms: int) -> None:
        await asyncio.sleep(duration_ms / 1_000)

    async def wait(self, event: asyncio.Event, timeout_ms: int | None) -> bool:
        if timeout_ms is None:
            return await event.wait()
        try:
            async with asyncio.timeout(timeout_ms / 1_000):
                return await event.wait()
        except TimeoutError:
            return False


def hour_of(time_ms: int) -> int:
    """Return the start of the hour that `time_ms` lies in, in Unix milliseconds: the account is kept by such hours."""
    return time_ms - time_ms % HOUR_MS
