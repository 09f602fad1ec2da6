"""Every command as people run it: with a service, without one, with `--json`, and with every mistake."""

from __future__ import annotations

import gzip
import json
import os
import secrets
import signal
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import boto3
import pyarrow.parquet as pq
import pytest

from tests.daemon import CHECKED, COMMAND, Daemon, command, complaint, until

pytestmark = pytest.mark.integration


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    found = Daemon(tmp_path)
    yield found
    found.close()


@pytest.fixture(params=["with a service", "without one"])
def house(request: pytest.FixtureRequest, daemon: Daemon) -> Daemon:
    """A data directory with delivered, failed and waiting records; the service runs, or does not."""
    daemon.start()
    daemon.put(b"good", b"bad 1", b"bad 2")
    daemon.delivered()
    assert daemon.run("pause", "clicks").returncode == 0
    daemon.put(b"waiting")
    if request.param == "without one":
        daemon.end(signal.SIGKILL)
    return daemon


def text(answer: subprocess.CompletedProcess[bytes]) -> str:
    assert answer.returncode == 0, answer
    assert not answer.stderr or b"Traceback" not in answer.stderr
    return answer.stdout.decode()


# --- with and without a service --------------------------------------------------------------------------------------


def test_status(house: Daemon) -> None:
    (stream,) = house.ask("status")["streams"]
    assert (stream["name"], stream["state"], stream["backlog_records"]) == ("clicks", "paused", 1)
    assert stream["freshness_ms"] > 0
    shown = house.run("status")
    heads, row = text(shown).splitlines()
    assert heads.split()[0] == "stream" and row.split()[:3] == ["clicks", "paused", "1"]
    assert shown.stderr.startswith(b"log ")
    assert text(house.run("status", "clicks")).splitlines()[0] == heads


def test_audit(house: Daemon) -> None:
    answer = house.ask("audit")
    assert answer["closes"] and answer["streams"][0]["total"]["pending"] == 1
    lines = text(house.run("audit")).splitlines()
    terms = ["accepted", "created", "delivered", "failed", "dropped", "pending"]
    assert lines[0].split() == ["stream", "hour", "(UTC)", *terms, "account"]
    assert lines[-1].split() == ["clicks", "total", "4", "0", "1", "2", "0", "1", "closes"]


def test_audit_ends_with_1_where_the_account_does_not_close(house: Daemon) -> None:
    connection = sqlite3.connect(house.data / "state.db")
    connection.execute("UPDATE account SET rows = rows + 7 WHERE term = 'delivered'")
    connection.commit()
    connection.close()
    answer = house.run("audit")
    assert answer.returncode == 1 and b"OFF BY -7" in answer.stdout
    answer = house.run("audit", "--json")
    assert answer.returncode == 1 and json.loads(answer.stdout)["closes"] is False


def test_a_deep_audit_names_objects_that_are_not_as_they_were_delivered(house: Daemon) -> None:
    answer = house.ask("audit", "--deep")
    assert answer["closes"] and (answer["objects"]["objects"], answer["objects"]["differ"]) == (2, 0)
    *_, last = text(house.run("audit", "--deep")).splitlines()
    assert last == "2 objects with 3 records read, 0 differ from what was delivered"
    (path,) = house.objects("clicks")
    path.write_bytes(b"somebody wrote over it")
    found = house.run("audit", "--deep", "clicks")
    *_, told, last = found.stdout.decode().splitlines()
    assert found.returncode == 1 and told.startswith(f"{path.as_uri()} has 22 bytes, ")
    assert last == "2 objects with 3 records read, 1 differ from what was delivered"
    assert house.run("audit", "--deep", "--json").returncode == 1
    assert house.ask("audit")["closes"], "the account itself closes"


def test_failed_ls_show_and_stats(house: Daemon) -> None:
    records = house.ask("failed", "ls")["records"]
    assert len(records) == 2
    listed = text(house.run("failed", "ls", "--limit", "1"))
    assert records[0]["id"] in listed and len(listed.splitlines()) == 2
    shown = text(house.run("failed", "show", records[0]["id"]))
    assert "record     bad 1" in shown and "Lambda.ProcessingFailedStatus" in shown
    assert house.ask("failed", "show", records[0]["id"])["text"] == "bad 1"
    stats = text(house.run("failed", "stats", "--stage", "transform"))
    assert stats.splitlines()[1].split() == ["clicks", "transform", "Lambda.ProcessingFailedStatus", "2", "0", "2"]
    assert house.ask("failed", "ls", "--until", "2020-01-01")["records"] == []
    assert len(house.ask("failed", "ls", "--since", "2020-01-01T00:00+02:00", "--stream", "clicks")["records"]) == 2
    assert house.ask("failed", "ls", "--since", "0", "--limit", "0") == {"records": [], "more": True, "problems": []}
    raw = house.run("failed", "show", records[0]["id"], "--raw")
    assert (raw.returncode, raw.stdout) == (0, b"bad 1")


