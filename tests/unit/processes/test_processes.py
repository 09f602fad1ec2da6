from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from firehose.clock import SystemClock
from firehose.errors import UnavailableError
from firehose.processes import (
    ChildDiedError,
    ChildError,
    ChildPrinted,
    ChildStarted,
    ChildTimeoutError,
    ProcessPool,
    minimal_environment,
)
from firehose.processes.process import OUTPUT_BYTES
from firehose.telemetry import Event

HERE = Path(__file__).parent
MOST_BYTES = 2**26
LIMITS = {"timeout_ms": 60_000, "max_answer_bytes": MOST_BYTES}


def place_of(line: str) -> str:
    """Return where a line of the code stands."""
    file = HERE / "child_code.py"
    numbers = [number for number, each in enumerate(file.read_text().splitlines(), 1) if each.strip() == line]
    return f"{file}:{numbers[0]}"


class Recorder:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)

    def printed(self) -> list[ChildPrinted]:
        return [event for event in self.events if isinstance(event, ChildPrinted)]

    def starts(self) -> int:
        return sum(isinstance(event, ChildStarted) for event in self.events)


class HeldClock(SystemClock):
    """Time is over when the test says so."""

    def __init__(self) -> None:
        self.over = asyncio.Event()

    async def wait(self, event: asyncio.Event, timeout_ms: int | None) -> bool:
        waits = [asyncio.create_task(each.wait()) for each in (event, self.over)]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for each in waits:
            each.cancel()
        return event.is_set()


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def pool_of(recorder: Recorder) -> Callable[..., Any]:
    @asynccontextmanager
    async def pool_of(factory: str, *, processes: int = 1, **options: Any) -> AsyncIterator[ProcessPool]:
        defaults = {"setup": {}, "memory_bytes": None, "environment": minimal_environment(), "clock": SystemClock()}
        options = defaults | options
        options["environment"] |= {"PYTHONPATH": str(HERE)}
        setup = options.pop("setup")
        pool = ProcessPool(
            f"child_code:{factory}", setup, processes=processes, telemetry=recorder, name="test", **options
        )
        try:
            yield pool
        finally:
            await pool.close()

    return pool_of


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - other processes set no events
            await asyncio.sleep(0.005)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_call_returns_what_the_code_returned(pool_of: Any, recorder: Recorder) -> None:
    async with pool_of("echo", setup={"prefix": "> "}) as pool:
        assert await pool.call(b"one", **LIMITS) == b"> one"
        assert await pool.call(b"", **LIMITS) == b"> "
        assert await pool.call([b"t", bytearray(b"w"), memoryview(b"o")], **LIMITS) == b"> two"
    assert recorder.starts() == 1


async def test_nothing_starts_before_it_is_needed(pool_of: Any, recorder: Recorder) -> None:
    async with pool_of("echo", processes=4):
        assert recorder.starts() == 0


async def test_a_large_request_arrives_whole(pool_of: Any) -> None:
    body = os.urandom(1 << 20) * 32
    async with pool_of("echo") as pool:
        assert await pool.call([b"head", body], **LIMITS) == b"head" + body


async def test_wide_buffers_count_in_bytes(pool_of: Any) -> None:
    async with pool_of("echo") as pool:
        assert await pool.call(memoryview(b"12345678").cast("Q"), **LIMITS) == b"12345678"


async def test_an_exception_is_reported_and_the_child_goes_on(pool_of: Any, recorder: Recorder) -> None:
    async with pool_of("raises") as pool:
        with pytest.raises(ChildError) as caught:
            await pool.call(b"raise", **LIMITS)
        assert str(caught.value) == "KeyError: 'customer'"
        assert caught.value.type_name == "KeyError"
        assert 'raise KeyError("customer")' in caught.value.detail
        assert caught.value.place == place_of('raise KeyError("customer")')
        assert "firehose" not in caught.value.detail.replace(str(HERE), "")
        assert await pool.call(b"next", **LIMITS) == b"next"
    assert recorder.starts() == 1


