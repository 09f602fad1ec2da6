"""moto: S3, KMS, Glue, STS, Kinesis and more, in memory. It believes every signature and every Content-MD5."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.services.server import free_port, is_listening, running


@contextmanager
def moto_server(folder: Path) -> Iterator[str]:
    """Run moto and yield its endpoint."""
    port = free_port()
    script = Path(__file__).parent / "moto_server.py"
    # -P: else the script's own folder comes first and this file is what it imports as `moto`
    with running([sys.executable, "-P", script, str(port)], folder=folder, is_ready=lambda: is_listening(port)):
        yield f"http://127.0.0.1:{port}"
