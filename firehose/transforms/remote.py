"""Functions behind the AWS Lambda API."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING

import orjson

from firehose.aws import aws_errors
from firehose.errors import AccessDeniedError, FirehoseError, NotFoundError, ThrottledError
from firehose.transforms.contract import (
    ACCESS_DENIED,
    FUNCTION_ERROR,
    LIMIT_EXCEEDED,
    NOT_FOUND,
    TIMED_OUT,
    FunctionArn,
    InvocationError,
    malformed,
)

if TYPE_CHECKING:
    from firehose.aws import AwsClients

#: How long an answer may take: Firehose grants a function 5 minutes, and the network gets a little more.
READ_TIMEOUT_MS = 305_000

#: Firehose's words for what AWS answers of any kind may mean.
_CODES = {
    "Lambda.InternalError": "Lambda.InternalServerError",
    "Lambda.InvalidRequest": "Lambda.InvocationFailure",
    "Lambda.InvalidToken": "Lambda.InvalidSecurityToken",
}

#: Characters of a stack trace that are reported.
_TRACE_CHARACTERS = 8_192


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
                response = await client.invoke(
                    FunctionName=self.arn.text, InvocationType="RequestResponse", Payload=payload
                )
                body: bytes = await response["Payload"].read()
        except FirehoseError as error:
            raise InvocationError(_why(error), str(error)) from error
        if "FunctionError" in response:
            raise _function_error(body)
        return body

    async def close(self) -> None:
        """Clients belong to all streams together; nothing is ours."""


def _why(error: FirehoseError) -> tuple[str, str]:
    """Return the code and text of the error output for an invocation that did not come about."""
    if isinstance(error, ThrottledError):
        return LIMIT_EXCEEDED
    if isinstance(error, NotFoundError):
        return NOT_FOUND
    if isinstance(error, AccessDeniedError) and error.code in {ACCESS_DENIED[0], "Lambda.AccessDenied"}:
        return ACCESS_DENIED
    return _CODES.get(error.code, error.code), "The Lambda function could not be invoked."


def _function_error(body: bytes) -> InvocationError:
    """Return what a function's own failure is to us. Shape: `errorType`, `errorMessage` and, mostly, `stackTrace`."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        return InvocationError(FUNCTION_ERROR, f"it failed without saying why: {body[:200].decode(errors='replace')}")
    kind, message = str(found.get("errorType", "")), str(found.get("errorMessage", ""))
    reason = ": ".join(filter(None, (kind, message)))
    if kind == "Function.ResponseSizeTooLarge":
        return malformed(reason)
    if kind == "Sandbox.Timedout" or "Task timed out after" in message:
        return InvocationError(TIMED_OUT, reason)
    trace = found.get("stackTrace")
    detail = "\n".join(str(line).rstrip() for line in trace) if isinstance(trace, list) else ""
    return InvocationError(FUNCTION_ERROR, reason, detail=detail[-_TRACE_CHARACTERS:])