def test_an_unknown_code_is_told_with_those_there_are(house: Daemon) -> None:
    for words in (["failed", "ls"], ["failed", "stats"], ["replay", "--dry-run"], ["replay"]):
        answer = house.run(*words, "--code", "Lambda.Nonsense")
        assert answer.returncode == 0
        said = "no record failed with code 'Lambda.Nonsense'; codes there are: Lambda.ProcessingFailedStatus"
        assert answer.stderr.decode().splitlines()[-1] == said, words
    known = house.run("failed", "ls", "--code", "Lambda.ProcessingFailedStatus")
    assert known.stderr == b"" and len(known.stdout.splitlines()) == 3
    (house.folder / "repaired").touch()
    text(house.run("replay"))
    assert house.run("failed", "ls").stderr == b"2 that match were replayed already\n"


def test_replay_pause_and_resume(house: Daemon) -> None:
    (house.folder / "repaired").touch()
    dry = house.run("replay", "--dry-run")
    assert text(dry) == "2 records would be replayed; 0 were replayed before\n"
    moved = house.run("replay", "--rate", "1000")
    assert text(moved) == "2 records replayed; 0 were replayed before\n"
    assert text(house.run("replay", "--stream", "clicks")) == "0 records replayed; 2 were replayed before\n"
    resumed = text(house.run("resume", "clicks"))
    if house.process.poll() is None:
        assert resumed == "clicks: delivering\n"
    else:
        assert resumed == "clicks: not paused any more; it is delivered once the service runs (`firehose run`)\n"
        house.start()
    house.delivered()
    assert house.records() == Counter([b"good", b"bad 1", b"bad 2", b"waiting"])
    assert house.total() == {"accepted": 4, "delivered": 4}
    assert text(house.run("pause", "clicks")) == "clicks: paused\n"
    assert house.ask("status")["streams"][0]["state"] == "paused"


def test_flush(house: Daemon) -> None:
    if house.process.poll() is None:
        assert "stream 'clicks' is paused; `firehose resume clicks` first" in complaint(house.run("flush", "clicks"))
        text(house.run("resume", "clicks"))
        assert text(house.run("flush", "clicks")) == "clicks: flushed\n"
        assert house.total()["delivered"] == 2
    else:
        text(house.run("resume", "clicks"))
        said = complaint(house.run("flush", "clicks"))
        assert said == "firehose: no service runs, so nothing of 'clicks' was flushed; start `firehose run`"


def test_flush_says_what_keeps_it_and_returns_when_it_is_delivered(daemon: Daemon) -> None:
    daemon.config.write_text(CHECKED.replace("interval: 0s", "interval: 15m"))
    daemon.start()
    daemon.lake.rmdir()
    daemon.lake.write_text("in the way")
    daemon.put(b"one")
    said = complaint(daemon.run("flush", "clicks", "--timeout", "2s"))
    assert said.startswith("firehose: stream 'clicks': not everything is delivered after 2s: ") and "lake" in said
    daemon.lake.unlink()
    daemon.lake.mkdir()
    assert text(daemon.run("flush", "clicks")) == "clicks: flushed\n"
    assert daemon.records() == {b"one": 1} and daemon.total() == {"accepted": 1, "delivered": 1}
    assert daemon.run("flush", "clicks", "--timeout", "soon").returncode == 2


def test_an_error_object_that_was_removed_is_told_and_ends_with_1(house: Daemon) -> None:
    for path in house.objects("clicks-failed"):
        path.unlink()
    for words in (["failed", "ls"], ["failed", "stats"], ["replay", "--dry-run"], ["replay"], ["replay", "--json"]):
        answer = house.run(*words)
        said = answer.stderr.decode()
        assert answer.returncode == 1 and "Traceback" not in said, words
        assert "firehose: stream 'clicks': file://" in said and "look at its name" in said


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["status", "klicks"], "no delivery stream 'klicks'; there are: clicks"),
        (["audit", "klicks"], "no delivery stream 'klicks'; there are: clicks"),
        (["pause", "klicks"], "no delivery stream 'klicks'; there are: clicks"),
        (["replay", "--stream", "klicks"], "no delivery stream 'klicks'; there are: clicks"),
        (["failed", "ls", "--stage", "lunch"], "no stage 'lunch'; stages: transform, convert"),
        (["failed", "ls", "--limit", "-1"], "limit must be a whole number of at least 0, not -1"),
        (["failed", "show", "nothing"], "no failed record 'nothing': `firehose failed ls` shows their ids"),
    ],
)
def test_mistakes_are_one_line(house: Daemon, words: list[str], says: str) -> None:
    assert complaint(house.run(*words)) == f"firehose: {says}"


