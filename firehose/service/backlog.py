"""Reading what a stream still has before it, without disturbing its worker."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

from firehose.delivery.progress import Progress
from firehose.log import IngestLog
from firehose.protocols import Read
from firehose.records import Batch

READ_BYTES = 4 * 2**20


async def pending_batches(
    log: IngestLog, stream: str, progress: Mapping[str, Progress], *, ends: Mapping[str, int] | None = None
) -> AsyncIterator[Batch]:
    """Yield the rows of a stream that are in the log and not done. `ends`: where to stop in each shard, and which."""
    for name in log.shards(stream):
        if ends is not None and name not in ends:
            continue
        done = progress.get(name) or Progress(name)
        last = log.last(stream, name) if ends is None else ends[name]
        async for batch in _rows(log, stream, name, done.position, last):
            rest = batch.where(~done.is_done(batch) & (batch.sequence <= last))
            if len(rest):
                yield rest


async def _rows(log: IngestLog, stream: str, name: str, after: int, last: int) -> AsyncIterator[Batch]:
    if after >= last:
        return
    shard = log.open_shard(stream, name, after=after)
    at = after
    while at < last:
        got = await shard.read(max_bytes=READ_BYTES, max_wait_ms=0)
        if not isinstance(got, Read):
            return
        at = got.span.last
        yield got.batch
    await shard.close()
