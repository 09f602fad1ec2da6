"""`firehose run`: the service and its HTTP server, from start to stop."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import secrets
import signal
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from aiohttp import web

from firehose.api.gate import GATE
from firehose.api.server import build_app, build_runner
from firehose.cli.supervisor import notify
from firehose.clock import SystemClock
from firehose.config.loader import load
from firehose.config.models import Configuration, ServerConfig
from firehose.datadir import DataDirectory, RunningService
from firehose.errors import ConfigError, UnavailableError
from firehose.operations import bound_verbs
from firehose.service import Service
from firehose.service.events import ServiceStarted, ServiceStopped
from firehose.telemetry import Telemetry, configure_logging

#: Requests under way when the service is told to stop may take so long to end; probes are answered meanwhile.
GRACE_MS = 2_000
#: What is still not answered then is given up; its producer sends again.
CUT_S = 0.5


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
    """Run until SIGTERM or SIGINT. Errors: FirehoseError, before anything is served."""
    configuration = _configuration(paths, overrides)
    server = configuration.server
    configure_logging(level=server.log_level, style=server.log_style)
    directory = DataDirectory(server.data_dir)
    directory.take()
    try:
        asyncio.run(_run(configuration, directory))
    finally:
        directory.release()


def _configuration(paths: Sequence[Path], overrides: dict[str, Any]) -> Configuration:
    configuration = load(paths, environment=os.environ).configuration if paths else Configuration()
    server = configuration.server.model_copy(update=overrides)
    if not server.credentials and not _is_loopback(server.host):
        raise ConfigError(
            f"refusing to listen on {server.host} for everybody: set server.credentials, or listen on 127.0.0.1"
        )
    return configuration.model_copy(update={"server": server})


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def _run(configuration: Configuration, directory: DataDirectory) -> None:
    clock, telemetry, health = SystemClock(), Telemetry(), ServiceHealth()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    service = await Service.open(configuration, directory, clock, telemetry)
    token, started = secrets.token_urlsafe(32), asyncio.Event()
    app = build_app(
        service,
        clock=clock,
        telemetry=telemetry,
        credentials={
            each.access_key_id: each.secret_access_key.get_secret_value() for each in configuration.server.credentials
        },
        admin=bound_verbs(service),
        admin_token=token,
        health=health,
        executor=service.environment.executor,
    )
    runner = build_runner(app, grace_s=CUT_S)
    working = asyncio.create_task(service.run(started))
    try:
        url = await _listen(runner, configuration.server)
        directory.announce(RunningService(os.getpid(), url, token))
        await started.wait()
        health.not_ready = ""
        notify("READY=1")
        data_dir = str(directory.path.resolve())
        telemetry.emit(ServiceStarted(version("firehose"), data_dir, url, len(service.runners), "reference"))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        begun_ms = clock.monotonic_ms()
        health.not_ready = "stopping"
        notify("STOPPING=1")
        await clock.wait(app[GATE].idle, GRACE_MS)
    finally:
        await runner.cleanup()
        if not working.done():
            working.cancel()
        await asyncio.wait([working])
        await service.close()
    if not working.cancelled():
        working.result()
    telemetry.emit(ServiceStopped(clock.monotonic_ms() - begun_ms))


async def _listen(runner: web.AppRunner, server: ServerConfig) -> str:
    await runner.setup()
    site = web.TCPSite(runner, server.host, server.port)
    try:
        await site.start()
    except OSError as error:
        raise UnavailableError(
            f"cannot listen on {server.host}:{server.port}: {error}; choose another --port"
        ) from error
    port = runner.addresses[0][1]
    host = f"[{server.host}]" if ":" in server.host else server.host
    return f"http://{host}:{port}"