async def test_a_factory_that_fails_is_reported_and_tried_again_by_the_next_call(
    pool_of: Any, recorder: Recorder
) -> None:
    async with pool_of("fails_to_start") as pool:
        for _ in range(2):
            with pytest.raises(ChildError, match="RuntimeError: no licence"):
                await pool.call(b"", **LIMITS)
    assert recorder.starts() == 2
    assert [event.text for event in recorder.printed()] == ["about to fail\n"] * 2


@pytest.mark.parametrize(
    ("request_", "line"), [(b"library", 'json.loads("{")'), (b"nested", "raise KeyError(key)"), (b"text", "")]
)
async def test_the_place_of_an_error_is_the_last_line_of_the_code_itself(
    pool_of: Any, request_: bytes, line: str
) -> None:
    async with pool_of("fails_deep_down") as pool:
        with pytest.raises(ChildError) as caught:
            await pool.call(request_, **LIMITS)
    assert caught.value.place == (place_of(line) if line else "<text>:1")


async def test_start_has_a_child_ready_or_says_why_not(pool_of: Any, recorder: Recorder) -> None:
    async with pool_of("echo") as pool:
        await pool.start()
        assert recorder.starts() == 1
        assert await pool.call(b"one", **LIMITS) == b"one"
        assert recorder.starts() == 1
    async with pool_of("fails_to_start") as pool:
        with pytest.raises(ChildError, match="RuntimeError: no licence"):
            await pool.start()


async def test_a_module_that_does_not_exist_is_reported(pool_of: Any) -> None:
    async with pool_of("no_such_factory") as pool:
        with pytest.raises(ChildError, match=r"AttributeError: .*no_such_factory"):
            await pool.call(b"", **LIMITS)


async def test_a_late_child_is_killed_with_what_it_started_and_replaced(
    pool_of: Any, recorder: Recorder, tmp_path: Path
) -> None:
    note, clock = tmp_path / "pid", HeldClock()
    async with pool_of("starts_program", setup={"file": str(note)}, clock=clock) as pool:
        call = asyncio.create_task(pool.call(b"hang", timeout_ms=500, max_answer_bytes=MOST_BYTES))
        await until(lambda: note.exists() and note.read_text())
        clock.over.set()
        with pytest.raises(ChildTimeoutError, match="test: no answer within 500ms; its process was killed") as caught:
            await call
        assert "about to hang" in caught.value.detail
        clock.over.clear()
        await until(lambda: not is_running(int(note.read_text())))
        program = int(await pool.call(b"again", **LIMITS))
        assert is_running(program)
        assert recorder.starts() == 2
    await until(lambda: not is_running(program))


@pytest.mark.parametrize(
    ("request_", "ending"),
    [(b"exit", "exited with status 3"), (b"segfault", "was killed by SIGSEGV")],
)
async def test_a_child_that_dies_says_how_and_is_replaced(
    pool_of: Any, recorder: Recorder, request_: bytes, ending: str
) -> None:
    async with pool_of("dies") as pool:
        with pytest.raises(ChildDiedError, match=f"test: its process {ending}$") as caught:
            await pool.call(request_, **LIMITS)
        assert "last words" in caught.value.detail
        assert not caught.value.out_of_memory
        assert await pool.call(b"next", **LIMITS) == b"next"
    assert recorder.starts() == 2


async def test_a_child_that_died_while_idle_is_not_used_again(pool_of: Any, recorder: Recorder) -> None:
    async with pool_of("dies") as pool:
        await pool.call(b"idle", **LIMITS)
        child = next(event.pid for event in recorder.events if isinstance(event, ChildStarted))
        await until(lambda: not Path(f"/proc/{child}").exists())
        await asyncio.sleep(0)
        await until(lambda: not pool._children)
        assert await pool.call(b"next", **LIMITS) == b"next"


async def test_a_death_is_seen_though_a_fork_holds_the_socket(pool_of: Any) -> None:
    async with pool_of("forks_and_dies") as pool:
        with pytest.raises(ChildDiedError, match="exited with status 7"):
            await pool.call(b"", **LIMITS)


