"""Local functions with `batch`, in real child processes, through the whole transform."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from firehose import arrow
from firehose.processes import ChildPrinted
from firehose.records import Batch, Outcome
from firehose.transforms.aws_lambda import LambdaConfig, LambdaTransform
from firehose.transforms.events import FunctionFailed
from tests.unit.transforms.failures_table import DUPLICATED, FUNCTION_ERROR, MISSING, NULL_DATA, PROCESSING_FAILED, Fate
from tests.unit.transforms.test_failures_table import fates

#: `rows` comes in, `louder` is what would go out.
PRELUDE = """
import pyarrow as pa, pyarrow.compute as pc

def transform_batch(rows):
    louder = pc.binary_join_element_wise(rows["data"], *(pa.scalar(each, pa.large_binary()) for each in (b"!", b"")))
    taken = lambda *places: pa.record_batch({"row": rows["row"], "data": louder}).take(pa.array(places))
"""


def batch_of(*records: bytes) -> Batch:
    return Batch.of("s-1", arrow.binary_column(records), first_sequence=0, arrival_ms=np.arange(len(records)) + 5)


@pytest.fixture
def running(context_of: Any, function_of: Any) -> Callable[..., Any]:
    @asynccontextmanager
    async def running(
        code: str, *, retries: int = 0, prelude: str = PRELUDE, **options: Any
    ) -> AsyncIterator[LambdaTransform]:
        source = prelude + "".join(f"    {line}\n" for line in code.splitlines())
        config = function_of(source, **{"batch": "transform_batch"} | options)
        transform = LambdaConfig(function="f", retries=retries).build(context_of({"f": config}))
        try:
            yield transform
        finally:
            await transform.close()

    return running


def column(outcome: Outcome, name: str) -> list[Any]:
    return [value for failed in outcome.failed for value in failed.rows.column(name).to_pylist()]


ALL = (b"a!", b"b!", b"c!")


#: What the function returns, and what becomes of three records then.
ANSWERS: list[tuple[str, tuple[Fate, ...]]] = [
    ("taken(0, 1, 2)", ALL),
    ("taken(2, 0, 1)", ALL),
    ("pa.Table.from_batches([taken(0), taken(1, 2)])", ALL),
    ("taken(0, 2)", (b"a!", MISSING, b"c!")),
    ("rows[:0]", (MISSING,) * 3),
    ("taken(0, 1, 1, 2)", (b"a!", DUPLICATED, b"c!")),
    ("pa.record_batch({'row': [0, 1, 2, 3, -1], 'data': ['a!', 'b!', 'c!', 'd', 'e']})", ALL),
    ("pa.record_batch({'row': [0, 1, 2], 'data': ['a!', '', None]})", (b"a!", b"", NULL_DATA)),
    (
        "taken(0, 1, 2).append_column('result', pa.array(['Ok', 'Dropped', 'ProcessingFailed']))",
        (b"a!", None, PROCESSING_FAILED),
    ),
    ("taken(0, 1, 2).append_column('result', pa.array(['Ok', 'OK', 'Ok']))", (FUNCTION_ERROR,) * 3),
    ("pa.record_batch({'row': [0, 1, 2], 'data': ['x' * 3_000_000] * 3})", (FUNCTION_ERROR,) * 3),
]


async def test_each_way_of_answering_has_its_end(running: Any, tmp_path: Path) -> None:
    """All in one process, which takes a second to start."""
    which = "".join(f"lambda: {answer}, " for answer, _ in ANSWERS)
    async with running(f"return [{which}][int(open('which').read())]()", retries=3) as transform:
        for number, (answer, expected) in enumerate(ANSWERS):
            (tmp_path / "functions" / "which").write_text(str(number))
            outcome = await transform.apply(batch_of(b"a", b"b", b"c"))
            assert fates(outcome, 3, attempts=1) == expected, answer


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("return {}['customer']", "KeyError: 'customer' (/"),
        ("return [1]", "MarshalError: the function returned a list, not a pyarrow.RecordBatch"),
        ("import sys\nsys.exit(4)", "f: its process exited with status 4"),
    ],
)
async def test_what_raises_is_tried_again(running: Any, recorder: Any, code: str, reason: str) -> None:
    async with running(code, retries=1) as transform:
        outcome = await transform.apply(batch_of(b"a", b"b"))
    assert fates(outcome, 2, attempts=2) == (FUNCTION_ERROR,) * 2
    assert all(reason in event.reason for event in recorder.of(FunctionFailed))
    assert len(recorder.of(FunctionFailed)) == 2


async def test_a_function_that_takes_too_long_timed_out(running: Any) -> None:
    async with running("import time\ntime.sleep(99)", timeout="300ms") as transform:
        outcome = await transform.apply(batch_of(b"a"))
    assert column(outcome, "code") == ["Lambda.FunctionTimedOut"]


async def test_a_message_says_more_of_a_record_that_failed(running: Any) -> None:
    code = """
