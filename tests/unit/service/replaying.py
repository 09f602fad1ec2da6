"""What tests of replays share: records that fail, and a replay as the command does it."""

from __future__ import annotations

from typing import Any

from firehose.service import Service
from tests.service_world import ServiceWorld, ask, put

BAD = [b"bad %d" % number for number in range(20)]


async def fail(world: ServiceWorld, service: Service, *records: bytes, name: str = "clicks") -> None:
    """Put records and let them fail."""
    await put(service, name, *records)
    await world.delivered(service, name)


async def replay_all(service: Service, **parameters: Any) -> int:
    """Replay as the command does: call after call, until it is done."""
    moved = 0
    while True:
        answer = await ask(service, "replay", **parameters)
        moved += answer["replayed"]
        assert answer["problems"] == []
        if answer["done"]:
            return moved
