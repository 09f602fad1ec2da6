"""`firehose run`: the service and its HTTP server, from start to stop."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import resource
import secrets
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from aiohttp import web

from firehose.api.door import Door, Limits, connections_allowed
from firehose.api.gate import GATE
from firehose.api.server import build_app, build_runner
from firehose.cli.examination import tell_problems
from firehose.cli.remembered import server_facts
from firehose.cli.supervisor import notify
from firehose.clock import SystemClock
from firehose.config.loader import Loaded, load
from firehose.config.models import ServerConfig
from firehose.datadir import DataDirectory, InUseError, RunningService
from firehose.errors import ConfigError, FirehoseError, UnavailableError
from firehose.operations import bound_verbs
from firehose.service import Service
from firehose.service.events import ServiceStarted, ServiceStopped, StopForced
from firehose.service.runner import first_of
from firehose.telemetry import Sparing, Telemetry, configure_logging, loop_handler

#: Requests under way when the service is told to stop may take so long to end; probes are answered meanwhile.
GRACE_MS = 2_000
#: What is still not answered then is given up; its producer sends again.
CUT_S = 0.5
#: Workers told to stop may take so long; what they leave is found again at the next start.
WORK_S = 1.0
#: Whatever holds up the end, a hung disk or a thread, it is not waited for longer: supervisors kill after 5 s or more.
LAST_S = 4.5

#: How long the directory is waited for where a command has it.
COMMANDS_S = 10.0

#: The most files to be open at once, where the system allows more: children inherit it, and some count up to it.
MAX_DESCRIPTORS = 65_536


class ServiceHealth:
    """What load balancers and supervisors are told."""

    def __init__(self) -> None:
        self.not_ready = "starting"
        self.broken = ""

    def is_live(self) -> tuple[bool, str]:
        return not self.broken, self.broken

    def is_ready(self) -> tuple[bool, str]:
        reason = self.broken or self.not_ready
        return not reason, reason


def run(paths: Sequence[Path], overrides: dict[str, Any]) -> None:
    """Run until SIGTERM or SIGINT. Errors: FirehoseError."""
    descriptors = allow_descriptors()
    loaded = _loaded(paths, overrides)
    server = loaded.configuration.server
    configure_logging(level=server.log_level, style=server.log_style)
    directory = DataDirectory(server.data_dir)
    _take(directory)
    try:
        asyncio.run(_run(loaded, directory, Limits(connections_allowed(descriptors))))
    finally:
        directory.release()


def allow_descriptors() -> int:
    """Let this process open as many files as it may, and return how many.

    The usual soft limit of 1,024 is for programs that call select().
    """
    soft, hard = (_number(limit) for limit in resource.getrlimit(resource.RLIMIT_NOFILE))
    if soft >= hard:
        return soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    except (OSError, ValueError):  # macOS names a limit that it does not grant
        return soft
    return hard


def _number(limit: int) -> int:
    return MAX_DESCRIPTORS if limit == resource.RLIM_INFINITY else min(limit, MAX_DESCRIPTORS)


def _take(directory: DataDirectory) -> None:
    """Lock the directory; a command that has it for a moment is waited for, a service is not."""
    until_s = time.monotonic() + COMMANDS_S
    while True:
        try:
            return directory.take()
        except InUseError:
            if directory.running() is not None or time.monotonic() > until_s:
                raise
            time.sleep(0.05)  # a command has it, for less than that mostly


def _loaded(paths: Sequence[Path], overrides: dict[str, Any]) -> Loaded:
    loaded = load(paths, environment=os.environ)
    server = loaded.configuration.server.model_copy(update=overrides)
    if not server.credentials and not _is_loopback(server.host):
        raise ConfigError(
            f"refusing to listen on {server.host} for everybody: set server.credentials, or listen on 127.0.0.1"
        )
    return replace(loaded, configuration=loaded.configuration.model_copy(update={"server": server}))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _Stop:
    """Whether the service was told to stop, and by when it has to be gone."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._asked = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._ask)

    def _ask(self) -> None:
        if not self._asked.is_set():
            self._asked.set()
            # a thread of its own: what holds up the end may be the event loop, or the interpreter waiting for threads
            last = threading.Timer(LAST_S, self._leave)
            last.daemon = True
            last.start()

    def _leave(self) -> None:
        self._telemetry.emit(StopForced(round(LAST_S * 1_000)))
        os._exit(0)

    async def wait(self, working: asyncio.Task[None]) -> None:
        """Return when told to stop. Errors: what ended the work before."""
        asked = asyncio.create_task(self._asked.wait())
        await asyncio.wait((working, asked), return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        if working.done():
            raise _reason(working)


async def _run(loaded: Loaded, directory: DataDirectory, limits: Limits) -> None:
    clock, telemetry = SystemClock(), Telemetry()
    asyncio.get_running_loop().set_exception_handler(loop_handler(Sparing(telemetry, clock)))
    stop = _Stop(telemetry)
    service = await Service.open(loaded.configuration, directory, clock, telemetry)
    try:
        directory.remember(server_facts(loaded.configuration.server))
        begun_ms = await _serve(service, loaded, clock, telemetry, stop, limits)
    finally:
        await service.close()
    telemetry.emit(ServiceStopped(clock.monotonic_ms() - begun_ms))


async def _serve(
    service: Service, loaded: Loaded, clock: SystemClock, telemetry: Telemetry, stop: _Stop, limits: Limits
) -> int:
    """Take records and deliver them until told to stop; return when that was. Errors: FirehoseError."""
    server, directory, health = service.configuration.server, service.directory, ServiceHealth()
    token, started = secrets.token_urlsafe(32), asyncio.Event()
    app = build_app(
        service,
        clock=clock,
        telemetry=telemetry,
        credentials={each.access_key_id: each.secret_access_key.get_secret_value() for each in server.credentials},
        admin=bound_verbs(service),
        admin_token=token,
        health=health,
        executor=service.environment.executor,
    )
    runner = build_runner(app, grace_s=CUT_S)
    working = asyncio.create_task(service.run(started))
    telling = asyncio.create_task(tell_problems(loaded, clock, telemetry))
    try:
        url = await _listen(runner, server, limits, Sparing(telemetry, clock))
        directory.announce(RunningService(os.getpid(), url, token))
        await started.wait()
        health.not_ready = ""
        notify("READY=1")
        data_dir = str(directory.path.resolve())
        telemetry.emit(ServiceStarted(version("firehose"), data_dir, url, len(service.runners), "reference"))
        await stop.wait(working)
        begun_ms = clock.monotonic_ms()
        health.not_ready = "stopping"
        notify("STOPPING=1")
        await clock.wait(app[GATE].idle, GRACE_MS)
        return begun_ms
    finally:
        await runner.cleanup()
        working.cancel()
        telling.cancel()
        # who is not done by then waits for somebody who does not answer, and is cancelled again when the loop ends
        await asyncio.wait([working, telling], timeout=WORK_S)


def _reason(working: asyncio.Task[None]) -> FirehoseError:
    """Return why the work ended by itself."""
    error = first_of(working.exception() or AssertionError("the work ended without a reason"))
    return error if isinstance(error, FirehoseError) else FirehoseError(f"a bug: {type(error).__name__}: {error}")


async def _listen(runner: web.AppRunner, server: ServerConfig, limits: Limits, telemetry: Sparing) -> str:
    await runner.setup()
    try:
        await Door(runner, server.host, server.port, limits=limits, telemetry=telemetry).start()
    except OSError as error:
        raise UnavailableError(
            f"cannot listen on {server.host}:{server.port}: {error}; choose another --port"
        ) from error
    port = runner.addresses[0][1]
    host = f"[{server.host}]" if ":" in server.host else server.host
    return f"http://{host}:{port}"
