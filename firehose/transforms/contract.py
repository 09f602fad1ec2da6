"""What Firehose and a function agree on: how much goes into one event, and every way an answer can be right or wrong.

How events and answers are written is told by `json_form` and `arrow_form`. Codes and texts are those of the error
output; clients match on them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import orjson
import pyarrow as pa

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
#: The code of a record whose partition keys cannot be used; Firehose says nothing of that, so the text is ours.
INVALID_FORMAT = NULL_DATA[0]


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
    """Something that can be invoked."""

    arn: FunctionArn

    async def invoke(self, event: Sequence[bytes]) -> bytes:
        """Return the answer to the event that these pieces make up.

        Errors: InvocationError; UnavailableError where it is not the function's fault.
        """
        ...

    async def close(self) -> None:
        """Stop processes."""
        ...


@dataclass(frozen=True, slots=True)
class Answer:
    """What a function said of each row, by the row's place in the event. Shape: places ascend, and none is left out.

    `data` and `partition_keys` stand beside `ok`, `codes`, `messages` and `details` beside `failed`. Partition keys are
    JSON objects of strings, null where nothing was said; None stands for a column of nulls.
    """

    ok: arrow.Ints
    data: pa.LargeBinaryArray
    dropped: arrow.Ints
    failed: arrow.Ints
    codes: Sequence[str]
    messages: Sequence[str]
    details: Sequence[str]
    partition_keys: pa.StringArray | None = None

    def part(self, start: int, stop: int) -> Answer:
        """Return what was said of the rows from `start` up to `stop`, by their places among these."""
        ok, dropped, failed = (
            slice(*np.searchsorted(places, (start, stop))) for places in (self.ok, self.dropped, self.failed)
        )
        return Answer(
            self.ok[ok] - start,
            self.data[ok],
            self.dropped[dropped] - start,
            self.failed[failed] - start,
            self.codes[failed],
            self.messages[failed],
            self.details[failed],
            None if self.partition_keys is None else self.partition_keys[ok],
        )


class Question(Protocol):
    """Rows as they are put to a function: encoded once, asked as often as it takes."""

    @property
    def event_bytes(self) -> int:
        """The size of the event, but for what is the same in all."""
        ...

    def event(self) -> Sequence[bytes]:
        """Return the event of one attempt, in pieces."""
        ...

    def answer(self, body: bytes) -> Answer:
        """Return what the function said. Errors: InvocationError, final, where it cannot be used as a whole."""
        ...


class Sizes:
    """What the rows of a batch take, added up once, so that any run of them is measured at once."""

    def __init__(self, batch: Batch) -> None:
        lengths = arrow.byte_lengths(batch.data)
        self.data_ends: arrow.Ints = np.concatenate(([0], np.cumsum(lengths)))
        self.event_ends: arrow.Ints = np.concatenate(([0], np.cumsum(4 * (-(-lengths // 3)) + _RECORD_BYTES)))


@dataclass(slots=True)
class Room:
    """What one event still holds. Units: `data_bytes` before base64; `event_bytes` as JSON, whatever is sent."""

    data_bytes: int
    event_bytes: int = EVENT_BYTES - _HEAD_BYTES

    def take(self, sizes: Sizes, start: int, *, at_least: int = 0) -> int:
        """Return how many rows from `start` on fit, or `at_least`; they have their room then."""
        by_data = np.searchsorted(sizes.data_ends, sizes.data_ends[start] + self.data_bytes, "right")
        by_event = np.searchsorted(sizes.event_ends, sizes.event_ends[start] + self.event_bytes, "right")
        stop = max(start + at_least, int(min(by_data, by_event)) - 1)
        self.data_bytes -= int(sizes.data_ends[stop] - sizes.data_ends[start])
        self.event_bytes -= int(sizes.event_ends[stop] - sizes.event_ends[start])
        return stop - start


def partition_keys_of(keys: object, *, where: str) -> str | None:
    """Return the partition keys a function gave for a record, as compact JSON; None where there are none.

    Errors: ValueError where they are not an object of strings, with `where` they stand.
    """
    if keys is None or keys == {}:
        return None
    if not isinstance(keys, dict):
        raise ValueError(f"{where} is {shown(keys)}, not an object of strings")
    for key, value in keys.items():
        if not isinstance(value, str):
            raise ValueError(f"{where} has {shown(value)} for {shown(key)}, not a string")
    return orjson.dumps(keys).decode()


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
