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


async def waiting(log: IngestLog, state: StateStore, stream: str) -> Lag:
    """Return what a stream has before it, as it is saved: what does not wait there is found by every other command.

    No payload is read, and nothing at all where the log knows that nothing waits.
    """
    if not log.is_pending(stream):
        return Lag(0, 0, None)
    saved = await state.load(stream)
    progress = {each.shard: Progress(each.shard, each.position, each.beyond) for each in saved.done}
    rows, data_bytes = 0, 0
    oldest: list[int | None] = []
    for shard in log.shards(stream):
        done = progress.get(shard) or Progress(shard)
        lag = await log.lag(stream, shard, done.position)
        rows, data_bytes = rows + lag.rows - len(done.beyond()), data_bytes + lag.data_bytes
        oldest.append(lag.oldest_ms)
    return Lag(rows, data_bytes, min((each for each in oldest if each is not None), default=None))


async def count_backlog(
    log: IngestLog, stream: str, done: Iterable[Done], sealed: Iterable[Intent], ends: Mapping[str, int]
) -> Backlog:
    """Count what is not done up to `ends`. Rows that are `sealed` lie in an object, too, so damage does not lose them.

    Errors: UnavailableError where the disk refuses to read.
    """
    progress = {each.shard: Progress(each.shard, each.position, each.beyond) for each in done}
    found, kept = Backlog(), RowSet()
    for intent in sealed:
        kept = kept | intent.rows
    for name, last in ends.items():
        await _count_shard(log, stream, progress.get(name) or Progress(name), kept, last, found)
    return found


async def _count_shard(log: IngestLog, stream: str, done: Progress, kept: RowSet, last: int, found: Backlog) -> None:
    at = done.position
    if at >= last:
        return
    shard = log.open_shard(stream, done.shard, after=at)
    while at < last:
        got = await shard.read(max_bytes=READ_BYTES, max_wait_ms=0)
        if not isinstance(got, Read):
            break
        at = got.span.last
        rest = got.batch.where(~done.is_done(got.batch) & (got.batch.sequence <= last))
        found.pending.update(rest.hours())
        if got.unreadable:
            span = RowSet.of_range(got.span.shard, got.span.first, min(at, last))
            absent = span - got.batch.row_set() - done.beyond()
            lost = Counter(at_most(got.unreadable, len(absent - kept)))
            found.unreadable.update(lost)
            found.pending.update(Counter(at_most(got.unreadable, len(absent))) - lost)
    await shard.close()
