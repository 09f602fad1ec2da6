from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from firehose import arrow
from firehose.components import StreamIdentity
from firehose.errors import ConfigError, UnavailableError
from firehose.protocols import Stage
from firehose.records import Batch, Outcome
from firehose.transforms import contract
from firehose.transforms.aws_lambda import LambdaConfig, LambdaTransform
from firehose.transforms.contract import InvocationError
from firehose.transforms.events import FunctionFailed, FunctionInvoked
from firehose.transforms.invoking import Invoker, backoff_ms
from firehose.transforms.json_form import JsonQuestion
from firehose.transforms.local import LocalFunction
from firehose.transforms.remote import RemoteFunction

ARN = "arn:aws:lambda:eu-west-1:123456789012:function:f"


def batch_of(*records: bytes) -> Batch:
    return Batch.of("s-1", arrow.binary_column(records), first_sequence=7, arrival_ms=1_767_225_600_123)


def upper(record: dict[str, Any]) -> dict[str, Any]:
    data = base64.b64decode(record["data"]).upper()
    return {"recordId": record["recordId"], "result": "Ok", "data": base64.b64encode(data).decode()}


class ScriptedFunction:
    """Does what the script says for each invocation in turn (the last for ever), and keeps the events."""

    arn = contract.FunctionArn.parse(ARN)

    def __init__(self, *script: Callable[[dict[str, Any]], Any] | InvocationError) -> None:
        self.script = script
        self.events: list[dict[str, Any]] = []
        self.in_flight = self.most_in_flight = 0
        self.is_closed = False

    async def invoke(self, event: Sequence[bytes]) -> bytes:
        step = self.script[min(len(self.events), len(self.script) - 1)]
        self.events.append(json.loads(b"".join(event)))
        given = self.events[-1]
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        await asyncio.sleep(0)
        self.in_flight -= 1
        if isinstance(step, InvocationError):
            raise step
        return json.dumps(step(given)).encode()

    async def close(self) -> None:
        self.is_closed = True


def each(change: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, Any]], Any]:
    return lambda event: {"records": [change(record) for record in event["records"]]}


def raised(why: tuple[str, str] = contract.FUNCTION_ERROR) -> InvocationError:
    return InvocationError(why, "KeyError: 'a'", detail="Traceback ...")


@pytest.fixture
def transform_of(clock: Any, recorder: Any) -> Callable[..., LambdaTransform]:
    def transform_of(function: ScriptedFunction, *, retries: int = 3, **options: Any) -> LambdaTransform:
        options = {"max_bytes": 2**20, "max_age_ms": 0, "concurrency": 5} | options
        stream = StreamIdentity(uid="u", name="clicks", region="eu-west-1", account="123456789012")
        form = partial(JsonQuestion, stream=stream)
        invoker = Invoker(function, form=form, stream="clicks", retries=retries, clock=clock, telemetry=recorder)
        return LambdaTransform(invoker, **options)

    return transform_of


def failures(outcome: Outcome) -> list[tuple[bytes, str, int]]:
    rows = [row for failed in outcome.failed for row in failed.rows.to_pylist()]
    return [(row["data"], row["code"], row["attempts"]) for row in rows]


# --- outcomes --------------------------------------------------------------------------------------------------------


async def test_ok_records_go_on_with_their_new_data(transform_of: Any) -> None:
    function = ScriptedFunction(each(upper))
    batch = batch_of(b"a", b"", b"c")
    outcome = await transform_of(function).apply(batch)
    assert outcome.ok.data.to_pylist() == [b"A", b"", b"C"]
    assert outcome.ok.sequence.tolist() == [7, 8, 9]
    assert outcome.ok.changed
    assert (outcome.failed, len(outcome.dropped)) == ((), 0)
    (event,) = function.events
    assert event["deliveryStreamArn"] == "arn:aws:firehose:eu-west-1:123456789012:deliverystream/clicks"
    assert event["region"] == "eu-west-1"


