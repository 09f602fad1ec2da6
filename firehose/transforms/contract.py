"""What Firehose and a Lambda function say to each other: the event sent, and every way an answer can be right or wrong.

Pure functions over one batch of rows. Codes and texts are those of the error output; clients match on them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Protocol

import numpy as np
import orjson
import pybase64

from firehose import arrow
from firehose.errors import FirehoseError
from firehose.records import Batch

#: Lambda's limit for the payload of a synchronous invocation.
EVENT_BYTES = 6 * 2**20
#: The same for an answer: Lambda grants it 100 bytes more.
ANSWER_BYTES = EVENT_BYTES + 100

#: Room in the event for all but the records: ids, the stream's ARN and its region.
_HEAD_BYTES = 1_024
#: Bytes of one record in the event, besides its data: its names, a 56-digit id and a 13-digit time, with room.
_RECORD_BYTES = 136

#: A function's ARN: region, name and, maybe, version or alias.
ARN_PATTERN = r"^arn:[a-z-]+:lambda:([a-z0-9-]+):\d{12}:function:([a-zA-Z0-9_-]{1,140})(:(\$LATEST|[a-zA-Z0-9_-]+))?$"

FUNCTION_ERROR = (
    "Lambda.FunctionError",
    "The Lambda function was successfully invoked but it returned an error result.",
)
TIMED_OUT = (
    "Lambda.FunctionTimedOut",
    "The Lambda function invocation timed out. Increase the Timeout setting in the Lambda function.",
)
LIMIT_EXCEEDED = (
    "Lambda.InvokeLimitExceeded",
    "The Lambda throttling limit is exceeded. Increase the concurrency limit.",
)
ACCESS_DENIED = (
    "Lambda.InvokeAccessDenied",
    "Access was denied. Ensure that the access policy allows access to the Lambda function.",
)
NOT_FOUND = (
    "Lambda.ResourceNotFound",
    "Cannot invoke the Lambda function. Use a different function that does exist.",
)
PROCESSING_FAILED = ("Lambda.ProcessingFailedStatus", "ProcessingFailed status set for record")
MISSING_ID = (
    "Lambda.MissingRecordId",
    "One or more record Ids were not returned. Ensure that the Lambda function returns all received record Ids.",
)
DUPLICATED_ID = (
    "Lambda.DuplicatedRecordId",
    "Multiple records were returned with the same record Id."
    " Ensure that the Lambda function returns a unique record Id for each record.",
)
NULL_DATA = (
    "Lambda.InvalidReturnFormat",
    "The data field cannot be null when the SourceType is DirectPut or KinesisStreamAsSource and processing result is"
    " Ok. The value field cannot be null when the SourceType is MSKAsSource and processing result is Ok.",
)


@dataclass(frozen=True, slots=True)
class FunctionArn:
    """The ARN of a function, in parts."""

    text: str
    region: str
    name: str
    qualifier: str | None = None

    @classmethod
    def parse(cls, text: str) -> FunctionArn:
        """Return the parts of `text`. Errors: ValueError."""
        found = re.fullmatch(ARN_PATTERN, text)
        if found is None:
            raise ValueError(f"not the ARN of a Lambda function: {text}")
        return cls(text, region=found[1], name=found[2], qualifier=found[4])

    @property
    def qualified(self) -> str:
        """The ARN with its version, as the error output names functions: `$LATEST` where none is given."""
        return self.text if self.qualifier else f"{self.text}:$LATEST"


class InvocationError(FirehoseError):
    """An invocation gave nothing for any of its records.

    The message is for the error output; `reason` says in a line what happened and `detail` holds the traceback or
    output, for the log. `is_final`: the function did answer, and asking again is not foreseen.
    """

    def __init__(self, why: tuple[str, str], reason: str, *, detail: str = "", is_final: bool = False) -> None:
        super().__init__(why[1], code=why[0])
        # it becomes a column, and half of a character out of somebody's JSON cannot be in one
        self.reason = reason.encode(errors="backslashreplace").decode()
        self.detail = detail
        self.is_final = is_final


class Function(Protocol):
    """Something with the AWS Lambda contract that can be invoked."""

    arn: FunctionArn

    async def invoke(self, event: Sequence[bytes]) -> bytes:
        """Return the answer to the event that these pieces make up.

        Errors: InvocationError; UnavailableError where it is not the function's fault.
        """
        ...

    async def close(self) -> None:
        """Stop processes."""
        ...


@dataclass(slots=True)
class Answer:
    """What a function said of each row, by the row's place in the batch; places ascend."""

    ok: list[int] = field(default_factory=list)
    data: list[bytes] = field(default_factory=list)
    dropped: list[int] = field(default_factory=list)
    failed: list[int] = field(default_factory=list)
    codes: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)

    def fail(self, row: int, why: tuple[str, str]) -> None:
        self.failed.append(row)
        self.codes.append(why[0])
        self.messages.append(why[1])


