"""Python runs this as it starts, where a test put this folder on PYTHONPATH: see `tests/integration/outside.py`."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Any

FOLDER = Path(os.environ["OUTSIDE"])

_time_ns, _monotonic_ns, _getaddrinfo = time.time_ns, time.monotonic_ns, socket.getaddrinfo


def _said(name: str, otherwise: str) -> str:
    try:
        return (FOLDER / name).read_text()
    except FileNotFoundError:
        return otherwise


def _resolve(host: Any, *arguments: Any, **more: Any) -> Any:
    return _getaddrinfo(_said(f"{host}", f"{host}") if f"{host}".endswith(".invalid") else host, *arguments, **more)


# what Python itself waits by (`time.monotonic`) stays as it is: only the service's own clock is ahead
time.time_ns = lambda: _time_ns() + int(_said("ahead", "0"))
time.monotonic_ns = lambda: _monotonic_ns() + int(_said("ahead", "0"))
socket.getaddrinfo = _resolve
