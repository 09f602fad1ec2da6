"""Child processes for code that must not share our memory, our time or our stdout: the only module that starts them.

A pool serves calls with a bounded number of children. A child serves one call at a time; it is started when first
needed, kept while it behaves, and killed with everything it started when it answers too late or too much, when what it
sends is no answer, when its caller gives up or when the pool is closed. It dies when we die.

Nothing that a child sends is trusted: code that runs there can write what it likes to any of its descriptors.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, Process, create_subprocess_exec
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NoReturn

import orjson

from firehose.child import DESCRIBED, DESCRIPTION_BYTES, HEADER, RAISED, RETURNED
from firehose.clock import Clock
from firehose.errors import FirehoseError, InvalidError, UnavailableError
from firehose.telemetry import Emitter, Event, Metrics
from firehose.units import format_bytes, format_duration_ms

Buffer = bytes | bytearray | memoryview

#: Environment variables that every child may see. Never credentials.
INHERITED = ("PATH", "HOME", "LANG", "TZ", "PYTHONPATH")

#: How long a child may take to import its code. Lambda grants 10 s; a loaded small machine needs more.
START_TIMEOUT_MS = 30_000

#: Bytes kept of what the code prints during one call: the end of it.
OUTPUT_BYTES = 8_192

#: Bytes taken from a child's output at once: what a pipe holds.
_PIPE_BYTES = 65_536

#: Bytes of an answer that are taken at once: about what a socket holds.
_SOCKET_BYTES = 2**18


class ChildTimeoutError(UnavailableError):
    """The child did not answer in time and was killed. `detail` is the end of what it printed."""

    code = "ChildTimedOut"

    def __init__(self, message: str, *, detail: str) -> None:
        super().__init__(message)
        self.detail = detail


class ChildDiedError(UnavailableError):
    """The child ended before it answered. `detail` is its traceback or the end of what it printed."""

    code = "ChildDied"

    def __init__(self, message: str, *, detail: str, out_of_memory: bool) -> None:
        super().__init__(message)
        self.detail = detail
        self.out_of_memory = out_of_memory


class ChildGarbledError(UnavailableError):
    """The child sent what is no answer to the call: something in it writes to its socket. It was killed."""

    code = "ChildGarbled"


class ChildAnswerTooLargeError(InvalidError):
    """The child's answer has `answer_bytes`, more than the caller wants. Nothing of it was taken; it was killed."""

    code = "ChildAnswerTooLarge"

    def __init__(self, message: str, *, answer_bytes: int) -> None:
        super().__init__(message)
        self.answer_bytes = answer_bytes


class ChildError(InvalidError):
    """The code in the child raised `type_name`. `detail` is its traceback, `place` the line of its own in it."""

    code = "ChildRaised"

    def __init__(self, message: str, *, type_name: str, place: str, detail: str) -> None:
        super().__init__(message)
        self.type_name = type_name
        self.place = place
        self.detail = detail


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
        self._idle: list[_Child] = []
        self._children: set[_Child] = set()
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

    async def _ready_child(self) -> _Child:
        while self._idle:
            child = self._idle.pop()  # the last used: the warmest
            if child.is_ready():
                return child
            self._end(child)
        return await self._start()

    async def _start(self) -> _Child:
        if self._is_closed:
            raise UnavailableError(f"{self._name}: closed")
        try:
            child = await _Child.start(self._name, self._target, self._environment)
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

    async def _ask(self, child: _Child, parts: Sequence[Buffer], timeout_ms: int, max_answer_bytes: int) -> bytes:
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

    async def _timed_out(self, child: _Child, timeout_ms: int) -> FirehoseError:
        child.kill()
        await child.exited
        output, _ = child.take_output()
        return ChildTimeoutError(
            f"{self._name}: no answer within {format_duration_ms(timeout_ms)}; its process was killed", detail=output
        )

    async def _died(self, child: _Child) -> FirehoseError:
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

    def _put_back(self, child: _Child) -> None:
        if self._is_closed:
            self._end(child)
        else:
            self._report_output(child)
            self._idle.append(child)

    def _end(self, child: _Child) -> None:
        self._report_output(child)
        child.close()

    def _report_output(self, child: _Child) -> None:
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
        raise _garbled(name, f"an exception that is not JSON: {error}") from error
    if not isinstance(found, dict) or not all(isinstance(found.get(key), str) for key in DESCRIBED):
        raise _garbled(name, "an exception without what belongs to one")
    return found


def _garbled(name: str, what: str) -> ChildGarbledError:
    return ChildGarbledError(
        f"{name}: its process was killed, for it sent {what}; code in it may write to no descriptor but its own"
    )


