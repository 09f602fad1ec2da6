"""How long a failed attempt waits for the next one."""

from __future__ import annotations

import random

import pytest

from firehose.delivery.backoff import LAST_MS, LONGEST_WISH_MS, Backoff
from firehose.errors import AccessDeniedError, ThrottledError, UnavailableError


@pytest.mark.parametrize("error", [UnavailableError("down"), AccessDeniedError("no")])
def test_waits_grow_to_half_a_minute_and_are_never_equal_for_all(error: Exception) -> None:
    backoff = Backoff(random.Random(1))
    waits = [backoff.after(error) for _ in range(60)]
    assert waits[0] <= 200 and max(waits) <= LAST_MS and len(set(waits[20:])) > 30
    assert all(wait >= LAST_MS / 2 for wait in waits[10:])
    backoff.reset()
    assert backoff.after(error) <= 200


def test_a_wish_to_wait_is_granted_within_reason() -> None:
    backoff = Backoff(random.Random(1))
    assert backoff.after(ThrottledError("slow down", retry_after_ms=7_000)) == 7_000
    assert backoff.after(ThrottledError("slow down", retry_after_ms=10**12)) == LONGEST_WISH_MS
