"""Every way in which a function can answer has the end that it has in Firehose: functions in real processes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from firehose import arrow
from firehose.records import Batch, Outcome
from firehose.transforms.aws_lambda import LambdaConfig
from tests.unit.transforms.failures_table import RAISED, RECORDS, TABLE, TOOK_TOO_LONG, Case, Fate

#: Calls `answer` and keeps what it was asked.
HANDLER = """
def handler(event, context):
    with open("asked", "a") as asked:
        asked.write(json.dumps(event) + "\\n")
    return answer(event["records"])
"""


def fates(outcome: Outcome, count: int, attempts: int) -> tuple[Fate, ...]:
    """Return what became of each row; each that failed did so after these attempts."""
    found: dict[int, Fate] = dict(zip(outcome.ok.sequence.tolist(), outcome.ok.data.to_pylist(), strict=True))
    found |= dict.fromkeys(sequence for _, sequence, _ in outcome.dropped)
    for row in (row for failed in outcome.failed for row in failed.rows.to_pylist()):
        assert row["attempts"] == attempts
        found[row["sequence"]] = (row["code"], row["message"])
    return tuple(found[sequence] for sequence in range(count))


async def check(case: Case, retries: int, context_of: Any, function_of: Any, **options: Any) -> None:
    config = function_of(case.source + HANDLER, **options)
    transform = LambdaConfig(function="f", retries=retries).build(context_of({"f": config}))
    batch = Batch.of("s-1", arrow.binary_column(RECORDS), first_sequence=0, arrival_ms=1_767_225_600_123)
    try:
        outcome = await transform.apply(batch)
    finally:
        await transform.close()
    assert fates(outcome, len(batch), case.invocations(retries)) == case.fates
    asked = [json.loads(line) for line in Path(config.path).with_name("asked").read_text().splitlines()]
    assert len(asked) == case.invocations(retries)
    assert len({event["invocationId"] for event in asked}) == len(asked), "each attempt has an id of its own"
    assert all(event["records"] == asked[0]["records"] for event in asked), "and speaks of the same records"


@pytest.mark.parametrize("case", TABLE, ids=str)
async def test_each_way_of_answering_has_its_end(case: Case, context_of: Any, function_of: Any) -> None:
    await check(case, 1, context_of, function_of)


@pytest.mark.parametrize("retries", [0, 1, 3])
async def test_a_function_that_raises_is_asked_once_more_for_each_retry(
    retries: int, context_of: Any, function_of: Any
) -> None:
    await check(RAISED, retries, context_of, function_of)


async def test_a_function_that_takes_too_long_is_asked_again(context_of: Any, function_of: Any) -> None:
    await check(TOOK_TOO_LONG, 1, context_of, function_of, timeout="300ms")
