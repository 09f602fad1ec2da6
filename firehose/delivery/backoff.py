"""How long to wait between attempts: exponential, jittered, bounded."""

from __future__ import annotations

import random

from firehose.errors import PermanentError, RetryableError

FIRST_MS = 200
#: Errors are tried again at least this often: a destination that is back is noticed within half a minute.
LAST_MS = 30_000
#: The longest wish (`Retry-After`) that is granted: who wishes for more is asked again all the same.
LONGEST_WISH_MS = 300_000


class Backoff:
    """Counts failures in a row and says how long to wait."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self.failures = 0

    def after(self, error: Exception) -> int:
        """Return the milliseconds to wait after one more failure.

        Errors that somebody must repair start at the slow end: they do not heal within a second.
        """
        wait_ms = (
            LAST_MS
            if isinstance(error, PermanentError) and self.failures > 3
            else FIRST_MS * 2 ** min(self.failures, 16)
        )
        self.failures += 1
        wait_ms = min(wait_ms, LAST_MS)
        wished_ms = error.retry_after_ms if isinstance(error, RetryableError) else None
        return max(min(wished_ms or 0, LONGEST_WISH_MS), int(wait_ms * self._chance.uniform(0.5, 1.0)))

    def reset(self) -> None:
        """Forget the failures: something went well."""
        self.failures = 0
