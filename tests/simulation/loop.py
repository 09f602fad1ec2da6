"""An event loop whose time is made up, and which ends between any two steps as a process that is killed does."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any

from firehose.clock import SystemClock


class Crash(BaseException):
    """The process was killed here: nothing more of it runs, no `finally`, no `except`."""


class StuckError(AssertionError):
    """Everybody waits, and nothing will ever happen."""


class _Selector(selectors.DefaultSelector):
    """Lets the time pass that the loop wants to sleep, at once."""

    loop: SimulationLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise StuckError("everybody waits for somebody else")
        self.loop.passed_s += max(0.0, timeout)
        return super().select(0)


class SimulationLoop(asyncio.SelectorEventLoop):
    """Runs as fast as it can, always in the same order. Its time begins at 0: a float has no room for today's date and
    nanoseconds."""

    def __init__(self) -> None:
        selector = _Selector()
        selector.loop = self
        self.passed_s = 0.0
        self.steps_left = -1
        super().__init__(selector)
        self.set_exception_handler(lambda loop, context: None)  # tasks of a dead process are never awaited

    def time(self) -> float:
        return self.passed_s

    def _run_once(self) -> None:
        if self.steps_left == 0:
            raise Crash
        self.steps_left -= 1
        super()._run_once()  # type: ignore[misc] # asyncio's own step, which its stubs leave out

    def live(self, main: Coroutine[Any, Any, None], *, steps: int = -1) -> bool:
        """Run `main` to its end, or kill it after so many steps; returns whether it came to its end."""
        self.steps_left = steps
        try:
            self.run_until_complete(main)
        except Crash:
            return False
        return True


class LoopClock(SystemClock):
    """The clock of a process in a simulation. `begin_ms`: what the wall clock says at the loop's beginning."""

    def __init__(self, loop: SimulationLoop, begin_ms: int) -> None:
        self._loop = loop
        self._begin_ms = begin_ms

    def now_ms(self) -> int:
        return self._begin_ms + self.monotonic_ms()

    def monotonic_ms(self) -> int:
        return round(self._loop.passed_s * 1_000)
