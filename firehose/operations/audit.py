"""`audit`: does the account close? accepted + created = what became of the rows + pending, by stream and hour."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

from firehose.delivery.plan import DESTINATION
from firehose.delivery.progress import Progress
from firehose.operations.parameters import chosen
from firehose.protocols import StateSnapshot, Term
from firehose.service import Service
from firehose.service.backlog import pending_batches
from firehose.service.runner import StreamRunner

#: What a row that was accepted or created can have become.
ENDS = [term for term in Term if term not in (Term.ACCEPTED, Term.CREATED)]

Hours = dict[int, Counter[str]]


async def audit(service: Service, parameters: dict[str, Any]) -> dict[str, Any]:
    """Return every term of the account by stream and hour, and whether it closes.

    `accepted` comes from the log's books, the ends from the state, `pending` from reading the log's backlog: three
    sources that agree only if nothing was lost and nothing counted twice.
    """
    async with service.books:  # neither banking nor reclaiming meanwhile: one moment for all three
        snapshot = await service.state.snapshot()
        unbanked = service.log.accepted_unbanked()
        runners = chosen(service, parameters)
        ends = {runner.record.uid: _ends(service, runner) for runner in runners}
        streams = [
            await _stream(service, runner, snapshot, unbanked.get(runner.record.uid, {}), ends[runner.record.uid])
            for runner in runners
        ]
    return {"streams": streams, "closes": all(stream["closes"] for stream in streams)}


def _ends(service: Service, runner: StreamRunner) -> dict[str, int]:
    uid = runner.record.uid
    return {shard: service.log.last(uid, shard) for shard in service.log.shards(uid)}


async def _stream(
    service: Service, runner: StreamRunner, snapshot: StateSnapshot, unbanked: dict[int, int], ends: dict[str, int]
) -> dict[str, Any]:
    uid = runner.record.uid
    hours: Hours = defaultdict(Counter)
    for row in snapshot.account:
        if row.stream == uid and row.outlet in ("", DESTINATION):
            hours[row.hour][row.term] += row.rows
    for hour, rows in unbanked.items():
        hours[hour][Term.ACCEPTED] += rows
    done = [each for each in snapshot.done.get(uid, ()) if each.outlet == DESTINATION]
    progress = {each.shard: Progress(each.shard, each.position, each.beyond) for each in done}
    async for batch in pending_batches(service.log, uid, progress, ends=ends):
        for hour, rows in batch.hours().items():
            hours[hour]["pending"] += rows
    listed = [{"hour_ms": hour, **_terms(counts)} for hour, counts in sorted(hours.items()) if any(counts.values())]
    total: Counter[str] = Counter()
    for counts in hours.values():
        total.update(counts)
    return {
        "stream": runner.record.name,
        "hours": listed,
        "total": _terms(total),
        "closes": all(each["difference"] == 0 for each in listed),
    }


def _terms(counts: Counter[str]) -> dict[str, int]:
    terms = {str(term): counts[term] for term in Term} | {"pending": counts["pending"]}
    terms["difference"] = terms["accepted"] + terms["created"] - sum(counts[end] for end in ENDS) - terms["pending"]
    return terms
