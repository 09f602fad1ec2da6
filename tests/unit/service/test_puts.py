"""Puts, as the service takes them."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from firehose import arrow
from firehose.errors import UnavailableError
from firehose.service import service as module
from firehose.service.events import LogMeasured, PutRepeated
from tests.service_world import ServiceWorld, ask, put, total


async def test_a_put_over_a_disk_that_hangs_ends_and_its_next_attempt_is_the_same_put(
    world: ServiceWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PUT_DEADLINE_S", 0.2)
    async with world.running(clicks=world.config()) as service:
        files: Any = service.environment.files
        hangs, append = threading.Event(), files.append

        def hanging(path: Any) -> Any:
            hangs.wait(60)
            return append(path)

        monkeypatch.setattr(files, "append", hanging)
        for token in (b"", b"named"):
            with pytest.raises(UnavailableError, match=r"disk did not answer in 0\.2 s"):
                await service.put("clicks", arrow.binary_column([b"one"]), token=token)
        monkeypatch.setattr(module, "PUT_DEADLINE_S", 30)
        again = asyncio.create_task(service.put("clicks", arrow.binary_column([b"one"]), token=b"named"))
        await asyncio.sleep(0)
        hangs.set()
        assert (await again).is_repeat
        assert [event.records for event in world.telemetry.of(PutRepeated)] == [1]
        await world.delivered(service)
        found = await total(service)
        assert found["accepted"] in (1, 2), "nobody knows of the one without a name"


async def test_a_key_is_one_of_its_stream(world: ServiceWorld) -> None:
    async with world.running(clicks=world.config(), other=world.config("other")) as service:
        for name in ("clicks", "other", "clicks"):
            await service.put(name, arrow.binary_column([b"x"]), token=b"k")
        await put(service, "clicks", b"y")
        await world.delivered(service)
        assert (await total(service))["accepted"] == 2 and (await total(service, "other"))["accepted"] == 1


async def test_keys_are_known_after_a_restart_and_not_by_a_stream_that_is_made_anew(world: ServiceWorld) -> None:
    async with world.running(clicks=world.config()) as service:
        first = await service.put("clicks", arrow.binary_column([b"x"]), token=b"k")
        await world.delivered(service)
    async with world.running(clicks=world.config()) as service:
        again = await service.put("clicks", arrow.binary_column([b"x"]), token=b"k")
        assert again.is_repeat and (again.shard, again.first_sequence) == (first.shard, first.first_sequence)
    async with world.running() as service:
        await world.until(lambda: not service.runners)
    async with world.running(clicks=world.config()) as service:
        assert not (await service.put("clicks", arrow.binary_column([b"x"]), token=b"k")).is_repeat


async def test_it_is_shown_how_far_back_puts_are_known(world: ServiceWorld) -> None:
    async with world.running(clicks=world.config()) as service:
        assert (await ask(service, "status"))["retry_window_ms"] == 15 * 60_000
        await world.until(lambda: world.telemetry.of(LogMeasured), "a measurement")
        assert world.telemetry.of(LogMeasured)[-1].retry_window_ms == 15 * 60_000
