"""The `lambda` transform: AWS Lambda functions for Firehose, run here as they are or invoked through the Lambda API.

Every way of answering, right or wrong, has the outcome it has in Firehose; `firehose.transforms.contract` tells them.
Invoking again is part of that contract (`NumberOfRetries`), so this transform retries where others raise.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from firehose import arrow
from firehose.clock import Clock
from firehose.components import BuildContext, ByteSize, ComponentConfig, DurationMs, StreamIdentity
from firehose.errors import ConfigError, FirehoseError
from firehose.protocols import Stage
from firehose.records import Batch, FailedRows, Outcome, RowSet, concat_batches
from firehose.telemetry import Emitter, Event, Metrics
from firehose.transforms.contract import (
    ARN_PATTERN,
    EVENT_BYTES,
    Answer,
    Function,
    FunctionArn,
    InvocationError,
    encode_records,
    event_of,
    read_answer,
    record_ids,
    split,
)

#: Characters of what a function said that are kept for each record of its batch.
DETAIL_CHARACTERS = 500

#: The pause before the first retry; doubled for each further one.
FIRST_BACKOFF_MS = 200
#: The longest pause between attempts.
MAX_BACKOFF_MS = 10_000


class LambdaConfig(ComponentConfig):
    """Transforms records with a function that has the AWS Lambda contract for Firehose."""

    type: Literal["lambda"] = "lambda"
    function: str | None = None
    """The name of a local function under `functions`. Either this or `arn`."""
    arn: str | None = Field(None, pattern=ARN_PATTERN)
    """The ARN of the function. Where `functions` has one of its name, that runs; else the Lambda API is called."""
    retries: int = Field(3, ge=0, le=300)
    """How often a batch is tried again when the function raises, times out or cannot be invoked."""
    max_bytes: ByteSize = Field(2**20, alias="buffer_size", ge=1, le=4 * 2**20)
    """The bytes of records, before base64, that one invocation gets at most."""
    max_age_ms: DurationMs = Field(60_000, alias="buffer_interval", ge=0, le=900_000)
    """How long a record may wait for others to be sent with."""
    concurrency: int = Field(5, ge=1, le=100)
    """How many invocations may be under way at once for one stream; a local function has its own bound as well."""
    role_arn: str | None = None
    """The role to assume for the Lambda API. Default: the credentials of this service."""
    external_id: str | None = None
    """The external id that the role asks for."""
    endpoint_url: str | None = None
    """The address of the Lambda API, where it is not AWS's own."""

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.function is None) == (self.arn is None):
            raise ValueError("exactly one of 'function' (a local one) and 'arn' is needed")
        return self

    def build(self, context: BuildContext) -> LambdaTransform:
        """Return the transform. Errors: ConfigError where the function does not exist."""
        return LambdaTransform(
            self._function(context),
            stream=context.stream,
            retries=self.retries,
            max_bytes=self.max_bytes,
            concurrency=self.concurrency,
            clock=context.environment.clock,
            telemetry=context.environment.telemetry,
        )

    def error_facts(self, stream: StreamIdentity) -> dict[str, Any]:
        """Return the function's ARN, as Firehose spells it in its error output."""
        return {"lambdaARN": self._arn(stream).qualified}

    def _arn(self, stream: StreamIdentity) -> FunctionArn:
        if self.arn is not None:
            return FunctionArn.parse(self.arn)
        assert self.function is not None
        text = f"arn:aws:lambda:{stream.region}:{stream.account}:function:{self.function}"
        return FunctionArn(text, stream.region, self.function)

    def _function(self, context: BuildContext) -> Function:
        arn = self._arn(context.stream)
        if (config := context.functions.get(arn.name)) is not None:
            from firehose.transforms.local import LocalFunction

            return LocalFunction(
                arn,
                config,
                log_stream=context.stream.name,
                clock=context.environment.clock,
                telemetry=context.environment.telemetry,
            )
        if self.arn is None:
            known = ", ".join(sorted(context.functions)) or "none"
            raise ConfigError(f"transform 'lambda': no function {arn.name!r} under 'functions'; there are: {known}")
        from firehose.transforms.remote import RemoteFunction

        return RemoteFunction(
            arn,
            context.environment.aws,
            role_arn=self.role_arn,
            external_id=self.external_id,
            endpoint_url=self.endpoint_url,
        )


