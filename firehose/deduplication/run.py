"""Runs: files of ids in the order of their keys, mapped into memory, so that the system's page cache holds them.

preamble, then blocks; each block holds the keys up to its last, and the next goes on behind it
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from firehose.deduplication.entries import Entries, blocks_of, concat
from firehose.errors import DataDirectoryError
from firehose.filesystem import FileSystem

#: What every file here begins with, and the version of its format.
_MAGIC = b"FHIDS\0\0"
VERSION = 1
PREAMBLE = _MAGIC + bytes([VERSION])

#: Entries in a block: 2.3 MB, and as many are in memory while runs are merged.
BLOCK_ENTRIES = 65_536

_READ_BYTES = 2**20

_NAME = re.compile(r"(\d{10})-(\d{10})\.run")


class NotWholeError(Exception):
    """A file's bytes are not those that were written."""


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """What the journals from `first` to `last` held, or so much of it as is young enough."""

    path: Path
    first: int
    last: int
    blocks: tuple[Entries, ...]
    file_bytes: int
    oldest_ms: int
    newest_ms: int
    #: Where each block begins, but for the first.
    _begins: np.ndarray = field(repr=False)

    def __len__(self) -> int:
        return sum(len(each) for each in self.blocks)

    @classmethod
    def open(cls, path: Path, files: FileSystem) -> Run:
        """Map a run, after all of it was read. Errors: OSError; NotWholeError; DataDirectoryError for a later version.

        It is not read through the map: there a disk that refuses ends the process, again at each start.
        """
        named = _NAME.fullmatch(path.name)
        assert named is not None
        for begin in range(0, files.size(path), _READ_BYTES):
            files.read(path, begin, _READ_BYTES)
        body = files.map(path)
        check_preamble(body, path)
        blocks, end = [], len(PREAMBLE)
        for block, at in blocks_of(body[len(PREAMBLE) :]):
            blocks.append(block)
            end = len(PREAMBLE) + at
        if end != len(body) or not blocks:
            raise NotWholeError(f"{len(body) - end} of {len(body)} bytes are not as they were written")
        times = [(int(each.arrival_ms.min()), int(each.arrival_ms.max())) for each in blocks]
        return cls(
            path,
            int(named[1]),
            int(named[2]),
            tuple(blocks),
            len(body),
            min(oldest for oldest, _ in times),
            max(newest for _, newest in times),
            np.array([each.high[0] for each in blocks[1:]], np.uint64),
        )

    @classmethod
    def write(cls, folder: Path, first: int, last: int, blocks: Iterable[Entries], files: FileSystem) -> Run | None:
        """Write a run, which is there whole or not at all; None where there is nothing to write. Errors: OSError."""
        files.make_folder(folder)
        work, path = folder / "run.new", folder / f"{first:010d}-{last:010d}.run"
        files.remove(work)
        file, is_empty = files.append(work), True
        try:
            file.write(PREAMBLE)
            for block in blocks:
                file.write(block.block())
                is_empty = False
            file.sync()
        finally:
            file.close()
        if is_empty:
            files.remove(work)
            return None
        files.rename(work, path)
        try:
            return cls.open(path, files)
        except NotWholeError as error:
            raise OSError(errno.EIO, f"what was written is not what is read: {error}", str(path)) from error

    def matches(self, asked: Entries) -> Iterator[tuple[Entries, np.ndarray, np.ndarray]]:
        """Yield for each block that holds some of them: the block, places in `asked`, and places in the block."""
        edges = np.concatenate(([0], np.searchsorted(asked.high, self._begins), [len(asked)]))
        for number in np.flatnonzero(np.diff(edges)).tolist():
            begin, end = int(edges[number]), int(edges[number + 1])
            block = self.blocks[number]
            places, found = block.matches(asked.take(slice(begin, end)))
            if len(places):
                yield block, places + begin, found

    def between(self, first_high: int, last_high: int) -> Iterator[Entries]:
        """Yield the entries whose upper halves lie between these, both included, without a copy."""
        begin = np.searchsorted(self._begins, np.uint64(first_high), "right")
        end = np.searchsorted(self._begins, np.uint64(last_high), "right")
        for block in self.blocks[int(begin) : int(end) + 1]:
            yield block.between(first_high, last_high)


def runs_in(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the names of runs, oldest first, and of those that a later one was made of and has replaced."""
    spans = sorted((int(found[1]), -int(found[2]), name) for name in names if (found := _NAME.fullmatch(name)))
    kept: list[str] = []
    replaced: list[str] = []
    covered = -1
    for _, last, name in spans:  # of those that begin alike the longest comes first
        (replaced if -last <= covered else kept).append(name)
        covered = max(covered, -last)
    return kept, replaced


def check_preamble(body: memoryview | bytes, path: Path) -> None:
    """Return if a file begins as it must. Errors: NotWholeError; DataDirectoryError for a later version."""
    if bytes(body[: len(_MAGIC)]) != _MAGIC or len(body) < len(PREAMBLE):
        raise NotWholeError("it does not begin as one")
    if body[len(_MAGIC)] != VERSION:
        raise DataDirectoryError(
            f"{path} has format {body[len(_MAGIC)]}, this version reads {VERSION}; use a newer one"
        )


def merge(runs: Sequence[Run], horizon_ms: int) -> Iterator[Entries]:
    """Yield what runs hold together in blocks, without what arrived before `horizon_ms`.

    Keys are spread evenly, so an even part of them is an even part of the entries: a block in memory is enough.
    """
    parts = -(-sum(len(each) for each in runs) // BLOCK_ENTRIES)
    for part in range(parts):
        first_high, last_high = (part << 64) // parts, ((part + 1 << 64) // parts) - 1
        found = concat([piece for run in runs for piece in run.between(first_high, last_high)])
        young, _ = found.take(found.arrival_ms >= horizon_ms).ordered()
        if len(young):
            yield young