async def test_each_record_meets_its_own_end(transform_of: Any, clock: Any) -> None:
    def mixed(event: dict[str, Any]) -> Any:
        ok, drop, fail, missing, twice, null = event["records"]
        assert missing["recordId"]
        return {
            "records": [
                {"recordId": null["recordId"], "result": "Ok"},
                upper(twice),
                upper(twice),
                {"recordId": fail["recordId"], "result": "ProcessingFailed"},
                {"recordId": drop["recordId"], "result": "Dropped"},
                upper(ok),
            ]
        }

    batch = batch_of(b"ok", b"drop", b"fail", b"missing", b"twice", b"null")
    outcome = await transform_of(ScriptedFunction(mixed)).apply(batch)
    assert outcome.ok.data.to_pylist() == [b"OK"]
    assert list(outcome.dropped) == [("s-1", 8, -1)]
    assert failures(outcome) == [
        (b"fail", "Lambda.ProcessingFailedStatus", 1),
        (b"missing", "Lambda.MissingRecordId", 1),
        (b"twice", "Lambda.DuplicatedRecordId", 1),
        (b"null", "Lambda.InvalidReturnFormat", 1),
    ]
    (failed,) = outcome.failed
    assert failed.stage == Stage.TRANSFORM
    assert Stage.TRANSFORM.error_output_type == "processing-failed"
    assert not failed.changed
    assert failed.rows.column("ended_ms").to_pylist() == [clock.now_ms()] * 4
    assert clock.sleeps_ms == []


async def test_a_malformed_answer_is_final(transform_of: Any, clock: Any, recorder: Any) -> None:
    function = ScriptedFunction(each(lambda record: upper(record) | {"result": "OK"}))
    outcome = await transform_of(function).apply(batch_of(b"a", b"b"))
    assert failures(outcome) == [(b"a", "Lambda.FunctionError", 1), (b"b", "Lambda.FunctionError", 1)]
    assert len(outcome.ok) == 0
    assert len(function.events) == 1
    (event,) = recorder.of(FunctionFailed)
    assert 'is "OK"; allowed: Ok, Dropped, ProcessingFailed' in event.reason
    assert event.is_given_up


@pytest.mark.parametrize(("retries", "invocations"), [(0, 1), (1, 2), (3, 4)])
@pytest.mark.parametrize(
    "why",
    [
        contract.FUNCTION_ERROR,
        contract.TIMED_OUT,
        contract.LIMIT_EXCEEDED,
        contract.ACCESS_DENIED,
        contract.NOT_FOUND,
    ],
)
async def test_an_invocation_that_gives_nothing_is_tried_again(
    transform_of: Any, clock: Any, recorder: Any, why: tuple[str, str], retries: int, invocations: int
) -> None:
    function = ScriptedFunction(raised(why))
    start_ms = clock.now_ms()
    outcome = await transform_of(function, retries=retries).apply(batch_of(b"a", b"b"))
    assert failures(outcome) == [(b"a", why[0], invocations), (b"b", why[0], invocations)]
    (failed,) = outcome.failed
    assert failed.rows.column("message").to_pylist() == [why[1]] * 2
    assert failed.rows.column("ended_ms").to_pylist() == [start_ms + sum(clock.sleeps_ms)] * 2
    assert len(function.events) == invocations
    assert clock.sleeps_ms == [200, 400, 800][:retries]
    assert [event.is_given_up for event in recorder.of(FunctionFailed)] == [False] * retries + [True]


async def test_retries_have_new_invocation_ids_and_the_same_records(transform_of: Any) -> None:
    function = ScriptedFunction(raised(), raised(), each(upper))
    outcome = await transform_of(function).apply(batch_of(b"a", b"b"))
    assert outcome.ok.data.to_pylist() == [b"A", b"B"]
    assert len({event["invocationId"] for event in function.events}) == 3
    assert function.events[0]["records"] == function.events[1]["records"] == function.events[2]["records"]


async def test_attempts_count_those_before_the_answer(transform_of: Any) -> None:
    function = ScriptedFunction(raised(), each(lambda record: record | {"result": "ProcessingFailed"}))
    outcome = await transform_of(function).apply(batch_of(b"a"))
    assert failures(outcome) == [(b"a", "Lambda.ProcessingFailedStatus", 2)]