results = pa.array(["ProcessingFailed", "Ok", "ProcessingFailed"])
messages = pa.array(["no \\N{SNOWMAN}", "unheard", "x" * 9_000])
return taken(0, 1, 2).append_column("result", results).append_column("message", messages)"""
    async with running(code) as transform:
        outcome = await transform.apply(batch_of(b"a", b"b", b"c"))
    assert column(outcome, "message") == [PROCESSING_FAILED[1]] * 2, "clients match on Firehose's own words"
    assert column(outcome, "detail") == ["no \N{SNOWMAN}", "x" * 500]
    assert column(outcome, "data") == [b"a", b"c"]


async def test_partition_keys_go_with_their_rows(running: Any) -> None:
    code = """
keys = pa.array([[("customer", "1")], None, [("customer", "2")]], pa.map_(pa.string(), pa.string()))
return taken(0, 1, 2).append_column("partition_keys", keys).take([2, 1, 0])"""
    async with running(code) as transform:
        outcome = await transform.apply(batch_of(b"a", b"b", b"c"))
    keys = outcome.ok.partition_keys
    assert keys is not None
    # `taken` is in the order of the rows, and so are its keys, however they come back
    assert keys.to_pylist() == ['{"customer":"1"}', None, '{"customer":"2"}']


async def test_the_function_is_told_when_a_record_came(running: Any) -> None:
    code = "return pa.record_batch({'row': rows['row'], 'data': pc.cast(rows['arrival_ms'], pa.string())})"
    async with running(code) as transform:
        outcome = await transform.apply(batch_of(b"a", b"b"))
    assert outcome.ok.data.to_pylist() == [b"5", b"6"]


async def test_environment_prints_and_logs_are_as_those_of_handlers(running: Any, recorder: Any) -> None:
    code = """
import logging, os
print(os.environ["WORD"], os.environ["_HANDLER"])
logging.getLogger().warning("logged")
return rows"""
    async with running(code, environment={"WORD": "given"}) as transform:
        outcome = await transform.apply(batch_of(b"a"))
    assert outcome.ok.data.to_pylist() == [b"a"], "what came in may go out"
    (event,) = recorder.of(ChildPrinted)
    assert event.text == "given code.transform_batch\n[WARNING] logged\n"


async def test_little_memory_is_enough_to_begin_with(running: Any) -> None:
    async with running("return taken(0)", memory="128MiB") as transform:
        outcome = await transform.apply(batch_of(b"a"))
    assert outcome.ok.data.to_pylist() == [b"a!"]


async def test_too_little_memory_to_begin_with_is_told(running: Any, recorder: Any) -> None:
    async with running("return taken(0)", memory="64MiB") as transform:
        outcome = await transform.apply(batch_of(b"a"))
    assert column(outcome, "code") == ["Lambda.FunctionError"]
    assert "Memory allocation still failed" in recorder.of(FunctionFailed)[-1].detail


async def test_a_file_without_the_function_says_where_it_is_named(running: Any, recorder: Any) -> None:
    async with running("pass", batch="other") as transform:
        outcome = await transform.apply(batch_of(b"a"))
    assert column(outcome, "code") == ["Lambda.FunctionError"]
    (event,) = recorder.of(FunctionFailed)
    assert "no function 'other' in" in event.reason
    assert "`batch` names one; there is transform_batch" in event.reason


async def test_a_large_batch_goes_in_pieces_and_comes_back_in_order(running: Any) -> None:
    sent = [b"%07d" % number * 100 for number in range(6_000)]
    async with running("return pa.record_batch({'row': rows['row'], 'data': louder})", concurrency=2) as transform:
        outcome = await transform.apply(batch_of(*sent))
    assert outcome.ok.data.to_pylist() == [each + b"!" for each in sent]


async def test_the_function_of_the_document_does_what_it_says(running: Any) -> None:
    text = (Path(__file__).parents[3] / "docs" / "functions.md").read_text()
    (code,) = [each for each in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "def transform_batch" in each]
    async with running("", prelude=code) as transform:
        outcome = await transform.apply(batch_of(b'{"card":"4111"}', b'{"card":"4111","test":true}', b"x"))
    assert fates(outcome, 3, attempts=1) == (b'{"card":"masked"}', None, b"x")
