from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from firehose.budget import BudgetShare, ByteBudget


async def start(coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Start a task and let it run until it waits."""
    task = asyncio.create_task(coroutine)
    await asyncio.sleep(0)
    return task


async def test_grants_what_is_free() -> None:
    budget = ByteBudget(100)
    assert budget.try_take(60)
    assert not budget.try_take(41)
    await budget.take(40)
    assert budget.used_bytes == 100
    budget.give(100)
    assert budget.used_bytes == 0


async def test_waits_until_enough_was_given_back() -> None:
    budget = ByteBudget(100)
    await budget.take(100)
    waiting = await start(budget.take(50))
    budget.give(49)
    await asyncio.sleep(0)
    assert not waiting.done()
    assert budget.is_contended
    budget.give(1)
    await waiting
    assert budget.used_bytes == 100
    assert not budget.is_contended


async def test_serves_in_order_so_that_a_large_taker_is_not_starved() -> None:
    budget = ByteBudget(100)
    await budget.take(60)
    large = await start(budget.take(80))
    small = await start(budget.take(10))
    assert not budget.try_take(1)
    assert not small.done()
    budget.give(60)
    await large
    await small
    assert budget.used_bytes == 90


async def test_grants_more_than_the_limit_only_when_nothing_is_held() -> None:
    budget = ByteBudget(100)
    await budget.take(1)
    huge = await start(budget.take(1_000))
    assert not huge.done()
    budget.give(1)
    await huge
    assert budget.used_bytes == 1_000
    assert not budget.try_take(0)


async def test_says_that_somebody_waits() -> None:
    budget = ByteBudget(100)
    await budget.take(100)
    assert not budget.contended.is_set()
    waiting = await start(budget.take(1))
    assert budget.contended.is_set()
    budget.give(100)
    await waiting


async def test_a_cancelled_taker_holds_nothing_and_lets_the_next_one_pass() -> None:
    budget = ByteBudget(100)
    await budget.take(60)
    large = await start(budget.take(80))
    small = await start(budget.take(10))
    large.cancel()
    with pytest.raises(asyncio.CancelledError):
        await large
    await small
    assert budget.used_bytes == 70


async def test_a_taker_cancelled_after_its_grant_gives_the_bytes_back() -> None:
    budget = ByteBudget(100)
    await budget.take(100)
    waiting = await start(budget.take(50))
    budget.give(100)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert budget.used_bytes == 0


async def test_a_taker_cancelled_before_bytes_are_given_back_ends_as_cancelled() -> None:
    budget = ByteBudget(100)
    await budget.take(100)
    waiting = await start(budget.take(50))
    waiting.cancel()
    budget.give(100)
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert budget.used_bytes == 0
    assert not budget.is_contended


async def test_overdraws_for_bytes_that_exist_already() -> None:
    budget = ByteBudget(100)
    budget.overdraw(150)
    assert budget.used_bytes == 150
    assert not budget.try_take(1)
    budget.give(150)
    assert budget.try_take(100)


@pytest.mark.parametrize("amount_bytes", [-1, 11])
async def test_refuses_to_take_back_what_was_not_taken(amount_bytes: int) -> None:
    budget = ByteBudget(100)
    await budget.take(10)
    with pytest.raises(AssertionError, match="gave back"):
        budget.give(amount_bytes)


async def test_a_share_gives_everything_back_when_it_ends() -> None:
    budget = ByteBudget(100)
    share, other = BudgetShare(budget), BudgetShare(budget)
    await share.take(60)
    share.overdraw(30)
    await other.take(10)
    share.give(20)
    assert (share.used_bytes, other.used_bytes, budget.used_bytes) == (70, 10, 80)
    with pytest.raises(AssertionError, match="gave back"):
        other.give(11)
    share.close()
    assert (share.used_bytes, budget.used_bytes) == (0, 10)
