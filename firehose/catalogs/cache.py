"""What catalogs said, within bounds: so many tables for so long, and one question at a time for each.

A table is looked up for each object, and whoever is asked counts calls, AWS Glue for a whole account: so an answer is
believed for a minute. It is not believed longer where the catalog cannot be asked again. By then the table may have
new columns, and what a record holds for a column that the converter does not know is left out without a word: a record
that waits is late, one that was converted to the table of yesterday has lost something.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from copy import copy
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from firehose.clock import Clock
from firehose.errors import FirehoseError
from firehose.protocols import TableSchema

#: How long an answer is believed: so much later at most is a new version of a table seen.
BELIEVED_MS = 60_000

#: How many tables a catalog remembers; the one that was not wanted for the longest time goes first.
MAX_KNOWN = 1_000

K = TypeVar("K")
V = TypeVar("V")

#: Database, table and version, as they were asked for.
Name = tuple[str, str, str]


class Recent(Generic[K, V]):
    """The values that were used last, `most` of them."""

    def __init__(self, most: int = MAX_KNOWN) -> None:
        self._most = most
        self._values: OrderedDict[K, V] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: K) -> V | None:
        """Return the value, which counts as a use, or None."""
        if key not in self._values:
            return None
        self._values.move_to_end(key)
        return self._values[key]

    def put(self, key: K, value: V) -> None:
        """Remember a value in the place of what stood there; one too many goes."""
        self._values[key] = value
        self._values.move_to_end(key)
        if len(self._values) > self._most:
            self._values.popitem(last=False)


class _Known(NamedTuple):
    asked_ms: int
    schema: TableSchema


@dataclass(slots=True)
class _Question:
    """A question under way, and what became of it: neither, where whoever asked was stopped."""

    is_over: asyncio.Event = field(default_factory=asyncio.Event)
    schema: TableSchema | None = None
    error: FirehoseError | None = None


class Believed:
    """The tables of a catalog that has to be asked for them."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: Recent[Name, _Known] = Recent()
        self._questions: dict[Name, _Question] = {}

    async def get(self, name: Name, ask: Callable[[], Awaitable[TableSchema]]) -> TableSchema:
        """Return what `ask` answered in the last minute, to this caller or to another.

        Who comes while somebody asks gets the same answer. Errors: those of `ask`, which are not remembered.
        """
        while True:
            known = self._known.get(name)
            if known is not None and self._clock.monotonic_ms() < known.asked_ms + BELIEVED_MS:
                return known.schema
            question = self._questions.get(name)
            if question is None:
                return await self._ask(name, ask)
            await question.is_over.wait()
            if question.schema is not None:
                return question.schema
            if question.error is not None:
                raise copy(question.error) from question.error  # his own: he may add to its text

    def put(self, name: Name, schema: TableSchema) -> None:
        """Believe `schema` from now on; an answer to a question under way is older, and not remembered."""
        self._known.put(name, _Known(self._clock.monotonic_ms(), schema))
        self._questions.pop(name, None)

    async def _ask(self, name: Name, ask: Callable[[], Awaitable[TableSchema]]) -> TableSchema:
        asked_ms = self._clock.monotonic_ms()
        question = self._questions[name] = _Question()
        try:
            schema = question.schema = await ask()
        except FirehoseError as error:
            question.error = error
            raise
        finally:
            is_latest = self._questions.get(name) is question
            if is_latest:
                del self._questions[name]
            question.is_over.set()
        if is_latest:
            self._known.put(name, _Known(asked_ms, schema))
        return schema
