"""`pause`, `resume`, `flush`."""

from __future__ import annotations

from typing import Any

from firehose.errors import ConflictError, UnavailableError
from firehose.operations.parameters import chosen
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
    """Deliver what is buffered now. Errors: UnavailableError where no worker runs, ConflictError where it is paused."""
    runners = chosen(service, parameters)
    for runner in runners:
        name = runner.record.name
        if runner.record.is_paused:
            raise ConflictError(f"stream {name!r} is paused; `firehose resume {name}` first")
        if runner.worker is None:
            why = f": {runner.last_error}" if runner.last_error else "; `firehose run` delivers its backlog"
            raise UnavailableError(f"stream {name!r} has no worker running, nothing was flushed{why}")
        runner.worker.flush()
    return {"streams": [runner.record.name for runner in runners]}
