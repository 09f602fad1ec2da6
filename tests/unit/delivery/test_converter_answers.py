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

from firehose import arrow
from firehose.components import ConvertConfig
from firehose.converters.openx import OpenXConfig
from firehose.delivery import conversion
from firehose.delivery.conversion import Conversion, Prepared
from firehose.errors import UnavailableError
from firehose.executors import InlineExecutor
from firehose.protocols import Converted, TableSchema

TABLE = TableSchema("web", "clicks", "1", (("n", "bigint"), ("s", "struct<t:array<string>>")))
PREPARED = Prepared(TABLE, OpenXConfig().build(TABLE), OpenXConfig())
RECORDS = arrow.binary_column([b'{"n":1,"s":{"t":["x","y"]}}', b"bad", b"{}{}", b'{"n":"z"}'])

#: What a converter process answers to these records.
RIGHT = conversion.child({})(conversion._encode_request(PREPARED, RECORDS))
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
    return await Conversion(config, catalog, InlineExecutor(), Processes(answer)).convert(PREPARED, RECORDS)


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
    await Conversion(config, catalog, InlineExecutor(), processes).convert(PREPARED, RECORDS)
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
        await converted(conversion._frame(json.dumps(HEAD).encode(), other))


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
