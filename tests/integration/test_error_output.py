"""An error output that cannot be written: good records go on, failed ones wait on this disk, and nothing fills up."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import orjson
import pybase64
import pytest

from tests.daemon import CHECKED, Daemon, until

pytestmark = pytest.mark.integration

CONFIG = "server: {log_quota: 16MiB}\n" + CHECKED.replace(
    'failed: {prefix: "clicks-failed/', 'failed: {sink: {type: file, path: errors}, prefix: "clicks-failed/'
)

#: More than the log may hold, of bytes that no compression makes fewer.
PUTS, RECORDS, RECORD_BYTES = 48, 500, 1_000


def test_delivery_goes_on_for_longer_than_the_log_could_hold_it(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, CONFIG)
    errors = tmp_path / "errors"
    errors.write_text("here should be a folder")
    daemon.start()
    daemon.put(*(b"bad-%d" % number for number in range(5)))
    for _ in range(PUTS):
        daemon.put(*(os.urandom(RECORD_BYTES) for _ in range(RECORDS)))  # who is throttled fails here
        until(lambda: status(daemon)["backlog_records"] == 5, "delivery")
    assert daemon.ask("status")["log_bytes"] < 12 * 2**20
    daemon.put(*(b"bad-%d" % number for number in range(5, 10)))
    daemon.end()
    daemon.start()
    until(lambda: status(daemon)["open_objects"] == 2, "the second object of failed records")
    assert "errors" in status(daemon)["last_error"]["message"]
    assert daemon.total() == {"accepted": PUTS * RECORDS + 10, "delivered": PUTS * RECORDS, "pending": 10}
    assert status(daemon)["backlog_records"] == 10

    errors.unlink()
    assert daemon.run("flush", "clicks").returncode == 0
    assert daemon.total() == {"accepted": PUTS * RECORDS + 10, "delivered": PUTS * RECORDS, "failed": 10}
    entries = [
        line
        for path in (errors / "clicks-failed").rglob("*")
        if path.is_file()
        for line in path.read_bytes().splitlines()
    ]
    found = sorted(pybase64.b64decode(orjson.loads(line)["rawData"]) for line in entries)
    assert found == [b"bad-%d" % number for number in range(10)]
    daemon.close()


def status(daemon: Daemon) -> dict[str, Any]:
    found: dict[str, Any] = daemon.ask("status")["streams"][0]
    return found