def test_offline_commands_know_the_region_and_the_quota_that_the_service_had(daemon: Daemon) -> None:
    daemon.config.write_text("server: {region: eu-central-1, log_quota: 12MiB}\n" + daemon.config.read_text())
    daemon.start()
    online = daemon.ask("status")["log_quota_bytes"]
    daemon.end()
    assert daemon.ask("status")["log_quota_bytes"] == online == 12 * 2**20
    assert json.loads((daemon.data / "server.json").read_text())["region"] == "eu-central-1"
    (daemon.data / "server.json").write_text('{"log_quota": "much"}')
    assert "server.json of the data directory is damaged (log_quota); remove it" in complaint(daemon.run("status"))


# --- the data directory ----------------------------------------------------------------------------------------------

READERS = (
    ["status"],
    ["audit"],
    ["failed", "ls"],
    ["failed", "stats"],
    ["replay"],
    ["pause", "clicks"],
    ["put", "clicks"],
)


@pytest.mark.parametrize("words", READERS, ids=" ".join)
def test_a_data_directory_that_is_none_is_told(tmp_path: Path, words: list[str]) -> None:
    missing = tmp_path / "missing"
    said = complaint(command(*words, "--data-dir", missing, given=b"x"))
    assert said.startswith(f"firehose: {missing} does not exist; `firehose run` makes it") and not missing.exists()
    said = complaint(command(*words, "--data-dir", tmp_path, given=b"x"))
    assert said.startswith(f"firehose: {tmp_path} is no data directory: it has no state.db") and not [
        *tmp_path.iterdir()
    ]


def test_a_damaged_state_is_told_by_commands_and_by_the_service(daemon: Daemon) -> None:
    daemon.start()
    daemon.put(b"one")
    daemon.end(signal.SIGTERM)
    (daemon.data / "state.db").write_bytes(b"This is no database. " * 1_000)
    assert "state.db is damaged or no state of ours" in complaint(daemon.run("status"))
    assert daemon.launch().wait(60) == 1
    *_, last = daemon.told().splitlines()
    assert last.startswith("firehose: ") and "put it back from a backup" in last
    (daemon.data / "state.db").unlink()
    assert daemon.launch().wait(60) == 1
    *_, last = daemon.told().splitlines()
    assert "holds a 'log' but no state.db" in last, "a new state would have thrown away the log's records"


def test_a_newer_state_is_refused(daemon: Daemon) -> None:
    daemon.start()
    daemon.end(signal.SIGTERM)
    connection = sqlite3.connect(daemon.data / "state.db")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    assert "has format 99, this version knows up to " in complaint(daemon.run("audit"))
    assert daemon.launch().wait(60) == 1
    assert "Traceback" not in daemon.told()


def test_a_service_waits_for_a_command_that_is_at_work(daemon: Daemon) -> None:
    daemon.start()
    daemon.end()
    script = (
        "import sys, time; from pathlib import Path; from firehose.datadir import DataDirectory\n"
        "directory = DataDirectory(Path(sys.argv[1])); directory.take(); print('taken', flush=True); sys.stdin.read()"
    )
    words = [COMMAND.with_name("python"), "-c", script, daemon.data]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"taken\n"
        process = daemon.launch()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(3)
        holder.communicate()
    until(daemon._is_announced, "the start")


# --- run and validate ------------------------------------------------------------------------------------------------

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


# --- put -------------------------------------------------------------------------------------------------------------


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


# --- cat -------------------------------------------------------------------------------------------------------------

