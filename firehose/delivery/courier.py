"""From finished objects to delivered ones: every attempt sends the same bytes under the same key."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from firehose.clock import Clock
from firehose.delivery.backoff import Backoff
from firehose.delivery.events import DeliveryFailed, ObjectDelivered
from firehose.delivery.outbox import Outbox
from firehose.delivery.plan import Outlet, StreamPlan
from firehose.delivery.standing import what_stands
from firehose.errors import ConflictError, FirehoseError, IntegrityError, StaleEpochError
from firehose.protocols import Delivery
from firehose.state import Intent
from firehose.telemetry import Emitter

#: Objects of one outlet on their way at once: enough to hide the round trips, few enough to bound what a broken
#: destination may pile up in the outbox.
IN_FLIGHT = 4


def delivery_of(intent: Intent, path: Path) -> Delivery:
    """Return what a sink needs to know of an intent whose file is `path`."""
    return Delivery(
        key=intent.key,
        path=path,
        offset=intent.offset,
        body_bytes=intent.body_bytes,
        checksum=intent.checksum,
        rows=intent.rows,
        content_type=intent.content_type,
        content_encoding=intent.content_encoding,
        metadata=intent.metadata,
    )


#: So many objects wait for their next attempt as long as they would alone; of more, each waits longer, so that a
#: destination that is away is not asked by thousands. The first that stands wakes all.
WAITING_AT_ONCE = 16


class PlaceKeptError(Exception):
    """An object without rows stands under the key, and always will: these rows were sent under it once before."""


class Courier:
    """Delivers the objects of one outlet, a few at a time, and tries again until they stand or their rows expire."""

    def __init__(
        self,
        plan: StreamPlan,
        outlet: Outlet,
        outbox: Outbox,
        clock: Clock,
        telemetry: Emitter,
        chance: random.Random,
        *,
        on_failure: Callable[[], None],
    ) -> None:
        self._plan = plan
        self._outlet = outlet
        self._outbox = outbox
        self._clock = clock
        self._telemetry = telemetry
        self._chance = chance
        self._on_failure = on_failure
        self._places = asyncio.Semaphore(IN_FLIGHT)
        self._flush = asyncio.Event()
        self._may_send = asyncio.Event()
        self._may_send.set()
        self._waiting = 0
        #: The last failure that was not followed by a success.
        self.last_error: FirehoseError | None = None

    def pause(self, is_paused: bool) -> None:
        """Send nothing more, or go on."""
        if is_paused:
            self._may_send.clear()
        else:
            self._may_send.set()

    def hurry(self) -> None:
        """Try what waits for its next attempt at once."""
        self._flush.set()
        self._flush = asyncio.Event()

    async def deliver(self, intent: Intent, is_expired: Callable[[Intent], bool]) -> Intent | None:
        """Return the object as it stands in the end, or None where its rows expired before it could be delivered.

        Errors: PlaceKeptError; those that no waiting heals.
        """
        backoff = Backoff(self._chance)
        while True:
            try:
                async with self._places:
                    await self._may_send.wait()
                    stands, existed = await self._send(intent)
            except (StaleEpochError, IntegrityError, PlaceKeptError):
                raise  # bytes damaged on this disk never heal: the worker starts again, and makes the object again
            except FirehoseError as error:
                if is_expired(intent):
                    return await self._standing(intent)
                await self._wait(intent, error, backoff)
                continue
            self.last_error = None
            if self._waiting > WAITING_AT_ONCE:
                self.hurry()
            self._tell(stands, existed=existed)
            return stands

    async def _send(self, intent: Intent) -> tuple[Intent, bool]:
        """Send it once; return what stands, and whether it stood there before.

        Errors: PlaceKeptError, and those of the sink.
        """
        sink: Any = self._outlet.sink
        try:
            receipt = await self._outlet.sink.deliver(delivery_of(intent, self._outbox.path(intent)))
        except ConflictError:
            stands = what_stands(await sink.stat(intent.key), (intent,))
            if stands is None:
                raise
            if not len(stands.rows):
                raise PlaceKeptError(intent.key) from None
            return stands, True
        return intent, receipt.existed

    async def _standing(self, intent: Intent) -> Intent | None:
        """Return the object where it stands although no attempt was told so: an answer may have been lost.

        None where it does not, or where the store says nothing: it is given up all the same.
        """
        sink: Any = self._outlet.sink
        try:
            stands = what_stands(await sink.stat(intent.key), (intent,))
        except FirehoseError:
            return None
        if stands is None or not len(stands.rows):
            return None
        self._tell(stands, existed=True)
        return stands

    async def _wait(self, intent: Intent, error: FirehoseError, backoff: Backoff) -> None:
        self.last_error = error
        self._on_failure()
        wait_ms = backoff.after(error) * max(1, self._waiting // WAITING_AT_ONCE)
        self._telemetry.emit(
            DeliveryFailed(
                stream=self._plan.identity.name,
                outlet=self._outlet.name,
                url=self._outlet.sink.url,
                key=intent.key,
                code=error.code,
                error=str(error),
                failures=backoff.failures,
                retry_in_ms=wait_ms,
            )
        )
        self._waiting += 1
        try:
            await self._clock.wait(self._flush, wait_ms)
        finally:
            self._waiting -= 1

    def _tell(self, intent: Intent, *, existed: bool) -> None:
        self._telemetry.emit(
            ObjectDelivered(
                stream=self._plan.identity.name,
                outlet=self._outlet.name,
                url=self._outlet.sink.url,
                key=intent.key,
                records=int(intent.facts["records"]),
                body_bytes=intent.body_bytes,
                data_bytes=int(intent.facts["data_bytes"]),
                attempt=intent.attempt,
                existed=existed,
                freshness_ms=max(0, self._clock.now_ms() - intent.oldest_ms),
            )
        )
