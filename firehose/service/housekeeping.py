"""What the service does beside delivering: accounts move on, space comes back, memory is asked for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from firehose.budget import ByteBudget
from firehose.clock import Clock
from firehose.delivery.buffer import CELL_OVERHEAD_BYTES
from firehose.delivery.events import StepFailed
from firehose.delivery.worker import StreamWorker
from firehose.errors import FirehoseError, StaleEpochError
from firehose.log import IngestLog
from firehose.state import BankSegment, StateStore
from firehose.telemetry import Emitter, UnexpectedError

#: How often sealed segments are banked and space is reclaimed.
HOUSEKEEPING_MS = 1_000

#: How often, and how many times, it is looked whether a worker that was asked to spill has done so: a second in all.
SPILL_MS = 20
SPILL_LOOKS = 50


async def bank(log: IngestLog, state: StateStore) -> None:
    """Move what sealed segments accepted into the accounts, so that the segments may go."""
    segments = log.unbanked()
    if segments:
        await state.apply(*(BankSegment(each.name, each.accepted) for each in segments))
        log.mark_banked([each.name for each in segments])


async def keep_house(chores: Callable[[], Awaitable[None]], clock: Clock, telemetry: Emitter) -> None:
    """Do the chores now and again. What fails is tried again. Errors: StaleEpochError."""
    while True:
        try:
            await chores()
        except StaleEpochError:
            raise
        except (FirehoseError, OSError) as error:
            code = error.code if isinstance(error, FirehoseError) else "InternalError"
            telemetry.emit(StepFailed("", "housekeeping", code, str(error), HOUSEKEEPING_MS))
        except Exception as error:  # noqa: BLE001 - a bug of ours here must not stop delivery
            telemetry.emit(UnexpectedError("housekeeping", f"{type(error).__name__}: {error}"))
        await clock.sleep_ms(HOUSEKEEPING_MS)


async def spill_when_asked(budget: ByteBudget, workers: Callable[[], Iterable[StreamWorker]], clock: Clock) -> None:
    """Ask for the largest cells of all streams, one after another, while somebody waits for memory."""
    while True:
        await budget.contended.wait()
        budget.contended.clear()
        while budget.is_contended:
            sizes = {worker: _largest_cell(worker) for worker in workers()}
            worker = max(sizes, key=lambda each: sizes[each], default=None)
            if worker is None or sizes[worker] <= CELL_OVERHEAD_BYTES:
                break
            worker.ask_to_spill()
            for _ in range(SPILL_LOOKS):
                await clock.sleep_ms(SPILL_MS)
                if _largest_cell(worker) < sizes[worker]:
                    break


def _largest_cell(worker: StreamWorker) -> int:
    return max((cell.held_bytes for cell in worker.buffer.cells()), default=0)
