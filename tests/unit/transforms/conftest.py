from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from firehose.clock import SystemClock
from firehose.components import BuildContext, Environment, FunctionConfig, StreamIdentity
from firehose.executors import InlineExecutor
from firehose.filesystem import OsFileSystem
from firehose.telemetry import Event, Telemetry


class Recorder(Telemetry):
    """Keeps events, and moves metrics as usual."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)
        super().emit(event)

    def of(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def sample(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"firehose_{name}", labels)


class StepClock(SystemClock):
    """Sleeps take no time but count; timeouts are real, for child processes."""

    def __init__(self) -> None:
        self.time_ms = 1_767_225_600_000
        self.sleeps_ms: list[int] = []

    def now_ms(self) -> int:
        return self.time_ms

    def monotonic_ms(self) -> int:
        return self.time_ms

    async def sleep_ms(self, duration_ms: int) -> None:
        self.sleeps_ms.append(duration_ms)
        self.time_ms += duration_ms
        await asyncio.sleep(0)


@pytest.fixture
def clock() -> StepClock:
    return StepClock()


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def context_of(clock: StepClock, recorder: Recorder, tmp_path: Path) -> Callable[..., BuildContext]:
    def context_of(functions: dict[str, FunctionConfig] | None = None, aws: Any = None) -> BuildContext:
        environment = Environment(
            clock=clock,
            telemetry=recorder,
            executor=InlineExecutor(),
            files=OsFileSystem(),
            data_dir=tmp_path,
            aws=aws,
            log=None,
        )
        identity = StreamIdentity(uid="u", name="clicks", region="eu-west-1", account="123456789012")
        return BuildContext(environment=environment, stream=identity, functions=functions or {}, catalogs={})

    return context_of


@pytest.fixture
def function_of(tmp_path: Path) -> Callable[..., FunctionConfig]:
    """Write a file with this code, return the configuration of its function."""

    def function_of(code: str, *, name: str = "code.py", **options: Any) -> FunctionConfig:
        folder = tmp_path / "functions"
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(code)
        return FunctionConfig.model_validate({"path": folder / name, **options})

    return function_of
