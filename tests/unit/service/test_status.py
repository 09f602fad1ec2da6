"""What `status` says of functions that fail, and of producers that are throttled."""

from __future__ import annotations

import random

import pytest

from firehose.errors import ThrottledError
from tests.service_world import ServiceWorld, ask, put


async def test_a_function_that_fails_is_the_last_error_until_it_answers(world: ServiceWorld) -> None:
    right = (world.folder / "check.py").read_text()
    (world.folder / "check.py").write_text("def handler(event, context):\n")
    config = world.config(transforms=[{"type": "lambda", "function": "check", "retries": 0}])
    async with world.running(clicks=config) as service:
        await put(service, "clicks", b"one")
        await world.delivered(service)
        (stream,) = (await ask(service, "status"))["streams"]
        assert stream["state"] == "delivering", "its records fail, the stream goes on"
        assert stream["last_error"]["code"] == "Lambda.FunctionError"
        assert stream["last_error"]["message"].startswith("function 'check': ")
        assert f"({world.folder}/check.py:1)" in stream["last_error"]["message"]
        (world.folder / "check.py").write_text(right)
        await put(service, "clicks", b"two")
        await world.delivered(service)
        assert (await ask(service, "status"))["streams"][0]["last_error"] is None


async def test_a_full_log_is_told(world: ServiceWorld) -> None:
    words = world.configuration(clicks=world.config()).model_dump(mode="json", by_alias=True)
    words["server"]["log_quota"] = "1MiB"
    configuration = type(world.configuration()).model_validate(words)
    chance = random.Random(0)
    async with world.running_as(configuration) as service:
        assert (await ask(service, "status"))["log_is_full"] is False
        await ask(service, "pause", stream="clicks")
        with pytest.raises(ThrottledError):
            for _ in range(100):
                await put(service, "clicks", chance.randbytes(500_000))
        assert (await ask(service, "status"))["log_is_full"] is True