@pytest.mark.parametrize(
    ("before", "merged"), [(None, ['{"a":"1"}', None]), (['{"x":"0"}'] * 2, ['{"a":"1"}', '{"x":"0"}'])]
)
async def test_partition_keys_go_with_their_rows(transform_of: Any, before: Any, merged: list[str | None]) -> None:
    """What an earlier function said holds where this one says nothing."""

    def keyed(event: dict[str, Any]) -> Any:
        first, second = event["records"]
        return {"records": [upper(first) | {"metadata": {"partitionKeys": {"a": "1"}}}, upper(second)]}

    batch = replace(batch_of(b"a", b"b"), partition_keys=None if before is None else pa.array(before))
    outcome = await transform_of(ScriptedFunction(keyed)).apply(batch)
    assert outcome.ok.partition_keys.to_pylist() == merged


async def test_without_metadata_there_are_no_partition_keys(transform_of: Any) -> None:
    outcome = await transform_of(ScriptedFunction(each(upper))).apply(batch_of(b"a", b"b"))
    assert outcome.ok.partition_keys is None


def test_pauses_double_up_to_ten_seconds() -> None:
    assert [backoff_ms(retry) for retry in (1, 2, 3, 6, 7, 300)] == [200, 400, 800, 6_400, 10_000, 10_000]


# --- batches ---------------------------------------------------------------------------------------------------------


async def test_a_large_batch_is_sent_in_pieces_and_put_together_in_order(transform_of: Any) -> None:
    function = ScriptedFunction(each(upper))
    records = [bytes([97 + number]) * 10 for number in range(10)]
    transform = transform_of(function, max_bytes=30, concurrency=2)
    outcome, _ = await asyncio.gather(transform.apply(batch_of(*records)), transform.apply(batch_of(b"")))
    assert [len(event["records"]) for event in function.events] == [3, 3, 3, 1, 1]
    assert outcome.ok.data.to_pylist() == [record.upper() for record in records]
    assert outcome.ok.sequence.tolist() == list(range(7, 17))
    assert function.most_in_flight == 2


async def test_a_piece_that_fails_does_not_touch_the_others(transform_of: Any) -> None:
    def picky(event: dict[str, Any]) -> Any:
        records = event["records"]
        if base64.b64decode(records[0]["data"]) == b"bad":
            return {"records": "?"}
        return {"records": [{"recordId": records[0]["recordId"], "result": "Dropped"}, *map(upper, records[1:])]}

    records = [b"one", b"two", b"bad", b"bad", b"five", b"six"]
    outcome = await transform_of(ScriptedFunction(picky), max_bytes=7).apply(batch_of(*records))
    assert outcome.ok.data.to_pylist() == [b"TWO", b"SIX"]
    assert [data for data, _, _ in failures(outcome)] == [b"bad", b"bad"]
    assert [sequence for _, sequence, _ in outcome.dropped] == [7, 11]


async def test_rows_that_waited_together_have_one_event_and_each_caller_its_own(
    transform_of: Any, clock: Any, recorder: Any
) -> None:
    def mixed(event: dict[str, Any]) -> Any:
        keys = {"metadata": {"partitionKeys": {"customer": "42"}}}
        first, second, third = event["records"]
        return {"records": [upper(first) | keys, second | {"result": "ProcessingFailed"}, upper(third)]}

    transform = transform_of(ScriptedFunction(mixed), max_bytes=3, max_age_ms=60_000)
    one = Batch.of("s-1", arrow.binary_column([b"a", b"b"]), first_sequence=0, arrival_ms=0)
    two = Batch.of("s-1", arrow.binary_column([b"c"]), first_sequence=2, arrival_ms=0)
    first, second = await asyncio.gather(transform.apply(one), transform.apply(two))
    assert [event.records for event in recorder.of(FunctionInvoked)] == [3]
    assert (first.ok.data.to_pylist(), second.ok.data.to_pylist()) == ([b"A"], [b"C"])
    assert failures(first) == [(b"b", "Lambda.ProcessingFailedStatus", 1)]
    assert (first.ok.partition_keys.to_pylist(), second.ok.partition_keys.to_pylist()) == (
        ['{"customer":"42"}'],
        [None],
    )


