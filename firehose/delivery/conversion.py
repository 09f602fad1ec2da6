"""Converting records away from the event loop: in a thread where the engine lets go of the GIL, else in a process."""

from __future__ import annotations

import json
import struct
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from firehose import arrow
from firehose.components import ComponentConfig, ConvertConfig, config_classes
from firehose.errors import FirehoseError, UnavailableError
from firehose.executors import Executor
from firehose.processes import ChildAnswerTooLargeError, ChildDiedError, ChildError, ChildTimeoutError
from firehose.protocols import Catalog, Converted, Converter, TableSchema

#: Payload bytes converted at a time: 4 MiB keep a process busy for 0.15 s and cost about 40 MiB at the worst.
SLAB_BYTES = 4 * 2**20

#: How long one slab may take. The slowest seen is 1 MB a second; a slab that takes this long hangs.
SLAB_TIMEOUT_MS = 120_000

#: Bytes of an answer at most, for each byte of a slab. Most JSON shrinks; records of one byte that all fail, each with
#: its reason, become 110 times as much.
ANSWER_GROWTH = 256

#: How long a small one may at least take.
LEAST_TIMEOUT_MS = 12_000

#: What a record fails with that ends the process it is converted in, or takes too long, even alone.
CONVERSION_FAILURE = "DataFormatConversion.ConversionFailureException"
ENDS_ITS_PROCESS = "The record cannot be converted: its converter process ended, or had no answer in time."

#: What records can bring about: a half of them is asked again, then a half of that.
_BECAUSE_OF_RECORDS = (ChildDiedError, ChildTimeoutError, ChildAnswerTooLargeError, ChildError)

_LENGTH = struct.Struct("<I")


class Processes(Protocol):
    """The pool of converter processes."""

    async def call(self, request: bytes, *, timeout_ms: int, max_answer_bytes: int) -> bytes:
        """Send `request` to a process that runs `child` and return its answer."""
        ...


@dataclass(frozen=True, slots=True)
class Prepared:
    """A table at one version, and what turns records into its columns."""

    table: TableSchema
    converter: Converter
    deserializer: ComponentConfig


