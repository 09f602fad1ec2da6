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

from firehose.datadir import DataDirectory, InUseError, RunningService
from firehose.errors import FirehoseError, UnavailableError

#: The token is for this machine's service: never by way of a proxy, whatever http_proxy says.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))

#: How long a command waits for a service that holds the directory but cannot be reached yet.
STARTING_S = 10.0

#: How long one answer may take: an audit reads all that waits, 10 GiB in about a minute.
ANSWER_S = 600.0


class RemoteError(FirehoseError):
    """The running service refused; the text is its own."""


class NotYetError(UnavailableError):
    """The service is starting or stopping: look again."""


def call(data_dir: Path, verb: str, parameters: dict[str, Any]) -> Any:
    """Return what the verb answers. Errors: FirehoseError."""
    directory = DataDirectory(data_dir)
    directory.require()
    until_s = time.monotonic() + STARTING_S
    while True:
        try:
            running = directory.running()
            if running is not None:
                return ask(running, f"/-/admin/{verb}", json.dumps(parameters).encode())
            directory.take()
        except (NotYetError, InUseError):
            if time.monotonic() > until_s:
                raise
            time.sleep(0.05)  # whoever has the directory is just starting or stopping
            continue
        try:
            return asyncio.run(_local(directory, verb, parameters))
        finally:
            directory.release()


def ask(running: RunningService, path: str, body: bytes, *, timeout_s: float = ANSWER_S) -> Any:
    """Send a request to the service and return its answer. Errors: RemoteError, NotYetError, UnavailableError."""
    headers = {"Authorization": f"Bearer {running.token}", "Content-Type": "application/json"}
    return send(running, urllib.request.Request(running.url + path, data=body, headers=headers), timeout_s=timeout_s)


def send(running: RunningService, request: urllib.request.Request, *, timeout_s: float = ANSWER_S) -> Any:
    """As `ask`, for a request that is finished."""
    at = f"the service at {running.url} (process {running.pid})"
    try:
        with DIRECT.open(request, timeout=timeout_s) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise _refusal(error, at) from None
    except urllib.error.URLError as error:
        kind = NotYetError if isinstance(error.reason, ConnectionRefusedError) else UnavailableError
        raise kind(f"{at} does not answer: {error.reason}; look at its log") from error
    except (OSError, ValueError) as error:
        raise UnavailableError(f"{at} broke off its answer: {error}; look at its log") from error


def _refusal(error: urllib.error.HTTPError, at: str) -> FirehoseError:
    """Return what the service said."""
    try:
        body = json.loads(error.read())
        code, message = str(body["code"]), str(body["message"])
    except (OSError, ValueError, KeyError, TypeError):
        return UnavailableError(f"{at} answered {error.code} {error.reason}")
    if error.code == 503:
        return NotYetError(message, code=code)
    if error.code >= 500:
        return RemoteError(f"{at}: {message}; its log says more", code=code)
    return RemoteError(message, code=code)


async def _local(directory: DataDirectory, verb: str, parameters: dict[str, Any]) -> Any:
    # imported here: a running service is asked without loading all this
    from firehose.cli.remembered import configuration_of
    from firehose.clock import SystemClock
    from firehose.operations import VERBS
    from firehose.service import Service
    from firehose.telemetry import Telemetry

    logging.getLogger("firehose").setLevel(logging.CRITICAL)  # what is wrong is in the answer, or in the error
    configuration = configuration_of(directory.remembered())
    service = await Service.open(configuration, directory, SystemClock(), Telemetry(), keep_definitions=True)
    try:
        return await VERBS[verb](service, parameters)
    finally:
        await service.close()
