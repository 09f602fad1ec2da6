"""Answers of the routes that are ours alone: plain JSON, errors as `code` and `message` with a telling status."""

from __future__ import annotations

from typing import Any, Final

import orjson
from aiohttp import web

from firehose import errors
from firehose.api.wire import INTERNAL_FAILURE, INTERNAL_MESSAGE, AuthError, WireError

#: What a client that was asked to slow down is told to wait.
RETRY_AFTER_S: Final = 1


def json_answer(value: Any, status: int = 200) -> web.Response:
    """Return `value` as JSON."""
    return web.Response(body=orjson.dumps(value), status=status, content_type="application/json")


def translate(error: errors.FirehoseError) -> WireError:
    """Return what a plain client is told for one of our errors."""
    message = str(error)
    match error:
        case errors.NotFoundError():
            return WireError(error.code, message, status=404)
        case errors.ConflictError():
            return WireError(error.code, message, status=409)
        case errors.InvalidError() | errors.ConfigError():
            return WireError(error.code, message, status=400)
        case errors.ThrottledError():
            return WireError(error.code, message, status=503)
        case _:
            return WireError(INTERNAL_FAILURE, INTERNAL_MESSAGE, status=500)


def refusal(error: WireError) -> web.Response:
    """Return `error` as an answer."""
    status = 401 if isinstance(error, AuthError) else error.status
    response = json_answer({"code": error.code, "message": error.message}, status)
    if status == 503:
        response.headers["Retry-After"] = str(RETRY_AFTER_S)
    return response
