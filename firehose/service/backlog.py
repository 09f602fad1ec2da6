"""Counting what a stream still has before it, without disturbing its worker."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from firehose.delivery.progress import Progress, at_most
from firehose.log import IngestLog
from firehose.protocols import Lag, Read
from firehose.records import RowSet
from firehose.state import Done, Intent, StateStore

READ_BYTES = 4 * 2**20


@dataclass(frozen=True, slots=True)
class Backlog:
    """The rows of a stream that are in the log and not done, by hour of acceptance; damaged ones apart."""

    pending: Counter[int] = field(default_factory=Counter)
    unreadable: Counter[int] = field(default_factory=Counter)


def ends_of(log: IngestLog, stream: str) -> dict[str, int]:
    """Return the last sequence that each shard of a stream holds now."""
    return {shard: log.last(stream, shard) for shard in log.shards(stream)}


async def waiting(log: IngestLog, state: StateStore, stream: str, *, has_objects: bool) -> Lag:
    """Return what a stream has before it, as it is saved: what does not wait there is found by every other command.

    No payload is read, and nothing at all where the log knows that nothing waits, and `has_objects` that no finished
    object does.
    """
    if not has_objects and not log.is_pending(stream):
        return Lag(0, 0, None)
    saved = await state.load(stream)
    progress = _progress_of(saved.done)
    sealed = _sealed(saved.intents, progress)
    held = RowSet.union(each.attempts[0].rows for each in sealed)
    rows, data_bytes = len(held), 0
    oldest: list[int | None] = [each.oldest_ms for each in sealed]
    for shard in log.shards(stream):
        done = progress.get(shard) or Progress(shard)
        lag = await log.lag(stream, shard, done.position)
        known = (held | done.beyond()).whole(shard)
        for first, last in log.ranges(stream, shard, done.position):
            rows += last + 1 - first - known.range_cardinality(first, last + 1)
        data_bytes += lag.data_bytes
        oldest.append(lag.oldest_ms)
    return Lag(rows, data_bytes, min((each for each in oldest if each is not None), default=None))


async def count_backlog(
    log: IngestLog, stream: str, done: Iterable[Done], intents: Iterable[Intent], ends: Mapping[str, int]
) -> Backlog:
    """Count what is not done up to `ends`. Rows of `intents` lie in an object, whether the log holds them yet or not.

    Errors: UnavailableError where the disk refuses to read.
    """
    progress = _progress_of(done)
    sealed = _sealed(intents, progress)
    found, held = Backlog(), RowSet.union(each.attempts[0].rows for each in sealed)
    for intent in sealed:
        found.pending.update(intent.attempts[0].hours)
    for name, last in ends.items():
        await _count_shard(log, stream, progress.get(name) or Progress(name), held, last, found)
    return found


def _progress_of(done: Iterable[Done]) -> dict[str, Progress]:
    return {each.shard: Progress(each.shard, each.position, each.beyond) for each in done}


def _sealed(intents: Iterable[Intent], progress: Mapping[str, Progress]) -> list[Intent]:
    """Return the intents of which no row is done. Of the others all are, or they were settled since `intents` were
    read, and what they did not hold in the end is in the log."""

    def is_untouched(rows: RowSet) -> bool:
        return all((progress.get(name) or Progress(name)).has_none(rows.whole(name)) for name in rows.shards())

    return [each for each in intents if is_untouched(each.attempts[0].rows)]


async def _count_shard(log: IngestLog, stream: str, done: Progress, held: RowSet, last: int, found: Backlog) -> None:
    """Count the rows of one shard that are neither done nor held in an object."""
    at = done.position
    if at >= last:
        return
    shard = log.open_shard(stream, done.shard, after=at)
    while at < last:
        got = await shard.read(max_bytes=READ_BYTES, max_wait_ms=0)
        if not isinstance(got, Read):
            break
        at = got.span.last
        is_left = ~done.is_done(got.batch) & ~held.contains(got.batch) & (got.batch.sequence <= last)
        found.pending.update(got.batch.where(is_left).hours())
        if got.unreadable:
            span = RowSet.of_range(got.span.shard, got.span.first, min(at, last))
            absent = span - got.batch.row_set() - done.beyond() - held
            found.unreadable.update(at_most(got.unreadable, len(absent)))
    await shard.close()
