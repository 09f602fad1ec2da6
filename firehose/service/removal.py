"""Taking a stream out of the world."""

from __future__ import annotations

import shutil

from firehose.components import Environment
from firehose.delivery.plan import DESTINATION
from firehose.delivery.progress import Progress
from firehose.log import IngestLog
from firehose.protocols import AddToAccount, RemoveStream, StateStore, Term
from firehose.records import Batch
from firehose.service.backlog import pending_batches
from firehose.service.runner import StreamRunner


async def discard(runner: StreamRunner, environment: Environment, log: IngestLog, state: StateStore) -> int:
    """Forget a stream that is stopped, counting the rows it still held as discarded. Returns how many."""
    uid = runner.record.uid
    saved = await state.load(uid)
    progress = {each.shard: Progress(each.shard, each.position, each.beyond) for each in saved.done}
    hours: dict[int, int] = {}
    async for batch in pending_batches(log, uid, progress):
        _add(hours, batch)
    changes = [AddToAccount(uid, DESTINATION, Term.DISCARDED, hours)] if hours else []
    await state.apply(*changes, RemoveStream(uid))
    await environment.executor.run(lambda: shutil.rmtree(environment.data_dir / "streams" / uid, ignore_errors=True))
    return sum(hours.values())


def _add(hours: dict[int, int], batch: Batch) -> None:
    for hour, count in batch.hours().items():
        hours[hour] = hours.get(hour, 0) + count
