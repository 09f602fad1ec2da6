"""What commands make of an answer for people. What they ask, and of whom, is tried with real services."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner, Result

from firehose.cli import main

#: A stream of which `status` has nothing to remark.
STREAM = {
    "name": "clicks",
    "state": "delivering",
    "paused": False,
    "origin": "yaml",
    "version": 1,
    "backlog_records": 0,
    "backlog_bytes": 0,
    "freshness_ms": None,
    "failed_records": 0,
    "open_objects": 0,
    "failed_quota_is_full": False,
    "deduplicate": None,
    "last_error": None,
}

Command = Callable[..., Result]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run a command that gets this answer."""

    def command(answer: Any, *words: str) -> Result:
        monkeypatch.setattr(sys.modules["firehose.cli.main"], "call", lambda data_dir, verb, parameters: answer)
        return CliRunner().invoke(main, words)

    return command


def entry(**changes: Any) -> dict[str, Any]:
    return {
        "stream": "clicks",
        "id": "failed/x#1",
        "stage": "transform",
        "code": "Lambda.FunctionError",
        "message": "The Lambda function was successfully invoked but it returned an error result.",
        "detail": None,
        "attempts": 4,
        "arrival_ms": 0,
        "failed_ms": 60_000,
        "data_bytes": 1,
        "replayed": False,
    } | changes


def listing(*records: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"records": list(records), "more": False, "problems": []} | changes


def shown(data: bytes, **changes: Any) -> dict[str, Any]:
    where = {"shard": "s", "sequence": 7, "data": base64.b64encode(data).decode()}
    return entry(**changes) | where | {"text": data.decode("utf-8", "replace")}


def test_failed_ls_shows_a_message_of_usual_length_whole(command: Command) -> None:
    found = command(listing(entry()), "failed", "ls")
    assert "it returned an error result.  failed/x#1" in found.stdout and found.stderr == ""


def test_failed_ls_says_where_it_cuts(command: Command) -> None:
    message = "Data does not match the schema. " + "x" * 100
    found = command(listing(entry(message=message)), "failed", "ls")
    assert f"{message[:99]}…  failed/x#1" in found.stdout
    assert found.stderr == "messages that end in … go on: `firehose failed show ID`, or --json\n"
    answer = command(listing(entry(message=message)), "failed", "ls", "--json")
    assert json.loads(answer.stdout)["records"][0]["message"] == message


def test_failed_ls_shows_what_the_function_said_in_one_line(command: Command) -> None:
    found = command(listing(entry(detail="KeyError:\n'a'")), "failed", "ls")
    assert "KeyError: 'a'  failed/x#1" in found.stdout and "successfully invoked" not in found.stdout


def test_failed_ls_says_why_there_may_be_nothing(command: Command) -> None:
    found = command(listing(note="no record failed with code 'X'; codes there are: Y"), "failed", "ls", "--code", "X")
    assert (found.exit_code, found.stderr) == (0, "no record failed with code 'X'; codes there are: Y\n")


def test_failed_show_shows_both_messages(command: Command) -> None:
    lines = command(shown(b"{}", detail="KeyError: 'a' (/f.py:2)"), "failed", "show", "x").stdout.splitlines()
    assert "message    The Lambda function was successfully invoked but it returned an error result." in lines
    assert "detail     KeyError: 'a' (/f.py:2)" in lines
    assert lines[-3:] == [
        "arrived    1970-01-01 00:00:00 UTC",
        "failed     1970-01-01 00:01:00 UTC",
        "record     {}",
    ]
    assert "detail" not in command(shown(b"{}"), "failed", "show", "x").stdout


def test_failed_show_raw_writes_the_bytes_and_nothing_else(command: Command) -> None:
    found = command(shown(b"\x00\xff\r\nno newline"), "failed", "show", "x", "--raw")
    assert (found.stdout_bytes, found.stderr) == (b"\x00\xff\r\nno newline", "")


def test_failed_show_says_that_a_record_is_no_text(command: Command) -> None:
    found = command(shown(b"\x00\xff"), "failed", "show", "x")
    assert "the record is 2 bytes that are no text; --raw writes them as they are" in found.stderr
    assert command(shown("ü".encode()), "failed", "show", "x").stderr == ""


def test_failed_show_is_raw_or_json(command: Command) -> None:
    found = command(shown(b""), "failed", "show", "x", "--raw", "--json")
    assert found.exit_code == 1 and "--raw and --json exclude each other" in found.stderr


def test_status_says_that_producers_are_throttled_and_what_is_wrong_with_the_log(command: Command) -> None:
    answer = {"streams": [], "log_bytes": 2**20, "log_quota_bytes": 10 * 2**20, "log_is_full": False, "problems": []}
    assert command(answer, "status").stderr == "log 1MiB of 10MiB\n"
    full = command(answer | {"log_is_full": True, "problems": ["segment 7 is missing"]}, "status")
    assert full.stderr.splitlines() == [
        "log 1MiB of 10MiB: full, producers are throttled until deliveries make room",
        "segment 7 is missing",
    ]


def test_status_says_what_it_knows_of_record_ids_and_why_a_stream_waits(command: Command) -> None:
    stream = STREAM | {
        "failed_quota_is_full": True,
        "deduplicate": {"ids": 1_200, "bytes": 40_000, "window_ms": 90_000, "without_id": 1},
    }
    log = {"log_bytes": 0, "log_quota_bytes": 2**20, "log_is_full": False, "problems": []}
    assert command(log | {"streams": [stream]}, "status").stderr.splitlines()[1:] == [
        "clicks: as many failed records as may (server.failed_quota) wait for the error output, "
        "and the stream with them",
        "clicks: 1,200 record ids known, back to 1.5m ago",
        "clicks: 1 record without an id since the start; is `deduplicate.record_id` right?",
    ]
    quiet = {"ids": 0, "bytes": 0, "window_ms": None, "without_id": 0}
    assert len(command(log | {"streams": [STREAM, STREAM | {"deduplicate": quiet}]}, "status").stderr.splitlines()) == 1


def test_since_says_that_it_means_utc() -> None:
    for words in (["failed", "ls"], ["failed", "stats"], ["replay"]):
        help_text = " ".join(CliRunner().invoke(main, [*words, "--help"]).stdout.split())
        assert "2026-11-21T14:00, which is UTC unless an offset like +01:00 follows" in help_text