CATALOG = """
catalogs: {lake: {type: file, path: catalog}}
streams:
  packed: {buffer: {interval: 0s}, compression: %s, sink: {type: file, path: lake, prefix: "packed/a#b?c%%20d/"}}
  secret:
    buffer: {interval: 0s}
    compression: %s
    encryption: {type: client_side, key_file: key}
    sink: {type: file, path: lake, prefix: secret/}
  table:
    buffer: {interval: 0s}
    convert: {format: parquet, table: web.events}
    encryption: {type: client_side, key_file: key}
    sink: {type: file, path: lake, prefix: table/}
"""


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_cat_prints_what_was_put(tmp_path: Path, compression: str) -> None:
    daemon = Daemon(tmp_path, CATALOG % (compression, compression))
    for name in ("key", "other"):
        (tmp_path / name).touch(0o600)
        (tmp_path / name).write_bytes(secrets.token_bytes(32))
    (tmp_path / "catalog" / "web").mkdir(parents=True)
    (tmp_path / "catalog" / "web" / "events.yaml").write_text("columns: {id: string}\n")
    try:
        daemon.start()
        for stream in ("packed", "secret", "table"):
            daemon.put(b'{"id":"one"}', b'{"id":"two"}', stream=stream)
        daemon.delivered()
    finally:
        daemon.close()
    body = b'{"id":"one"}\n{"id":"two"}\n'
    (packed,), (secret,), (table,) = (daemon.objects(each) for each in ("packed", "secret", "table"))
    key = ["--key-file", tmp_path / "key"]
    assert command("cat", packed).stdout == body
    assert command("cat", packed, packed).stdout == body * 2
    assert command("cat", packed.as_uri()).stdout == body
    assert b'"one"' not in secret.read_bytes()
    assert command("cat", *key, secret).stdout == body
    parquet = command("cat", *key, table).stdout
    (tmp_path / "plain.parquet").write_bytes(parquet)
    assert pq.read_table(tmp_path / "plain.parquet").to_pylist() == [{"id": "one"}, {"id": "two"}]
    said = complaint(command("cat", secret))
    assert said == f"firehose: {secret} is encrypted; give --key-file or --kms-key"
    answer = command("cat", "--key-file", tmp_path / "other", secret)
    assert complaint(answer).startswith(f"firehose: {secret}: ") and not answer.stdout, "another key opens nothing"
    assert complaint(command("cat", "--key-file", tmp_path / "key", "--kms-key", "k", secret))
    copy = tmp_path / f"copy{packed.suffix if compression != 'none' else ''}"
    copy.write_bytes(packed.read_bytes())
    assert command("cat", copy).stdout == body, "a copy without its metadata is told by its name"
    copy.write_bytes(secret.read_bytes())
    said = complaint(command("cat", *key, copy))
    assert said.startswith(f"firehose: {copy} has no metadata") and ".firehose-sink/metadata" in said
    if compression != "none":
        said = complaint(command("cat", copy))
        assert said.startswith(f"firehose: {copy}: ") and "or it is encrypted, and was copied without" in said


def test_cat_of_damaged_and_missing_objects(tmp_path: Path) -> None:
    assert "No such file" in complaint(command("cat", tmp_path / "missing"))
    assert complaint(command("cat", tmp_path / "no" / "such" / "folder"))
    said = complaint(command("cat", tmp_path))
    assert said.startswith(f"firehose: {tmp_path} is a folder; give the objects in it, for example: $(find {tmp_path} ")
    assert "three slashes" in complaint(command("cat", "file://out/x"))
    for url in ("http://x/y", "s3://bucket", "s3://bucket/", "s3://x/key", "ftp://a/b"):
        assert url in complaint(command("cat", url)), url
    packed = gzip.compress(b"x" * 100_000 + os.urandom(1_000))
    (tmp_path / "cut.gz").write_bytes(packed[:-20])
    assert complaint(command("cat", tmp_path / "cut.gz"))
    (tmp_path / "plain").write_bytes(b"just a file")
    assert command("cat", tmp_path / "plain").stdout == b"just a file"
    (tmp_path / "key").touch(0o600)
    (tmp_path / "key").write_bytes(secrets.token_bytes(32))
    assert complaint(command("cat", "--key-file", tmp_path / "key", tmp_path / "plain"))
    (tmp_path / "key").write_bytes(b"short")
    assert "key" in complaint(command("cat", "--key-file", tmp_path / "key", tmp_path / "plain"))


@pytest.mark.xdist_group("moto")
def test_cat_of_an_object_in_a_store(tmp_path: Path, moto: str) -> None:
    s3, bucket = boto3.client("s3", endpoint_url=moto), f"cat-{secrets.token_hex(4)}"
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="a/b?c#d%20e", Body=gzip.compress(b"body"), ContentEncoding="gzip")
    s3.put_object(Bucket=bucket, Key="odd", Body=b"body", ContentEncoding="br")
    where = {"AWS_ENDPOINT_URL_S3": moto}
    assert command("cat", f"s3://{bucket}/a/b?c#d%20e", **where).stdout == b"body"
    said = complaint(command("cat", f"s3://{bucket}/odd", **where))
    assert said.endswith("has Content-Encoding 'br', which cat does not read")
    for url in (f"s3://{bucket}/missing", f"s3://{bucket}-not/there"):
        assert url.rpartition("/")[0] in complaint(command("cat", url, **where))


def test_a_reader_that_has_enough_is_no_error(daemon: Daemon) -> None:
    daemon.start()
    daemon.put(*(b"%06d" % number * 100 for number in range(2_000)))
    daemon.delivered()
    words = f"{COMMAND} cat {' '.join(str(each) for each in daemon.objects('clicks'))} | head -c 10"
    answer = subprocess.run(["bash", "-c", words], capture_output=True, check=False)
    assert len(answer.stdout) == 10 and b"Traceback" not in answer.stderr and b"firehose:" not in answer.stderr