class _Child:
    """One child process: a socket for calls, a pipe for what its code prints."""

    def __init__(self, name: str, process: Process, channel: socket.socket, output: int) -> None:
        self.pid = process.pid
        self._name = name
        self._calls = 0
        self.exited = asyncio.create_task(process.wait())
        self.exited.add_done_callback(self._on_exit)
        self._channel = channel
        self._output = output
        self._printed = bytearray()
        self._printed_bytes = 0
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(output, self._read_output)
        self._is_open = True

    @classmethod
    async def start(cls, name: str, target: str, environment: Mapping[str, str]) -> _Child:
        ours, theirs = socket.socketpair()
        output, their_output = os.pipe()
        try:
            ours.setblocking(False)
            os.set_blocking(output, False)
            process = await create_subprocess_exec(
                *(sys.executable, "-P", "-u", "-m", "firehose.child", target, str(theirs.fileno())),
                stdin=DEVNULL,
                stdout=their_output,
                stderr=their_output,
                pass_fds=[theirs.fileno()],
                env=environment,
                start_new_session=True,  # a group of its own to kill, and no Ctrl-C from our terminal
            )
        except BaseException:
            ours.close()
            os.close(output)
            raise
        finally:
            theirs.close()
            os.close(their_output)
        return cls(name, process, ours, output)

    def is_ready(self) -> bool:
        """Return whether it lives, and has said nothing since its last answer."""
        if self.exited.done():
            return False
        try:
            self._channel.recv(1)
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False  # an answer to nobody, or the end of all answers

    async def exchange(self, parts: Sequence[Buffer], max_answer_bytes: int) -> tuple[int, bytearray]:
        """Send one frame, return the status and body of the answer.

        Errors: EOFError or OSError where it died; ChildGarbledError, ChildAnswerTooLargeError.
        """
        self._calls += 1
        views = [memoryview(part).cast("B") for part in parts]
        head = HEADER.pack(self._calls, sum(len(view) for view in views), 0)
        for view in (memoryview(head), *views):
            await self._loop.sock_sendall(self._channel, view)
        number, body_bytes, status = HEADER.unpack(await self._receive(HEADER.size))
        if number != self._calls or status not in (RETURNED, RAISED):
            raise _garbled(self._name, f"{HEADER.size} bytes that do not begin an answer")
        if status == RAISED and body_bytes > DESCRIPTION_BYTES:
            raise _garbled(self._name, f"an exception of {body_bytes} bytes")
        if status == RETURNED and body_bytes > max_answer_bytes:
            raise ChildAnswerTooLargeError(
                f"{self._name}: the answer has {body_bytes} bytes; {max_answer_bytes} are allowed",
                answer_bytes=body_bytes,
            )
        return status, await self._receive(body_bytes)

    async def _receive(self, size: int) -> bytearray:
        """Return the next `size` bytes; what was not sent yet takes no memory. Errors: EOFError, OSError."""
        body = bytearray()
        while len(body) < size:
            received = await self._loop.sock_recv(self._channel, min(size - len(body), _SOCKET_BYTES))
            if not received:
                raise EOFError
            body += received
            await asyncio.sleep(0)  # what is there is received at once: others must have their turn as well
        return body

    def take_output(self) -> tuple[str, int]:
        """Return the end of what was printed since the last call, and how many bytes it was altogether."""
        for _ in range(16):  # bounded: a program that the code left running may print without end
            if not self._is_open or not self._read_output():
                break
        text, printed_bytes = self._printed.decode(errors="replace"), self._printed_bytes
        self._printed.clear()
        self._printed_bytes = 0
        return text, printed_bytes

    def _read_output(self) -> bool:
        try:
            chunk = os.read(self._output, _PIPE_BYTES)
        except BlockingIOError:
            return False
        if not chunk:
            self._loop.remove_reader(self._output)
        self._printed += chunk
        self._printed_bytes += len(chunk)
        del self._printed[:-OUTPUT_BYTES]
        return bool(chunk)

    def kill(self) -> None:
        """Kill the process and everything it started."""
        if not self.exited.done():
            self._kill_group()

    def close(self) -> None:
        """Kill, and let go of socket and pipe. Nobody may be waiting for an answer."""
        self.kill()
        if self._is_open:
            self._is_open = False
            self._loop.remove_reader(self._output)
            os.close(self._output)
            self._channel.close()

    def _on_exit(self, _: asyncio.Task[int]) -> None:
        self._kill_group()
        if self._is_open:  # ends the wait for an answer even where a fork of the child still holds its end
            self._channel.shutdown(socket.SHUT_RDWR)

    def _kill_group(self) -> None:
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass  # nobody is left; macOS says so by refusing
