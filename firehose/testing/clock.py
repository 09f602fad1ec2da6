"""Time that passes only when a test says so."""

from __future__ import annotations

import asyncio
import heapq
from itertools import count

#: Turns of the event loop that let every task go as far as it can without time: chains of awaits are shorter than this.
_TURNS = 200


class FakeClock:
    """A clock that stands still. `advance` moves it, waking sleepers in the order of their times."""

    def __init__(self, now_ms: int = 1_767_225_600_000) -> None:
        self._now_ms = now_ms
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []
        self._numbers = count()

    def now_ms(self) -> int:
        return self._now_ms

    def monotonic_ms(self) -> int:
        return self._now_ms

    async def sleep_ms(self, duration_ms: int) -> None:
        if duration_ms <= 0:
            await asyncio.sleep(0)
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now_ms + duration_ms, next(self._numbers), woken))
        await woken

    async def wait(self, event: asyncio.Event, timeout_ms: int | None) -> bool:
        if event.is_set() or timeout_ms is None:
            return await event.wait()
        waiting = asyncio.ensure_future(event.wait())
        sleeping = asyncio.ensure_future(self.sleep_ms(timeout_ms))
        try:
            await asyncio.wait((waiting, sleeping), return_when=asyncio.FIRST_COMPLETED)
            return event.is_set()
        finally:
            waiting.cancel()
            sleeping.cancel()

    async def settle(self) -> None:
        """Let every task go as far as it can without time."""
        for _ in range(_TURNS):
            await asyncio.sleep(0)

    async def advance(self, duration_ms: int) -> None:
        """Let time pass."""
        until_ms = self._now_ms + duration_ms
        await self.settle()
        while self._sleepers and self._sleepers[0][0] <= until_ms:
            due_ms, _, woken = heapq.heappop(self._sleepers)
            self._now_ms = max(self._now_ms, due_ms)
            if not woken.done():
                woken.set_result(None)
                await self.settle()
        self._now_ms = until_ms
        await self.settle()
