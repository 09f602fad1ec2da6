"""One child process: how it is started, spoken with, listened to and killed."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, Process, create_subprocess_exec
from collections.abc import Mapping, Sequence

from firehose.child import DESCRIPTION_BYTES, HEADER, RAISED, RETURNED
from firehose.processes.errors import ChildAnswerTooLargeError, garbled

Buffer = bytes | bytearray | memoryview

#: Bytes kept of what the code prints during one call: the end of it.
OUTPUT_BYTES = 8_192

#: Bytes taken from a child's output at once: what a pipe holds.
PIPE_BYTES = 65_536

#: Bytes of an answer that are taken at once: about what a socket holds.
SOCKET_BYTES = 2**18


class ChildProcess:
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
    async def start(cls, name: str, target: str, environment: Mapping[str, str]) -> ChildProcess:
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
            raise garbled(self._name, f"{HEADER.size} bytes that do not begin an answer")
        if status == RAISED and body_bytes > DESCRIPTION_BYTES:
            raise garbled(self._name, f"an exception of {body_bytes} bytes")
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
            received = await self._loop.sock_recv(self._channel, min(size - len(body), SOCKET_BYTES))
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
            chunk = os.read(self._output, PIPE_BYTES)
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
