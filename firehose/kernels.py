"""CPU work on columns of records, away from the event loop: in a thread where it lets go of the GIL, else in a process.

A kernel is pure: it is made anew in a process from its words, and what it says of a record depends on nothing else. A
record that ends its process, or takes too long, fails alone: what was sent with it is sent again in halves.
"""

from __future__ import annotations

import importlib
import json
import struct
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from firehose import arrow
from firehose.errors import FirehoseError, UnavailableError
from firehose.executors import Executor
from firehose.processes import ChildAnswerTooLargeError, ChildDiedError, ChildError, ChildTimeoutError
from firehose.protocols import Converted

#: Payload bytes worked on at a time: 4 MiB keep a process busy for 0.15 s and cost about 40 MiB at the worst.
SLAB_BYTES = 4 * 2**20

#: How long one slab may take. The slowest seen is 1 MB a second; a slab that takes this long hangs.
SLAB_TIMEOUT_MS = 120_000

#: Bytes of an answer at most, for each byte of a slab. Most JSON shrinks; records of one byte that all fail, each with
#: its reason, become 110 times as much.
ANSWER_GROWTH = 256

#: How long a small one may at least take.
LEAST_TIMEOUT_MS = 12_000

#: What records can bring about: a half of them is asked again, then a half of that.
_BECAUSE_OF_RECORDS = (ChildDiedError, ChildTimeoutError, ChildAnswerTooLargeError, ChildError)

_LENGTH = struct.Struct("<I")


class Processes(Protocol):
    """A pool of processes that run `child`."""

    async def call(self, request: bytes, *, timeout_ms: int, max_answer_bytes: int) -> bytes:
        """Send `request` to one of them and return its answer."""
        ...


class Kernel(Protocol):
    """Says of each record what becomes of it."""

    @property
    def schema(self) -> pa.Schema:
        """What the columns of an answer look like."""
        ...

    @property
    def releases_gil(self) -> bool:
        """True where a thread is enough."""
        ...

    @property
    def factory(self) -> str:
        """The function that makes it, as `module:function`."""
        ...

    @property
    def words(self) -> Mapping[str, Any]:
        """What the function is called with; JSON."""
        ...

    @property
    def ending(self) -> tuple[str, str]:
        """Code and message of a record that ends the process, or takes too long, even alone."""
        ...

    def run(self, rows: pa.RecordBatch) -> Converted:
        """Return the answer. Never raises for what a record holds."""
        ...


class Kernels:
    """Runs kernels."""

    def __init__(self, executor: Executor, processes: Processes) -> None:
        self._executor = executor
        self._processes = processes

    async def run(self, kernel: Kernel, rows: pa.RecordBatch) -> Converted:
        """Return what the kernel says of `rows`.

        Errors: those of the pool where nothing at all can be worked on; UnavailableError where what comes back is no
        answer.
        """
        if kernel.releases_gil:
            return await self._executor.run(lambda: kernel.run(rows))
        try:
            return await self._ask(kernel, rows)
        except _BECAUSE_OF_RECORDS as error:
            if len(rows) > 1:
                half = len(rows) // 2
                pieces = [await self.run(kernel, piece) for piece in (rows[:half], rows[half:])]
                return _joined(pieces, half)
            return await self._alone(kernel, rows, error)

    async def _alone(self, kernel: Kernel, record: pa.RecordBatch, error: FirehoseError) -> Converted:
        """Ask about a record that ended its process, or say that it fails. Errors: where there is no answer to any."""
        nothing = await self._ask(kernel, record[:0])  # or every record would fail because of the machine
        try:
            return await self._ask(kernel, record)
        except _BECAUSE_OF_RECORDS:
            code, message = kernel.ending
            return Converted(nothing.columns, np.zeros(1, np.int64), [code], [message], [str(error)])

    async def _ask(self, kernel: Kernel, rows: pa.RecordBatch) -> Converted:
        request = encode_request(kernel, rows)
        most = ANSWER_GROWTH * max(SLAB_BYTES, len(request))
        timeout_ms = max(SLAB_TIMEOUT_MS * len(request) // SLAB_BYTES, LEAST_TIMEOUT_MS)
        answer = await self._processes.call(request, timeout_ms=timeout_ms, max_answer_bytes=most)
        return _decode_answer(answer, kernel.schema, records=len(rows))


class _Reply(BaseModel):
    """What an answer says beside the columns; see `Converted`."""

    model_config = ConfigDict(strict=True)

    failed: list[int]
    codes: list[str]
    messages: list[str]
    details: list[str]
    remarks: dict[str, int]


def frame(text: bytes, rows: pa.RecordBatch) -> bytes:
    """Return a text and columns as one message."""
    out = pa.BufferOutputStream()
    out.write(_LENGTH.pack(len(text)))
    out.write(text)
    with pa.ipc.new_stream(out, rows.schema) as writer:
        writer.write_batch(rows)
    body: bytes = out.getvalue().to_pybytes()
    return body


def _unframe(message: bytes) -> tuple[bytes, pa.RecordBatch]:
    (size,) = _LENGTH.unpack_from(message)
    text = message[_LENGTH.size : _LENGTH.size + size]
    with pa.ipc.open_stream(pa.py_buffer(message)[_LENGTH.size + size :]) as reader:
        return text, reader.read_next_batch()


def encode_request(kernel: Kernel, rows: pa.RecordBatch) -> bytes:
    """Return what a process is asked."""
    return frame(json.dumps({"factory": kernel.factory, "words": kernel.words}, sort_keys=True).encode(), rows)


def _decode_answer(message: bytes, schema: pa.Schema, *, records: int) -> Converted:
    """Return the answer about so many records. Errors: UnavailableError where it is none, whatever it is."""
    try:
        text, columns = _unframe(message)
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
    """Return the function that a process answers requests with; it keeps the kernels it met last."""

    @lru_cache(maxsize=32)
    def kernel(head: bytes) -> Kernel:
        described = json.loads(head)
        module, _, name = described["factory"].partition(":")
        made: Kernel = getattr(importlib.import_module(module), name)(**described["words"])
        return made

    def answer(message: bytes) -> bytes:
        head, rows = _unframe(message)
        found = kernel(head).run(rows)
        reply = _Reply(
            failed=found.failed.tolist(),
            codes=list(found.codes),
            messages=list(found.messages),
            details=list(found.details),
            remarks=dict(found.remarks),
        )
        return frame(reply.model_dump_json().encode(), found.columns)

    return answer
