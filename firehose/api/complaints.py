"""What aiohttp complains about, told as events: who sends no HTTP is not worth a traceback, a bug is."""

from __future__ import annotations

import logging
import traceback
from typing import Final

from aiohttp import web
from aiohttp.http import HttpProcessingError

from firehose.api.events import RequestMalformed
from firehose.telemetry import Sparing, UnexpectedError

#: aiohttp quotes what was sent.
_MAX_REASON: Final = 200

_FAULTS_OF_THE_SENDER: Final = (HttpProcessingError, web.RequestPayloadError, ConnectionError)


class _Complaints(logging.Handler):
    def __init__(self, telemetry: Sparing) -> None:
        super().__init__()
        self._telemetry = telemetry

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, _FAULTS_OF_THE_SENDER):
            reason = " ".join(str(error).split())
            self._telemetry.emit(RequestMalformed(reason[:_MAX_REASON]))
        elif record.levelno >= logging.ERROR:
            text = "".join(traceback.format_exception(error)) if error is not None else ""
            self._telemetry.emit(
                UnexpectedError("http", f"{record.getMessage()}\n{text}".rstrip()), type(error).__name__
            )


def complaints(telemetry: Sparing) -> logging.Logger:
    """Return the logger for aiohttp's server. It belongs to no tree: nothing else writes its records down."""
    logger = logging.Logger("http", logging.DEBUG)
    logger.addHandler(_Complaints(telemetry))
    return logger
