"""A store far away that honours If-None-Match, and the ways in which a delivery to it goes wrong.

A request that was sent may arrive although its sender gave up, or died: it lands later, as on a real network.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from firehose.errors import ConflictError, NotFoundError, UnavailableError
from firehose.filesystem import FileSystem
from firehose.protocols import Delivery, ObjectInfo, Receipt


@dataclass(frozen=True, slots=True)
class Sent:
    """One request on its way. `lands_ms`: when it arrives, None where it never does."""

    key: str
    body: bytes
    checksum: str
    metadata: Mapping[str, str]
    #: The uid of the stream that sent it.
    owner: str
    lands_ms: int | None


@dataclass(slots=True)
class Weather:
    """How likely each thing is that goes wrong."""

    refused: float = 0.0
    lost: float = 0.0
    reply_lost: float = 0.0
    gives_up: float = 0.0
    slowest_ms: int = 50


CALM = Weather()


@dataclass(slots=True)
class Bucket:
    """What lies in the store, and what is on its way there. Outlives every process."""

    chance: random.Random
    weather: Weather = field(default_factory=Weather)
    objects: dict[str, Sent] = field(default_factory=dict)
    on_the_way: list[Sent] = field(default_factory=list)
    #: Everything that was ever sent.
    history: list[Sent] = field(default_factory=list)

    def send(self, delivery: Delivery, body: bytes, owner: str, now_ms: int) -> Sent:
        """Put a request on its way."""
        is_lost = self.chance.random() < self.weather.lost
        lands_ms = None if is_lost else now_ms + self.chance.randint(0, self.weather.slowest_ms)
        sent = Sent(delivery.key, body, delivery.checksum, dict(delivery.metadata), owner, lands_ms)
        self.history.append(sent)
        if lands_ms is not None:
            self.on_the_way.append(sent)
        return sent

    def settle(self, now_ms: int) -> None:
        """Let land what has arrived by now: the first one under a key stands."""
        due = [each for each in self.on_the_way if each.lands_ms is not None and each.lands_ms <= now_ms]
        for each in sorted(due, key=lambda sent: sent.lands_ms or 0):
            self.on_the_way.remove(each)
            self.objects.setdefault(each.key, each)


class BucketSink:
    """A sink of one process. Fulfils `Sink` and `ObjectReader`."""

    url = "memory://bucket"

    def __init__(self, bucket: Bucket, files: FileSystem, owner: str, now_ms: Callable[[], int]) -> None:
        self._bucket = bucket
        self._files = files
        self._owner = owner
        self._now_ms = now_ms

    async def deliver(self, delivery: Delivery) -> Receipt:
        bucket, weather, chance = self._bucket, self._bucket.weather, self._bucket.chance
        await asyncio.sleep(chance.random() * weather.slowest_ms / 1_000)
        if chance.random() < weather.refused:
            raise UnavailableError("the store refuses")
        try:
            body = self._files.read(delivery.path, delivery.offset, delivery.body_bytes)
        except OSError as error:
            raise UnavailableError(f"the outbox cannot be read: {error}") from error
        assert hashlib.sha256(body).hexdigest() == delivery.checksum, "the outbox holds other bytes than it should"
        sent = bucket.send(delivery, body, self._owner, self._now_ms())
        if chance.random() < weather.gives_up:
            raise UnavailableError("no reply in time")
        if sent.lands_ms is None:
            await asyncio.sleep(weather.slowest_ms / 1_000)
            raise UnavailableError("the connection was lost")
        await asyncio.sleep(max(0, sent.lands_ms - self._now_ms() + 1) / 1_000)
        bucket.settle(self._now_ms())
        stands = bucket.objects[delivery.key]
        if chance.random() < weather.reply_lost:
            raise UnavailableError("the reply was lost")
        if stands is not sent and stands.checksum != delivery.checksum:
            raise ConflictError(f"{delivery.key} stands there with other bytes")
        return Receipt(delivery.rows, existed=stands is not sent)

    async def check(self) -> None:
        """It can always be reached, now and then."""

    async def close(self) -> None:
        """Nothing is held open."""

    async def stat(self, key: str) -> ObjectInfo:
        await asyncio.sleep(0)
        if self._bucket.chance.random() < self._bucket.weather.refused:
            raise UnavailableError("the store refuses")
        self._bucket.settle(self._now_ms())
        if key not in self._bucket.objects:
            raise NotFoundError(f"no object {key}")
        found = self._bucket.objects[key]
        return ObjectInfo(key, len(found.body), 0, found.checksum, None, found.metadata)

    @asynccontextmanager
    async def open(self, key: str) -> AsyncIterator[AsyncIterator[bytes]]:
        await self.stat(key)

        async def chunks() -> AsyncIterator[bytes]:
            yield self._bucket.objects[key].body

        yield chunks()

    async def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        for key in sorted(self._bucket.objects):
            if key.startswith(prefix):
                yield await self.stat(key)
