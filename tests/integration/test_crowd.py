"""The service as a process with few descriptors, and more connections than it can bear."""

from __future__ import annotations

import contextlib
import json
import re
import resource
import socket
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from firehose.cli.run import MAX_DESCRIPTORS
from tests import daemon
from tests.daemon import PATIENCE_S, Daemon, until

pytestmark = pytest.mark.integration

STREAM = """
streams:
  clicks:
    buffer: {interval: 0s}
    sink: {type: file, path: lake, prefix: clicks/}
"""
CROWD = 400


def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limits: str) -> Daemon:
    """Start the service with limits of open files, as options of `ulimit`."""
    wrapper = tmp_path / "firehose"
    wrapper.write_text(f'#!/bin/sh\nulimit {limits}\nexec "{daemon.COMMAND}" "$@"\n')
    wrapper.chmod(0o755)
    found = Daemon(tmp_path, STREAM)
    with monkeypatch.context() as limited:
        limited.setattr(daemon, "COMMAND", wrapper)
        found.start()
    return found


def soft_limit(service: Daemon) -> int:
    assert service.process is not None
    text = Path(f"/proc/{service.process.pid}/limits").read_text()
    found = re.search(r"^Max open files\s+(\d+)", text, re.MULTILINE)
    assert found is not None
    return int(found[1])


@contextlib.contextmanager
def crowd(address: tuple[str, int]) -> Iterator[None]:
    """Connect many times; who is let in finds half a head of each, the rest waits in the backlog or before it."""
    with contextlib.ExitStack() as stack:
        for _ in range(CROWD):
            one = stack.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(address)
            with contextlib.suppress(OSError):
                one.send(b"POST / HTTP/1.1\r\nHost: x\r\n")
        yield


def put(producer: HTTPConnection, record: bytes) -> None:
    producer.request("POST", "/streams/clicks/records", record)
    answer = producer.getresponse()
    assert (answer.status, answer.read()[:14]) == (200, b'{"accepted":1,')


def events(service: Daemon) -> list[dict[str, Any]]:
    """Return the lines of the log, each of which must be an event."""
    return [json.loads(line) for line in service.told().splitlines()]


def test_the_soft_limit_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    service = started(tmp_path, monkeypatch, "-Sn 256")
    try:
        assert soft_limit(service) == (
            MAX_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MAX_DESCRIPTORS)
        )
    finally:
        service.close()


def test_a_crowd_that_sends_nothing_whole_hurts_nobody_who_is_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = started(tmp_path, monkeypatch, "-n 256")
    host, port = service.url.removeprefix("http://").split(":")
    producer = HTTPConnection(host, int(port), timeout=PATIENCE_S)
    try:
        assert soft_limit(service) == 256
        put(producer, b"before")
        with crowd((host, int(port))):
            until(lambda: "connections_full" in service.told(), "the crowd")
            for number in range(20):
                put(producer, b"%d" % number)
            until(lambda: service.records().total() == 21, "delivery")
            assert service.process is not None
            assert len(list(Path(f"/proc/{service.process.pid}/fd").iterdir())) < 256 - 32
        newcomer = HTTPConnection(host, int(port), timeout=PATIENCE_S)
        put(newcomer, b"after")
        newcomer.close()
        service.delivered()
        assert service.total() == {"accepted": 22, "delivered": 22}
        told = [each["event"] for each in events(service)]
        assert told.count("connections_full") == 1
        assert not {"unexpected_error", "accept_failed", "worker_failed", "step_failed"} & set(told), told
    finally:
        producer.close()
        service.close()


def test_rubbish_leaves_no_traceback_in_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service = started(tmp_path, monkeypatch, "-Sn 256")
    host, port = service.url.removeprefix("http://").split(":")
    try:
        for data in (b"GET / HTTP/1.1\r\nContent-Length: abc\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"):
            with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as peer:
                peer.sendall(data)
                assert b" 400 Bad Request" in peer.recv(100)
        levels = {each["level"] for each in events(service)}
        assert levels == {"info"}
        assert "raceback" not in service.told()
    finally:
        service.close()
