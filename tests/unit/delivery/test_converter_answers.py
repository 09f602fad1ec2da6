"""What comes out of a converter process is what was asked for, or an error that the worker knows."""

from __future__ import annotations

import asyncio
import json
import struct
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firehose import arrow, kernels
from firehose.components import ConvertConfig
from firehose.converters.failures import PARSE_ERROR
from firehose.converters.openx import OpenXConfig
from firehose.delivery.conversion import CONVERSION_FAILURE, Conversion, Prepared
from firehose.errors import UnavailableError
from firehose.executors import InlineExecutor
from firehose.kernels import Kernels
from firehose.processes import ChildAnswerTooLargeError, ChildDiedError, ChildTimeoutError
from firehose.protocols import Converted, TableSchema

TABLE = TableSchema("web", "clicks", "1", (("n", "bigint"), ("s", "struct<t:array<string>>")))
PREPARED = Prepared(TABLE, OpenXConfig().build(TABLE), OpenXConfig())
RECORDS = arrow.binary_column([b'{"n":1,"s":{"t":["x","y"]}}', b"bad", b"{}{}", b'{"n":"z"}'])

#: What a converter process answers to these records.
RIGHT = kernels.child({})(kernels.encode_request(PREPARED, pa.RecordBatch.from_arrays([RECORDS], names=["data"])))
HEAD_BYTES = struct.unpack_from("<I", RIGHT)[0]
HEAD, COLUMNS = json.loads(RIGHT[4 : 4 + HEAD_BYTES]), RIGHT[4 + HEAD_BYTES :]


