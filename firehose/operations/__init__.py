"""What people ask of a service: the verbs behind the command line, the same whether the service runs or not.

Each verb takes a service and JSON parameters and returns JSON, so that it can be called here or through the admin door.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from firehose.errors import FirehoseError, InvalidError
from firehose.operations import audit, control, failed, objects, replay, status
from firehose.service import Service

Verb = Callable[[Service, dict[str, Any]], Awaitable[Any]]

VERBS: dict[str, Verb] = {
    "status": status.status,
    "audit": audit.audit,
    "audit_objects": objects.audit_objects,
    "pause": control.pause,
    "resume": control.resume,
    "flush": control.flush,
    "failed_ls": failed.ls,
    "failed_show": failed.show,
    "failed_stats": failed.stats,
    "replay": replay.replay,
}


def bound_verbs(service: Service) -> dict[str, Callable[[dict[str, Any]], Awaitable[Any]]]:
    """Return the verbs for one service, for the admin door."""
    return {name: partial(_answer, verb, service) for name, verb in VERBS.items()}


async def _answer(verb: Verb, service: Service, parameters: dict[str, Any]) -> Any:
    try:
        return await verb(service, parameters)
    except FirehoseError as error:
        # the door keeps to itself what strangers must not know; whoever has its token is told what is wrong
        raise InvalidError(str(error), code=error.code) from error
