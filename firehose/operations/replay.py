"""`replay`: failed records enter their stream again, each at most once however often it is asked for.

One call moves a bounded number of records and says where it stopped, so that the caller can show progress, slow down,
or be killed: what was moved is in the ledger, and another call goes on with what was not.
"""

from __future__ import annotations

import uuid
from typing import Any

import numpy as np

from firehose import arrow
from firehose.errors import ThrottledError
from firehose.operations.failed import Entry, FailedReader, Filter
from firehose.operations.parameters import chosen, number
from firehose.protocols import SaveReplay
from firehose.records import RowSet, hours_of
from firehose.service import Service
from firehose.service.replays import settle
from firehose.service.runner import StreamRunner

#: Records that one call moves at the most, unless it is told fewer.
RECORDS_A_CALL = 2_000

#: Payload bytes of one put into the log.
PUT_BYTES = 4 * 2**20


async def replay(service: Service, parameters: dict[str, Any]) -> dict[str, Any]:
    """Move failed records that match the filter back into their streams.

    Returns how many were moved (`replayed`; with `dry_run` how many would be), how many were replayed before, how many
    objects' records are left to look at, and `done`.
    """
    wanted, is_dry = Filter.of(parameters), bool(parameters.get("dry_run"))
    limit = number(parameters, "limit", RECORDS_A_CALL)
    answer = {"replayed": 0, "replayed_before": 0, "left": 0, "done": True}
    async with service.replaying:
        for runner in chosen(service, parameters):
            await _stream(service, runner, wanted, limit, is_dry, answer)
    answer["done"] = answer["left"] == 0
    return answer


async def _stream(
    service: Service, runner: StreamRunner, wanted: Filter, limit: int, is_dry: bool, answer: dict[str, Any]
) -> None:
    reader = FailedReader(service, runner)
    try:
        for manifest in await reader.manifests(wanted):
            waiting = reader.open_records(manifest)
            answer["replayed_before"] += len(manifest.intent.rows) - waiting
            if not waiting:
                continue
            if answer["replayed"] >= limit and not is_dry:
                answer["left"] += waiting
                continue
            matching = [
                each async for each in reader.entries(manifest) if wanted.matches(each) and not each.is_replayed
            ]
            room = len(matching) if is_dry else limit - answer["replayed"]
            if not is_dry:
                for put in _puts(matching[:room]):
                    await _enter(service, runner.record.uid, put)
            answer["replayed"] += min(room, len(matching))
            answer["left"] += max(0, len(matching) - room)
    finally:
        await reader.close()


def _puts(entries: list[Entry]) -> list[list[Entry]]:
    """Return the entries in groups that each make one put."""
    puts: list[list[Entry]] = []
    size = PUT_BYTES
    for entry in entries:
        if size + len(entry.data) > PUT_BYTES:
            puts.append([])
            size = 0
        puts[-1].append(entry)
        size += len(entry.data)
    return puts


async def _enter(service: Service, uid: str, entries: list[Entry]) -> None:
    """Put entries into the log's replay lane: first the plan is saved, then the put, then that it happened."""
    rows = RowSet()
    for entry in entries:
        rows.add(entry.shard, np.array([entry.sequence]), np.array([entry.sub_sequence]))
    arrival_ms = np.array([entry.arrival_ms for entry in entries], np.int64)
    plan = SaveReplay(uid, uuid.uuid4().hex, rows, hours_of(arrival_ms))
    data = arrow.binary_column([entry.data for entry in entries])
    await service.state.apply(plan)
    try:
        await service.log.append(uid, data, arrival_ms=arrival_ms, lane="replay", token=plan.token.encode())
    except ThrottledError:
        await service.state.apply(*settle(plan, entered=False))
        raise
    await service.state.apply(*settle(plan, entered=True))