def split(batch: Batch, *, max_bytes: int) -> Iterator[Batch]:
    """Yield the rows of `batch` in pieces of at most `max_bytes` of data whose events stay below Lambda's limit.

    A row that is too large for either is a piece of its own.
    """
    lengths = arrow.byte_lengths(batch.data)
    data_ends = np.concatenate(([0], np.cumsum(lengths)))
    event_ends = np.concatenate(([0], np.cumsum(4 * (-(-lengths // 3)) + _RECORD_BYTES)))
    start = 0
    while start < len(batch):
        by_data = np.searchsorted(data_ends, data_ends[start] + max_bytes, "right")
        by_event = np.searchsorted(event_ends, event_ends[start] + EVENT_BYTES - _HEAD_BYTES, "right")
        stop = max(start + 1, int(min(by_data, by_event)) - 1)
        yield batch.slice(start, stop - start)
        start = stop


def record_ids(batch: Batch) -> list[str]:
    """Return an id for each row: 56 digits as in Firehose, the same for the same row at every attempt.

    Shape: 49, 25 digits that stand for the shard, 19 of the sequence, 10 of the sub-sequence counted from 1 (0: whole).
    """
    shard = int.from_bytes(blake2b(batch.shard.encode(), digest_size=16).digest()) % 10**25
    prefix = f"49{shard:025d}"
    rows = zip(batch.sequence.tolist(), batch.sub_sequence.tolist(), strict=True)
    return [f"{prefix}{sequence:019d}{sub_sequence + 1:010d}" for sequence, sub_sequence in rows]


def encode_records(batch: Batch, ids: Sequence[str]) -> bytes:
    """Return the event's `records`, as JSON: the same at every attempt, so they are made once."""
    values = arrow.values_of(batch.data)
    offsets = arrow.offsets_of(batch.data).tolist()
    encode = pybase64.b64encode_as_string
    return orjson.dumps(
        [
            {"recordId": record_id, "approximateArrivalTimestamp": arrival_ms, "data": encode(values[start:end])}
            for record_id, arrival_ms, start, end in zip(
                ids, batch.arrival_ms.tolist(), offsets[:-1], offsets[1:], strict=True
            )
        ]
    )


def event_of(records: bytes, *, invocation_id: str, stream_arn: str, region: str) -> list[bytes]:
    """Return the event of one attempt, in pieces."""
    head = orjson.dumps({"invocationId": invocation_id, "deliveryStreamArn": stream_arn, "region": region})
    return [head[:-1] + b',"records":', records, b"}"]


def read_answer(body: bytes, ids: Sequence[str]) -> Answer:
    """Return what the function said of the rows with these ids. Ids that were not sent are ignored.

    Errors: InvocationError, final, where the answer as a whole cannot be used.
    """
    given, repeated = _by_id(body, frozenset(ids))
    answer = Answer()
    for row, record_id in enumerate(ids):
        record = given.get(record_id)
        if record is None:
            answer.fail(row, MISSING_ID)
        elif record_id in repeated:
            answer.fail(row, DUPLICATED_ID)
        elif (result := record.get("result")) == "Ok":
            data = record.get("data")
            if data is None:
                answer.fail(row, NULL_DATA)
            else:
                answer.ok.append(row)
                answer.data.append(_decoded(data, record_id))
        elif result == "Dropped":
            answer.dropped.append(row)
        elif result == "ProcessingFailed":
            answer.fail(row, PROCESSING_FAILED)
        else:
            raise malformed(f"result of record {record_id} is {shown(result)}; allowed: Ok, Dropped, ProcessingFailed")
    return answer


def malformed(reason: str) -> InvocationError:
    """Return the error of an answer that cannot be used."""
    return InvocationError(FUNCTION_ERROR, reason, is_final=True)


def too_large(size: str) -> InvocationError:
    """Return the error of an answer with more bytes than Lambda lets through. `size`: how many, for people."""
    return malformed(f"Function.ResponseSizeTooLarge: the answer has {size} bytes; Lambda allows {ANSWER_BYTES}")


def shown(value: object) -> str:
    """Return the beginning of a value out of JSON, for people."""
    try:
        text = orjson.dumps(value).decode()
    except orjson.JSONEncodeError:  # it reads 1,024 levels, but writes 254
        text = "a value nested hundreds of levels deep"
    return text if len(text) <= 80 else text[:77] + "..."


def _by_id(body: bytes, sent: frozenset[str]) -> tuple[dict[str, dict[str, Any]], set[str]]:
    if len(body) > ANSWER_BYTES:
        raise too_large(f"{len(body)}")
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise malformed(f"the answer is not JSON: {error}") from error
    if not isinstance(answer, dict):
        raise malformed(f'the answer is {shown(answer)}, not an object with "records"')
    records = answer.get("records")
    if not isinstance(records, list | None):
        raise malformed(f'"records" of the answer is {shown(records)}, not a list')
    given: dict[str, dict[str, Any]] = {}
    repeated = set()
    for record in records or ():
        if not isinstance(record, dict):
            raise malformed(f"a record of the answer is {shown(record)}, not an object")
        record_id = record.get("recordId")
        if isinstance(record_id, str) and record_id in sent:
            if record_id in given:
                repeated.add(record_id)
            given[record_id] = record
    return given, repeated


def _decoded(data: object, record_id: str) -> bytes:
    if not isinstance(data, str):
        raise malformed(f"data of record {record_id} is {shown(data)}, not base64 text")
    try:
        return pybase64.b64decode(data, validate=True)
    except ValueError as error:
        raise malformed(f"data of record {record_id} is not base64: {error}") from error
