"""Code that the tests of `firehose.processes` run in child processes: each factory is one way to behave."""

import ctypes
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time

from firehose.child import HEADER, RETURNED


def echo(setup):
    return lambda request: setup.get("prefix", "").encode() + request


def pid(setup):
    return lambda request: str(os.getpid()).encode()


def environment(setup):
    return lambda request: "\n".join(f"{name}={value}" for name, value in os.environ.items()).encode()


def hold(setup):
    """Say that the call began, then wait until the test lets it go on."""

    def handle(request):
        folder = setup["folder"]
        os.mknod(f"{folder}/{request.decode()}")
        while not os.path.exists(f"{folder}/go"):
            time.sleep(0.005)
        return request

    return handle


def raises(setup):
    def handle(request):
        if request == b"raise":
            raise KeyError("customer")
        return request

    return handle


def fails_deep_down(setup):
    def look_up(key):
        raise KeyError(key)

    def handle(request):
        if request == b"library":
            json.loads("{")
        if request == b"nested":
            look_up("a")
        return compile("(", "<text>", "exec")

    return handle


def fails_to_start(setup):
    print("about to fail")
    raise RuntimeError("no licence")


def dies(setup):
    def handle(request):
        print("last words", flush=True)
        if request == b"exit":
            sys.exit(3)
        if request == b"segfault":
            ctypes.string_at(0)
        if request == b"idle":
            threading.Timer(0.01, os._exit, [0]).start()
        return request

    return handle


def allocates(setup):
    def handle(request):
        return str(len(bytearray(int(request)))).encode()

    return handle


def prints(setup):
    def handle(request):
        count = int(request)
        print("x" * count + "the end")
        print("to stderr", file=sys.stderr)
        subprocess.run(["echo", "from a program"], check=True)
        return b"answer"

    return handle


def reads_stdin(setup):
    return lambda request: sys.stdin.read().encode() + b"|"


def starts_program(setup):
    def handle(request):
        program = subprocess.Popen(["sleep", "1000"])
        if request == b"hang":
            print("about to hang")
            with open(setup["file"], "w") as file:
                file.write(str(program.pid))
            time.sleep(1000)
        return str(program.pid).encode()

    return handle


def forks_and_dies(setup):
    """A fork holds all that the child had open, the socket too."""

    def handle(request):
        if os.fork() == 0:
            time.sleep(1000)
        os._exit(7)

    return handle


def ends_others(setup):
    """A fork and a program can be ended with SIGTERM, whatever that does to the child itself."""

    def handle(request):
        fork = multiprocessing.get_context("fork").Process(target=time.sleep, args=(1000,))
        fork.start()
        fork.terminate()
        fork.join()
        program = subprocess.Popen(["sleep", "1000"])
        program.terminate()
        return f"{fork.exitcode} {program.wait()}".encode()

    return handle


def signals_itself(setup):
    def handle(request):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        return b"alive"

    return handle


def writes_everywhere(setup):
    """Write to every descriptor there is, then raise; `setup` says how many bytes the head of an answer promises."""

    def handle(request):
        if request == b"behave":
            return request
        text = b"x" * 64 if request == b"garbage" else HEADER.pack(2, setup["promised_bytes"], RETURNED) + b"x" * 64
        for descriptor in range(3, 32):
            try:
                os.write(descriptor, text)
            except OSError:
                pass
        if request == b"die":
            os._exit(0)
        raise ValueError("x")

    return handle


def closes_everything(setup):
    def handle(request):
        if request == b"all":
            os.closerange(0, 256)
            time.sleep(1000)
        return request

    return handle


def forks(setup):
    """The fork goes on where the child does: back into the loop that serves requests."""

    def handle(request):
        if os.fork() == 0 and request == b"raise":
            raise ValueError("of the fork")
        return str(os.getpid()).encode()

    return handle


def replaces_json(setup):
    def handle(request):
        json.dumps = lambda *arguments, **options: "[]"
        if request == b"thoroughly":
            json.JSONEncoder.encode = json.dumps
        raise ValueError("x")

    return handle


class Unspeakable(Exception):
    def __str__(self):
        raise RuntimeError


def raises_oddly(setup):
    half = "\ud800"
    odd = {
        "half of a character": lambda: ValueError(half * 10_000),
        "long message": lambda: ValueError("🔥" * 10_000_000),
        "long name": lambda: type("E" * 1_000_000, (Exception,), {})("x"),
        "no text": Unspeakable,
        "no message": SyntaxError,
        "odd place": lambda: SyntaxError("x", (f"file{half}" * 10_000, half, 0, None)),
    }

    def handle(request):
        raise odd[request.decode()]()

    return handle


def ends_by_a_signal(setup):
    def handle(request):
        os.kill(os.getpid(), int(request))

    return handle


def fills(setup):
    return lambda request: b"x" * int(request)