class Processes:
    """Answers every call with the same bytes."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.max_answer_bytes = 0

    async def call(self, request: bytes, *, timeout_ms: int, max_answer_bytes: int) -> bytes:
        self.max_answer_bytes = max_answer_bytes
        return self.answer


async def converted(answer: bytes) -> Converted:
    config = ConvertConfig.model_validate({"format": "parquet", "table": "web.clicks", "catalog": "lake"})
    catalog: Any = None  # the table is known already
    return await Conversion(config, catalog, Kernels(InlineExecutor(), Processes(answer))).convert(PREPARED, RECORDS)


def framed(head: Any, columns: bytes = COLUMNS) -> bytes:
    text = head if isinstance(head, bytes) else json.dumps(head).encode()
    return struct.pack("<I", len(text)) + text + columns


async def test_the_right_answer_is_taken() -> None:
    found, itself = await converted(RIGHT), PREPARED.converter.convert(RECORDS)
    assert found.columns.equals(itself.columns)
    assert found.failed.tolist() == itself.failed.tolist() == [1, 3]
    assert (found.codes, found.messages) == (itself.codes, itself.messages)
    assert (found.details, found.remarks) == (itself.details, itself.remarks)


async def test_an_answer_may_be_many_times_the_slab() -> None:
    processes = Processes(RIGHT)
    config = ConvertConfig.model_validate({"format": "parquet", "table": "web.clicks", "catalog": "lake"})
    catalog: Any = None
    await Conversion(config, catalog, Kernels(InlineExecutor(), processes)).convert(PREPARED, RECORDS)
    assert processes.max_answer_bytes == 2**30


@pytest.mark.parametrize(
    "change",
    [
        {"failed": [3, 1]},
        {"failed": [1, 1]},
        {"failed": [-1, 3]},
        {"failed": [1, 4]},
        {"failed": [1, 2**70]},
        {"failed": [1.5, 3]},
        {"failed": ["1", "3"]},
        {"failed": [1]},
        {"failed": None},
        {"codes": ["a"]},
        {"codes": ["a", None]},
        {"messages": "ab"},
        {"messages": ["a", "\ud800"]},
        {"details": ["a"]},
        {"details": [["a"], ["b"]]},
        {"remarks": {"a": "b"}},
        {"remarks": []},
    ],
)
async def test_a_head_that_does_not_fit_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(UnavailableError, match="a converter process gave"):
        await converted(framed(HEAD | change))


@pytest.mark.parametrize("missing", [*HEAD])
async def test_a_head_without_all_it_should_say_is_refused(missing: str) -> None:
    with pytest.raises(UnavailableError, match="a converter process gave what is no answer"):
        await converted(framed({name: value for name, value in HEAD.items() if name != missing}))


@pytest.mark.parametrize("head", [b"", b"[]", b"null", b"[" * 3_000 + b"]" * 3_000, b"9" * 5_000, b"\xff", b"NaN"])
async def test_a_head_that_is_none_is_refused(head: bytes) -> None:
    with pytest.raises(UnavailableError, match="a converter process gave what is no answer"):
        await converted(framed(head))


async def test_columns_of_another_table_are_refused() -> None:
    other = pa.RecordBatch.from_arrays([pa.array([1, 2, 3])], names=["n"])
    with pytest.raises(UnavailableError, match="does not fit the records"):
        await converted(kernels.frame(json.dumps(HEAD).encode(), other))


async def test_a_stream_without_rows_is_refused() -> None:
    out = pa.BufferOutputStream()
    with pa.ipc.new_stream(out, PREPARED.converter.schema):
        pass
    with pytest.raises(UnavailableError, match="what is no answer"):
        await converted(framed(HEAD, out.getvalue().to_pybytes()))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, len(RIGHT) - 1), st.integers(0, 255)), max_size=3), st.integers(0, len(RIGHT)))
def test_a_damaged_answer_is_columns_or_an_error_of_ours(flips: list[tuple[int, int]], length: int) -> None:
    body = np.frombuffer(RIGHT, np.uint8).copy()
    for place, value in flips:
        body[place] = value
    damaged = body.tobytes() if flips else RIGHT[:length]
    try:
        found = asyncio.run(converted(damaged))
    except UnavailableError:
        return
    found.columns.validate(full=True)
    assert found.columns.schema == PREPARED.converter.schema


# --- records that end their process ----------------------------------------------------------------------------------


class Mortal:
    """Converts as a process does, and dies of some records, or has no answer in time, or too long a one."""

    def __init__(self, *, is_broken: bool = False) -> None:
        self.convert = kernels.child({})
        self.is_broken = is_broken
        self.deaths = 0

    async def call(self, request: bytes, *, timeout_ms: int, max_answer_bytes: int) -> bytes:
        records = b"".join(kernels._unframe(request)[1].column("data").to_pylist())
        if self.is_broken or b"die" in records:
            self.deaths += 1
            raise ChildDiedError("converter: its process ended", detail="", out_of_memory=False)
        if b"hang" in records:
            raise ChildTimeoutError(f"converter: no answer in {timeout_ms} ms", detail="")
        if b"swell" in records:
            raise ChildAnswerTooLargeError("converter: too much", answer_bytes=max_answer_bytes + 1)
        return self.convert(request)


async def converted_by(processes: Any, records: list[bytes]) -> Converted:
    config = ConvertConfig.model_validate({"format": "parquet", "table": "web.clicks", "catalog": "lake"})
    catalog: Any = None  # the table is known already
    conversion_of_stream = Conversion(config, catalog, Kernels(InlineExecutor(), processes))
    return await conversion_of_stream.convert(PREPARED, arrow.binary_column(records))


@settings(deadline=None)
@given(st.lists(st.sampled_from(["good", "bad", "two", "die", "hang", "swell"]), min_size=1, max_size=40))
async def test_a_record_that_ends_its_process_fails_alone(kinds: list[str]) -> None:
    texts = {"good": b'{"n":1}', "bad": b"bad", "two": b'{"n":1}{"n":2,"more":3}'}
    records = [texts.get(kind, b'{"n":"%s"}' % kind.encode()) for kind in kinds]
    found = await converted_by(Mortal(), records)
    failed = [number for number, kind in enumerate(kinds) if kind not in ("good", "two")]
    assert found.failed.tolist() == failed
    ending = [CONVERSION_FAILURE if kinds[number] != "bad" else PARSE_ERROR for number in failed]
    assert list(found.codes) == ending
    assert found.columns.num_rows == kinds.count("good") + 2 * kinds.count("two")
    assert found.remarks.get("unknown_key", 0) == kinds.count("two")
    for number, detail in zip(failed, found.details, strict=True) if found.details else ():
        assert ("converter: " in detail) == (kinds[number] != "bad")


async def test_no_record_fails_because_nothing_can_be_converted() -> None:
    processes = Mortal(is_broken=True)
    with pytest.raises(ChildDiedError):
        await converted_by(processes, [b'{"n":1}'] * 1_000)
    assert processes.deaths < 20, "it is not tried with every record"
