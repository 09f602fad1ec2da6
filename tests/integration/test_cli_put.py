"""`put` as people run it."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from tests.daemon import Daemon, complaint
from tests.integration.commands import text

pytestmark = pytest.mark.integration


def test_put_sends_the_lines_of_a_file_or_of_stdin(daemon: Daemon) -> None:
    daemon.start()
    (daemon.folder / "lines").write_bytes(b"one\n\n  \ntwo\r\n\xff\x00three")
    assert text(daemon.run("put", "clicks", daemon.folder / "lines")) == "clicks: 3 records accepted\n"
    assert text(daemon.run("put", "clicks", given=b"four\n")) == "clicks: 1 record accepted\n"
    assert json.loads(text(daemon.run("put", "clicks", "-", "--json", given=b"five"))) == {
        "stream": "clicks",
        "accepted": 1,
    }
    assert text(daemon.run("put", "clicks", given=b"\n")) == "clicks: 0 records accepted\n"
    assert "no delivery stream 'klicks'" in complaint(daemon.run("put", "klicks", given=b"\n"))
    daemon.delivered()
    assert sorted(daemon.records()) == sorted([b"one", b"two", b"\xff\x00three", b"four", b"five"])


def test_put_sends_large_files_in_parts(daemon: Daemon) -> None:
    daemon.start()
    lines = [b"%07d" % number + b"x" * 1_000 for number in range(20_000)]
    assert text(daemon.run("put", "clicks", given=b"\n".join(lines))) == "clicks: 20,000 records accepted\n"
    daemon.delivered()
    assert daemon.records() == Counter(lines)


def test_put_sends_many_short_lines(daemon: Daemon) -> None:
    daemon.start()
    lines = [b"%d" % number for number in range(260_000)]
    assert text(daemon.run("put", "clicks", given=b"\n".join(lines))) == "clicks: 260,000 records accepted\n"


def test_put_tells_what_is_wrong(daemon: Daemon) -> None:
    daemon.start()
    assert "no delivery stream 'klicks'; there are: clicks" in complaint(daemon.run("put", "klicks", given=b"x"))
    largest, too_large = b"x" * 1_024_000, b"x" * 1_024_001
    said = complaint(daemon.run("put", "clicks", given=too_large))
    assert said == "firehose: line 1 has more than 1024000 bytes, the most of a record"
    part = b"".join([b"y" * 1_000 + b"\n", b"\n"] * 5_000) + largest + b"\r\n"
    said = complaint(daemon.run("put", "clicks", given=part + too_large + b"\nnext"))
    after = "the 5,001 records before line 10002 were accepted, send the rest from there on"
    assert said == f"firehose: line 10002 has more than 1024000 bytes, the most of a record; {after}"
    daemon.delivered()
    assert daemon.records() == {b"y" * 1_000: 5_000, largest: 1}
    daemon.end()
    said = complaint(daemon.run("put", "clicks", given=b"x"))
    assert said.startswith(f"firehose: no service runs on {daemon.data}; ") and "`firehose run`" in said


def test_put_signs_where_the_service_asks_for_it(daemon: Daemon) -> None:
    credentials = "server: {credentials: [{access_key_id: AKID, secret_access_key: secret}]}\n"
    daemon.config.write_text(credentials + daemon.config.read_text())
    daemon.start()
    keys = {"AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "secret"}
    assert text(daemon.run("put", "clicks", given=b"signed", **keys)) == "clicks: 1 record accepted\n"
    assert "signature" in complaint(daemon.run("put", "clicks", given=b"x", **keys | {"AWS_SECRET_ACCESS_KEY": "no"}))
    assert complaint(daemon.run("put", "clicks", given=b"x", AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY=""))


def test_commands_reach_the_service_past_a_proxy(daemon: Daemon) -> None:
    daemon.start()
    proxy = {"http_proxy": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}
    assert json.loads(text(daemon.run("status", "--json", **proxy)))["streams"]
    assert text(daemon.run("put", "clicks", given=b"x", **proxy)) == "clicks: 1 record accepted\n"
