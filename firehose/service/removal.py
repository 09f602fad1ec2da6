"""Taking a stream out of the world."""

from __future__ import annotations

import shutil

from firehose.components import Environment
from firehose.datadir import DataDirectory
from firehose.delivery.plan import DESTINATION
from firehose.errors import UnavailableError
from firehose.log import IngestLog
from firehose.service.backlog import count_backlog, ends_of
from firehose.state import AddToAccount, RemoveStream, StateStore, Term


async def is_finished(uid: str, log: IngestLog, state: StateStore) -> bool:
    """Return whether nothing of a stream waits any more: no row in the log, no object on its way, none to replay."""
    saved = await state.load(uid)
    positions = {each.shard: each.position for each in saved.done}
    is_delivered = all(positions.get(name, -1) >= last for name, last in ends_of(log, uid).items())
    return is_delivered and not saved.intents and not await state.failed_rows(uid)


async def discard(
    uid: str, log: IngestLog, state: StateStore, directory: DataDirectory, environment: Environment
) -> int:
    """Forget a stream that neither works nor takes puts, counting what it still held as discarded. Returns how much.

    Errors: UnavailableError, also while the log holds what cannot be read: nobody could count it.
    """
    if log.has_unknown:
        raise UnavailableError(f"what the stream still holds cannot be counted: {'; '.join(log.troubles())}")
    saved = await state.load(uid)
    left = await count_backlog(log, uid, saved.done, saved.intents, ends_of(log, uid))
    terms = ((Term.DISCARDED, left.pending), (Term.UNREADABLE, left.unreadable))
    await state.apply(*(AddToAccount(uid, DESTINATION, term, hours) for term, hours in terms), RemoveStream(uid))
    log.forget_stream(uid)
    await environment.executor.run(lambda: shutil.rmtree(directory.streams / uid, ignore_errors=True))
    return left.pending.total()


def sweep(directory: DataDirectory, known: set[str]) -> None:
    """Remove what nobody owns: folders of streams that are no more, objects unpacked by a process that was killed."""
    shutil.rmtree(directory.scratch, ignore_errors=True)
    if directory.streams.is_dir():
        for folder in directory.streams.iterdir():
            if folder.name not in known:
                shutil.rmtree(folder, ignore_errors=True)