async def test_rows_that_waited_together_fail_together(transform_of: Any) -> None:
    transform = transform_of(ScriptedFunction(raised()), max_bytes=3, max_age_ms=60_000, retries=1)
    one = Batch.of("s-1", arrow.binary_column([b"a", b"b"]), first_sequence=0, arrival_ms=0)
    two = Batch.of("s-1", arrow.binary_column([b"c"]), first_sequence=2, arrival_ms=0)
    first, second = await asyncio.gather(transform.apply(one), transform.apply(two))
    assert failures(first) == [(b"a", "Lambda.FunctionError", 2), (b"b", "Lambda.FunctionError", 2)]
    assert failures(second) == [(b"c", "Lambda.FunctionError", 2)]
    detail = "KeyError: 'a' (of an invocation with 3 records, which all failed)"
    assert second.failed[0].rows.column("detail").to_pylist() == [detail]


async def test_a_flush_does_not_wait(transform_of: Any, clock: Any) -> None:
    transform = transform_of(ScriptedFunction(each(upper)), max_age_ms=60_000)
    clock.sleep_ms = lambda duration_ms: asyncio.Event().wait()
    task = asyncio.create_task(transform.apply(batch_of(b"a")))
    await asyncio.sleep(0)
    transform.hurry({"s-1": 8})
    assert (await task).ok.data.to_pylist() == [b"A"]
    assert (await transform.apply(batch_of(b"b"))).ok.data.to_pylist() == [b"B"]


async def test_no_rows_need_no_invocation(transform_of: Any) -> None:
    function = ScriptedFunction(each(upper))
    outcome = await transform_of(function).apply(batch_of(b"a").slice(0, 0))
    assert (len(outcome.ok), function.events) == (0, [])


async def test_a_record_too_large_for_lambda_fails_without_an_invocation(transform_of: Any) -> None:
    function = ScriptedFunction(each(upper))
    outcome = await transform_of(function).apply(batch_of(b"a", b"x" * 5_000_000, b"b"))
    assert outcome.ok.data.to_pylist() == [b"A", b"B"]
    ((data, code, attempts),) = failures(outcome)
    assert (len(data), code, attempts) == (5_000_000, "Lambda.InvocationFailure", 0)


async def test_what_is_not_the_functions_fault_is_raised_as_it_is(transform_of: Any) -> None:
    function = ScriptedFunction(each(upper))

    async def invoke(event: Sequence[bytes]) -> bytes:
        raise UnavailableError("no process to be had")

    function.invoke = invoke
    with pytest.raises(UnavailableError, match="no process to be had"):
        await transform_of(function, max_bytes=1).apply(batch_of(b"a", b"b"))


async def test_a_cancelled_batch_stops(transform_of: Any, clock: Any) -> None:
    started = asyncio.Event()

    async def sleep_ms(duration_ms: int) -> None:
        started.set()
        await asyncio.Event().wait()

    clock.sleep_ms = sleep_ms
    task = asyncio.create_task(transform_of(ScriptedFunction(raised())).apply(batch_of(b"a")))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_close_closes_the_function(transform_of: Any) -> None:
    function = ScriptedFunction(each(upper))
    await transform_of(function).close()
    assert function.is_closed


# --- telemetry -------------------------------------------------------------------------------------------------------


