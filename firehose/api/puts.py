"""PutRecord and PutRecordBatch: base64 in JSON becomes one Arrow column, and is durable before it is answered.

This is the hot path: what is right is decoded in one comprehension. Only what is wrong meets the model of the API,
which finds the words for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

import pyarrow as pa
from pybase64 import b64decode

from firehose import arrow
from firehose.api import shapes
from firehose.api.auth import Proof
from firehose.api.wire import INTERNAL_FAILURE, NOT_FOUND, SERVICE_UNAVAILABLE, Members, WireError, invalid
from firehose.config.models import STREAM_NAME
from firehose.errors import NotFoundError, ThrottledError, UnavailableError
from firehose.ports import PutAnswer, StreamService

MAX_RECORDS: Final = 500
MAX_RECORD_BYTES: Final = 1_024_000
#: Of the decoded records of one call together.
MAX_BATCH_BYTES: Final = 4_194_304


@dataclass(frozen=True, slots=True)
class Done:
    """The answer to a put, how many records were taken, and `OK` or why none was: `reason` is for our log only."""

    members: Members
    rows: int
    code: str = "OK"
    reason: str = ""


def token_of(proof: Proof, name: str, what: str, body: bytes) -> bytes:
    """Return what tells the put `name` of this sender and with this body from all others; nothing for one without.

    `what`: how the body is to be understood.
    """
    if not name:
        return b""
    # also the body: a name that is used for two different puts must not cost one of them
    said = f"{proof.principal}\n{name}\n{what}\n".encode(errors="surrogateescape") + proof.hash_of(body)
    return sha256(said).digest()


async def put_record(service: StreamService, request: Any, token: bytes) -> Done:
    """Store one record.

    Errors: WireError, and those of `StreamService.put`.
    """
    name, data = _decoded("PutRecord", request)
    stored = await _put(service, name, data, token)
    return Done({"RecordId": record_ids(stored)[0], "Encrypted": False}, stored.rows)


async def put_record_batch(service: StreamService, request: Any, token: bytes) -> Done:
    """Store up to 500 records, all or none.

    That none was taken is told record by record, with status 200, as producers expect it.

    Errors: WireError, and those of `StreamService.put` that are not about this moment.
    """
    name, data = _decoded("PutRecordBatch", request)
    try:
        stored = await _put(service, name, data, token)
    except ThrottledError as error:
        return _none_taken(len(data), SERVICE_UNAVAILABLE, "Slow down.", error)
    except UnavailableError as error:
        return _none_taken(len(data), INTERNAL_FAILURE, "Internal service failure.", error)
    taken = [{"RecordId": each} for each in record_ids(stored)]
    return Done({"FailedPutCount": 0, "Encrypted": False, "RequestResponses": taken}, stored.rows)


def record_ids(stored: PutAnswer) -> list[str]:
    """Return one id for each record: opaque to producers, and for operators the row's place in the log."""
    prefix, first = f"{stored.stream_uid}.{stored.shard}", stored.first_sequence
    return [f"{prefix}.{sequence}" for sequence in range(first, first + stored.rows)]


def _decoded(operation: str, request: Any) -> tuple[str, pa.LargeBinaryArray]:
    """Return the stream's name and the records, checked against every limit."""
    try:
        name = request["DeliveryStreamName"]
        records = request["Records"] if operation == "PutRecordBatch" else (request["Record"],)
        data = [b64decode(record["Data"], validate=True) for record in records]
        is_right = STREAM_NAME.fullmatch(name) is not None and 1 <= len(data) <= MAX_RECORDS
    except (KeyError, TypeError, ValueError):
        is_right = False
    if not is_right:
        raise _explained(operation, request)
    column = arrow.binary_column(data)
    lengths = arrow.byte_lengths(column)
    if int(lengths.max()) > MAX_RECORD_BYTES:
        raise _explained(operation, request)
    if int(lengths.sum()) > MAX_BATCH_BYTES:
        raise invalid(f"The records of one PutRecordBatch may hold at most {MAX_BATCH_BYTES} bytes together.")
    return name, column


def _explained(operation: str, request: Any) -> WireError:
    """Return the error that the API's model finds in a request known to be wrong."""
    try:
        shapes.check(operation, request)
    except WireError as error:
        return error
    raise AssertionError(f"{operation}: refused by the decoder, accepted by the model")


async def _put(service: StreamService, name: str, data: pa.LargeBinaryArray, token: bytes) -> PutAnswer:
    try:
        return await service.put(name, data, token=token)
    except NotFoundError as error:
        raise not_found(service, name) from error


def not_found(service: StreamService, name: str) -> WireError:
    """Return the error for a stream that is not there, or not active yet or any more."""
    try:
        service.stream(name)
    except NotFoundError:
        return WireError(NOT_FOUND, f"Firehose {name} under account {service.account} not found.")
    return WireError(NOT_FOUND, f"Firehose {name} is not active in {service.account} account.")


def _none_taken(rows: int, code: str, message: str, error: Exception) -> Done:
    entry = {"ErrorCode": code, "ErrorMessage": message}
    return Done({"FailedPutCount": rows, "Encrypted": False, "RequestResponses": [entry] * rows}, 0, code, str(error))
