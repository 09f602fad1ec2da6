"""Asks a function about rows until it answers, as often as it may be asked, and tells of every attempt."""

from __future__ import annotations

from collections.abc import Callable

from firehose import arrow
from firehose.clock import Clock
from firehose.errors import FirehoseError
from firehose.records import Batch
from firehose.telemetry import Emitter
from firehose.transforms.contract import EVENT_BYTES, Answer, Function, InvocationError, Question
from firehose.transforms.events import FunctionFailed, FunctionInvoked

#: The pause before the first retry; doubled for each further one.
FIRST_BACKOFF_MS = 200
#: The longest pause between attempts.
MAX_BACKOFF_MS = 10_000


class GivenUpError(Exception):
    """Nothing is known of the rows, and nobody is asked any more: `error` came at the last of `attempts`."""

    def __init__(self, error: InvocationError, attempts: int) -> None:
        super().__init__(str(error))
        self.error = error
        self.attempts = attempts


class Invoker:
    """Asks one function for one stream. `form` says how rows are put to it."""

    def __init__(
        self,
        function: Function,
        *,
        form: Callable[[Batch], Question],
        stream: str,
        retries: int,
        clock: Clock,
        telemetry: Emitter,
    ) -> None:
        self.name = function.arn.name
        self.clock = clock
        self._function = function
        self._form = form
        self._stream = stream
        self._retries = retries
        self._telemetry = telemetry
        #: What the function gave up on last, until it answers again.
        self.last_error: FirehoseError | None = None

    async def close(self) -> None:
        await self._function.close()

    async def ask(self, batch: Batch) -> tuple[Answer, int]:
        """Return the function's answer and the attempt that it came at.

        Errors: GivenUpError; UnavailableError where it is not the function's fault.
        """
        question = self._form(batch)
        if question.event_bytes > EVENT_BYTES:
            raise self._too_large(batch)
        attempt, told = 1, ""
        while True:
            started_ms = self.clock.monotonic_ms()
            try:
                answer = question.answer(await self._function.invoke(question.event()))
            except InvocationError as error:
                is_given_up = error.is_final or attempt > self._retries
                detail = "" if error.reason == told else error.detail  # one traceback, not one for each attempt
                told = error.reason
                self._emit_failure(batch, error, attempt, started_ms, detail=detail, is_given_up=is_given_up)
                if is_given_up:
                    raise GivenUpError(error, attempt) from error
            else:
                self._emit_answer(batch, answer, attempt, started_ms)
                return answer, attempt
            await self.clock.sleep_ms(backoff_ms(attempt))
            attempt += 1

    def _too_large(self, batch: Batch) -> GivenUpError:
        error = InvocationError(
            ("Lambda.InvocationFailure", f"The record is too large for a Lambda function: {batch.data_bytes} bytes."),
            f"its event is larger than {EVENT_BYTES} bytes",
            is_final=True,
        )
        self._emit_failure(batch, error, 0, self.clock.monotonic_ms(), detail=error.detail, is_given_up=True)
        return GivenUpError(error, 0)

    def _emit_answer(self, batch: Batch, answer: Answer, attempt: int, started_ms: int) -> None:
        self.last_error = None
        self._telemetry.emit(
            FunctionInvoked(
                stream=self._stream,
                function=self._function.arn.qualified,
                attempt=attempt,
                records=len(batch),
                ok=len(answer.ok),
                ok_bytes=int(arrow.byte_lengths(batch.data)[answer.ok].sum()),
                dropped=len(answer.dropped),
                failed=len(answer.failed),
                took_ms=self.clock.monotonic_ms() - started_ms,
            )
        )

    def _emit_failure(
        self, batch: Batch, error: InvocationError, attempt: int, started_ms: int, *, detail: str, is_given_up: bool
    ) -> None:
        if is_given_up:
            self.last_error = FirehoseError(f"function {self._function.arn.name!r}: {error.reason}", code=error.code)
        self._telemetry.emit(
            FunctionFailed(
                stream=self._stream,
                function=self._function.arn.qualified,
                attempt=attempt,
                records=len(batch),
                took_ms=self.clock.monotonic_ms() - started_ms,
                code=error.code,
                reason=error.reason,
                detail=detail,
                is_given_up=is_given_up,
            )
        )


def backoff_ms(retry: int) -> int:
    """Return the pause before retry number `retry`, from 1 on."""
    return min(FIRST_BACKOFF_MS << min(retry - 1, 16), MAX_BACKOFF_MS)
