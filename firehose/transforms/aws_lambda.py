"""The `lambda` transform: AWS Lambda functions for Firehose, run here as they are or invoked through the Lambda API.

Every way of answering, right or wrong, has the outcome it has in Firehose; `firehose.transforms.contract` tells them.
Invoking again is part of that contract (`NumberOfRetries`), so this transform retries where others raise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from firehose.components import BuildContext, ByteSize, ComponentConfig, DurationMs, FunctionConfig, StreamIdentity
from firehose.errors import ConfigError, FirehoseError
from firehose.protocols import Stage
from firehose.records import Batch, FailedRows, Outcome, RowSet, concat_batches
from firehose.transforms.contract import ARN_PATTERN, Answer, Function, FunctionArn, Question
from firehose.transforms.gathering import Gathering
from firehose.transforms.invoking import GivenUpError, Invoker

#: Characters of what a function said that are kept for each record of its batch.
DETAIL_CHARACTERS = 500


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
    max_age_ms: DurationMs = Field(0, alias="buffer_interval", ge=0, le=900_000)
    """How long a record may wait for others of its shard to be sent with, where there are fewer than `buffer_size`."""
    concurrency: int = Field(5, ge=1, le=100)
    """How many invocations may be under way at once for one shard of the stream; of a local function, never more than
    one besides those that its processes work on."""
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
        local = context.functions.get(self._arn(context.stream).name)
        environment = context.environment
        invoker = Invoker(
            self._function(context, local),
            form=_form(context.stream, local),
            stream=context.stream.name,
            retries=self.retries,
            clock=environment.clock,
            telemetry=environment.telemetry,
        )
        # the next event is ready when a process is; more of them would only take memory
        concurrency = self.concurrency if local is None else min(self.concurrency, local.concurrency + 1)
        return LambdaTransform(invoker, max_bytes=self.max_bytes, max_age_ms=self.max_age_ms, concurrency=concurrency)

    def error_facts(self, stream: StreamIdentity) -> dict[str, Any]:
        """Return the function's ARN, as Firehose spells it in its error output."""
        return {"lambdaARN": self._arn(stream).qualified}

    def _arn(self, stream: StreamIdentity) -> FunctionArn:
        if self.arn is not None:
            return FunctionArn.parse(self.arn)
        assert self.function is not None
        text = f"arn:aws:lambda:{stream.region}:{stream.account}:function:{self.function}"
        return FunctionArn(text, stream.region, self.function)

    def _function(self, context: BuildContext, local: FunctionConfig | None) -> Function:
        arn = self._arn(context.stream)
        if local is not None:
            from firehose.transforms.local import LocalFunction

            return LocalFunction(
                arn,
                local,
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


def _form(stream: StreamIdentity, local: FunctionConfig | None) -> Callable[[Batch], Question]:
    """Return how rows are put to the function."""
    if local is not None and local.batch is not None:
        from firehose.transforms.arrow_form import ArrowQuestion

        return ArrowQuestion
    from firehose.transforms.json_form import JsonQuestion

    return partial(JsonQuestion, stream=stream)


class LambdaTransform:
    """Sends rows to a function, put together or in pieces as they fit, and sorts what it says of them."""

    def __init__(self, invoker: Invoker, *, max_bytes: int, max_age_ms: int, concurrency: int) -> None:
        self._invoker = invoker
        self._clock = invoker.clock
        self._gathering = Gathering(
            self._send,
            name=invoker.name,
            max_bytes=max_bytes,
            max_age_ms=max_age_ms,
            concurrency=concurrency,
            clock=invoker.clock,
        )

    @property
    def last_error(self) -> FirehoseError | None:
        """What the function gave up on last, until it answers again."""
        return self._invoker.last_error

    async def apply(self, batch: Batch) -> Outcome:
        """Return what became of every row: whatever the function does or fails to do is an outcome.

        Errors: UnavailableError where no process can be started for it, or the transform was closed meanwhile.
        """
        return await self._gathering.apply(batch)

    def hurry(self, heads: Mapping[str, int] | None = None) -> None:
        """Send what waits for more now, and rows up to `heads`, the last sequence of each shard, when they come."""
        self._gathering.hurry(heads)

    async def close(self) -> None:
        await self._gathering.close()
        await self._invoker.close()

    async def _send(self, batches: Sequence[Batch]) -> list[Outcome]:
        """Return an outcome for each batch; all are in one event."""
        ends = np.cumsum([len(batch) for batch in batches]).tolist()
        try:
            answer, attempt = await self._invoker.ask(concat_batches(batches))
        except GivenUpError as given_up:
            return [self._all_failed(batch, given_up, of=ends[-1]) for batch in batches]
        parts = [answer.part(end - len(batch), end) for batch, end in zip(batches, ends, strict=True)]
        return [self._sorted(batch, part, attempt) for batch, part in zip(batches, parts, strict=True)]

    def _sorted(self, batch: Batch, answer: Answer, attempt: int) -> Outcome:
        ok = (batch if len(answer.ok) == len(batch) else batch.take(answer.ok)).with_data(answer.data)
        if (keys := answer.partition_keys) is not None:
            before = ok.partition_keys  # of another function
            ok = replace(ok, partition_keys=keys if before is None else keys.fill_null(before))
        failed = []
        if len(answer.failed):
            rows, details = batch.take(answer.failed), [text[:DETAIL_CHARACTERS] for text in answer.details]
            failed.append(self._failures(rows, answer.codes, answer.messages, details, attempt))
        dropped = batch.take(answer.dropped).row_set() if len(answer.dropped) else RowSet()
        return Outcome(ok, tuple(failed), dropped)

    def _all_failed(self, batch: Batch, given_up: GivenUpError, *, of: int) -> Outcome:
        error = given_up.error
        shared = f" (of an invocation with {of} records, which all failed)" if of > 1 else ""
        details = error.reason[: DETAIL_CHARACTERS - len(shared)] + shared
        failed = self._failures(batch, error.code, str(error), details, given_up.attempts)
        return Outcome(batch.slice(0, 0), (failed,))

    def _failures(
        self,
        rows: Batch,
        codes: Sequence[str] | str,
        messages: Sequence[str] | str,
        details: Sequence[str] | str,
        attempts: int,
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
