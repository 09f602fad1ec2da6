"""Records that are sent again, to a service that is killed: each id lands once, and the account says so."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from pathlib import Path
from urllib.request import urlopen

import orjson
import pytest
from botocore.exceptions import BotoCoreError, ClientError

from tests.daemon import CHECK, PATIENCE_S, Daemon, until

pytestmark = pytest.mark.integration

CONFIG = """
functions:
  check: {path: check.py, timeout: 30s}
streams:
  clicks:
    deduplicate: {record_id: event.id, window: 1h}
    transforms: [{type: lambda, function: check}]
    buffer: {interval: 1s}
    sink: {type: file, path: lake, prefix: clicks/}
    failed: {prefix: "clicks-failed/!{firehose:error-output-type}/"}
"""


def record(number: int, attempt: int) -> bytes:
    kind = "bad" if number % 100 == 0 else "good"
    return b'{"kind": "%s", "event": {"id": "e-%d"}, "attempt": %d}' % (kind.encode(), number, attempt)


def landed(daemon: Daemon) -> Counter[str]:
    return Counter(orjson.loads(line)["event"]["id"] for line in daemon.records().elements())


class Killer(threading.Thread):
    """Kills the service again and again, and starts it anew."""

    def __init__(self, daemon: Daemon, chance: random.Random) -> None:
        super().__init__(daemon=True)
        self.service, self.chance, self.stopping, self.kills = daemon, chance, threading.Event(), 0

    def run(self) -> None:
        while not self.stopping.wait(self.chance.uniform(0.1, 1.5)):
            self.service.end()
            self.service.start()
            self.kills += 1


def put_until_answered(daemon: Daemon, records: list[bytes]) -> None:
    """Put records as producers do that know nothing of names: each attempt is another put."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            daemon.put(*records)
            return
        except (BotoCoreError, ClientError):
            time.sleep(0.05)  # it was killed: soon it is there again
    raise AssertionError("nobody answers")


def test_each_id_lands_once_however_often_it_is_sent_and_the_service_killed(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, CONFIG)
    (tmp_path / "check.py").write_text(CHECK.replace('startswith(b"bad")', 'startswith(b\'{"kind": "bad"\')'))
    daemon.start()
    chance, sent, copies = random.Random(5), 0, 0
    killer = Killer(daemon, random.Random(6))
    killer.start()
    while killer.kills < 8 or sent < 6_000:
        old = chance.sample(range(sent), min(sent, 30))
        put_until_answered(daemon, [record(number, sent) for number in (*range(sent, sent + 50), *old)])
        sent, copies = sent + 50, copies + len(old)
    killer.stopping.set()
    killer.join()
    daemon.delivered()
    bad = {f"e-{number}" for number in range(0, sent, 100)}
    found = landed(daemon)
    assert set(found) == {f"e-{number}" for number in range(sent)} - bad, "nothing lost"
    assert set(found.values()) == {1}, "nothing twice"
    assert len(daemon.failures()) == daemon.failures().total() == len(bad)

    (status,) = daemon.ask("status")["streams"]
    assert status["failed_records"] == len(bad)
    assert status["deduplicate"]["ids"] == sent and status["deduplicate"]["window_ms"] > 0
    assert b'firehose_duplicate_records_total{stream="clicks"}' in urlopen(f"{daemon.url}/metrics").read()

    # those that failed are known, too: sent again they are duplicates, replayed they land
    daemon.put(record(100, sent))
    daemon.delivered()
    assert daemon.failures().total() == len(bad)
    (tmp_path / "repaired").touch()
    daemon.ask("replay", "--stream", "clicks")
    until(lambda: len(landed(daemon)) == sent, "the replay")
    daemon.delivered()
    assert set(landed(daemon).values()) == {1}
    total = daemon.total()
    assert total["delivered"] == sent and total["duplicate"] > copies
    assert total["accepted"] == total["delivered"] + total["duplicate"]
    daemon.close()
