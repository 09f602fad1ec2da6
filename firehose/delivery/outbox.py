"""Finished objects on this machine's disk, from the moment they are sealed until they stand at the sink.

Several small objects share one file and one fsync. A file goes when the last of its objects is done; what no intent
speaks of after a crash is rubbish and goes at start.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from firehose.errors import IntegrityError, ThrottledError
from firehose.filesystem import AppendFile, FileSystem
from firehose.state import Intent
from firehose.units import format_bytes

#: Free disk that finished objects and spilled rows leave to the state, whose commits make space again. Half of what
#: the log leaves, so that puts are throttled before deliveries are.
RESERVE_BYTES = 32 * 2**20

_NAME = re.compile(r"[0-9a-f]{16}\.objects")


def require_room(files: FileSystem, folder: Path) -> None:
    """Return if a file may be begun in `folder`. Errors: ThrottledError."""
    if files.free_bytes(folder) < RESERVE_BYTES:
        raise ThrottledError(f"{folder}: less than {format_bytes(RESERVE_BYTES)} free; free some disk space")


def _number(name: str) -> str:
    return name.partition(".")[0]


class ObjectOutput:
    """The lowest layer of one object: counts and hashes the bytes on their way into the outbox file."""

    def __init__(self, file: AppendFile) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self.offset = file.tell()
        self.body_bytes = 0

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        self._file.write(data)
        self._hash.update(data)
        size = memoryview(data).nbytes
        self.body_bytes += size
        return size

    def close(self) -> None:
        """Nothing is left of this layer; the file is synced once for all its objects."""

    @property
    def checksum(self) -> str:
        """SHA-256 of the object's bytes, as hex."""
        return self._hash.hexdigest()


class OutboxFile:
    """One file being filled with objects."""

    def __init__(self, path: Path, file: AppendFile) -> None:
        self.path = path
        self._file = file

    def new_object(self) -> ObjectOutput:
        """Begin the next object; what an unfinished one left behind stays between them and is never sent."""
        return ObjectOutput(self._file)

    def finish(self) -> None:
        """Return when all objects are on the disk. Errors: OSError, after which none of them may be used."""
        self._file.sync()
        self._file.close()


class Outbox:
    """The outbox of one stream. All calls block: hand them to an executor."""

    def __init__(self, folder: Path, files: FileSystem) -> None:
        self._folder = folder
        self._files = files
        self._next = 0
        self._users: dict[str, set[str]] = {}

    def recover(self, intents: tuple[Intent, ...]) -> tuple[list[Intent], list[Intent]]:
        """Keep what the intents speak of, remove the rest. Returns the intents whose bytes are here, and the others."""
        self._files.make_folder(self._folder)
        wanted = {intent.path for intent in intents}
        names = {name for name in self._files.list(self._folder) if _NAME.fullmatch(name)}  # others are not ours
        self._next = max((int(_number(name), 16) + 1 for name in names | wanted), default=0)
        for name in sorted(names - wanted):
            self._files.remove(self._folder / name)
        here, gone = [], []
        for intent in intents:
            if self._is_whole(intent):
                here.append(intent)
                self.keep(intent)
            else:
                gone.append(intent)
        return here, gone

    def new_path(self) -> Path:
        """Return where the next file goes: on the event loop, so that no two get the same name."""
        self._next += 1
        return self._folder / f"{self._next - 1:016x}.objects"

    def begin(self, path: Path) -> OutboxFile:
        """Begin a new file. Errors: ThrottledError where the disk is nearly full."""
        self._files.make_folder(self._folder)  # somebody may have removed it
        require_room(self._files, self._folder)
        return OutboxFile(path, self._files.append(path))

    def seal(self, file: OutboxFile) -> None:
        """Return when the file, its name and all its objects are on the disk."""
        file.finish()
        self._files.sync_folder(self._folder)

    def keep(self, intent: Intent) -> None:
        """Say that this intent needs its file."""
        self._users.setdefault(intent.path, set()).add(intent.key)

    def holds(self, intent: Intent) -> bool:
        """Return whether the intent's bytes are here: they were found whole, or made here, and not dropped."""
        return intent.key in self._users.get(intent.path, ())

    def drop(self, intent: Intent) -> None:
        """Say that this intent is done with its file, which goes with its last intent."""
        users = self._users.get(intent.path, set())
        users.discard(intent.key)
        if not users:
            self._users.pop(intent.path, None)
            self._files.remove(self._folder / intent.path)

    def discard(self, file: OutboxFile) -> None:
        """Remove a file that no intent speaks of."""
        self._files.remove(file.path)

    def path(self, intent: Intent) -> Path:
        """Return where the intent's bytes are."""
        return self._folder / intent.path

    def _is_whole(self, intent: Intent) -> bool:
        try:
            self.verify(intent)
        except (FileNotFoundError, IntegrityError):
            return False
        return True

    def verify(self, intent: Intent) -> None:
        """Return if the intent's bytes are what they were. Errors: FileNotFoundError, IntegrityError."""
        hasher, at, end = hashlib.sha256(), intent.offset, intent.offset + intent.body_bytes
        while at < end:
            chunk = self._files.read(self.path(intent), at, min(end - at, 1 << 20))
            if not chunk:
                break
            hasher.update(chunk)
            at += len(chunk)
        if intent.body_bytes == 0:
            self._files.size(self.path(intent))
        if at != end or hasher.hexdigest() != intent.checksum:
            raise IntegrityError(f"{self.path(intent)}: the bytes of {intent.key} are damaged")