async def test_every_invocation_is_told_and_counted(
    transform_of: Any, recorder: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def mixed(event: dict[str, Any]) -> Any:
        ok, drop, fail = event["records"]
        return {"records": [upper(ok), drop | {"result": "Dropped"}, fail | {"result": "ProcessingFailed"}]}

    with caplog.at_level(logging.INFO, "firehose"):
        await transform_of(ScriptedFunction(raised(), mixed)).apply(batch_of(b"o" * 51, b"d" * 53, b"f" * 53))
    (failed,) = recorder.of(FunctionFailed)
    assert (failed.attempt, failed.records, failed.is_given_up) == (1, 3, False)
    assert (failed.code, failed.reason, failed.detail) == ("Lambda.FunctionError", "KeyError: 'a'", "Traceback ...")
    (invoked,) = recorder.of(FunctionInvoked)
    assert (invoked.attempt, invoked.ok, invoked.ok_bytes, invoked.dropped, invoked.failed) == (2, 1, 51, 1, 1)
    assert [record.message for record in caplog.records] == ["function_failed", "function_invoked"]
    stream = {"stream": "clicks"}
    assert recorder.sample("transform_invocations_total", outcome="Ok", **stream) == 1
    assert recorder.sample("transform_invocations_total", outcome="Lambda.FunctionError", **stream) == 1
    assert recorder.sample("transform_invocation_seconds_count", outcome="Ok", **stream) == 1
    assert recorder.sample("transform_ok_bytes_total", **stream) == 51
    for result in ("ok", "dropped", "failed"):
        assert recorder.sample("transform_records_total", result=result, **stream) == 1


async def test_records_given_up_count_as_failed_once(transform_of: Any, recorder: Any) -> None:
    await transform_of(ScriptedFunction(raised())).apply(batch_of(b"a", b"b"))
    assert recorder.sample("transform_records_total", stream="clicks", result="failed") == 2


# --- configuration ---------------------------------------------------------------------------------------------------


def test_defaults_are_firehoses_but_for_the_wait() -> None:
    config = LambdaConfig(function="f")
    assert (config.type, config.retries, config.max_bytes, config.max_age_ms) == ("lambda", 3, 2**20, 0)


def test_sizes_and_times_are_read_as_people_write_them() -> None:
    config = LambdaConfig.model_validate(
        {"type": "lambda", "arn": ARN, "buffer_size": "3MB", "buffer_interval": "0s", "retries": 300}
    )
    assert (config.max_bytes, config.max_age_ms, config.retries) == (3_000_000, 0, 300)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "exactly one of 'function' (a local one) and 'arn' is needed"),
        ({"function": "f", "arn": ARN}, "exactly one of"),
        ({"arn": "arn:aws:s3:::bucket"}, "should match pattern"),
        ({"arn": f"{ARN}\n"}, "should match pattern"),
        ({"function": "f", "retries": 301}, "less than or equal to 300"),
        ({"function": "f", "retries": -1}, "greater than or equal to 0"),
        ({"function": "f", "buffer_size": "5MiB"}, "less than or equal to 4194304"),
        ({"function": "f", "buffer_interval": "901s"}, "less than or equal to 900000"),
        ({"function": "f", "concurrency": 0}, "greater than or equal to 1"),
        ({"function": "f", "handler": "x"}, "Extra inputs are not permitted"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        LambdaConfig.model_validate(options)
    assert message in str(caught.value)


@pytest.mark.parametrize(("processes", "concurrency", "turns"), [(1, 5, 2), (4, 5, 5), (8, 5, 5), (8, 1, 1)])
def test_a_local_function_has_one_event_ready_for_when_a_process_is(
    context_of: Any, function_of: Any, processes: int, concurrency: int, turns: int
) -> None:
    functions = {"f": function_of("", concurrency=processes)}
    transform = LambdaConfig(function="f", concurrency=concurrency).build(context_of(functions))
    assert transform._gathering._concurrency == turns


def test_an_unknown_function_names_those_there_are(context_of: Any, function_of: Any) -> None:
    functions = {"b": function_of(""), "a": function_of("")}
    with pytest.raises(ConfigError, match=r"no function 'x' under 'functions'; there are: a, b"):
        LambdaConfig(function="x").build(context_of(functions))
    with pytest.raises(ConfigError, match="there are: none"):
        LambdaConfig(function="x").build(context_of())


def test_the_error_output_names_the_function_and_its_version() -> None:
    stream = StreamIdentity(uid="u", name="clicks", region="eu-west-1", account="123456789012")
    assert LambdaConfig(function="f").error_facts(stream) == {"lambdaARN": f"{ARN}:$LATEST"}
    assert LambdaConfig(arn=ARN).error_facts(stream) == {"lambdaARN": f"{ARN}:$LATEST"}
    assert LambdaConfig(arn=f"{ARN}:prod").error_facts(stream) == {"lambdaARN": f"{ARN}:prod"}


@pytest.mark.parametrize("qualifier", ["", ":prod", ":$LATEST"])
def test_an_arn_means_the_local_function_of_its_name_where_there_is_one(
    context_of: Any, function_of: Any, qualifier: str
) -> None:
    transform = LambdaConfig(arn=ARN + qualifier).build(context_of({"f": function_of("")}))
    assert isinstance(transform._invoker._function, LocalFunction)


def test_an_arn_of_no_local_function_means_the_lambda_api(context_of: Any, function_of: Any) -> None:
    transform = LambdaConfig(arn=f"{ARN}:prod").build(context_of({"other": function_of("")}))
    assert isinstance(transform._invoker._function, RemoteFunction)
