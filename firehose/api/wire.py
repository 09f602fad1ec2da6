"""Answers of the Firehose protocol (AWS JSON 1.1), and the words it has for our errors.

Source: https://smithy.io/2.0/aws/protocols/aws-json-1_1-protocol.html
"""

from __future__ import annotations

import uuid
from typing import Any, Final

import orjson
from aiohttp import web

from firehose import errors

#: Members of one structure of the API, by their AWS names.
Members = dict[str, Any]

CONTENT_TYPE: Final = "application/x-amz-json-1.1"

VALIDATION: Final = "ValidationException"
INVALID_ARGUMENT: Final = "InvalidArgumentException"
SERIALIZATION: Final = "SerializationException"
NOT_FOUND: Final = "ResourceNotFoundException"
IN_USE: Final = "ResourceInUseException"
LIMIT_EXCEEDED: Final = "LimitExceededException"
SERVICE_UNAVAILABLE: Final = "ServiceUnavailableException"
INTERNAL_FAILURE: Final = "InternalFailure"

#: What a client is told when the fault is ours; the reason stands in our log.
INTERNAL_MESSAGE: Final = "The request processing has failed because of an internal error."

#: The API reference gives 500 for ServiceUnavailableException; every SDK retries it like a 503.
THROTTLED_STATUS: Final = 500


class WireError(Exception):
    """An answer other than success: `code` becomes `__type`, the text `message`."""

    def __init__(self, code: str, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status


class AuthError(WireError):
    """The sender did not prove who it is. Status 400, as the AWS JSON services answer."""


def invalid(message: str) -> WireError:
    """Return the error for a request whose shape is right and whose meaning is not."""
    return WireError(INVALID_ARGUMENT, message)


def unsupported(what: str) -> WireError:
    """Return the error for a feature of the API that this version lacks: refused, never silently ignored."""
    return invalid(f"{what} is not supported by this version.")


def wire_error(error: errors.FirehoseError) -> WireError:
    """Return what a client is told for one of our errors."""
    message = str(error)
    if error.code == LIMIT_EXCEEDED:
        return WireError(LIMIT_EXCEEDED, message)
    match error:
        case errors.NotFoundError():
            return WireError(NOT_FOUND, message)
        case errors.ConflictError():
            return WireError(IN_USE, message)
        case errors.InvalidError() | errors.ConfigError():
            return WireError(INVALID_ARGUMENT, message)
        case errors.AccessDeniedError():
            return WireError("AccessDeniedException", message)
        case errors.ThrottledError():
            return WireError(SERVICE_UNAVAILABLE, "Slow down.", status=THROTTLED_STATUS)
        case _:
            return WireError(INTERNAL_FAILURE, INTERNAL_MESSAGE, status=500)


def answer(members: Members) -> web.Response:
    """Return a successful answer."""
    return web.Response(body=orjson.dumps(members), headers=_headers())


def refusal(error: WireError) -> web.Response:
    """Return `error` as an answer."""
    body = orjson.dumps({"__type": error.code, "message": error.message})
    return web.Response(body=body, status=error.status, headers=_headers() | {"x-amzn-ErrorType": error.code})


def _headers() -> dict[str, str]:
    return {"Content-Type": CONTENT_TYPE, "x-amzn-RequestId": str(uuid.uuid4())}
