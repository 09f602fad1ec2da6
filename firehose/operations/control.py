"""`pause`, `resume`, `flush`."""

from __future__ import annotations

from typing import Any

from firehose.errors import UnavailableError
from firehose.operations.parameters import chosen
from firehose.service import Service


async def pause(service: Service, parameters: dict[str, Any]) -> dict[str, Any]:
    """Stop delivering; producers may go on putting."""
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
    """Deliver what is buffered now. Errors: UnavailableError where no worker runs."""
    runners = chosen(service, parameters)
    for runner in runners:
        if runner.worker is None:
            raise UnavailableError(
                f"stream {runner.record.name!r} has no worker running; `firehose run` delivers its backlog"
            )
        runner.worker.flush()
    return {"streams": [runner.record.name for runner in runners]}
