"""The other end of `firehose.processes`: what runs inside a child process.

Started as `python -m firehose.child module:factory descriptor`; only the standard library is imported here, so that a
child starts in tens of milliseconds. The descriptor is a socket; stdout and stderr are free for the code that runs.
A frame is a number, the length of its body, a status and the body. The parent sends the setup and then requests, one
at a time; each is answered with one frame of its number, the setup with an empty one once the factory is done.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import resource
import signal
import socket
import struct
import sys
import sysconfig
import traceback
from collections.abc import Callable, Mapping
from types import FrameType, TracebackType
from typing import Any, BinaryIO

#: Before each body: the number of the request, the bytes of the body and its status.
HEADER = struct.Struct("!QQB")

#: The body is what the code returned.
RETURNED = 0
#: The body is JSON: `DESCRIBED` of what the code raised.
RAISED = 1
#: What is told of an exception, each a text.
DESCRIBED = ("type", "message", "place", "traceback")

#: Characters of a traceback that are reported: its end says most.
TRACEBACK_CHARACTERS = 8_192
#: Characters of a message that are reported.
MESSAGE_CHARACTERS = 2_048
#: Characters of a place: the longest path of Linux, and room for the line.
_PLACE_CHARACTERS = 4_128
#: Characters of a type's name.
_TYPE_CHARACTERS = 256
#: Bytes of a description at most: JSON takes up to 12 for a character.
DESCRIPTION_BYTES = 12 * (TRACEBACK_CHARACTERS + MESSAGE_CHARACTERS + _PLACE_CHARACTERS + _TYPE_CHARACTERS) + 256

#: Made before the code is loaded: some code replaces `json.dumps`.
_ENCODER = json.JSONEncoder()

_ENDINGS = (signal.SIGINT, signal.SIGTERM)
_PR_SET_PDEATHSIG = 1
_OUT_OF_MEMORY = b'{"type": "MemoryError", "message": "", "place": "", "traceback": ""}'

Handler = Callable[[bytes], bytes]
Factory = Callable[[Mapping[str, Any]], Handler]


def main() -> None:
    """Serve the parent until it closes the socket or dies."""
    target, descriptor, own_pid = sys.argv[1], int(sys.argv[2]), os.getpid()
    _leave_endings_to_the_parent()
    os.set_inheritable(descriptor, False)
    # A duplicate: the descriptor itself stays open to the very end, so that the parent then learns how it ended.
    channel = socket.socket(fileno=os.dup(descriptor))
    frames = channel.makefile("rb")
    handle: Handler | None = None
    while (frame := _receive(frames)) is not None:
        number, request = frame
        status, body = RETURNED, b""
        try:
            if handle is None:
                handle = start(target, json.loads(request))
            else:
                body = handle(request)
        except Exception as error:  # noqa: BLE001 - whatever the code raises is the parent's to report
            status, body = RAISED, describe(error)
        if os.getpid() != own_pid:
            return  # a fork that the code let come back here: it has nothing to say, and no request is for it
        del frame, request
        _send(channel, number, status, body)
        if handle is None:
            return


def start(target: str, setup: Mapping[str, Any]) -> Handler:
    """Return the handler that the factory `target` makes, with memory limited beforehand."""
    if setup["memory_bytes"] is not None:
        limit_memory(setup["memory_bytes"])
    return load(target)(setup["setup"])


def load(target: str) -> Factory:
    """Return the factory that `module:name` names."""
    module, _, name = target.partition(":")
    factory: Factory = getattr(importlib.import_module(module), name)
    return factory


def limit_memory(memory_bytes: int) -> None:
    """Let allocations beyond `memory_bytes` fail.

    RLIMIT_DATA counts what may be written to (heap, stacks, private mappings). RLIMIT_AS would count mapped libraries
    and reserved addresses too: importing pandas takes 146 MB of the one and 365 MB of the other.
    """
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))


def describe(error: BaseException) -> bytes:
    """Return what `error` says, as JSON; its traceback begins in the code that was run, not in ours."""
    try:
        told = {
            "type": _text(type(error).__name__[:_TYPE_CHARACTERS]),
            "message": _text(_message(error)[:MESSAGE_CHARACTERS]),
            "place": _text(_place(error)[-_PLACE_CHARACTERS:]),
            "traceback": _text(_traceback(error)[-TRACEBACK_CHARACTERS:]),
        }
        return _ENCODER.encode(told).encode()
    except MemoryError:
        return _OUT_OF_MEMORY


def _text(text: str) -> str:
    """Return `text` with halves of characters spelled out, as UTF-8 cannot say them."""
    return text.encode(errors="backslashreplace").decode()


def _message(error: BaseException) -> str:
    if isinstance(error, SyntaxError):  # its text repeats the name of the file, without the folder
        return str(error.msg)
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - an exception of theirs may fail to describe itself
        return "(its text could not be had)"


def _place(error: BaseException) -> str:
    """Return where in the code that was run, not in the libraries it calls, it went wrong: `FILE:LINE`, or nothing."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    libraries = (f"{sysconfig.get_path(name)}{os.sep}" for name in ("stdlib", "platstdlib", "purelib", "platlib"))
    others = (*libraries, "<")
    own = [each for each in traceback.extract_tb(_begin(error)) if not each.filename.startswith(others)]
    return f"{own[-1].filename}:{own[-1].lineno}" if own else ""


def _traceback(error: BaseException) -> str:
    return "".join(traceback.format_exception(type(error), error, _begin(error) or error.__traceback__))


def _begin(error: BaseException) -> TracebackType | None:
    """Return the traceback from where the code begins that was run, None where all of it is ours."""
    found = error.__traceback__
    while found is not None and _is_ours(found.tb_frame):
        found = found.tb_next
    return found


def _is_ours(frame: FrameType) -> bool:
    name = frame.f_globals.get("__name__", "")
    return name == "__main__" or name.partition(".")[0] in {"firehose", "importlib"}


def _leave_endings_to_the_parent() -> None:
    # A terminal or a supervisor signals all processes together; the parent decides what that means for us. Handlers,
    # not SIG_IGN, which would stay in programs that the code starts.
    for number in _ENDINGS:
        signal.signal(number, _do_nothing)
    # Forks can be ended as usual: a signal that comes before they have said so waits until they have.
    os.register_at_fork(before=_block_endings, after_in_parent=_unblock_endings, after_in_child=_end_as_usual)
    if sys.platform == "linux":  # elsewhere the end of the socket's stream tells, once the code has returned
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _do_nothing(number: int, frame: FrameType | None) -> None:
    pass


def _block_endings() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDINGS)


def _unblock_endings() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDINGS)


def _end_as_usual() -> None:
    for number in _ENDINGS:
        signal.signal(number, signal.SIG_DFL)
    _unblock_endings()


def _receive(frames: BinaryIO) -> tuple[int, bytes] | None:
    header = frames.read(HEADER.size)
    if len(header) < HEADER.size:
        return None
    number, body_bytes, _ = HEADER.unpack(header)
    body = frames.read(body_bytes)
    return (number, body) if len(body) == body_bytes else None


def _send(channel: socket.socket, number: int, status: int, body: bytes) -> None:
    channel.sendall(HEADER.pack(number, len(body), status))
    channel.sendall(body)


if __name__ == "__main__":
    main()
    os._exit(0)  # threads that the code left running must not keep the process
