"""A sink in memory that can fail in the ways real ones do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from firehose.errors import ConflictError, NotFoundError
from firehose.protocols import Delivery, ObjectInfo, Receipt

#: Asked at each step of a delivery (`before`, `after`) for the error to raise there, if any.
Fault = Callable[[str, Delivery], Exception | None]


class MemorySink:
    """Keeps objects; creating is conditional, as in a store that honours If-None-Match."""

    url = "memory://"

    def __init__(self) -> None:
        self.objects: dict[str, tuple[Delivery, bytes]] = {}
        self.fault: Fault = lambda step, delivery: None
        self.attempts: list[str] = []

    async def deliver(self, delivery: Delivery) -> Receipt:
        self.attempts.append(delivery.key)
        self._fail("before", delivery)
        body = delivery.path.read_bytes()[delivery.offset : delivery.offset + delivery.body_bytes]
        existed = delivery.key in self.objects
        if existed and self.objects[delivery.key][0].checksum != delivery.checksum:
            raise ConflictError(f"{delivery.key} stands there with other bytes")
        self.objects.setdefault(delivery.key, (delivery, body))
        self._fail("after", delivery)
        return Receipt(delivery.rows, existed=existed)

    def _fail(self, step: str, delivery: Delivery) -> None:
        error = self.fault(step, delivery)
        if error is not None:
            raise error

    async def check(self) -> None:
        """Memory can always be reached."""

    async def close(self) -> None:
        """Nothing is held open."""

    async def stat(self, key: str) -> ObjectInfo:
        if key not in self.objects:
            raise NotFoundError(f"no object {key}")
        delivery, body = self.objects[key]
        return ObjectInfo(key, len(body), 0, delivery.checksum, delivery.content_encoding, delivery.metadata)

    @asynccontextmanager
    async def open(self, key: str) -> AsyncIterator[AsyncIterator[bytes]]:
        await self.stat(key)

        async def chunks() -> AsyncIterator[bytes]:
            yield self.objects[key][1]

        yield chunks()

    async def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        for key in sorted(self.objects):
            if key.startswith(prefix):
                yield await self.stat(key)
