"""What the service does beside delivering: accounts move on, space comes back, memory is asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable

from firehose.budget import ByteBudget
from firehose.clock import Clock
from firehose.delivery.events import PartitionsMeasured, RecordIdsMeasured, StepFailed
from firehose.delivery.plan import DESTINATION
from firehose.delivery.worker import StreamWorker
from firehose.errors import FirehoseError, StaleEpochError
from firehose.log import IngestLog
from firehose.service.backlog import waiting
from firehose.service.events import BacklogMeasured, LogMeasured
from firehose.service.runner import StreamRunner
from firehose.state import BankSegment, ForgetManifests, ForgetSegments, LetSegmentsGo, StateStore
from firehose.telemetry import Emitter, UnexpectedError

#: How often sealed segments are banked and space is reclaimed.
HOUSEKEEPING_MS = 1_000

#: How often the backlog is measured: as often as most scrape.
MEASURING_MS = 15_000

#: How often manifests are looked through for old ones: with a thousand a time, 1.4 million a day can go.
TIDYING_MS = 60_000

#: How often, and how many times, it is looked whether a worker that was asked to spill has done so: a second in all.
SPILL_MS = 20
SPILL_LOOKS = 50


async def bank(log: IngestLog, state: StateStore) -> None:
    """Move what sealed segments accepted into the accounts, so that the segments may go."""
    segments = log.unbanked()
    if segments:
        await state.apply(*(BankSegment(each.name, each.accepted, each.books) for each in segments))
        log.mark_banked([each.name for each in segments])


async def reclaim(log: IngestLog, state: StateStore) -> None:
    """Give the space of segments back that nobody needs.

    The state lets a segment go before its file goes, and forgets it after: in between, whatever crashes, a file that is
    there is known to be banked, and one that is not there is not missed.
    """

    async def let_go(names: Collection[str]) -> None:
        await state.apply(LetSegmentsGo(tuple(names)))

    gone = await log.reclaim(let_go)
    if gone:
        await state.apply(ForgetSegments(tuple(gone)))


async def tidy(state: StateStore, before_ms: int) -> None:
    """Forget old manifests of delivered objects. Those of error outputs stay: what they list can be replayed."""
    await state.apply(ForgetManifests(DESTINATION, before_ms))


async def measure(
    runners: Iterable[StreamRunner], log: IngestLog, state: StateStore, telemetry: Emitter, now_ms: int
) -> None:
    """Tell how large the log is, and what waits in it for each stream."""
    stats = log.stats()
    telemetry.emit(LogMeasured(stats.disk_bytes, stats.quota_bytes, stats.retry_window_ms))
    for runner in runners:
        lag = await waiting(log, state, runner.record.uid, has_objects=runner.has_objects)
        if not runner.is_removed:
            oldest_ms = 0 if lag.oldest_ms is None else max(0, now_ms - lag.oldest_ms)
            telemetry.emit(BacklogMeasured(runner.record.name, lag.rows, oldest_ms))
            if runner.worker is not None and (known := runner.worker.known_ids) is not None:
                reach_ms = known.reach_ms or 0
                telemetry.emit(RecordIdsMeasured(runner.record.name, known.ids, known.file_bytes, reach_ms))
            if runner.worker is not None and (partitions := runner.worker.partitions) is not None:
                telemetry.emit(PartitionsMeasured(runner.record.name, len(partitions.names), partitions.limit))
        await asyncio.sleep(0)  # thousands of streams must not hold up puts


async def keep_house(
    chores: Callable[[], Awaitable[None]],
    clock: Clock,
    telemetry: Emitter,
    *,
    name: str = "housekeeping",
    every_ms: int = HOUSEKEEPING_MS,
) -> None:
    """Do the chores now and again. What fails is tried again. Errors: StaleEpochError."""
    while True:
        try:
            await chores()
        except StaleEpochError:
            raise
        except (FirehoseError, OSError) as error:
            code = error.code if isinstance(error, FirehoseError) else "InternalError"
            telemetry.emit(StepFailed("", name, code, str(error), every_ms))
        except Exception as error:  # noqa: BLE001 - a bug of ours here must not stop delivery
            telemetry.emit(UnexpectedError(name, f"{type(error).__name__}: {error}"))
        await clock.sleep_ms(every_ms)


async def spill_when_asked(budget: ByteBudget, workers: Callable[[], Iterable[StreamWorker]], clock: Clock) -> None:
    """Ask for what the streams hold in memory, the largest first, while somebody waits for memory."""
    while True:
        await budget.contended.wait()
        budget.contended.clear()
        while budget.is_contended:
            sizes = {worker: _held_bytes(worker) for worker in workers()}
            worker = max(sizes, key=lambda each: sizes[each], default=None)
            if worker is None or not sizes[worker]:
                break
            worker.ask_to_spill()
            for _ in range(SPILL_LOOKS):
                await clock.sleep_ms(SPILL_MS)
                if _held_bytes(worker) < sizes[worker]:
                    break


def _held_bytes(worker: StreamWorker) -> int:
    return max(worker.buffer.held_bytes.values())
