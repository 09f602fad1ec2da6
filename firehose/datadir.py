"""The data directory: what lies where, and who has it."""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from firehose.errors import DataDirectoryError


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
    def scratch(self) -> Path:
        """Where objects are unpacked for reading; emptied at start."""
        return self.path / "scratch"

    @property
    def _running(self) -> Path:
        return self.path / "service.json"

    def exists(self) -> bool:
        """True where a service has been here."""
        return self.state.exists()

    def take(self) -> None:
        """Make the directory and lock it. Errors: DataDirectoryError where another process has it."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.pread(descriptor, 32, 0).decode() or "unknown"
            os.close(descriptor)
            raise DataDirectoryError(
                f"{self.path} is in use by process {owner}; stop it first, or choose another --data-dir"
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        self._lock = descriptor

    def release(self) -> None:
        """Let go of the directory."""
        if self._lock is not None:
            self._running.unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = None

    def announce(self, service: RunningService) -> None:
        """Write down how this process is reached, for this user's eyes only."""
        assert self._lock is not None
        temporary = self._running.with_suffix(".tmp")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(asdict(service), file)
        temporary.replace(self._running)

    def running(self) -> RunningService | None:
        """Return the service that has the directory now, None where none does."""
        try:
            descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            try:
                return RunningService(**json.loads(self._running.read_text()))
            except FileNotFoundError:
                return None
        finally:
            os.close(descriptor)
        return None
