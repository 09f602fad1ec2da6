"""`replay`: failed records enter their stream again, each at most once however often it is asked for.

One call moves a bounded number of records and says where it stopped, so that the caller can show progress, slow down,
or be killed: what was moved is in the ledger, and another call goes on with what was not.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from firehose import arrow
from firehose.errors import FirehoseError
from firehose.operations.entries import Entry, FailedReader, Filter
from firehose.operations.failed import OF_ONE_OBJECT, Problems, noting
from firehose.operations.parameters import chosen, number
from firehose.records import RowSet
from firehose.service import Service
from firehose.service.runner import StreamRunner
from firehose.state import Manifest

#: Records that one call moves at the most, unless it is told fewer.
RECORDS_A_CALL = 2_000

#: Payload bytes of one put into the log.
PUT_BYTES = 4 * 2**20


class _CannotReadError(FirehoseError):
    """The error output of a stream cannot be read now, whichever object."""


@contextmanager
def _reading() -> Iterator[None]:
    """Tell what keeps us from reading apart from what keeps us from writing."""
    try:
        yield
    except FirehoseError as error:
        raise _CannotReadError(str(error), code=error.code) from error


@dataclass(slots=True)
class Moved:
    """What a call did. `left`: records of objects that were not looked at to their end, matching or not."""

    replayed: int = 0
    replayed_before: int = 0
    left: int = 0
    problems: Problems = field(default_factory=list)


async def replay(service: Service, parameters: dict[str, Any]) -> dict[str, Any]:
    """Move failed records that match the filter back into their streams.

    Returns how many were moved (`replayed`; with `dry_run` how many would be), how many were replayed before, how many
    are `left` to look at, whether that is all (`done`), the `problems` met (what cannot be read is left out), and when
    it began (`at_ms`): with that as `failed_by_ms`, the next calls do not move again what was moved and failed again.
    Errors: ThrottledError where the log has no room; what was moved stays moved.
    """
    wanted, moved, at_ms = Filter.of(parameters), Moved(), service.environment.clock.now_ms()
    limit = None if parameters.get("dry_run") else number(parameters, "limit", RECORDS_A_CALL)
    async with service.replays.turn:
        for runner in chosen(service, parameters):
            reader = None
            with noting(moved.problems, runner.record.name, FirehoseError):
                reader = FailedReader(service, runner)
            if reader is not None and not runner.record.is_deleted:
                try:
                    await _Replay(service, runner, reader, wanted, limit, moved).run()
                finally:
                    await reader.close()
    return asdict(moved) | {"done": moved.left == 0, "at_ms": at_ms}


@dataclass(slots=True)
class _Replay:
    """Moves the records of one stream. `limit`: how many all streams together may move, None for a dry run."""

    service: Service
    runner: StreamRunner
    reader: FailedReader
    wanted: Filter
    limit: int | None
    moved: Moved

    async def run(self) -> None:
        """Move what matches, object by object. Errors: those of log and state; what cannot be read is noted."""
        with noting(self.moved.problems, self.runner.record.name, _CannotReadError):
            for manifest in await self.reader.manifests(self.wanted):
                waiting = self.reader.open_records(manifest)
                self.moved.replayed_before += len(manifest.intent.rows) - waiting
                if waiting and self._room == 0:
                    self.moved.left += waiting
                elif waiting:
                    async with aclosing(self._groups(manifest, waiting)) as groups:
                        async for group in groups:
                            await self._put(group)

    @property
    def _room(self) -> int | None:
        return None if self.limit is None else self.limit - self.moved.replayed

    async def _groups(self, manifest: Manifest, waiting: int) -> AsyncGenerator[Sequence[Entry], None]:
        """Yield what matches of one object in groups that each make one put, up to where it is damaged."""
        group: list[Entry] = []
        size = 0
        with _reading(), noting(self.moved.problems, self.runner.record.name, *OF_ONE_OBJECT, key=manifest.intent.key):
            async with aclosing(self.reader.entries(manifest)) as entries:
                async for entry in entries:
                    if entry.is_replayed:
                        continue
                    if len(group) == self._room:
                        self.moved.left += waiting
                        break
                    waiting -= 1
                    if not self.wanted.matches(entry):
                        continue
                    if group and size + len(entry.data) > PUT_BYTES:
                        yield group
                        group, size = [], 0
                    group.append(entry)
                    size += len(entry.data)
        if group:
            yield group

    async def _put(self, entries: Sequence[Entry]) -> None:
        if self.limit is not None:
            rows = RowSet()
            for entry in entries:
                rows.add(entry.shard, np.array([entry.sequence]), np.array([entry.sub_sequence]))
            arrival_ms = np.array([entry.arrival_ms for entry in entries], np.int64)
            data = arrow.binary_column([entry.data for entry in entries])
            await self.service.replays.put(self.runner, rows, data, arrival_ms)
        self.moved.replayed += len(entries)
