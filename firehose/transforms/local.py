"""Functions in Python files of this machine, run in child processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from firehose.clock import Clock
from firehose.components import FunctionConfig
from firehose.errors import ConfigError
from firehose.processes import (
    ChildAnswerTooLargeError,
    ChildDiedError,
    ChildError,
    ChildGarbledError,
    ChildTimeoutError,
    ProcessPool,
    minimal_environment,
)
from firehose.telemetry import Emitter
from firehose.transforms.contract import (
    ANSWER_BYTES,
    FUNCTION_ERROR,
    TIMED_OUT,
    FunctionArn,
    InvocationError,
    too_large,
)

#: For functions with `batch`, because memory that is only reserved counts as well: Arrow's own choice would reserve
#: 1 GiB, numpy buffers for a thread on each core. With these, 108 MB are taken to begin with.
_LEAN_ARROW = {"ARROW_DEFAULT_MEMORY_POOL": "system", "OPENBLAS_NUM_THREADS": "1"}


class LocalFunction:
    """Calls a function in a Python file, with Lambda's environment around it: `handler`, unchanged from AWS Lambda, or
    `batch`, which is ours.

    `log_stream` is what the function is told of who calls it. Errors: ConfigError where there is no such file.
    """

    def __init__(
        self, arn: FunctionArn, config: FunctionConfig, *, log_stream: str, clock: Clock, telemetry: Emitter
    ) -> None:
        name, path = arn.name, config.path.absolute()
        if not path.is_file():
            raise ConfigError(f"functions.{name}.path: no file {path}")
        self.arn = arn
        self._timeout_ms = config.timeout_ms
        lambda_environment = {
            "AWS_LAMBDA_FUNCTION_NAME": name,
            "AWS_LAMBDA_FUNCTION_VERSION": arn.qualifier or "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(config.memory_bytes // 2**20),
            "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{name}",
            "AWS_LAMBDA_LOG_STREAM_NAME": log_stream,
            "AWS_REGION": arn.region,
            "AWS_DEFAULT_REGION": arn.region,
            "LAMBDA_TASK_ROOT": str(path.parent),
            "_HANDLER": f"{path.stem}.{config.batch or config.handler}",
        }
        lean = {} if config.batch is None else _LEAN_ARROW
        self._pool = ProcessPool(
            f"firehose.transforms.{'runtime' if config.batch is None else 'batch_runtime'}:serve",
            {
                "path": str(path),
                "handler": config.batch or config.handler,
                "arn": arn.text,
                "timeout_ms": config.timeout_ms,
            },
            processes=config.concurrency,
            memory_bytes=config.memory_bytes,
            environment=minimal_environment() | lean | lambda_environment | config.environment,
            clock=clock,
            telemetry=telemetry,
            name=name,
        )

    async def load(self) -> None:
        """Run the file in a process, which is kept for the first event. Errors: those of `invoke`."""
        with _invocation_errors():
            await self._pool.start()

    async def invoke(self, event: Sequence[bytes]) -> bytes:
        with _invocation_errors():
            return await self._pool.call(event, timeout_ms=self._timeout_ms, max_answer_bytes=ANSWER_BYTES)

    async def close(self) -> None:
        await self._pool.close()


@contextmanager
def _invocation_errors() -> Iterator[None]:
    try:
        yield
    except ChildTimeoutError as error:
        raise InvocationError(TIMED_OUT, str(error), detail=error.detail) from error
    except ChildError as error:
        place = f" ({error.place})" if error.place else ""
        raise InvocationError(FUNCTION_ERROR, f"{error}{place}", detail=error.detail) from error
    except ChildAnswerTooLargeError as error:
        raise too_large(f"{error.answer_bytes}") from error
    except ChildDiedError as error:
        raise InvocationError(FUNCTION_ERROR, str(error), detail=error.detail) from error
    except ChildGarbledError as error:
        raise InvocationError(FUNCTION_ERROR, str(error)) from error
