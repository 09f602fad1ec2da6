"""Moving failed records back into the log, once, whatever crashes in between.

First the plan is saved, then the put is made, then it is saved that it happened. Where the end of a put is not known,
because the process was killed or the disk failed, its token tells: it is in the log, or the put never was.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping

import pyarrow as pa

from firehose import arrow
from firehose.delivery.plan import DESTINATION
from firehose.errors import ConflictError, ThrottledError
from firehose.log import IngestLog
from firehose.records import RowSet, hours_of
from firehose.service.runner import StreamRunner
from firehose.state import AddToAccount, Change, FinishReplay, SaveReplay, StateStore, Term


class Replays:
    """The replays of one service. `books` is held while rows move, so that an audit sees them in one place."""

    def __init__(self, log: IngestLog, state: StateStore, books: asyncio.Lock) -> None:
        self._log = log
        self._state = state
        self._books = books
        self._has_unknown = True
        #: Held by whoever looks for rows to replay and puts them, so that two do not move the same ones.
        self.turn = asyncio.Lock()

    async def put(self, runner: StreamRunner, rows: RowSet, data: pa.LargeBinaryArray, arrival_ms: arrow.Ints) -> None:
        """Put failed records into the replay lane and take them out of the failed ones.

        A caller that is cancelled leaves it to end by itself: half of it would be done otherwise.
        Errors: ThrottledError where there is no room, and nothing was taken; ConflictError where the stream was deleted
        meanwhile; others, after which nothing is known.
        """
        await asyncio.shield(asyncio.ensure_future(self._put(runner, rows, data, arrival_ms)))

    async def _put(self, runner: StreamRunner, rows: RowSet, data: pa.LargeBinaryArray, arrival_ms: arrow.Ints) -> None:
        plan = SaveReplay(runner.record.uid, uuid.uuid4().hex, rows, hours_of(arrival_ms))
        async with self._books:
            if runner.is_removed or runner.record.is_deleted:
                raise ConflictError(f"stream {runner.record.name!r} was deleted meanwhile")
            await self.settle_unknown()
            self._has_unknown = True
            await self._state.apply(plan)
            try:
                token = plan.token.encode()
                await self._log.append(plan.stream, data, arrival_ms=arrival_ms, lane="replay", token=token)
            except ThrottledError as error:
                await self._state.apply(*_end(plan, entered=False))
                name = runner.record.name
                raise ThrottledError(f"stream {name!r}: the ingest log has no room; replay again later") from error
            await self._state.apply(*_end(plan, entered=True))
            self._has_unknown = False

    async def settle_unknown(self) -> None:
        """Find out which of the puts that broke off are in the log. The caller holds the books.

        Before the log's space is reclaimed, too: a put that was delivered and is gone would count as never made.
        """
        if not self._has_unknown:
            return
        for record in await self._state.streams():
            _, unknown = await self._state.replays(record.uid)
            if unknown:
                await self._log.settle()
                found = {each.token for each in await self._log.tokens(record.uid, lane="replay")}
                for plan in unknown:
                    await self._state.apply(*_end(plan, entered=plan.token.encode() in found))
        self._has_unknown = False


def _end(plan: SaveReplay, *, entered: bool) -> tuple[Change, ...]:
    """Return what to save once it is known whether the put is in the log: its rows leave the failed ones."""
    finish = FinishReplay(plan.stream, plan.token, entered)
    moved: Mapping[int, int] = {hour: -rows for hour, rows in plan.hours.items()}
    return (finish, AddToAccount(plan.stream, DESTINATION, Term.FAILED, moved)) if entered else (finish,)
