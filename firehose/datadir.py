"""The data directory: what lies where, and who has it."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from firehose.errors import DataDirectoryError

#: The lock holds the number of the process that has it.
_OWNER_BYTES: Final = 32


class InUseError(DataDirectoryError):
    """Another process has the directory now."""


@dataclass(frozen=True, slots=True)
class RunningService:
    """How a running service is reached by the commands of the same user."""

    pid: int
    url: str
    token: str


class DataDirectory:
    """One directory that holds everything durable of a service. One process at a time may write to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None

    @property
    def state(self) -> Path:
        return self.path / "state.db"

    @property
    def log(self) -> Path:
        return self.path / "log"

    @property
    def streams(self) -> Path:
        """A folder for each stream, named by its uid: finished objects on their way, and spilled rows."""
        return self.path / "streams"

    @property
    def scratch(self) -> Path:
        """Where objects are unpacked for reading; emptied at start."""
        return self.path / "scratch"

    @property
    def _running(self) -> Path:
        return self.path / "service.json"

    @property
    def _server(self) -> Path:
        return self.path / "server.json"

    def require(self) -> None:
        """Return where a service has been here. Errors: DataDirectoryError."""
        with self._errors():
            if not self.path.is_dir():
                raise DataDirectoryError(
                    f"{self.path} does not exist; `firehose run` makes it, --data-dir names another data directory"
                )
            if not self.state.exists():
                raise DataDirectoryError(
                    f"{self.path} is no data directory: it has no state.db; --data-dir names another one"
                )

    def take(self) -> None:
        """Make the directory and lock it.

        Errors: InUseError where another process has it; DataDirectoryError where it cannot be made, or what lies in it
        is not ours, or not all of it.
        """
        with self._errors():
            self._require_whole()
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                self._lock_for_writing(descriptor)
                self._running.unlink(missing_ok=True)  # of a process that was killed
            except BaseException:
                os.close(descriptor)
                raise
        self._lock = descriptor

    def _lock_for_writing(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.pread(descriptor, _OWNER_BYTES, 0).decode(errors="replace").strip() or "unknown"
            raise InUseError(
                f"{self.path} is in use by process {owner}; stop it first, or choose another --data-dir"
            ) from error
        # over what stands there: a file that is emptied first may find no room again on a full disk
        os.pwrite(descriptor, str(os.getpid()).encode().ljust(_OWNER_BYTES), 0)

    def _require_whole(self) -> None:
        """Refuse what would be taken for rubbish without its state: a new state knows none of the log's streams."""
        if self.state.exists() and self.state.stat().st_size:
            return
        for folder in (self.log, self.streams, self.scratch):
            if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
                raise DataDirectoryError(
                    f"{self.path} holds a {folder.name!r} but no state.db: either it is no data directory, then choose "
                    "another --data-dir; or its state is lost, then put that back from a backup"
                )

    def release(self) -> None:
        """Let go of the directory."""
        if self._lock is None:
            return
        try:
            with self._errors():
                self._running.unlink(missing_ok=True)
        finally:
            os.close(self._lock)
            self._lock = None

    def announce(self, service: RunningService) -> None:
        """Write down how this process is reached, for this user's eyes only. Errors: DataDirectoryError."""
        assert self._lock is not None
        self._write(self._running, asdict(service))

    def running(self) -> RunningService | None:
        """Return the service that has the directory now, None where none does. Errors: DataDirectoryError."""
        with self._errors():
            try:
                descriptor = os.open(self.path / "lock", os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return None
            try:
                # shared, so that those who only ask do not get into each other's way
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                found = self._read(self._running)
                return _running_service(found, self._running) if found is not None else None
            finally:
                os.close(descriptor)
        return None

    def remember(self, server: Mapping[str, Any]) -> None:
        """Keep what commands must know of the server while it does not run. Errors: DataDirectoryError."""
        assert self._lock is not None
        self._write(self._server, server)

    def remembered(self) -> dict[str, Any]:
        """Return what was kept last. Errors: DataDirectoryError."""
        with self._errors():
            return self._read(self._server) or {}

    def _write(self, path: Path, value: Mapping[str, Any]) -> None:
        with self._errors():
            temporary = path.with_suffix(".tmp")
            try:
                descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
                with os.fdopen(descriptor, "w") as file:
                    json.dump(value, file)
                temporary.replace(path)
            except OSError:
                temporary.unlink(missing_ok=True)
                raise

    def _read(self, path: Path) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = json.loads(path.read_text())
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise DataDirectoryError(f"{path} is damaged: {error}; remove it and start the service again") from error
        return found

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Translate the file system's errors."""
        try:
            yield
        except OSError as error:
            raise _translated(error, self.path) from error


def _translated(error: OSError, path: Path) -> DataDirectoryError:
    """Return what to do about an error of the file system."""
    named = f" ({error.filename})" if error.filename else ""
    problem = f"{path} cannot be used as data directory: {error.strerror or error}{named}; "
    match error.errno:
        case errno.ENOSPC:
            return DataDirectoryError(f"{problem}{_room(path)}: make room there")
        case errno.EDQUOT:
            return DataDirectoryError(f"{problem}this user's quota is used up: make room, or have it raised")
        case errno.EROFS:
            return DataDirectoryError(f"{problem}mount it for writing, or choose another --data-dir")
        case errno.EACCES | errno.EPERM:
            return DataDirectoryError(
                f"{problem}see to it that this user may write there, or choose another --data-dir"
            )
        case _:
            return DataDirectoryError(f"{problem}repair that, or choose another --data-dir")


def _room(path: Path) -> str:
    """Return what the disk has left: a disk can be full of bytes, or of files."""
    place = next((each for each in (path, *path.parents) if each.exists()), Path("/"))
    found = os.statvfs(place)
    return f"{found.f_bavail * found.f_frsize:,} bytes and {found.f_favail:,} files are free on its disk"


def _running_service(found: Any, path: Path) -> RunningService:
    try:
        return RunningService(**found)
    except TypeError as error:
        raise DataDirectoryError(f"{path} is not ours: {error}; remove it and start the service again") from error
