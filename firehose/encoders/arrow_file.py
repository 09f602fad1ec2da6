"""An output as the file that Arrow's writers want."""

from __future__ import annotations

from typing import Any

from firehose.protocols import Output


class ArrowFile:
    """Passes bytes on to an output, and never raises: an error is kept for `check`.

    Arrow would lose the error's type and number, and ORC's writer ends the whole process with one that it meets while
    it is closed. Arrow closes this file when it is done; the output stays open.
    """

    closed = False

    def __init__(self, out: Output) -> None:
        self._out: Output | None = out
        self._error: Exception | None = None
        self.written_bytes = 0

    def write(self, data: Any) -> int:
        body = memoryview(data)
        if self._out is not None:
            try:
                self._out.write(body)
            except Exception as error:  # noqa: BLE001 - whatever it is, `check` raises it
                self._error = error
                self.detach()
        self.written_bytes += len(body)
        return len(body)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True

    def check(self) -> None:
        """Return if all was written. Errors: the output's."""
        if self._error is not None:
            raise self._error

    def detach(self) -> None:
        """Let go of the output: what is written from now on goes nowhere."""
        self._out = None
