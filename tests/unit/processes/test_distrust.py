"""Whatever a child sends, its caller gets an answer or an error of ours, and memory and time stay ours."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from firehose.child import DESCRIPTION_BYTES, HEADER, RAISED, RETURNED
from firehose.clock import SystemClock
from firehose.processes import (
    ChildAnswerTooLargeError,
    ChildDiedError,
    ChildError,
    ChildGarbledError,
    ChildStarted,
    ProcessPool,
    minimal_environment,
)
from firehose.processes.process import ChildProcess
from firehose.telemetry import Event

HERE = Path(__file__).parent
MOST_BYTES = 1_000
LIMITS = {"timeout_ms": 60_000, "max_answer_bytes": MOST_BYTES}

#: What the service may need for an answer that was promised and not sent.
ROOM_BYTES = 32 * 2**20


class Recorder:
    def __init__(self) -> None:
        self.starts = 0

    def emit(self, event: Event) -> None:
        self.starts += isinstance(event, ChildStarted)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def pool_of(recorder: Recorder) -> Callable[..., Any]:
    @asynccontextmanager
    async def pool_of(factory: str, **setup: Any) -> AsyncIterator[ProcessPool]:
        pool = ProcessPool(
            f"child_code:{factory}",
            setup,
            processes=1,
            memory_bytes=None,
            clock=SystemClock(),
            telemetry=recorder,
            name="test",
            environment=minimal_environment() | {"PYTHONPATH": str(HERE)},
        )
        try:
            yield pool
        finally:
            await pool.close()

    return pool_of


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1_024


# --- real children ---------------------------------------------------------------------------------------------------


async def test_garbage_on_the_socket_fails_the_call_and_the_child_is_replaced(pool_of: Any, recorder: Recorder) -> None:
    async with pool_of("writes_everywhere") as pool:
        for _ in range(2):
            with pytest.raises(ChildGarbledError, match="test: its process was killed, for it sent 17 bytes that do"):
                await pool.call(b"garbage", **LIMITS)
        assert await pool.call(b"behave", **LIMITS) == b"behave"
    assert recorder.starts == 3


async def test_an_answer_beyond_the_limit_is_refused_by_its_head(pool_of: Any, recorder: Recorder) -> None:
    before = peak_bytes()
    async with pool_of("writes_everywhere", promised_bytes=3_000_000_000) as pool:
        with pytest.raises(ChildAnswerTooLargeError, match="has 3000000000 bytes; 1000 are allowed") as caught:
            await pool.call(b"promise", **LIMITS)
        assert caught.value.answer_bytes == 3_000_000_000
        assert await pool.call(b"behave", **LIMITS) == b"behave"
    assert recorder.starts == 2
    assert peak_bytes() - before < ROOM_BYTES


async def test_what_is_promised_and_not_sent_takes_no_memory(pool_of: Any) -> None:
    before = peak_bytes()
    async with pool_of("writes_everywhere", promised_bytes=3_000_000_000) as pool:
        with pytest.raises(ChildDiedError, match="exited with status 0"):
            await pool.call(b"die", timeout_ms=60_000, max_answer_bytes=2**40)
    assert peak_bytes() - before < ROOM_BYTES


async def test_an_answer_may_be_as_large_as_the_limit_and_no_larger(pool_of: Any) -> None:
    async with pool_of("fills") as pool:
        assert len(await pool.call(b"1000", **LIMITS)) == 1_000
        with pytest.raises(ChildAnswerTooLargeError, match="test: the answer has 1001 bytes"):
            await pool.call(b"1001", **LIMITS)


async def test_a_child_that_closes_everything_is_replaced(pool_of: Any, recorder: Recorder) -> None:
    async with pool_of("closes_everything") as pool:
        with pytest.raises(ChildDiedError, match="was killed by SIGKILL"):
            await pool.call(b"all", **LIMITS)
        assert await pool.call(b"none", **LIMITS) == b"none"
    assert recorder.starts == 2


async def test_a_fork_that_comes_back_answers_nothing_and_takes_no_request(pool_of: Any, recorder: Recorder) -> None:
    async with pool_of("forks") as pool:
        answers = {await pool.call(b"raise" if each % 2 else b"", **LIMITS) for each in range(6)}
        (child,) = (each.pid for each in pool._children)
    assert answers == {str(child).encode()}
    assert recorder.starts == 1


async def test_code_that_replaces_json_changes_little(pool_of: Any, recorder: Recorder) -> None:
    async with pool_of("replaces_json") as pool:
        for _ in range(2):
            with pytest.raises(ChildError, match="ValueError: x"):
                await pool.call(b"", **LIMITS)
        with pytest.raises(ChildGarbledError, match="an exception without what belongs to one"):
            await pool.call(b"thoroughly", **LIMITS)
    assert recorder.starts == 1


@pytest.mark.parametrize(
    ("odd", "said"),
    [
        ("half of a character", r"^ValueError: (\\ud800)+$"),
        ("long message", "^ValueError: 🔥{2048}$"),
        ("long name", "^E{256}: x$"),
        ("no text", "could not be had"),
        ("no message", "^SyntaxError: None$"),
        ("odd place", "^SyntaxError: x$"),
    ],
)
async def test_odd_exceptions_are_reported_as_text_of_bounded_size(
    pool_of: Any, recorder: Recorder, odd: str, said: str
) -> None:
    async with pool_of("raises_oddly") as pool:
        for _ in range(2):
            with pytest.raises(ChildError, match=said) as caught:
                await pool.call(odd.encode(), **LIMITS)
            for text in (str(caught.value), caught.value.place, caught.value.detail):
                assert len(text.encode()) < DESCRIPTION_BYTES
    assert recorder.starts == 1


@pytest.mark.parametrize(("number", "name"), [(9, "SIGKILL"), (40, "signal 40")])
async def test_an_end_by_any_signal_is_told(pool_of: Any, number: int, name: str) -> None:
    async with pool_of("ends_by_a_signal") as pool:
        with pytest.raises(ChildDiedError, match=f"test: its process was killed by {name}$"):
            await pool.call(str(number).encode(), **LIMITS)


# --- made-up streams of bytes ----------------------------------------------------------------------------------------


class Peer:
    """In place of a process: what it says was said beforehand, and it ends when it is killed."""

    pid = 1_000_000_000  # more than any process has

    def __init__(self) -> None:
        self.killed = asyncio.Event()

    async def wait(self) -> int:
        await self.killed.wait()
        return -9


class ScriptedChild(ChildProcess):
    """A child that says `said`, whatever it is asked, and no more."""

    def __init__(self, said: bytes) -> None:
        ours, self._theirs = socket.socketpair()
        output, printing = os.pipe()
        os.close(printing)
        for descriptor in (ours.fileno(), output):
            os.set_blocking(descriptor, False)
        self._theirs.sendall(said)
        self._theirs.shutdown(socket.SHUT_WR)
        self._peer: Any = Peer()
        super().__init__("test", self._peer, ours, output)

    def _kill_group(self) -> None:
        self._peer.killed.set()
        self._theirs.close()


def plain_pool() -> ProcessPool:
    clock, telemetry = SystemClock(), Recorder()
    return ProcessPool("a:b", {}, processes=1, memory_bytes=None, clock=clock, telemetry=telemetry, name="test")


async def what_comes_of(said: bytes) -> bytes | type[BaseException]:
    """Return the outcome of one call to a child that started well and then says `said`."""
    child = ScriptedChild(HEADER.pack(1, 0, RETURNED) + said)
    pool = plain_pool()
    with mock.patch.object(ChildProcess, "start", mock.AsyncMock(return_value=child)):
        try:
            return await pool.call(b"x", **LIMITS)
        except Exception as error:
            if not isinstance(error, ChildError):
                assert not pool._idle and not child._is_open and child._peer.killed.is_set()
            assert str(error).encode()
            return type(error)
        finally:
            await pool.close()


def what_should(said: bytes) -> bytes | type[BaseException]:
    if len(said) < HEADER.size:
        return ChildDiedError
    number, size, status = HEADER.unpack_from(said)
    body = said[HEADER.size :][:size]
    if number != 2 or status not in (RETURNED, RAISED) or (status == RAISED and size > DESCRIPTION_BYTES):
        return ChildGarbledError
    if status == RETURNED and size > MOST_BYTES:
        return ChildAnswerTooLargeError
    if len(body) < size:
        return ChildDiedError
    return body if status == RETURNED else what_should_be_raised(body)


def what_should_be_raised(body: bytes) -> type[BaseException]:
    try:
        match orjson.loads(body):
            case {"type": str(name), "message": str(), "place": str(), "traceback": str()}:
                return ChildDiedError if name == "MemoryError" else ChildError
    except ValueError:
        pass
    return ChildGarbledError


def frame(number: int, status: int, body: bytes, surplus: int = 0) -> bytes:
    return HEADER.pack(number, max(0, len(body) + surplus), status) + body


GOOD = {"type": "KeyError", "message": "'a'", "place": "f.py:1", "traceback": "Traceback"}
TEXTS = st.sampled_from(["", "MemoryError", "x" * 100, "\0", "\u2028", "🔥"]) | st.text(max_size=9)
VALUES = st.recursive(
    TEXTS | st.none() | st.integers() | st.floats() | st.booleans(), lambda inner: st.lists(inner, max_size=2)
)
DESCRIPTIONS = st.one_of(
    st.dictionaries(st.sampled_from([*GOOD, "more"]), VALUES, max_size=5).map(lambda told: GOOD | told),
    st.sampled_from([*GOOD]).map(lambda key: {name: text for name, text in GOOD.items() if name != key}),
    VALUES,
).map(lambda told: json.dumps(told).encode())
BODIES = st.binary(max_size=40) | DESCRIPTIONS | st.sampled_from([b"[" * 2_000 + b"]" * 2_000, b"9" * 5_000, b"NaN"])
FRAMES = st.builds(
    frame,
    st.sampled_from([2, 2, 2, 2, 0, 1, 3, 2**64 - 1]),
    st.sampled_from([RETURNED, RAISED, RAISED, 2, 255]),
    BODIES,
    st.sampled_from([0, 0, 0, 1, -1, MOST_BYTES, DESCRIPTION_BYTES, 3_000_000_000, 2**62]),
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.binary(max_size=60) | FRAMES | st.lists(FRAMES, max_size=3).map(b"".join))
@example(frame(2, RETURNED, b"x" * MOST_BYTES))
@example(frame(2, RAISED, json.dumps(GOOD | {"type": "MemoryError"}).encode()))
@example(frame(2, RAISED, json.dumps(GOOD | {"message": "\ud800"}).encode()))
@example(frame(1, RETURNED, b"late") + frame(2, RETURNED, b"in time"))
def test_any_bytes_are_an_answer_or_an_error_of_ours(said: bytes) -> None:
    assert asyncio.run(what_comes_of(said)) == what_should(said)


@pytest.mark.parametrize("said", [frame(1, RETURNED, b"garbage"), frame(1, RETURNED, b"", 2**40), b"x" * 64, b"x", b""])
async def test_a_start_that_is_answered_wrongly_fails_the_call(said: bytes) -> None:
    child = ScriptedChild(said)
    pool = plain_pool()
    starting = mock.patch.object(ChildProcess, "start", mock.AsyncMock(return_value=child))
    with starting, pytest.raises((ChildGarbledError, ChildAnswerTooLargeError, ChildDiedError)):
        await pool.call(b"x", **LIMITS)
    assert not pool._idle and not child._is_open
    await pool.close()
    assert not pool._children


@pytest.mark.parametrize("more", [frame(2, RETURNED, b"again"), frame(3, RETURNED, b"before it was asked"), b"x", b""])
async def test_a_child_that_speaks_unasked_is_asked_nothing_more(more: bytes) -> None:
    children = [ScriptedChild(frame(1, RETURNED, b"") + frame(2, RETURNED, answer) + more) for answer in (b"a", b"b")]
    pool = plain_pool()
    with mock.patch.object(ChildProcess, "start", mock.AsyncMock(side_effect=children)):
        assert [await pool.call(b"x", **LIMITS) for _ in range(2)] == [b"a", b"b"]
    assert not children[0]._is_open
    await pool.close()


async def test_an_answer_that_is_all_there_leaves_the_event_loop_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("firehose.processes.process.SOCKET_BYTES", 10)
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(take_turns())
    assert await what_comes_of(frame(2, RETURNED, b"x" * MOST_BYTES)) == b"x" * MOST_BYTES
    other.cancel()
    assert turns > MOST_BYTES // 10
