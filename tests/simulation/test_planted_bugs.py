"""The simulation catches what it is for: each bug planted here breaks a law within a few worlds."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from typing import Any
from unittest import mock
from uuid import UUID

import numpy as np
import pytest

from firehose.budget import ByteBudget
from firehose.deduplication import RecordIdWindow
from firehose.deduplication.entries import NO_ENTRIES, Entries, merged
from firehose.delivery import buffer, plan, spill
from firehose.delivery.buffer import Cell, Part
from firehose.delivery.intake import Intake
from firehose.delivery.ledger import Ledger
from firehose.delivery.outflow import Outflow
from firehose.delivery.partitioning import ActivePartitions
from firehose.delivery.plan import DESTINATION
from firehose.delivery.progress import Progress
from firehose.delivery.redo import Redo
from firehose.delivery.spill import Spill
from firehose.delivery.worker import StreamWorker
from firehose.log import journal
from firehose.log.receipts import Receipts
from firehose.records import Batch, FailedRows, RowSet
from firehose.service.replays import Replays
from firehose.state import DropIntent, FinishIntent, FinishReplay, ForgetShard, Intent, SaveIntents, Term
from firehose.stores import sqlite
from tests import disk
from tests.simulation.machine import Machine
from tests.simulation.town import run_town, unheard

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

#: Worlds in which a bug must show. Most do in one of three.
WORLDS = 200

Bug = Callable[[], AbstractContextManager[Any]]
BUGS: dict[str, Bug] = {}


def bug(where: Any, name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Plant the decorated function in the place of another one."""

    def plant(wrong: Callable[..., Any]) -> Callable[..., Any]:
        BUGS[wrong.__name__] = partial(mock.patch.object, where, name, wrong)
        return wrong

    return plant


# --- delivery --------------------------------------------------------------------------------------------------------


@bug(Outflow, "deliver")
async def rows_are_done_before_their_object_stands(self: Outflow, intent: Intent) -> None:
    self._links.close(intent, intent.term, FinishIntent(intent, 0))
    await self.courier.deliver(intent, lambda _: False)


@bug(StreamWorker, "_fail")
def failed_rows_are_counted_and_not_kept(self: StreamWorker, failed: FailedRows) -> None:
    rows = failed.batch()
    self.ledger.settle(rows.row_set(), (DESTINATION,), Term.FAILED, rows.hours())


def objects_are_sent_before_it_is_saved_that_they_will_be(connection: Any, change: SaveIntents) -> None:
    pass


BUGS[objects_are_sent_before_it_is_saved_that_they_will_be.__name__] = partial(
    mock.patch.dict, sqlite._WRITERS, {SaveIntents: objects_are_sent_before_it_is_saved_that_they_will_be}
)


@bug(Intake, "_not_done")
def rows_that_are_done_are_read_again(self: Intake, batch: Batch) -> Batch:
    return batch


@bug(Progress, "_advance")
def the_position_passes_rows_that_are_not_done(self: Progress) -> None:
    last = self._beyond.max()
    self._dirty_chunks |= set(range(last + 1))
    self.position = last
    self._beyond.clear()


_mark_all = Ledger.settle


@bug(Ledger, "settle")
def what_is_dropped_counts_twice(self: Ledger, rows: RowSet, outlets: Any, term: Term | None, hours: Any) -> None:
    twice = {hour: 2 * count for hour, count in hours.items()} if term is Term.DROPPED else hours
    _mark_all(self, rows, outlets, term, twice)


@bug(Spill, "pieces")
async def spilled_rows_are_forgotten(self: Spill, cell: Cell) -> Any:
    for part in cell.parts:
        if part.slab.rows is not None:
            yield part.slab.rows.slice(part.start, part.count)


_read_forever = StreamWorker._read


@bug(StreamWorker, "_read")
async def the_position_of_a_shard_that_ended_is_forgotten_too_early(
    self: StreamWorker, shard: Any, **given: Any
) -> None:
    await _read_forever(self, shard, **given)
    self.ledger.add(ForgetShard(self.plan.identity.uid, shard.name))


_pieces = Spill.pieces


@bug(Spill, "pieces")
async def rows_leave_before_those_that_came_first(self: Spill, cell: Cell) -> Any:
    for piece in reversed([piece async for piece in _pieces(self, cell)]):
        yield piece


# --- what was sent before --------------------------------------------------------------------------------------------

_make_again = Redo._make_again


@bug(Redo, "_make_again")
async def what_may_arrive_yet_is_forgotten(self: Redo) -> Intent:
    self.parts.ledger.add(DropIntent(self.intent))
    object.__setattr__(self, "intent", Intent(**{**_fields(self.intent), "earlier": ()}))
    return await _make_again(self)


