"""`run`, `validate` and `schema` as people run them, and command lines that are wrong."""

from __future__ import annotations

import json
import secrets
from pathlib import Path

import pytest

from tests.daemon import CHECKED, Daemon, command, until
from tests.integration.commands import CATALOG, text

pytestmark = pytest.mark.integration

WRONG = """
streams:
  one: {sink: {type: file}}
  two: {sink: {type: s3, bucket: b}, transform: []}
  "not a name": {sink: {type: file, path: x}}
"""


def test_validate_tells_every_error_at_once(tmp_path: Path) -> None:
    (tmp_path / "wrong.yaml").write_text(WRONG)
    answer = command("validate", tmp_path / "wrong.yaml")
    said = answer.stderr.decode().splitlines()
    assert answer.returncode == 1 and len(said) >= 4, said
    assert all(line.startswith(f"{tmp_path}/wrong.yaml:") for line in said)
    assert answer.stdout.decode() == f"{len(said)} problems\n"
    told = command("validate", "--json", tmp_path / "wrong.yaml")
    found = json.loads(told.stdout)
    assert told.returncode == 1 and found["valid"] is False and len(found["problems"]) == len(said)
    assert {"text", "file", "line", "column", "key", "message"} <= found["problems"][0].keys()
    ran = command("run", tmp_path / "wrong.yaml", "--data-dir", tmp_path / "data")
    assert ran.returncode == 1 and b"Traceback" not in ran.stderr
    assert len(ran.stderr.decode().splitlines()) == len(said) and not (tmp_path / "data").exists()


def test_validate_says_what_is_there(daemon: Daemon) -> None:
    assert text(command("validate", daemon.config)) == "valid: 1 stream, 1 function, 0 catalogs\n"
    assert json.loads(text(command("validate", "--json", daemon.config))) == {
        "valid": True,
        "problems": [],
        "warnings": [],
    }
    daemon.config.write_text("streams: [")
    assert command("validate", daemon.config).returncode == 1
    assert b"Traceback" not in command("validate", daemon.config).stderr


def test_validate_warns_and_is_content(daemon: Daemon) -> None:
    daemon.config.write_text(CHECKED.replace("prefix: clicks/", 'prefix: "!{timestamp:YYYY-mm-dd}/"'))
    answer = command("validate", daemon.config)
    assert (answer.returncode, answer.stdout) == (0, b"valid: 1 stream, 1 function, 0 catalogs\n")
    warnings = answer.stderr.decode().splitlines()
    assert [each.partition("sink.prefix: ")[2][:11] for each in warnings] == ["Y is the ye", "m is the mi"]
    assert all(each.startswith(f"warning: {daemon.config}:8:") for each in warnings)
    found = json.loads(command("validate", "--json", daemon.config).stdout)
    assert found["valid"] and len(found["warnings"]) == 2
    daemon.start()
    until(lambda: daemon.told().count("configuration_doubted") == 2, "the warnings in the log")


def test_a_function_that_does_not_load_is_a_problem_to_validate_and_an_error_in_the_log_of_run(daemon: Daemon) -> None:
    code = daemon.folder / "check.py"
    right = code.read_text()
    code.write_text("def handler(event, context:\n")
    said = f"{daemon.config}:3:17: functions.check.path: does not load: SyntaxError: '(' was never closed ({code}:1)"
    answer = command("validate", daemon.config)
    assert answer.returncode == 1 and answer.stderr.decode().startswith(said)
    daemon.start()
    until(lambda: "configuration_broken" in daemon.told(), "the error in the log")
    (line,) = [line for line in daemon.told().splitlines() if "configuration_broken" in line]
    event = json.loads(line)
    assert event["level"] == "error" and event["problem"].startswith(said)
    code.write_text(right)
    daemon.put(b"good")
    daemon.delivered()
    assert daemon.records() == {b"good": 1}, "a repaired function needs no restart"


def test_a_table_that_is_missing_is_an_error_in_the_log_of_run(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, CATALOG % ("none", "none"))
    for name in ("key", "other"):
        (tmp_path / name).touch(0o600)
        (tmp_path / name).write_bytes(secrets.token_bytes(32))
    try:
        daemon.start()
        until(lambda: "configuration_broken" in daemon.told(), "the error in the log")
        assert "catalogs.lake.path: no folder stands there" in daemon.told()
    finally:
        daemon.close()


def test_schema_is_json(tmp_path: Path) -> None:
    assert json.loads(text(command("schema")))["$schema"].startswith("https://json-schema.org/")


@pytest.mark.parametrize(
    "words",
    [
        ["run", "--port", "99999"],
        ["run", "missing.yaml"],
        ["validate", "missing.yaml"],
        ["validate"],
        ["replay", "--rate", "0"],
        ["failed", "ls", "--since", "yesterday"],
        ["nothing"],
        ["put"],
        ["cat"],
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_ends_with_2(tmp_path: Path, words: list[str]) -> None:
    answer = command(*words)
    assert answer.returncode == 2 and b"Traceback" not in answer.stderr and b"Usage:" in answer.stderr


def test_every_command_has_help() -> None:
    for words in ([], ["run"], ["put"], ["status"], ["failed"], ["failed", "ls"], ["replay"], ["cat"], ["audit"]):
        assert "Usage: firehose" in text(command(*words, "--help"))
    assert "firehose" in text(command("--version"))
