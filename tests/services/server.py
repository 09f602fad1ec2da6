"""A real server as a child process: a free port, a log, a readiness that is asked for, an end that is sure."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest

#: Where downloads are kept between runs and checkouts.
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "firehose-tests"

#: The logs of the servers that run now: a test that fails shows their ends.
LOGS: list[Path] = []

#: How often a starting server is asked whether it is ready.
POLL_S = 0.05


def unavailable(reason: str) -> NoReturn:
    """Skip on a laptop, fail in CI: there every server must be had."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_listening(port: int) -> bool:
    """Return whether somebody takes connections on a port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def running(
    command: Sequence[str | Path],
    *,
    folder: Path,
    is_ready: Callable[[], bool],
    environment: Mapping[str, str] | None = None,
    timeout_s: float = 60,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server in `folder` while the block runs. Its output goes to `server.log` there.

    Errors: RuntimeError with the end of the log, where it ends by itself or is not ready in time.
    """
    log = folder / "server.log"
    with log.open("ab") as out:
        process = subprocess.Popen(
            [str(word) for word in command],
            cwd=folder,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + timeout_s
        while not is_ready():
            if process.poll() is not None:
                raise RuntimeError(f"{command[0]} ended with {process.returncode}\n{tail(log)}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"{command[0]} was not ready after {timeout_s} s\n{tail(log)}")
            time.sleep(POLL_S)
        LOGS.append(log)
        yield process
    finally:
        stop(process)
        if log in LOGS:
            LOGS.remove(log)


def stop(process: subprocess.Popen[bytes], timeout_s: float = 10) -> None:
    """End the process and its children, kindly first."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            os.killpg(process.pid, how)
        try:
            process.wait(timeout_s)
            return
        except subprocess.TimeoutExpired:
            continue


def tail(log: Path, lines: int = 40) -> str:
    """Return the end of a log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
