"""`pause`, `resume`, `flush`."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from firehose.clock import Clock
from firehose.errors import ConflictError, InvalidError, UnavailableError
from firehose.operations.parameters import chosen, number
from firehose.service import Service


async def pause(service: Service, parameters: dict[str, Any]) -> dict[str, Any]:
    """Stop delivering, also after a restart; producers may go on putting."""
    return await _pause(service, parameters, is_paused=True)


async def resume(service: Service, parameters: dict[str, Any]) -> dict[str, Any]:
    """Go on delivering."""
    return await _pause(service, parameters, is_paused=False)


async def _pause(service: Service, parameters: dict[str, Any], *, is_paused: bool) -> dict[str, Any]:
    runners = chosen(service, parameters)
    for runner in runners:
        await runner.pause(is_paused)
    return {"streams": [runner.record.name for runner in runners], "paused": is_paused}


async def flush(service: Service, parameters: dict[str, Any]) -> dict[str, Any]:
    """Deliver what a stream accepted before this was first asked.

    Returns `heads`, up to where that is in each shard, to be given to the next call; whether it is all delivered and
    saved (`done`); and what keeps it from being so, as far as something does (`last_error`). A call takes at most
    `wait_ms`. Errors: UnavailableError where no worker runs, ConflictError where the stream is paused.
    """
    wait_ms = number(parameters, "wait_ms", 0)
    if parameters.get("stream") is None:
        raise InvalidError("flush needs the name of a stream")
    (runner,) = chosen(service, parameters)
    name, worker = runner.record.name, runner.worker
    if runner.record.is_paused:
        raise ConflictError(f"stream {name!r} is paused; `firehose resume {name}` first")
    if worker is None:
        if runner.last_error is None:
            raise UnavailableError(f"no service runs, so nothing of {name!r} was flushed; start `firehose run`")
        raise UnavailableError(f"stream {name!r} cannot work, nothing was flushed: {runner.last_error}")
    heads = parameters.get("heads")
    if heads is None:
        heads = await worker.heads()
        worker.hurry()  # once: whoever asks again waits as the stream does
    is_done = await _within(service.environment.clock, worker.flush(heads), wait_ms)
    error = None if is_done or runner.last_error is None else str(runner.last_error)
    return {"stream": name, "heads": heads, "done": is_done, "last_error": error}


async def _within(clock: Clock, work: Coroutine[Any, Any, None], wait_ms: int) -> bool:
    """Do the work for at most `wait_ms`, and return whether it came to its end."""
    task, over = asyncio.create_task(work), asyncio.Event()
    task.add_done_callback(lambda _: over.set())
    try:
        if not await clock.wait(over, wait_ms):
            return False
        task.result()
        return True
    finally:
        task.cancel()
        await asyncio.wait([task])