def _fields(intent: Intent) -> dict[str, Any]:
    return {name: getattr(intent, name) for name in intent.__slots__}


@bug(Redo, "run")
async def nothing_keeps_the_place_of_what_may_arrive_yet(self: Redo) -> None:
    self.close(self.intent, None, DropIntent(self.intent))
    await self._start_over(await self._fetch(self.intent.attempts[0].rows))


#: These show only where finished objects are lost.
LOSSES = ("what_may_arrive_yet_is_forgotten", "nothing_keeps_the_place_of_what_may_arrive_yet")

# --- partitions ------------------------------------------------------------------------------------------------------

_admit = ActivePartitions.admit


@bug(ActivePartitions, "admit")
def rows_of_a_partition_too_many_are_dropped(self: ActivePartitions, batch: Batch) -> Any:
    return _admit(self, batch)[0], ()


_sorted_by_group = buffer._sorted_by_group


@bug(buffer, "_sorted_by_group")
def groups_are_told_apart_before_their_rows_are_sorted(rows: Any, group: str) -> Any:
    return rows, _sorted_by_group(rows, group)[1]


_read_part = spill._read


@bug(spill, "_read")
def a_part_of_a_spilled_slab_is_read_from_its_beginning(part: Part) -> Any:
    return _read_part(replace(part, start=0))


# --- identities ------------------------------------------------------------------------------------------------------


@bug(Machine, "_uuid")
def a_stream_that_is_made_anew_has_the_identity_of_the_old_one(self: Machine) -> UUID:
    return UUID(int=1)


@bug(plan, "object_uuid")
def objects_collide(**_: Any) -> UUID:
    return UUID(int=1)


# --- log, replay, memory ---------------------------------------------------------------------------------------------


@bug(disk._Handle, "sync")
def puts_are_acknowledged_before_they_are_on_the_disk(self: Any) -> None:
    pass


@bug(Replays, "settle_unknown")
async def a_replay_that_broke_off_counts_as_never_made(self: Replays) -> None:
    for record in await self._state.streams():
        for each in (await self._state.replays(record.uid))[1]:
            await self._state.apply(FinishReplay(each.stream, each.token, False))
    self._has_unknown = False


@bug(ByteBudget, "_fits")
def memory_has_no_bounds(self: ByteBudget, amount_bytes: int) -> bool:
    return True


_fail = StreamWorker._fail


@bug(StreamWorker, "_fail")
def the_log_lets_failed_rows_go_before_they_are_in_the_outbox(self: StreamWorker, failed: FailedRows) -> None:
    _fail(self, failed)
    self.ledger.park(failed.batch().row_set())


#: These show where buffers are large and memory is little.
CRAMPED = (
    "memory_has_no_bounds",
    "the_log_lets_failed_rows_go_before_they_are_in_the_outbox",
    "a_part_of_a_spilled_slab_is_read_from_its_beginning",
)


# --- puts that are sent again ----------------------------------------------------------------------------------------


@bug(Receipts, "save")
async def the_keys_of_puts_go_with_their_frames(self: Receipts, *, now: bool = True) -> None:
    pass


@bug(journal, "relearn")
async def puts_of_the_last_seconds_before_a_crash_are_not_known(*_: Any, since_ms: int) -> None:
    pass


# --- records that are sent again -------------------------------------------------------------------------------------

_look_up = RecordIdWindow._look_up


@bug(RecordIdWindow, "_look_up")
def a_row_that_is_read_again_is_taken_for_its_own_duplicate(self: RecordIdWindow, asked: Entries) -> Any:
    is_own, is_known = _look_up(self, asked)
    return np.zeros_like(is_own), is_known | is_own


@bug(RecordIdWindow, "_remember")
def ids_are_not_on_the_disk_before_their_rows_go_on(self: RecordIdWindow, fresh: Entries) -> None:
    self._memory = merged(self._memory, fresh)


@bug(RecordIdWindow, "_settle")
def ids_are_forgotten_when_memory_is_full(self: RecordIdWindow, horizon_ms: int) -> None:
    self._memory = NO_ENTRIES


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_caught(name: str) -> None:
    with BUGS[name]():
        for seed in range(WORLDS):
            try:
                run_town(seed, outbox_losses=0.6 if name in LOSSES else 0.15, is_cramped=name in CRAMPED)
            except (Exception, asyncio.CancelledError):
                break
        else:
            pytest.fail(f"{name} was not caught in {WORLDS} worlds")
    with unheard():
        gc.collect()  # what the error held in the middle of something
