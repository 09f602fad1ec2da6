"""`firehose flush`: waits until everything that was accepted before is delivered, one short call after another."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from firehose.cli.call import call
from firehose.errors import UnavailableError
from firehose.units import format_duration_ms

#: How long the service may take for one answer: short, so that stopping it is not held up.
STEP_MS = 500


def flush(data_dir: Path, stream: str, timeout_ms: int) -> None:
    """Return when it is delivered. Errors: UnavailableError where it is not by then: the service goes on trying."""
    until_s = time.monotonic() + timeout_ms / 1_000
    parameters: dict[str, Any] = {"stream": stream}
    while True:
        left_ms = max(0, round((until_s - time.monotonic()) * 1_000))
        answer = call(data_dir, "flush", {**parameters, "wait_ms": min(STEP_MS, left_ms)})
        if answer["done"]:
            return
        if not left_ms:
            why = f": {answer['last_error']}" if answer["last_error"] else ""
            raise UnavailableError(
                f"stream {stream!r}: not everything is delivered after {format_duration_ms(timeout_ms)}{why}; "
                "the service goes on trying, `firehose status` shows how far it is"
            )
        parameters["heads"] = answer["heads"]