async def test_memory_is_limited_and_running_out_is_told_apart(pool_of: Any, recorder: Recorder) -> None:
    async with pool_of("allocates", memory_bytes=64 * 2**20) as pool:
        with pytest.raises(ChildDiedError, match=r"test: out of memory \(limit 64MiB\)") as caught:
            await pool.call(b"100000000", **LIMITS)
        assert caught.value.out_of_memory
        assert "bytearray(int(request))" in caught.value.detail
        assert await pool.call(b"1000000", **LIMITS) == b"1000000"
    assert recorder.starts() == 2


async def test_without_a_limit_memory_is_not_limited(pool_of: Any) -> None:
    async with pool_of("allocates") as pool:
        assert await pool.call(b"100000000", **LIMITS) == b"100000000"


async def test_output_goes_to_an_event_and_not_into_the_answer(pool_of: Any, recorder: Recorder) -> None:
    async with pool_of("prints") as pool:
        assert await pool.call(b"3", **LIMITS) == b"answer"
        assert await pool.call(b"0", **LIMITS) == b"answer"
    first, second = recorder.printed()
    assert first.text == "xxxthe end\nto stderr\nfrom a program\n"
    assert first.printed_bytes == len(first.text)
    assert second.text == "the end\nto stderr\nfrom a program\n"


async def test_of_much_output_the_end_is_kept(pool_of: Any, recorder: Recorder) -> None:
    async with pool_of("prints") as pool:
        assert await pool.call(b"3000000", **LIMITS) == b"answer"
    (event,) = recorder.printed()
    assert event.printed_bytes > 3_000_000
    assert len(event.text) == OUTPUT_BYTES
    assert event.text.endswith("the end\nto stderr\nfrom a program\n")


async def test_stdin_is_empty(pool_of: Any) -> None:
    async with pool_of("reads_stdin") as pool:
        assert await pool.call(b"", **LIMITS) == b"|"


