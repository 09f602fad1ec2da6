"""Every command as people run it: with a service, without one, with `--json`, and with every mistake."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from firehose.protocols import Stage
from tests.daemon import CHECKED, COMMAND, Daemon, command, complaint, until
from tests.integration.commands import text

pytestmark = pytest.mark.integration


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
        (["failed", "ls", "--stage", "lunch"], f"no stage 'lunch'; stages: {', '.join(Stage)}"),
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
