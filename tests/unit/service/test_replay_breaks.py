"""A replay that breaks off at any of its steps loses nothing and doubles nothing."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import numpy as np
import pytest

from firehose.errors import ConflictError, ThrottledError, UnavailableError
from firehose.state import Change, FinishReplay
from tests.service_world import ServiceWorld, ask, put, runner_of, total
from tests.unit.service.replaying import BAD, fail, replay_all


class Breaking:
    """A log or state that fails one kind of call, before or after it worked."""

    def __init__(self, thing: Any, verb: str, error: BaseException, *, when: str, only: Any = lambda *_: True) -> None:
        self._thing, self._verb, self._error, self._when, self._only = thing, verb, error, when, only
        self.is_broken = True

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._thing, name)
        if name != self._verb or not self.is_broken:
            return found

        async def call(*arguments: Any, **more: Any) -> Any:
            if not self._only(*arguments):
                return await found(*arguments, **more)
            if self._when == "after":
                await found(*arguments, **more)
            raise self._error

        return call


def _finishes(*changes: Any) -> bool:
    return any(isinstance(each, FinishReplay) for each in changes)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", ["plan", "put", "finish"])
async def test_a_crash_at_any_step_of_a_put_neither_loses_nor_doubles(
    world: ServiceWorld, step: str, when: str
) -> None:
    async with world.running(clicks=world.checked()) as service:
        await fail(world, service, *BAD)
    world.mark.touch()
    async with world.opened() as service:
        replays, error = service.replays, UnavailableError("the process ends here")
        if step == "put":
            replays._log = Breaking(replays._log, "append", error, when=when)  # type: ignore[assignment]
        else:
            only = _finishes if step == "finish" else (lambda *changes: not _finishes(*changes))
            replays._state = Breaking(replays._state, "apply", error, when=when, only=only)  # type: ignore[assignment]
        with pytest.raises(UnavailableError):
            await ask(service, "replay")
    async with world.opened() as service:
        found = await total(service)  # closes
        has_entered = (step, when) in {("put", "after"), ("finish", "before"), ("finish", "after")}
        assert found == ({"accepted": 20, "pending": 20} if has_entered else {"accepted": 20, "failed": 20})
    async with world.running(clicks=world.checked()) as service:
        assert await replay_all(service) == (0 if has_entered else 20)
        await world.delivered(service)
        assert await total(service) == {"accepted": 20, "delivered": 20}
    assert world.records() == Counter(BAD)


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_state_that_fails_for_a_moment_heals_without_a_restart(world: ServiceWorld, when: str) -> None:
    """The put may be delivered and its segment gone before the state works again."""
    async with world.running(clicks=world.checked()) as service:
        await fail(world, service, *BAD)
        world.mark.touch()
        broken = Breaking(service.state, "apply", ThrottledError("full"), when=when, only=_finishes)
        service.replays._state = broken  # type: ignore[assignment]
        with pytest.raises(ThrottledError):
            await ask(service, "replay")
        await world.delivered(service)
        assert world.records() == Counter(BAD)
        await world.leap(3_600_000)
        await world.clock.advance(5_000)
        broken.is_broken = False
        await world.clock.advance(5_000)
        assert await replay_all(service) == 0
        await world.delivered(service)
        assert await total(service) == {"accepted": 20, "delivered": 20}
    assert world.records() == Counter(BAD)


async def test_a_full_log_is_told_and_what_was_moved_stays_moved(
    world: ServiceWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("firehose.operations.replay.PUT_BYTES", 1)
    async with world.running(clicks=world.checked()) as service:
        await fail(world, service, *BAD)
        world.mark.touch()
        puts = 0

        def third(*_: Any) -> bool:
            nonlocal puts
            puts += 1
            return puts == 3

        service.replays._log = Breaking(service.log, "append", ThrottledError("Slow down."), when="before", only=third)  # type: ignore[assignment]
        with pytest.raises(ThrottledError, match="stream 'clicks': the ingest log has no room; replay again later"):
            await ask(service, "replay")
        await world.delivered(service)
        assert await total(service) == {"accepted": 20, "delivered": 2, "failed": 18}
        assert await replay_all(service) == 18
        await world.delivered(service)
    assert world.records() == Counter(BAD)


# a file that a thread opens for a caller that has gone is closed by the garbage collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_caller_that_goes_away_leaves_a_whole_put_behind(world: ServiceWorld) -> None:
    async with world.running(clicks=world.checked()) as service:
        await fail(world, service, *BAD)
        world.mark.touch()
        for _ in range(30):
            asking = asyncio.create_task(ask(service, "replay", limit=2))
            for _ in range(30):
                await asyncio.sleep(0)
            asking.cancel()
            await asyncio.wait([asking])
            await total(service)
        await replay_all(service)
        await world.delivered(service)
        assert await total(service) == {"accepted": 20, "delivered": 20}
    assert world.records() == Counter(BAD)


async def test_a_replay_does_not_feed_a_stream_that_is_deleted_meanwhile(world: ServiceWorld) -> None:
    async with world.running() as service:
        await service.create_stream("clicks", world.checked(), definition={})
        await fail(world, service, *BAD)
        runner = runner_of(service)
        await service.delete_stream("clicks")
        assert (await ask(service, "replay"))["replayed"] == 0, "one that is going is left out"
        await world.until(lambda: not service.runners)
        with pytest.raises(ConflictError, match="'clicks' was deleted meanwhile"):
            await service.replays.put(runner, None, None, np.array([0]))  # type: ignore[arg-type]
        assert await total(service) == {"accepted": 20, "failed": 20}


async def test_a_stream_is_removed_only_when_it_is_known_what_became_of_its_replay(world: ServiceWorld) -> None:
    """Found by the simulation: the rows of a replay that broke off were counted as failed, and as discarded."""
    async with world.running() as service:
        await service.create_stream("clicks", world.checked(), definition={})
        await put(service, "clicks", b"bad one")
        await world.delivered(service)
        await runner_of(service).pause(True)
        apply = service.state.apply

        async def breaks_off(*changes: Change) -> None:
            if isinstance(changes[0], FinishReplay):
                raise UnavailableError("the disk is busy")
            await apply(*changes)

        service.state.apply = breaks_off  # type: ignore[method-assign] # at this very moment
        with pytest.raises(UnavailableError):
            await ask(service, "replay")
        service.state.apply = apply  # type: ignore[method-assign] # it is well again
        await service.delete_stream("clicks")
        await world.until(lambda: not service.runners)
        assert await total(service) == {"accepted": 1, "discarded": 1}
