"""Calling a verb: through the admin door of the running service, or right here where none runs."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from firehose.datadir import DataDirectory, RunningService
from firehose.errors import DataDirectoryError, FirehoseError, UnavailableError

#: The token is for this machine's service: never by way of a proxy, whatever http_proxy says.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))

#: How long a command waits for a service that holds the directory but cannot be reached yet.
STARTING_S = 10.0


class RemoteError(FirehoseError):
    """The running service refused; the text is its own."""


def call(data_dir: Path, verb: str, parameters: dict[str, Any]) -> Any:
    """Return what the verb answers. Errors: FirehoseError."""
    directory = DataDirectory(data_dir)
    if not directory.exists():
        raise DataDirectoryError(f"{data_dir} is no data directory yet; `firehose run` makes one, --data-dir names one")
    until = time.monotonic() + STARTING_S
    while True:
        running = directory.running()
        if running is not None:
            return _remote(running, verb, parameters)
        try:
            directory.take()
        except DataDirectoryError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)  # the owner is just starting or stopping: look again
            continue
        try:
            return asyncio.run(_local(directory, verb, parameters))
        finally:
            directory.release()


def _remote(running: RunningService, verb: str, parameters: dict[str, Any]) -> Any:
    request = urllib.request.Request(
        f"{running.url}/-/admin/{verb}",
        data=json.dumps(parameters).encode(),
        headers={"Authorization": f"Bearer {running.token}", "Content-Type": "application/json"},
    )
    try:
        with _DIRECT.open(request) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        body = json.loads(error.read() or b"{}")
        raise RemoteError(body.get("message", str(error)), code=body.get("code", "InternalError")) from None
    except OSError as error:
        raise UnavailableError(
            f"the service at {running.url} (process {running.pid}) does not answer: {error}"
        ) from error


async def _local(directory: DataDirectory, verb: str, parameters: dict[str, Any]) -> Any:
    # imported here: a running service is asked without loading all this
    from firehose.clock import SystemClock
    from firehose.config.models import Configuration
    from firehose.operations import VERBS
    from firehose.service import Service
    from firehose.telemetry import Telemetry

    logging.getLogger("firehose").setLevel(logging.WARNING)
    service = await Service.open(Configuration(), directory, SystemClock(), Telemetry(), keep_definitions=True)
    try:
        return await VERBS[verb](service, parameters)
    finally:
        await service.close()
