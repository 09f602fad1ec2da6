"""One budget of bytes for the process: whoever holds rows in memory has taken their bytes here first."""

from __future__ import annotations

import asyncio
from collections import deque


class ByteBudget:
    """Bounds the bytes of rows in memory, whatever the number of streams, partitions or buffer hints.

    Taking is first come, first served, so that a large taker is not starved by small ones. A request larger than the
    whole budget is granted when nothing else is held: it could never be granted otherwise.
    """

    def __init__(self, limit_bytes: int) -> None:
        assert limit_bytes > 0
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        #: Set when somebody has to wait: holders that can spill to disk should do so now, and clear it.
        self.contended = asyncio.Event()
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def is_contended(self) -> bool:
        """True while somebody waits."""
        return bool(self._waiting)

    def try_take(self, amount_bytes: int) -> bool:
        """Take the bytes if they are free now and nobody waits; say whether they were taken."""
        assert amount_bytes >= 0
        if self._waiting or not self._fits(amount_bytes):
            return False
        self.used_bytes += amount_bytes
        return True

    async def take(self, amount_bytes: int) -> None:
        """Take the bytes, waiting until they are free."""
        if self.try_take(amount_bytes):
            return
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((amount_bytes, granted))
        self.contended.set()
        try:
            await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled():
                self.give(amount_bytes)
            else:
                if (amount_bytes, granted) in self._waiting:  # `_grant` may have met the cancelled one already
                    self._waiting.remove((amount_bytes, granted))
                self._grant()
            raise

    def overdraw(self, amount_bytes: int) -> None:
        """Take bytes that exist already, free or not: what a transform answered cannot be unanswered."""
        self.used_bytes += amount_bytes

    def give(self, amount_bytes: int) -> None:
        """Give bytes back."""
        assert 0 <= amount_bytes <= self.used_bytes, f"gave back {amount_bytes} of {self.used_bytes} bytes"
        self.used_bytes -= amount_bytes
        self._grant()

    def _fits(self, amount_bytes: int) -> bool:
        return self.used_bytes == 0 or self.used_bytes + amount_bytes <= self.limit_bytes

    def _grant(self) -> None:
        while self._waiting and self._fits(self._waiting[0][0]):
            amount_bytes, granted = self._waiting.popleft()
            if granted.cancelled():
                continue
            self.used_bytes += amount_bytes
            granted.set_result(None)


class BudgetShare:
    """What one holder has taken of a budget, so that all of it comes back when the holder ends, however it ends."""

    def __init__(self, budget: ByteBudget) -> None:
        self._budget = budget
        self.used_bytes = 0

    def try_take(self, amount_bytes: int) -> bool:
        """As `ByteBudget.try_take`."""
        is_taken = self._budget.try_take(amount_bytes)
        self.used_bytes += amount_bytes if is_taken else 0
        return is_taken

    async def take(self, amount_bytes: int) -> None:
        """As `ByteBudget.take`."""
        await self._budget.take(amount_bytes)
        self.used_bytes += amount_bytes

    def overdraw(self, amount_bytes: int) -> None:
        """As `ByteBudget.overdraw`."""
        self._budget.overdraw(amount_bytes)
        self.used_bytes += amount_bytes

    def give(self, amount_bytes: int) -> None:
        """As `ByteBudget.give`."""
        assert amount_bytes <= self.used_bytes, f"gave back {amount_bytes} of {self.used_bytes} bytes"
        self._budget.give(amount_bytes)
        self.used_bytes -= amount_bytes

    def close(self) -> None:
        """Give everything back."""
        self.give(self.used_bytes)