async def test_children_see_only_the_environment_they_are_given(pool_of: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    async with pool_of("environment", environment={"COLOUR": "red"}) as pool:
        seen = dict(line.split("=", 1) for line in (await pool.call(b"", **LIMITS)).decode().split("\n"))
    assert seen["COLOUR"] == "red"
    assert set(seen) <= {"COLOUR", "PYTHONPATH", "LC_CTYPE"}
    assert "AWS_SECRET_ACCESS_KEY" not in minimal_environment()


@pytest.mark.parametrize("value", ["a\0b", "\ud800"])
async def test_an_environment_that_cannot_be_is_told(pool_of: Any, value: str) -> None:
    async with pool_of("environment", environment={"COLOUR": value}) as pool:
        with pytest.raises(UnavailableError, match=r"test: cannot start a process: .*(null byte|surrogates)"):
            await pool.call(b"", **LIMITS)


async def test_calls_run_side_by_side_up_to_the_number_of_processes(
    pool_of: Any, recorder: Recorder, tmp_path: Path
) -> None:
    async with pool_of("hold", processes=2, setup={"folder": str(tmp_path)}) as pool:
        calls = [asyncio.create_task(pool.call(name, **LIMITS)) for name in (b"a", b"b", b"c", b"d")]
        await until(lambda: (tmp_path / "a").exists() and (tmp_path / "b").exists())
        assert not (tmp_path / "c").exists()
        (tmp_path / "go").touch()
        assert await asyncio.gather(*calls) == [b"a", b"b", b"c", b"d"]
    assert recorder.starts() == 2


async def test_waiting_callers_are_served_in_their_order(pool_of: Any, tmp_path: Path) -> None:
    finished = []
    async with pool_of("hold", setup={"folder": str(tmp_path)}) as pool:

        async def call(name: bytes) -> None:
            finished.append(await pool.call(name, **LIMITS))

        names = [str(number).encode() for number in range(8)]
        calls = [asyncio.create_task(call(name)) for name in names]
        await until(lambda: (tmp_path / "0").exists())
        (tmp_path / "go").touch()
        await asyncio.gather(*calls)
    assert finished == names


async def test_a_cancelled_call_gives_its_turn_to_the_next(pool_of: Any, recorder: Recorder, tmp_path: Path) -> None:
    async with pool_of("hold", setup={"folder": str(tmp_path)}) as pool:
        first = asyncio.create_task(pool.call(b"first", **LIMITS))
        await until(lambda: (tmp_path / "first").exists())
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        (tmp_path / "go").touch()
        assert await pool.call(b"second", **LIMITS) == b"second"
    assert recorder.starts() == 2


async def test_close_kills_children_and_fails_calls_at_once(pool_of: Any, recorder: Recorder, tmp_path: Path) -> None:
    async with pool_of("hold", setup={"folder": str(tmp_path)}) as pool:
        call = asyncio.create_task(pool.call(b"busy", **LIMITS))
        waiting = asyncio.create_task(pool.call(b"waiting", **LIMITS))
        await until(lambda: (tmp_path / "busy").exists())
        await pool.close()
        for each in (call, waiting):
            with pytest.raises(UnavailableError, match="test: closed"):
                await each
        with pytest.raises(UnavailableError, match="test: closed"):
            await pool.call(b"later", **LIMITS)
    assert recorder.starts() == 1
    assert not any(is_running(event.pid) for event in recorder.events if isinstance(event, ChildStarted))


async def test_a_pool_closed_while_a_child_starts_keeps_none(pool_of: Any, recorder: Recorder) -> None:
    async with pool_of("echo") as pool:
        call = asyncio.create_task(pool.call(b"", **LIMITS))
        await asyncio.sleep(0)
        await pool.close()
        with pytest.raises(UnavailableError, match="test: closed"):
            await call
        await pool.close()
    assert not any(is_running(event.pid) for event in recorder.events if isinstance(event, ChildStarted))


async def test_a_factory_that_hangs_is_killed(pool_of: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("firehose.processes.pool.START_TIMEOUT_MS", 1)
    async with pool_of("echo") as pool:
        with pytest.raises(ChildTimeoutError, match="no answer within 1ms"):
            await pool.call(b"", **LIMITS)


async def test_interrupts_are_left_to_the_parent(pool_of: Any) -> None:
    async with pool_of("signals_itself") as pool:
        assert await pool.call(b"", **LIMITS) == b"alive"


async def test_what_the_code_starts_can_be_ended_as_usual(pool_of: Any) -> None:
    async with pool_of("ends_others") as pool:
        assert await pool.call(b"", **LIMITS) == b"-15 -15"


async def test_a_child_is_not_in_the_group_that_a_terminal_interrupts(pool_of: Any) -> None:
    async with pool_of("pid") as pool:
        child = int(await pool.call(b"", **LIMITS))
        assert os.getpgid(child) == child != os.getpgid(0)
        assert os.getsid(child) == child


async def test_no_descriptor_is_left_open(pool_of: Any) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for factory in ("echo", "fails_to_start", "dies"):
        async with pool_of(factory, processes=2) as pool:
            for _ in range(2):
                try:
                    await pool.call(b"exit", **LIMITS)
                except (ChildError, ChildDiedError):
                    pass
    assert len(os.listdir("/proc/self/fd")) == before


PARENT = """
import asyncio, sys
from firehose.clock import SystemClock
from firehose.processes import ProcessPool, minimal_environment
from firehose.telemetry import Telemetry

async def main():
    pool = ProcessPool("child_code:" + sys.argv[1], {"folder": sys.argv[2]}, processes=1, memory_bytes=None,
                       clock=SystemClock(), telemetry=Telemetry(), name="test")
    call = asyncio.create_task(pool.call(b"began", timeout_ms=60_000, max_answer_bytes=99))
    if sys.argv[1] == "pid":
        print((await call).decode(), flush=True)
    while not pool._children:
        await asyncio.sleep(0.01)
    print(next(iter(pool._children)).pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.parametrize("factory", ["pid", "hold"])
async def test_a_child_dies_with_its_parent(factory: str, tmp_path: Path) -> None:
    parent = subprocess.Popen(  # noqa: ASYNC220 - the loop has nothing else to do
        [sys.executable, "-c", PARENT, factory, str(tmp_path)],
        stdout=subprocess.PIPE,
        env=minimal_environment() | {"PYTHONPATH": str(HERE)},
    )
    assert parent.stdout is not None
    with parent, parent.stdout:
        child = int(parent.stdout.readline())
        if factory == "hold":
            await until(lambda: (tmp_path / "began").exists())
        assert is_running(child)
        parent.send_signal(signal.SIGKILL)
        await until(lambda: not is_running(child))
