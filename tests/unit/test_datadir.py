from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from firehose.datadir import DataDirectory, InUseError, RunningService
from firehose.errors import DataDirectoryError

SERVICE = RunningService(os.getpid(), "http://127.0.0.1:4573", "secret")

#: Takes a directory in another process, says so, and keeps it until its stdin ends.
HOLDER = """
import sys
from pathlib import Path
from firehose.datadir import DataDirectory
directory = DataDirectory(Path(sys.argv[1]))
directory.take()
print("taken", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def held(tmp_path: Path):
    """A directory that another process has."""
    words = [sys.executable, "-c", HOLDER, str(tmp_path / "data")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "taken\n"
        yield holder
        holder.kill()


def test_a_directory_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path / "a" / "b")
    directory.take()
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700
    directory.announce(SERVICE)
    directory.remember({"region": "eu-central-1"})
    assert {stat.S_IMODE(each.stat().st_mode) for each in (tmp_path / "a" / "b").iterdir()} == {0o600}
    directory.release()


def test_one_process_at_a_time(tmp_path: Path, held: subprocess.Popen[str]) -> None:
    directory = DataDirectory(tmp_path / "data")
    with pytest.raises(InUseError, match=rf"data is in use by process {held.pid}; stop it first, or choose another"):
        directory.take()
    held.kill()
    held.wait()
    directory.take()
    directory.release()


def test_a_running_service_is_found_and_one_that_was_killed_is_not(tmp_path: Path) -> None:
    here, asking = DataDirectory(tmp_path), DataDirectory(tmp_path)
    assert asking.running() is None, "nobody was ever here"
    here.take()
    assert asking.running() is None, "it has not said yet how it is reached"
    here.announce(SERVICE)
    assert asking.running() == SERVICE
    os.close(here._lock)  # what a kill leaves
    assert (tmp_path / "service.json").exists()
    assert asking.running() is None
    asking.take()
    assert DataDirectory(tmp_path).running() is None, "the announcement of a process that was killed is not believed"
    asking.release()


def test_asking_does_not_keep_a_service_from_starting_or_another_from_asking(tmp_path: Path) -> None:
    first = DataDirectory(tmp_path)
    first.take()
    first.release()
    assert first.running() is None
    first.take()
    first.announce(SERVICE)
    assert [DataDirectory(tmp_path).running() for _ in range(3)] == [SERVICE] * 3
    first.release()
    assert not (tmp_path / "service.json").exists()


def test_what_is_remembered_outlives_the_process(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path)
    assert directory.remembered() == {}
    directory.take()
    directory.remember({"region": "eu-central-1", "log_quota": 5})
    directory.release()
    assert DataDirectory(tmp_path).remembered() == {"region": "eu-central-1", "log_quota": 5}


def test_a_damaged_announcement_is_told(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path)
    directory.take()
    (tmp_path / "service.json").write_text('{"pid": 1')
    with pytest.raises(DataDirectoryError, match=r"service.json is damaged: .*; remove it and start the service again"):
        DataDirectory(tmp_path).running()
    directory.release()


def test_commands_need_a_directory_where_a_service_has_been(tmp_path: Path) -> None:
    with pytest.raises(DataDirectoryError, match=r"missing does not exist; `firehose run` makes it"):
        DataDirectory(tmp_path / "missing").require()
    with pytest.raises(DataDirectoryError, match=r"is no data directory: it has no state.db"):
        DataDirectory(tmp_path).require()
    (tmp_path / "state.db").touch()
    DataDirectory(tmp_path).require()


def _log_of_others(folder: Path) -> None:
    (folder / "log").mkdir()
    (folder / "log" / "syslog").touch()


def _file_called_log(folder: Path) -> None:
    (folder / "log").touch()


def _state_lost(folder: Path) -> None:
    _log_of_others(folder)
    (folder / "state.db").touch()  # emptied, not removed


def _outbox(folder: Path) -> None:
    (folder / "streams" / "u1").mkdir(parents=True)


@pytest.mark.parametrize("fill", [_log_of_others, _file_called_log, _state_lost, _outbox])
def test_a_directory_whose_state_is_missing_is_refused_and_left_alone(
    tmp_path: Path, fill: Callable[[Path], None]
) -> None:
    fill(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataDirectoryError, match=r"holds a '(log|streams)' but no state.db: .* put that back from a"):
        DataDirectory(tmp_path).take()
    assert sorted(tmp_path.rglob("*")) == before


def test_a_directory_with_things_of_others_is_taken(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    (tmp_path / "lake").mkdir()
    (tmp_path / "log").mkdir()  # a start that was killed leaves empty folders
    directory = DataDirectory(tmp_path)
    directory.take()
    directory.release()


def test_a_place_that_cannot_hold_it_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataDirectoryError, match=r"file/data cannot be used as data directory: Not a directory"):
        DataDirectory(tmp_path / "file" / "data").take()
    with pytest.raises(DataDirectoryError, match=r"/sys/firehose cannot be used as data directory: .*see to it that"):
        DataDirectory(Path("/sys/firehose")).take()  # refuses root as well


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (
            errno.ENOSPC,
            r"No space left on device.*; [\d,]+ bytes and [\d,]+ files are free on its disk: make room there$",
        ),
        (errno.EDQUOT, r"Disk quota exceeded.*; this user's quota is used up: make room, or have it raised$"),
        (errno.EROFS, r"Read-only file system.*; mount it for writing, or choose another --data-dir$"),
        (errno.EACCES, r"Permission denied.*; see to it that this user may write there, or choose another --data-dir$"),
        (errno.EIO, r"Input/output error.*; repair that, or choose another --data-dir$"),
    ],
)
def test_advice_is_about_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    directory = DataDirectory(tmp_path / "data")
    directory.take()

    def refuse(path: Path, *_: object) -> int:
        raise OSError(number, os.strerror(number), str(path))

    with monkeypatch.context() as broken:
        broken.setattr(os, "open", refuse)
        for write in (lambda: directory.announce(SERVICE), lambda: directory.remember({})):
            with pytest.raises(DataDirectoryError, match=words):
                write()
    directory.release()


@pytest.mark.skipif(os.getuid() != 0, reason="mounting a small disk needs root")
def test_on_a_full_disk_what_stood_there_stays_and_nothing_half_written_is_left(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], check=True)
    try:
        directory = DataDirectory(disk / "data")
        directory.take()
        directory.remember({"region": "eu-central-1"})
        with (disk / "filler").open("wb", buffering=0) as filler, pytest.raises(OSError):
            while True:
                filler.write(bytes(1_024))
        with pytest.raises(DataDirectoryError, match=r"No space left on device; 0 bytes and \d[\d,]* files are free"):
            directory.remember({"region": "us-east-1"})
        assert sorted(path.name for path in (disk / "data").iterdir()) == ["lock", "server.json"]
        assert directory.remembered() == {"region": "eu-central-1"}
        directory.release()
        directory.take()  # the lock needs no room
        with pytest.raises(InUseError, match=rf"in use by process {os.getpid()};"):
            DataDirectory(disk / "data").take()
        directory.release()
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


@pytest.mark.skipif(os.getuid() != 0, reason="another user is needed: run as root")
@pytest.mark.parametrize("call", ["take", "running", "require", "remembered"])
def test_another_users_directory_is_told(tmp_path: Path, call: str) -> None:
    directory = DataDirectory(tmp_path / "data")
    directory.take()
    (tmp_path / "data" / "state.db").write_bytes(b"state")
    directory.remember({})
    directory.release()
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from firehose.datadir import DataDirectory\n"
        "from firehose.errors import DataDirectoryError\n"
        "os.chdir('/'); os.setgid(65534); os.setuid(65534)\n"
        "try:\n"
        f"    DataDirectory(Path(sys.argv[1])).{call}()\n"
        "except DataDirectoryError as error:\n"
        "    print(error)\n"
    )
    words = [sys.executable, "-c", script, str(tmp_path / "data")]
    answer = subprocess.run(words, capture_output=True, text=True, check=True)
    assert "cannot be used as data directory: Permission denied" in answer.stdout, answer
    assert "see to it that this user may write there" in answer.stdout


def test_the_announcement_appears_whole(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path)
    directory.take()
    for number in range(50):
        directory.announce(RunningService(number, "http://x", "t" * 10_000))
        assert json.loads((tmp_path / "service.json").read_text())["pid"] == number
    directory.release()
