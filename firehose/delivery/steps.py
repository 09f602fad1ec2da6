"""Steps that every row must pass: done again and again until they work, while the rows wait where they are."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from firehose.clock import Clock
from firehose.delivery.backoff import Backoff
from firehose.delivery.events import StepFailed
from firehose.errors import FirehoseError, StaleEpochError, UnavailableError
from firehose.telemetry import Emitter

T = TypeVar("T")


class Steps:
    """Runs the steps of one stream and knows which of them fail now."""

    def __init__(self, stream: str, clock: Clock, telemetry: Emitter, chance: random.Random) -> None:
        self._stream = stream
        self._clock = clock
        self._telemetry = telemetry
        self._chance = chance
        self._hurry = asyncio.Event()
        #: What each failing step failed with last.
        self.errors: dict[str, FirehoseError] = {}

    async def run(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        """Return what `call` returns, once it does. Errors: StaleEpochError, which no waiting heals."""
        backoff = Backoff(self._chance)
        while True:
            try:
                result = await call()
            except StaleEpochError:
                raise
            except (FirehoseError, OSError) as error:
                await self._clock.wait(self._hurry, self.fail(name, error, backoff))
            else:
                self.succeed(name)
                return result

    def hurry(self) -> None:
        """Try what waits for its next attempt at once."""
        self._hurry.set()
        self._hurry = asyncio.Event()

    def fail(self, name: str, caught: FirehoseError | OSError, backoff: Backoff) -> int:
        """Tell that a step failed, and return how long to wait before it is tried again."""
        error = caught if isinstance(caught, FirehoseError) else UnavailableError(str(caught))
        wait_ms = backoff.after(error)
        self.errors[name] = error
        self._telemetry.emit(StepFailed(self._stream, name, error.code, str(error), wait_ms))
        return wait_ms

    def succeed(self, name: str) -> None:
        """Tell that a step works."""
        self.errors.pop(name, None)
