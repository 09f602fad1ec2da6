"""Producers of a simulated world: they put records once, or until they are answered, and note what they were told."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import NamedTuple

from firehose import arrow
from firehose.errors import FirehoseError, NotFoundError, ThrottledError
from firehose.ports import PutAnswer
from firehose.service import Service

STREAM = "clicks"

#: How long a producer goes on sending a put again: a little less than puts are known.
RETRIED_MS = 14 * 60_000


class _Unanswered(NamedTuple):
    """A put that was sent, and not answered."""

    records: list[bytes]
    #: The stream that it was sent to first.
    uid: str
    begun_ms: int


class Producers:
    """All that ever put something. Outlive every process, as machines elsewhere do.

    `sends_copies`: the stream is to drop records with an id that it knows, and gets such ones.
    """

    def __init__(self, chance: random.Random, now_ms: Callable[[], int], is_forgetful: Callable[[], bool]) -> None:
        self.chance = chance
        self._now_ms = now_ms
        #: Says whether it was told that puts may not be known any more.
        self._is_forgetful = is_forgetful
        self.sends_copies = False
        self.is_calm = False
        self._numbers = iter(range(10**9))
        #: What each record is known to be: acknowledged, refused, or (as when its producer got no answer) unknown.
        self.acknowledged: set[bytes] = set()
        self.refused: set[bytes] = set()
        #: Records that were sent again although they were acknowledged, or twice in one put.
        self.copied: set[bytes] = set()
        #: Puts whose producers go on sending them, by their names.
        self.unanswered: dict[bytes, _Unanswered] = {}
        #: Where acknowledged records lie: (stream uid, shard, sequence) by record.
        self.places: dict[bytes, tuple[str, str, int]] = {}

    def records(self, size: int, count: int) -> list[bytes]:
        """Return records with ids of their own, and some that were sent before."""
        found = [b'{"id":%d,"more":"%s"}' % (next(self._numbers), b"x" * size) for _ in range(count)]
        if self.sends_copies and self.chance.random() < 0.7:
            known = [*self.acknowledged, *found]
            copies = self.chance.choices(sorted(known), k=self.chance.randint(1, 5))
            self.copied |= set(copies)
            found += copies
            self.chance.shuffle(found)
        return found

    async def produce(self, service: Service, puts: int) -> None:
        """Make some puts, of which some are made until they are answered."""
        for _ in range(puts):
            records = self.records(self.chance.choice((0, 10, 200, 2_000)), self.chance.randint(1, 20))
            runner = service.runners.get(STREAM)
            if runner is None or self.chance.random() < 0.5:
                await self._send_once(service, records)
            else:
                name = b"put%d" % next(self._numbers)
                self.unanswered[name] = _Unanswered(records, runner.record.uid, self._now_ms())
                await self._send_until_answered(service, name)
            await asyncio.sleep(self.chance.choice((0, 0, 0.01, 1, 10)))

    async def _send_once(self, service: Service, records: list[bytes]) -> None:
        try:
            answer = await service.put(STREAM, arrow.binary_column(records))
        except (ThrottledError, NotFoundError):
            self.refused |= set(records) - self.copied
        except FirehoseError:
            pass  # nobody knows
        else:
            self._acknowledge(records, answer)

    async def _send_until_answered(self, service: Service, name: bytes) -> None:
        for pause_s in self.chance.choices((0, 1, 20), k=self.chance.randint(0, 4)):
            if await self.send_again(service, name):
                return
            await asyncio.sleep(pause_s)

    async def send_again(self, service: Service, name: bytes) -> bool:
        """Make the next attempt of a put, as an SDK does; return whether there need be no other."""
        put = self.unanswered.get(name)
        if put is None:
            return True
        is_late = self._now_ms() - put.begun_ms > RETRIED_MS
        runner = service.runners.get(STREAM)
        if is_late or self._is_forgetful() or runner is None or runner.record.uid != put.uid:
            del self.unanswered[name]  # its producer gave up, and nobody knows
            return True
        try:
            answer = await service.put(STREAM, arrow.binary_column(put.records), token=name)
        except FirehoseError:
            return False
        if self.chance.random() < 0.4 and not self.is_calm:
            return False  # the answer is lost on its way
        self.unanswered.pop(name, None)
        self._acknowledge(put.records, answer)
        return True

    def _acknowledge(self, records: list[bytes], answer: PutAnswer) -> None:
        self.acknowledged |= set(records)
        for number, record in enumerate(records):
            self.places[record] = (answer.stream_uid, answer.shard, answer.first_sequence + number)
