"""SDKs and curl send a put again when its answer is lost: it lands once, whatever happens in between."""

from __future__ import annotations

import random
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.daemon import Daemon

pytestmark = pytest.mark.integration

CONFIG = """
streams:
  clicks:
    buffer: {interval: 0s}
    sink: {type: file, path: lake, prefix: clicks/}
"""


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    found = Daemon(tmp_path, CONFIG)
    yield found
    found.close()


class ForgetfulProxy:
    """Passes requests on, and forgets some answers once they are there: the service has taken the put."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        #: Called after a forgotten answer.
        self.meanwhile: Callable[[], None] = lambda: None
        self.forgets: Callable[[], bool] = lambda: False
        self.requests = 0

    @contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=self._serve, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            thread.join(30)

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client:
                self._pass_on(client)

    def _pass_on(self, client: socket.socket) -> None:
        request = _message(client)
        if not request:
            return
        self.requests += 1
        address = urlsplit(self._daemon.url)
        with socket.create_connection((address.hostname or "", address.port or 0)) as service:
            service.sendall(request)
            answer = _message(service)
        if self.forgets():
            self.meanwhile()
        else:
            client.sendall(answer)


def _message(connection: socket.socket) -> bytes:
    """Return a request or an answer, as long as its head says."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += (chunk := connection.recv(65_536))
        if not chunk:
            return b""
    head, _, body = data.partition(b"\r\n\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
    if fields.get(b"expect") == b"100-continue":
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    while len(body) < int(fields.get(b"content-length", 0)):
        body += connection.recv(65_536)
    return head + b"\r\n\r\n" + body


@pytest.fixture
def proxy(daemon: Daemon) -> Iterator[ForgetfulProxy]:
    found = ForgetfulProxy(daemon)
    with found.running():
        yield found


def test_an_sdk_that_sends_again_is_answered_with_the_same_ids_and_stored_once(
    daemon: Daemon, proxy: ForgetfulProxy
) -> None:
    """Also across a crash between the attempts, and when the records are delivered by then."""
    daemon.start()
    chance = random.Random(20261121)
    forgotten = iter([True, True, False] * 100)
    proxy.forgets = lambda: next(forgotten)
    kills = iter([True, False, False, False] * 100)

    def meanwhile() -> None:
        if next(kills):
            if chance.random() < 0.5:
                daemon.delivered()
            daemon.end()
            daemon.start()

    proxy.meanwhile = meanwhile
    client, sent, ids = daemon.client(proxy.url, attempts=6), [], []
    for number in range(12):
        records = [b"%d-%d" % (number, each) for each in range(20)]
        sent += records
        answer = client.put_record_batch(DeliveryStreamName="clicks", Records=[{"Data": each} for each in records])
        assert answer["FailedPutCount"] == 0
        ids += [each["RecordId"] for each in answer["RequestResponses"]]
        sent.append(b"single %d" % number)
        ids.append(client.put_record(DeliveryStreamName="clicks", Record={"Data": sent[-1]})["RecordId"])
    assert proxy.requests == 3 * 24
    daemon.delivered()
    assert daemon.records() == Counter(sent)
    assert len(set(ids)) == len(ids) == len(sent)
    assert daemon.total() == {"accepted": len(sent), "delivered": len(sent)}


def test_the_same_put_twice_at_once_is_stored_once(daemon: Daemon) -> None:
    daemon.start()
    answers: list[Any] = []

    def send() -> None:
        client = daemon.client()

        def name_it(params: Any, **_: Any) -> None:
            params["context"].setdefault("retries", {})["invocation-id"] = "0f0e0d0c-0000-0000-0000-000000000001"

        client.meta.events.register("before-call", name_it)
        answers.append(client.put_record(DeliveryStreamName="clicks", Record={"Data": b"x" * 100_000})["RecordId"])

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    daemon.delivered()
    assert len(answers) == 8 and len(set(answers)) == 1
    assert daemon.records() == {b"x" * 100_000: 1}
