"""Functions behind the AWS Lambda API."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

import orjson

from firehose.aws import aws_errors
from firehose.errors import AccessDeniedError, FirehoseError, NotFoundError, ThrottledError
from firehose.transforms.contract import (
    ACCESS_DENIED,
    ANSWER_BYTES,
    FUNCTION_ERROR,
    LIMIT_EXCEEDED,
    NOT_FOUND,
    TIMED_OUT,
    FunctionArn,
    InvocationError,
    malformed,
    shown,
    too_large,
)

if TYPE_CHECKING:
    from firehose.aws import AwsClients

#: How long an answer may take: Firehose grants a function 5 minutes, and the network gets a little more.
READ_TIMEOUT_MS = 305_000

#: How long it may take to send an event, 6 MB at most.
SEND_TIMEOUT_MS = 60_000

#: Firehose's words for what AWS answers of any kind may mean.
_CODES = {
    "Lambda.InternalError": "Lambda.InternalServerError",
    "Lambda.InvalidRequest": "Lambda.InvocationFailure",
    "Lambda.InvalidToken": "Lambda.InvalidSecurityToken",
}

#: What is said of all other failures.
_OTHER_FAILURE = ("Lambda.InternalServerError", "The Lambda function could not be invoked.")

#: Characters that are reported of each thing a function said of its failure, and of its stack trace altogether.
_REASON_CHARACTERS, _TRACE_CHARACTERS = 2_048, 8_192

#: Bytes of an answer that are read at once.
_CHUNK_BYTES = 2**18


class RemoteFunction:
    """Invokes a function through the Lambda API and waits for its answer."""

    def __init__(
        self,
        arn: FunctionArn,
        aws: AwsClients,
        *,
        role_arn: str | None = None,
        external_id: str | None = None,
        endpoint_url: str | None = None,
    ) -> None:
        self.arn = arn
        self._aws = aws
        self._role_arn = role_arn
        self._external_id = external_id
        self._endpoint_url = endpoint_url

    async def invoke(self, event: Sequence[bytes]) -> bytes:
        try:
            with aws_errors("lambda", self.arn.text):
                client = await self._aws.client(
                    "lambda",
                    region=self.arn.region,
                    role_arn=self._role_arn,
                    external_id=self._external_id,
                    endpoint_url=self._endpoint_url,
                    read_timeout_ms=READ_TIMEOUT_MS,
                )
                payload = BytesIO(b"".join(event))  # aiohttp sends a file in chunks, but bytes of this size at once
                # botocore's own begins when all is sent: who stops reading would keep the invocation for ever
                async with asyncio.timeout((SEND_TIMEOUT_MS + READ_TIMEOUT_MS) / 1_000):
                    response = await client.invoke(
                        FunctionName=self.arn.text, InvocationType="RequestResponse", Payload=payload
                    )
                    body = await _read(response["Payload"])
        except FirehoseError as error:
            raise InvocationError(_why(error), str(error)) from error
        except (ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
            # botocore takes for granted that an error answer is an object of JSON; a proxy's page or `null` is none
            reason = f"{self.arn.text}: not an answer of the Lambda API: {error}"
            raise InvocationError(_OTHER_FAILURE, reason) from error
        if len(body) > ANSWER_BYTES:
            raise too_large(f"more than {ANSWER_BYTES}")
        if "FunctionError" in response:
            raise _function_error(body)
        return body

    async def close(self) -> None:
        """Clients belong to all streams together; nothing is ours."""


async def _read(payload: Any) -> bytes:
    """Return the answer, or little more than Lambda lets through of it."""
    body = bytearray()
    async for chunk in payload.iter_chunks(_CHUNK_BYTES):
        body += chunk
        if len(body) > ANSWER_BYTES:
            payload.close()
            break
    return bytes(body)


def _why(error: FirehoseError) -> tuple[str, str]:
    """Return the code and text of the error output for an invocation that did not come about."""
    if isinstance(error, ThrottledError):
        return LIMIT_EXCEEDED
    if isinstance(error, NotFoundError):
        return NOT_FOUND
    if isinstance(error, AccessDeniedError) and error.code in {ACCESS_DENIED[0], "Lambda.AccessDenied"}:
        return ACCESS_DENIED
    return _CODES.get(error.code, error.code), _OTHER_FAILURE[1]


def _function_error(body: bytes) -> InvocationError:
    """Return what a function's own failure is to us. Shape: `errorType`, `errorMessage` and, mostly, `stackTrace`."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        return InvocationError(FUNCTION_ERROR, f"it failed without saying why: {body[:200].decode(errors='replace')}")
    kind, message = _text(found.get("errorType", "")), _text(found.get("errorMessage", ""))
    reason = ": ".join(filter(None, (kind, message)))
    if kind == "Function.ResponseSizeTooLarge":
        return malformed(reason)
    if kind == "Sandbox.Timedout" or "Task timed out after" in message:
        return InvocationError(TIMED_OUT, reason)
    trace = found.get("stackTrace")
    detail = "\n".join(_text(line).rstrip() for line in trace) if isinstance(trace, list) else ""
    return InvocationError(FUNCTION_ERROR, reason, detail=detail[-_TRACE_CHARACTERS:])


def _text(value: object) -> str:
    return value[:_REASON_CHARACTERS] if isinstance(value, str) else shown(value)
