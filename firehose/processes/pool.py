"""A bounded number of child processes, kept while they behave, and what they are asked."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NoReturn

import orjson

from firehose.child import DESCRIBED, RAISED
from firehose.clock import Clock
from firehose.errors import FirehoseError, UnavailableError
from firehose.processes.errors import ChildDiedError, ChildError, ChildTimeoutError, garbled
from firehose.processes.process import Buffer, ChildProcess
from firehose.telemetry import Emitter, Event, Metrics
from firehose.units import format_bytes, format_duration_ms

#: Environment variables that every child may see. Never credentials.
INHERITED = ("PATH", "HOME", "LANG", "TZ", "PYTHONPATH")

#: How long a child may take to import its code. Lambda grants 10 s; a loaded small machine needs more.
START_TIMEOUT_MS = 30_000


@dataclass(frozen=True, slots=True)
class ChildStarted(Event):
    """A child process was started: the first of its pool, one more under load, or in the place of one that ended."""

    level: ClassVar[int] = logging.DEBUG
    pool: str
    pid: int

    def measure(self, metrics: Metrics) -> None:
        metrics.count("child_starts_total", "Child processes started.", pool=self.pool)


@dataclass(frozen=True, slots=True)
class ChildPrinted(Event):
    """Code in a child process wrote to stdout or stderr. `text` is the end of it, of `printed_bytes` altogether."""

    pool: str
    text: str
    printed_bytes: int


def minimal_environment() -> dict[str, str]:
    """Return the variables of our environment that every child may see."""
    return {name: os.environ[name] for name in INHERITED if name in os.environ}


class ProcessPool:
    """Calls `module:factory` code in child processes. `factory(setup)` returns a function from bytes to bytes.

    `memory_bytes` bounds what each child may allocate (None: unbounded). `environment` is all that children see (None:
    `minimal_environment`). `setup` must be JSON.
    """

    def __init__(
        self,
        target: str,
        setup: Mapping[str, Any],
        *,
        processes: int,
        memory_bytes: int | None,
        clock: Clock,
        telemetry: Emitter,
        name: str,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        assert processes > 0
        self._target = target
        self._setup = json.dumps({"memory_bytes": memory_bytes, "setup": setup}).encode()
        self._memory_bytes = memory_bytes
        self._environment = minimal_environment() if environment is None else dict(environment)
        self._clock = clock
        self._telemetry = telemetry
        self._name = name
        self._turns = asyncio.Semaphore(processes)  # first come, first served
        self._idle: list[ChildProcess] = []
        self._children: set[ChildProcess] = set()
        self._is_closed = False

    async def call(self, request: Buffer | Sequence[Buffer], *, timeout_ms: int, max_answer_bytes: int) -> bytes:
        """Return what the code makes of `request`; several buffers arrive as one, without being joined here.

        Units: `timeout_ms` from when a child has the call, not counting the wait for one nor its start.
        Errors: ChildError, ChildTimeoutError, ChildDiedError, ChildGarbledError, ChildAnswerTooLargeError;
        UnavailableError where no child can be started.
        """
        async with self._turns:
            child = await self._ready_child()
            try:
                answer = await self._ask(child, _parts(request), timeout_ms, max_answer_bytes)
            except ChildError:
                self._put_back(child)
                raise
            except BaseException:  # in the middle of a call, so of no use any more; the caller may be cancelled, too
                self._end(child)
                raise
            self._put_back(child)
            return answer

    async def start(self) -> None:
        """Have a child ready, so that what its code does when it is loaded is known. Errors: those of `call`."""
        async with self._turns:
            self._put_back(await self._ready_child())

    async def close(self) -> None:
        """Kill all children. Calls under way fail, and so do later ones."""
        self._is_closed = True
        while self._idle:
            self._end(self._idle.pop())
        for child in self._children:
            child.kill()  # its caller sees the end of the stream and cleans up
        await asyncio.gather(*(child.exited for child in self._children))

    async def _ready_child(self) -> ChildProcess:
        while self._idle:
            child = self._idle.pop()  # the last used: the warmest
            if child.is_ready():
                return child
            self._end(child)
        return await self._start()

    async def _start(self) -> ChildProcess:
        if self._is_closed:
            raise UnavailableError(f"{self._name}: closed")
        try:
            child = await ChildProcess.start(self._name, self._target, self._environment)
        except (OSError, ValueError) as error:  # ValueError: of what no environment can hold, like NUL
            raise UnavailableError(f"{self._name}: cannot start a process: {error}") from error
        self._children.add(child)
        child.exited.add_done_callback(lambda _: self._children.discard(child))
        self._telemetry.emit(ChildStarted(self._name, child.pid))
        try:
            if self._is_closed:  # while it started
                raise UnavailableError(f"{self._name}: closed")
            await self._ask(child, [self._setup], START_TIMEOUT_MS, 0)
        except BaseException:
            self._end(child)
            raise
        return child

    async def _ask(self, child: ChildProcess, parts: Sequence[Buffer], timeout_ms: int, max_answer_bytes: int) -> bytes:
        exchange = asyncio.create_task(child.exchange(parts, max_answer_bytes))
        ended = asyncio.Event()
        exchange.add_done_callback(lambda _: ended.set())
        try:
            is_in_time = await self._clock.wait(ended, timeout_ms)
        finally:
            exchange.cancel()
            await asyncio.wait([exchange])
        if not is_in_time and exchange.cancelled():
            raise await self._timed_out(child, timeout_ms)
        try:
            status, body = exchange.result()
        except (EOFError, OSError) as error:
            raise await self._died(child) from error
        if status == RAISED:
            self._raise(_description(self._name, body))
        return bytes(body)

    def _raise(self, found: Mapping[str, str]) -> NoReturn:
        if found["type"] == "MemoryError":
            raise ChildDiedError(
                f"{self._name}: out of memory{self._limit()}", detail=found["traceback"], out_of_memory=True
            )
        raise ChildError(
            f"{found['type']}: {found['message']}".removesuffix(": "),
            type_name=found["type"],
            place=found["place"],
            detail=found["traceback"],
        )

    async def _timed_out(self, child: ChildProcess, timeout_ms: int) -> FirehoseError:
        child.kill()
        await child.exited
        output, _ = child.take_output()
        return ChildTimeoutError(
            f"{self._name}: no answer within {format_duration_ms(timeout_ms)}; its process was killed", detail=output
        )

    async def _died(self, child: ChildProcess) -> FirehoseError:
        child.kill()  # it closed its end: whatever is left of it is of no use
        status = await child.exited
        output, _ = child.take_output()
        if self._is_closed:
            return UnavailableError(f"{self._name}: closed during the call")
        out_of_memory = "MemoryError" in output or "bad_alloc" in output
        why = f"; out of memory{self._limit()}" if out_of_memory else ""
        return ChildDiedError(
            f"{self._name}: its process {_ending(status)}{why}", detail=output, out_of_memory=out_of_memory
        )

    def _limit(self) -> str:
        return f" (limit {format_bytes(self._memory_bytes)})" if self._memory_bytes is not None else ""

    def _put_back(self, child: ChildProcess) -> None:
        if self._is_closed:
            self._end(child)
        else:
            self._report_output(child)
            self._idle.append(child)

    def _end(self, child: ChildProcess) -> None:
        self._report_output(child)
        child.close()

    def _report_output(self, child: ChildProcess) -> None:
        text, printed_bytes = child.take_output()
        if printed_bytes:
            self._telemetry.emit(ChildPrinted(self._name, text, printed_bytes))


def _parts(request: Buffer | Sequence[Buffer]) -> Sequence[Buffer]:
    return [request] if isinstance(request, bytes | bytearray | memoryview) else request


def _ending(status: int) -> str:
    if status >= 0:
        return f"exited with status {status}"
    names = {number.value: number.name for number in signal.Signals}  # those for real time have none
    return f"was killed by {names.get(-status, f'signal {-status}')}"


def _description(name: str, body: bytearray) -> dict[str, str]:
    """Return what a child says that its code raised. Errors: ChildGarbledError."""
    try:
        found = orjson.loads(body)  # of texts, it takes only what UTF-8 can say
    except orjson.JSONDecodeError as error:
        raise garbled(name, f"an exception that is not JSON: {error}") from error
    if not isinstance(found, dict) or not all(isinstance(found.get(key), str) for key in DESCRIBED):
        raise garbled(name, "an exception without what belongs to one")
    return found