class Conversion:
    """Converts the records of one stream to the columns of its table."""

    def __init__(self, config: ConvertConfig, catalog: Catalog, executor: Executor, processes: Processes) -> None:
        self._config = config
        self._catalog = catalog
        self._executor = executor
        self._processes = processes
        self._prepared: Prepared | None = None

    async def prepare(self) -> Prepared:
        """Return the table as the catalog has it now. Errors: the catalog's; the records wait meanwhile."""
        database, _, table = self._config.table.partition(".")
        schema = await self._catalog.table_schema(database, table, self._config.version)
        if self._prepared is None or self._prepared.table != schema:
            deserializer = self._config.deserializer
            self._prepared = Prepared(schema, deserializer.build(schema), deserializer)
        return self._prepared

    async def convert(self, prepared: Prepared, data: pa.LargeBinaryArray) -> Converted:
        """Return the columns of `data` and what failed.

        A record that ends its process fails alone: what was sent with it is sent again in halves.
        Errors: those of the pool where it converts nothing at all; UnavailableError where what comes back is no answer.
        """
        if prepared.converter.releases_gil:
            return await self._executor.run(lambda: prepared.converter.convert(data))
        try:
            return await self._ask(prepared, data)
        except _BECAUSE_OF_RECORDS as error:
            if len(data) > 1:
                half = len(data) // 2
                pieces = [await self.convert(prepared, piece) for piece in (data[:half], data[half:])]
                return _joined(pieces, half)
            return await self._alone(prepared, data, error)

    async def _alone(self, prepared: Prepared, record: pa.LargeBinaryArray, error: FirehoseError) -> Converted:
        """Convert a record that ended its process, or say that it fails. Errors: where nothing can be converted."""
        nothing = await self._ask(prepared, record[:0])  # or every record would fail because of the machine
        try:
            return await self._ask(prepared, record)
        except _BECAUSE_OF_RECORDS:
            first = np.zeros(1, np.int64)
            return Converted(nothing.columns, first, [CONVERSION_FAILURE], [ENDS_ITS_PROCESS], [str(error)])

    async def _ask(self, prepared: Prepared, data: pa.LargeBinaryArray) -> Converted:
        request = _encode_request(prepared, data)
        most = ANSWER_GROWTH * max(SLAB_BYTES, len(request))
        timeout_ms = max(SLAB_TIMEOUT_MS * len(request) // SLAB_BYTES, LEAST_TIMEOUT_MS)
        answer = await self._processes.call(request, timeout_ms=timeout_ms, max_answer_bytes=most)
        return _decode_answer(answer, prepared.converter.schema, records=len(data))


class _Reply(BaseModel):
    """What an answer says beside the columns; see `Converted`."""

    model_config = ConfigDict(strict=True)

    failed: list[int]
    codes: list[str]
    messages: list[str]
    details: list[str]
    remarks: dict[str, int]


def _frame(text: bytes, rows: pa.RecordBatch) -> bytes:
    out = pa.BufferOutputStream()
    out.write(_LENGTH.pack(len(text)))
    out.write(text)
    with pa.ipc.new_stream(out, rows.schema) as writer:
        writer.write_batch(rows)
    body: bytes = out.getvalue().to_pybytes()
    return body


def _unframe(frame: bytes) -> tuple[bytes, pa.RecordBatch]:
    (size,) = _LENGTH.unpack_from(frame)
    text = frame[_LENGTH.size : _LENGTH.size + size]
    with pa.ipc.open_stream(pa.py_buffer(frame)[_LENGTH.size + size :]) as reader:
        return text, reader.read_next_batch()


def _encode_request(prepared: Prepared, data: pa.LargeBinaryArray) -> bytes:
    head = {
        "deserializer": prepared.deserializer.model_dump(mode="json", by_alias=True),
        "schema": asdict(prepared.table),
    }
    return _frame(json.dumps(head).encode(), pa.RecordBatch.from_arrays([data], names=["data"]))


def _decode_answer(frame: bytes, schema: pa.Schema, *, records: int) -> Converted:
    """Return the answer about so many records. Errors: UnavailableError where it is none, whatever it is."""
    try:
        text, columns = _unframe(frame)
        reply = _Reply.model_validate_json(text)
        failed = np.array(reply.failed, np.int64)
        columns.validate(full=True)
    except (struct.error, ValueError, OverflowError, StopIteration, OSError, pa.ArrowException) as error:
        raise UnavailableError(f"a converter process gave what is no answer: {error}") from error
    steps = np.diff(failed, prepend=-1, append=records)  # all are at least 1 where rows ascend and are those of records
    count = len(failed)
    is_whole = len(reply.codes) == len(reply.messages) == count and len(reply.details) in (0, count)
    if not is_whole or (steps < 1).any() or columns.schema != schema:
        raise UnavailableError("a converter process gave an answer that does not fit the records it was given")
    return Converted(columns, failed, reply.codes, reply.messages, reply.details, reply.remarks)


def _joined(pieces: Sequence[Converted], half: int) -> Converted:
    """Return the answers about the halves of some records as one; the second begins at record `half`."""
    first, second = pieces
    details: list[str] = []
    if first.details or second.details:
        for each in pieces:
            details += each.details or [""] * len(each.failed)
    return Converted(
        arrow.concat([first.columns, second.columns], first.columns.schema),
        np.concatenate((first.failed, second.failed + half)),
        [*first.codes, *second.codes],
        [*first.messages, *second.messages],
        details,
        Counter(first.remarks) + Counter(second.remarks),
    )


def child(setup: Mapping[str, Any]) -> Callable[[bytes], bytes]:
    """Return the function that a converter process answers requests with; it keeps the tables it met last."""

    @lru_cache(maxsize=32)
    def converter(deserializer: str, schema: str) -> Converter:
        options, table = json.loads(deserializer), json.loads(schema)
        columns = tuple((name, hive_type) for name, hive_type in table.pop("columns"))
        config = config_classes("converters")[options["type"]].model_validate(options)
        built: Converter = config.build(TableSchema(**table, columns=columns))
        return built

    def answer(frame: bytes) -> bytes:
        text, rows = _unframe(frame)
        head = json.loads(text)
        convert = converter(json.dumps(head["deserializer"]), json.dumps(head["schema"])).convert
        found = convert(rows.column("data"))
        reply = _Reply(
            failed=found.failed.tolist(),
            codes=list(found.codes),
            messages=list(found.messages),
            details=list(found.details),
            remarks=dict(found.remarks),
        )
        return _frame(reply.model_dump_json().encode(), found.columns)

    return answer