@dataclass(frozen=True, slots=True)
class FunctionInvoked(Event):
    """A function answered for some records. Units: `ok_bytes` of the records as they were given."""

    stream: str
    function: str
    attempt: int
    records: int
    ok: int
    ok_bytes: int
    dropped: int
    failed: int
    took_ms: int

    def measure(self, metrics: Metrics) -> None:
        _measure_attempt(metrics, self.stream, "Ok", self.took_ms)
        for result, records in (("ok", self.ok), ("dropped", self.dropped), ("failed", self.failed)):
            _measure_records(metrics, self.stream, result, records)
        metrics.count(
            "transform_ok_bytes_total", "Bytes of the records that functions transformed, before.",
            self.ok_bytes, stream=self.stream,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class FunctionFailed(Event):
    """An invocation gave nothing. `is_given_up`: its records go to the error output; else it is tried again.

    `detail`: the traceback or output, empty where the attempt before said the same.
    """

    level: ClassVar[int] = logging.WARNING
    stream: str
    function: str
    attempt: int
    records: int
    took_ms: int
    code: str
    reason: str
    detail: str
    is_given_up: bool

    def measure(self, metrics: Metrics) -> None:
        _measure_attempt(metrics, self.stream, self.code, self.took_ms)
        if self.is_given_up:
            _measure_records(metrics, self.stream, "failed", self.records)


def _measure_attempt(metrics: Metrics, stream: str, outcome: str, took_ms: int) -> None:
    labels = {"stream": stream, "outcome": outcome}
    metrics.count("transform_invocations_total", "Invocations of functions, by outcome.", **labels)
    metrics.observe("transform_invocation_seconds", "Time of one invocation.", took_ms / 1_000, **labels)


def _measure_records(metrics: Metrics, stream: str, result: str, records: int) -> None:
    metrics.count("transform_records_total", "Records that functions saw.", records, stream=stream, result=result)


class LambdaTransform:
    """Sends rows to a function in pieces and sorts its answers."""

    def __init__(
        self,
        function: Function,
        *,
        stream: StreamIdentity,
        retries: int,
        max_bytes: int,
        concurrency: int,
        clock: Clock,
        telemetry: Emitter,
    ) -> None:
        self._function = function
        self._stream = stream
        self._retries = retries
        self._max_bytes = max_bytes
        self._turns = asyncio.Semaphore(concurrency)
        self._clock = clock
        self._telemetry = telemetry
        #: What the function gave up on last, until it answers again.
        self.last_error: FirehoseError | None = None

    async def apply(self, batch: Batch) -> Outcome:
        """Return what became of every row: whatever the function does or fails to do is an outcome.

        Errors: UnavailableError where no process can be started for it, or the transform was closed meanwhile.
        """
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._in_turn(piece)) for piece in split(batch, max_bytes=self._max_bytes)]
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from failures
        return _joined(batch, [task.result() for task in tasks])

    async def close(self) -> None:
        await self._function.close()

    async def _in_turn(self, batch: Batch) -> Outcome:
        async with self._turns:
            return await self._transform(batch)

    async def _transform(self, batch: Batch) -> Outcome:
        ids = record_ids(batch)
        records = encode_records(batch, ids)
        if len(records) > EVENT_BYTES:
            return self._too_large(batch)
        attempt, told = 1, ""
        while True:
            started_ms = self._clock.monotonic_ms()
            try:
                answer = await self._invoke(records, ids)
            except InvocationError as error:
                is_given_up = error.is_final or attempt > self._retries
                detail = "" if error.reason == told else error.detail  # one traceback, not one for each attempt
                told = error.reason
                self._emit_failure(batch, error, attempt, started_ms, detail=detail, is_given_up=is_given_up)
                if is_given_up:
                    return self._all_failed(batch, error, attempt)
            else:
                self._emit_answer(batch, answer, attempt, started_ms)
                return self._sorted(batch, answer, attempt)
            await self._clock.sleep_ms(backoff_ms(attempt))
            attempt += 1

    async def _invoke(self, records: bytes, ids: list[str]) -> Answer:
        event = event_of(
            records, invocation_id=str(uuid.uuid4()), stream_arn=self._stream.arn, region=self._stream.region
        )
        return read_answer(await self._function.invoke(event), ids)

    def _sorted(self, batch: Batch, answer: Answer, attempt: int) -> Outcome:
        ok = batch if len(answer.ok) == len(batch) else batch.take(_places(answer.ok))
        failed = []
        if answer.failed:
            rows = batch.take(_places(answer.failed))
            failed.append(self._failures(rows, answer.codes, answer.messages, attempt))
        dropped = batch.take(_places(answer.dropped)).row_set() if answer.dropped else RowSet()
        return Outcome(ok.with_data(arrow.binary_column(answer.data)), tuple(failed), dropped)

    def _all_failed(self, batch: Batch, error: InvocationError, attempts: int) -> Outcome:
        shared = f" (of an invocation with {len(batch)} records, which all failed)" if len(batch) > 1 else ""
        details = error.reason[: DETAIL_CHARACTERS - len(shared)] + shared
        failed = self._failures(batch, error.code, str(error), attempts, details=details)
        return Outcome(batch.slice(0, 0), (failed,))

    def _too_large(self, batch: Batch) -> Outcome:
        error = InvocationError(
            ("Lambda.InvocationFailure", f"The record is too large for a Lambda function: {batch.data_bytes} bytes."),
            f"its event is larger than {EVENT_BYTES} bytes",
            is_final=True,
        )
        self._emit_failure(batch, error, 0, self._clock.monotonic_ms(), detail=error.detail, is_given_up=True)
        return self._all_failed(batch, error, 0)

    def _failures(
        self, rows: Batch, codes: list[str] | str, messages: list[str] | str, attempts: int, *, details: str = ""
    ) -> FailedRows:
        return FailedRows.of(
            Stage.TRANSFORM,
            rows,
            codes=codes,
            messages=messages,
            details=details,
            attempts=attempts,
            ended_ms=self._clock.now_ms(),
        )

    def _emit_answer(self, batch: Batch, answer: Answer, attempt: int, started_ms: int) -> None:
        self.last_error = None
        self._telemetry.emit(
            FunctionInvoked(
                stream=self._stream.name,
                function=self._function.arn.qualified,
                attempt=attempt,
                records=len(batch),
                ok=len(answer.ok),
                ok_bytes=int(arrow.byte_lengths(batch.data)[_places(answer.ok)].sum()),
                dropped=len(answer.dropped),
                failed=len(answer.failed),
                took_ms=self._clock.monotonic_ms() - started_ms,
            )
        )

    def _emit_failure(
        self, batch: Batch, error: InvocationError, attempt: int, started_ms: int, *, detail: str, is_given_up: bool
    ) -> None:
        if is_given_up:
            self.last_error = FirehoseError(f"function {self._function.arn.name!r}: {error.reason}", code=error.code)
        self._telemetry.emit(
            FunctionFailed(
                stream=self._stream.name,
                function=self._function.arn.qualified,
                attempt=attempt,
                records=len(batch),
                took_ms=self._clock.monotonic_ms() - started_ms,
                code=error.code,
                reason=error.reason,
                detail=detail,
                is_given_up=is_given_up,
            )
        )


def backoff_ms(retry: int) -> int:
    """Return the pause before retry number `retry`, from 1 on."""
    return min(FIRST_BACKOFF_MS << min(retry - 1, 16), MAX_BACKOFF_MS)


def _places(rows: list[int]) -> arrow.Ints:
    return np.array(rows, np.int64)


def _joined(batch: Batch, outcomes: list[Outcome]) -> Outcome:
    dropped = RowSet()
    for outcome in outcomes:
        dropped |= outcome.dropped
    return Outcome(
        concat_batches([outcome.ok for outcome in outcomes] or [batch]),
        tuple(failed for outcome in outcomes for failed in outcome.failed),
        dropped,
    ).check(batch)
