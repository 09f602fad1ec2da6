"""`POST /`: one endpoint for the twelve operations of the API, told apart by `X-Amz-Target`."""

from __future__ import annotations

from typing import Any, Final

import orjson
from aiohttp import web

from firehose.api import puts, shapes, wire
from firehose.api.auth import Keys
from firehose.api.edge import Exchange
from firehose.api.operations import ControlPlane
from firehose.api.wire import SERIALIZATION, WireError
from firehose.ports import StreamService

TARGET_PREFIX: Final = "Firehose_20150804."

#: 4 MiB of records in base64 are 5.6 MiB; the rest is for names, white space and escaped slashes.
MAX_BODY_BYTES: Final = 8 * 2**20

_PUTS: Final = {"PutRecord": puts.put_record, "PutRecordBatch": puts.put_record_batch}


class FirehoseApi:
    """Speaks the Firehose protocol."""

    def __init__(self, service: StreamService, keys: Keys) -> None:
        self._service = service
        self._keys = keys
        self._control = ControlPlane(service)

    async def answer(self, request: web.Request, exchange: Exchange) -> web.Response:
        """Answer one call. Errors: WireError, FirehoseError."""
        proof = self._keys.signed(request)
        operation = _operation(request)
        exchange.operation = operation
        body = await exchange.lease.read(request, max_bytes=MAX_BODY_BYTES)
        proof.check(request, body)
        try:
            members: Any = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise WireError(SERIALIZATION, f"The body is not valid JSON: {error}") from None
        put = _PUTS.get(operation)
        if put is None:
            return wire.answer(await self._control.call(operation, members))
        # all attempts of one call of an SDK have it in common
        token = puts.token_of(proof, request.headers.get("amz-sdk-invocation-id", ""), operation, body)
        done = await put(self._service, members, token)
        exchange.rows, exchange.code, exchange.reason = done.rows, done.code, done.reason
        return wire.answer(done.members)


def _operation(request: web.Request) -> str:
    """Return the operation that is asked for. Errors: WireError."""
    target = request.headers.get("X-Amz-Target", "")
    operation = target.removeprefix(TARGET_PREFIX)
    if not target.startswith(TARGET_PREFIX) or operation not in shapes.operations():
        what = f"X-Amz-Target {target!r} is unknown" if target else "The header X-Amz-Target is missing"
        raise WireError("UnknownOperationException", f"{what}; expected {TARGET_PREFIX}PutRecordBatch or the like.")
    if request.content_type != wire.CONTENT_TYPE:
        message = f"Content-Type must be {wire.CONTENT_TYPE}, not {request.content_type!r}."
        raise WireError("UnsupportedMediaTypeException", message, status=415)
    return operation
