"""The few things we ask of a file system, so that a test can forget unsynced writes, fill the disk or fail an fsync.

All calls block; callers on the event loop hand them to an `Executor`. Nothing here retries: a failed `sync` means that
the file must be abandoned, since a second one may claim success for pages that were already thrown away.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import Protocol


class AppendFile(Protocol):
    """A file that only grows."""

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Append all of `data`. Errors: OSError, after which the file's end is unknown."""
        ...

    def sync(self) -> None:
        """Return when everything written is on the disk. Errors: OSError, after which the file must be abandoned."""
        ...

    def tell(self) -> int:
        """Return the bytes written so far, those of an earlier opening included."""
        ...

    def close(self) -> None:
        """Close without syncing."""
        ...


class FileSystem(Protocol):
    """The verbs that the log, the outbox and the record ids need."""

    def append(self, path: Path) -> AppendFile:
        """Open `path` for appending, creating it where missing."""
        ...

    def read(self, path: Path, offset: int = 0, length: int | None = None) -> bytes:
        """Return the bytes of `path` from `offset`, at most `length` of them."""
        ...

    def map(self, path: Path) -> memoryview:
        """Return all bytes of `path` without reading them; it must not change while they are in use."""
        ...

    def size(self, path: Path) -> int:
        """Return the bytes in `path`. Errors: FileNotFoundError."""
        ...

    def truncate(self, path: Path, size: int) -> None:
        """Cut `path` to `size` bytes and sync it."""
        ...

    def rename(self, old: Path, new: Path) -> None:
        """Put `old` in the place of `new`, at once, and sync the folder."""
        ...

    def remove(self, path: Path) -> None:
        """Remove `path`; nothing happens where it is missing already."""
        ...

    def list(self, folder: Path) -> list[str]:
        """Return the sorted names in `folder`, none where it does not exist."""
        ...

    def make_folder(self, folder: Path) -> None:
        """Make `folder` and those above it, and sync them."""
        ...

    def sync_folder(self, folder: Path) -> None:
        """Return when the names in `folder` are on the disk."""
        ...

    def free_bytes(self, folder: Path) -> int:
        """Return the bytes that can still be written where `folder` lies."""
        ...


def sync_anew(files: FileSystem, path: Path) -> None:
    """Bring a file to the disk that a killed process left behind: what is read of it may be in memory only.

    Whoever is told what it holds takes that for durable. Errors: OSError.
    """
    file = files.append(path)
    try:
        file.sync()
    finally:
        file.close()


class _OsAppendFile:
    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._descriptor).st_size

    def write(self, data: bytes | bytearray | memoryview) -> int:
        view = memoryview(data).cast("B")
        total = len(view)
        while view:
            written = os.write(self._descriptor, view)
            self._size += written
            view = view[written:]
        return total

    def sync(self) -> None:
        # fdatasync: the length is synced with the data, times are not needed
        getattr(os, "fdatasync", os.fsync)(self._descriptor)

    def tell(self) -> int:
        return self._size

    def close(self) -> None:
        os.close(self._descriptor)


class OsFileSystem:
    """The machine's file system."""

    def append(self, path: Path) -> AppendFile:
        return _OsAppendFile(path)

    def read(self, path: Path, offset: int = 0, length: int | None = None) -> bytes:
        with path.open("rb", buffering=0) as file:
            file.seek(offset)
            wanted = os.fstat(file.fileno()).st_size - offset if length is None else length
            chunks = []
            while wanted > 0 and (chunk := file.read(wanted)):
                chunks.append(chunk)
                wanted -= len(chunk)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def map(self, path: Path) -> memoryview:
        with path.open("rb", buffering=0) as file:
            if not os.fstat(file.fileno()).st_size:
                return memoryview(b"")  # nothing cannot be mapped
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))

    def size(self, path: Path) -> int:
        return path.stat().st_size

    def truncate(self, path: Path, size: int) -> None:
        with path.open("r+b") as file:
            file.truncate(size)
            os.fsync(file.fileno())

    def rename(self, old: Path, new: Path) -> None:
        old.replace(new)
        self.sync_folder(new.parent)

    def remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)

    def list(self, folder: Path) -> list[str]:
        try:
            return sorted(os.listdir(folder))
        except FileNotFoundError:
            return []

    def make_folder(self, folder: Path) -> None:
        missing = [each for each in (folder, *folder.parents) if not each.exists()]
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for each in missing:
            self.sync_folder(each.parent)

    def sync_folder(self, folder: Path) -> None:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def free_bytes(self, folder: Path) -> int:
        stat = os.statvfs(folder)
        return stat.f_bavail * stat.f_frsize
