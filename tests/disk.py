"""A disk in memory that forgets what was not synced, fails when told to, and counts what is asked of it."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

#: Where the log lies on it.
FOLDER = Path("/data/log")


@dataclass(eq=False)
class _Inode:
    data: bytearray = field(default_factory=bytearray)
    synced: int = 0


class _Handle:
    def __init__(self, disk: MemoryDisk, inode: _Inode, path: Path) -> None:
        self._disk, self._inode, self._path = disk, inode, path

    def write(self, data: bytes | bytearray | memoryview) -> int:
        room = self._disk.step("write", self._path)
        self._inode.data += bytes(data)[:room]
        if room is not None and len(data) > room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return len(data)

    def sync(self) -> None:
        self._disk.step("sync", self._path)
        self._inode.synced = len(self._inode.data)

    def tell(self) -> int:
        return len(self._inode.data)

    def close(self) -> None:
        self._disk.step("close", self._path)


class MemoryDisk:
    """Fulfils `firehose.filesystem.FileSystem`. Each verb may be told to fail; names are durable once synced."""

    def __init__(self) -> None:
        self.names: dict[Path, _Inode] = {}
        self.durable: dict[Path, _Inode] = {}
        self.free = 2**40
        self.counts: Counter[str] = Counter()
        self.read_bytes: Counter[Path] = Counter()
        #: Called with verb and path before each step; raises to fail it, returns the bytes a write may still take.
        self.plan: Callable[[str, Path], int | None] | None = None
        self.steps = 0

    def step(self, verb: str, path: Path) -> int | None:
        self.counts[verb] += 1
        self.steps += 1
        return self.plan(verb, path) if self.plan is not None else None

    def crash(self, *, kept: float = 0.0) -> MemoryDisk:
        """Return the disk as it is found after a power cut. `kept`: how much of what was not synced is there anyway."""
        found = MemoryDisk()
        for path, inode in self.durable.items():
            size = inode.synced + int((len(inode.data) - inode.synced) * kept)
            found.names[path] = _Inode(bytearray(inode.data[:size]), size)
        found.durable = dict(found.names)
        return found

    def append(self, path: Path) -> _Handle:
        self.step("append", path)
        return _Handle(self, self.names.setdefault(path, _Inode()), path)

    def read(self, path: Path, offset: int = 0, length: int | None = None) -> bytes:
        self.step("read", path)
        data = self._inode(path).data
        found = bytes(data[offset:] if length is None else data[offset : offset + length])
        self.read_bytes[path] += len(found)
        return found

    def map(self, path: Path) -> memoryview:
        return memoryview(self.read(path))

    def size(self, path: Path) -> int:
        return len(self._inode(path).data)

    def truncate(self, path: Path, size: int) -> None:
        self.step("truncate", path)
        inode = self._inode(path)
        del inode.data[size:]
        inode.synced = size

    def rename(self, old: Path, new: Path) -> None:
        self.step("rename", new)
        self.names[new] = self.names.pop(old)
        self._sync(new.parent)
        self._sync(old.parent)

    def remove(self, path: Path) -> None:
        self.step("remove", path)
        self.names.pop(path, None)

    def list(self, folder: Path) -> list[str]:
        return sorted(path.name for path in self.names if path.parent == folder)

    def make_folder(self, folder: Path) -> None:
        self.step("make_folder", folder)

    def sync_folder(self, folder: Path) -> None:
        self.step("sync_folder", folder)
        self._sync(folder)

    def free_bytes(self, folder: Path) -> int:
        return self.free

    def _sync(self, folder: Path) -> None:
        kept = {path: inode for path, inode in self.durable.items() if path.parent != folder}
        self.durable = kept | {path: inode for path, inode in self.names.items() if path.parent == folder}

    def _inode(self, path: Path) -> _Inode:
        if path not in self.names:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(path))
        return self.names[path]

    def files(self, ending: str) -> list[Path]:
        return [path for path in sorted(self.names) if path.name.endswith(ending) and path.parent == FOLDER]

    def lose(self, path: Path) -> None:
        """Remove a file for good."""
        del self.names[path]
        self.durable.pop(path, None)

    def flip(self, path: Path, offset: int, bits: int = 1) -> None:
        self.names[path].data[offset] ^= bits
