"""Rows as AWS Lambda's functions for Firehose get them, and their answers: JSON, a record at a time."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pybase64

from firehose import arrow
from firehose.components import StreamIdentity
from firehose.records import Batch
from firehose.transforms.contract import (
    ANSWER_BYTES,
    DUPLICATED_ID,
    INVALID_FORMAT,
    MISSING_ID,
    NULL_DATA,
    PROCESSING_FAILED,
    Answer,
    malformed,
    partition_keys_of,
    shown,
    too_large,
)


class JsonQuestion:
    """Rows as an event of AWS Lambda."""

    def __init__(self, batch: Batch, stream: StreamIdentity) -> None:
        self._stream = stream
        self._ids = record_ids(batch)
        self._records = encode_records(batch, self._ids)

    @property
    def event_bytes(self) -> int:
        return len(self._records)

    def event(self) -> Sequence[bytes]:
        """Return an event with an `invocationId` of its own, as every attempt has."""
        stream = self._stream
        return event_of(
            self._records, invocation_id=str(uuid.uuid4()), stream_arn=stream.arn, region=stream.region
        )  # fmt: skip

    def answer(self, body: bytes) -> Answer:
        return read_answer(body, self._ids)


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


@dataclass(slots=True)
class _Verdicts:
    """What is known of the rows so far, row by row."""

    ok: list[int] = field(default_factory=list)
    data: list[bytes] = field(default_factory=list)
    #: By the place among `ok`, of those that have some.
    keys: dict[int, str] = field(default_factory=dict)
    dropped: list[int] = field(default_factory=list)
    failed: list[int] = field(default_factory=list)
    codes: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)

    def fail(self, row: int, why: tuple[str, str]) -> None:
        self.failed.append(row)
        self.codes.append(why[0])
        self.messages.append(why[1])

    def answer(self) -> Answer:
        keys = [self.keys.get(place) for place in range(len(self.ok))] if self.keys else None
        return Answer(
            _places(self.ok),
            arrow.binary_column(self.data),
            _places(self.dropped),
            _places(self.failed),
            self.codes,
            self.messages,
            [""] * len(self.failed),
            None if keys is None else pa.array(keys, pa.string()),
        )


def read_answer(body: bytes, ids: Sequence[str]) -> Answer:
    """Return what the function said of the rows with these ids. Ids that were not sent are ignored.

    Errors: InvocationError, final, where the answer as a whole cannot be used.
    """
    given, repeated = _by_id(body, frozenset(ids))
    found = _Verdicts()
    for row, record_id in enumerate(ids):
        record = given.get(record_id)
        if record is None:
            found.fail(row, MISSING_ID)
        elif record_id in repeated:
            found.fail(row, DUPLICATED_ID)
        elif (result := record.get("result")) == "Ok":
            _take_ok(found, row, record, record_id)
        elif result == "Dropped":
            found.dropped.append(row)
        elif result == "ProcessingFailed":
            found.fail(row, PROCESSING_FAILED)
        else:
            raise malformed(f"result of record {record_id} is {shown(result)}; allowed: Ok, Dropped, ProcessingFailed")
    return found.answer()


def _take_ok(found: _Verdicts, row: int, record: dict[str, Any], record_id: str) -> None:
    data = record.get("data")
    if data is None:
        found.fail(row, NULL_DATA)
        return
    decoded = _decoded(data, record_id)
    metadata = record.get("metadata")
    if metadata is not None:
        try:
            keys = _partition_keys(metadata)
        except ValueError as error:
            found.fail(row, (INVALID_FORMAT, str(error)))
            return
        if keys is not None:
            found.keys[len(found.ok)] = keys
    found.ok.append(row)
    found.data.append(decoded)


def _partition_keys(metadata: object) -> str | None:
    """Return the partition keys; `otfMetadata` and what else there is means nothing here."""
    if not isinstance(metadata, dict):
        raise ValueError(f"metadata is {shown(metadata)}, not an object")
    return partition_keys_of(metadata.get("partitionKeys"), where="metadata.partitionKeys")


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


def _places(rows: list[int]) -> arrow.Ints:
    return np.array(rows, np.int64)
