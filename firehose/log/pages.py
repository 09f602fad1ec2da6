"""Pages of receipts: some seconds or minutes of puts, in memory and as a file that grows by blocks.

    preamble, then blocks: checksum, opening, a place in the log, when it was written, entries

A page takes puts into a dictionary; once it takes no more, its entries stand in the order of their keys, in a tenth of
the memory.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from firehose.filesystem import FileSystem
from firehose.log.segment import check_preamble, preamble

#: Key, first sequence, rows, arrival in Unix seconds.
_ENTRY = struct.Struct("<16sqII")
_ENTRIES = np.dtype([("high", "<u8"), ("low", "<u8"), ("first", "<i8"), ("rows", "<u4"), ("arrival_s", "<u4")])
#: The checksum of what follows it: opening, number and bytes of the last segment that is known, when (Unix seconds),
#: how many entries.
_CHECKSUM = struct.Struct("<I")
_HALVES = struct.Struct("<QQ")
_BLOCK = struct.Struct("<8sQQII")


class Place(NamedTuple):
    """A place in an opening of the log: `size_bytes` of the segment `number`."""

    number: int
    size_bytes: int


#: Behind all that an opening wrote, and before.
END, BEGIN = Place(2**62, 0), Place(0, 0)


class Page:
    """The puts of some seconds or minutes, all of one opening."""

    def __init__(self, opening: str, path: Path | None = None) -> None:
        self.opening = opening
        self.path = path
        self.file_bytes = 0
        #: While it grows: entries by key. Afterwards they stand in the order of their keys, in a tenth of the memory.
        self.young: dict[bytes, tuple[int, int, int]] | None = {}
        self.settled: npt.NDArray[np.void] = np.empty(0, _ENTRIES)
        self.unsaved = bytearray()
        self.oldest_s, self.newest_s = 2**32, 0

    def __len__(self) -> int:
        return len(self.settled) if self.young is None else len(self.young)

    def add(self, key: bytes, first: int, rows: int, arrival_s: int) -> None:
        assert self.young is not None
        self.young[key] = first, rows, arrival_s
        self.unsaved += _ENTRY.pack(key, first, rows, arrival_s)
        self.oldest_s, self.newest_s = min(self.oldest_s, arrival_s), max(self.newest_s, arrival_s)

    def to_bytes(self) -> bytes:
        """Return all entries as they are written."""
        if self.young is None:
            return self.settled.tobytes()
        return b"".join(_ENTRY.pack(key, *entry) for key, entry in self.young.items())

    def block(self, place: Place, now_s: int, end: int | None) -> tuple[bytes, int]:
        """Return what is to be written next, and how many unsaved bytes it holds: those up to `end`, or (None) a whole
        new file. `place`: up to where all puts of the opening are in files then.
        """
        entries = self.to_bytes() if end is None else bytes(self.unsaved[:end])
        body = _BLOCK.pack(bytes.fromhex(self.opening), *place, now_s, len(entries) // _ENTRY.size) + entries
        head = preamble() if end is None else b""
        return head + _CHECKSUM.pack(zlib.crc32(body)) + body, len(self.unsaved) if end is None else end

    def settle(self, body: bytes | None = None) -> None:
        """Take no more entries than there are, or than `body` holds."""
        entries = np.frombuffer(self.to_bytes() if body is None else body, _ENTRIES)
        self.settled, self.young = entries[np.argsort(entries["high"], kind="stable")], None

    def find(self, key: bytes) -> tuple[int, int] | None:
        """Return first sequence and rows of a put."""
        if self.young is not None:
            return found[:2] if (found := self.young.get(key)) else None
        high, low = _HALVES.unpack(key)
        # the last one counts, as in a dictionary
        for at in range(int(np.searchsorted(self.settled["high"], high, "right")) - 1, -1, -1):
            entry = self.settled[at]
            if int(entry["high"]) != high:
                break
            if int(entry["low"]) == low:
                return int(entry["first"]), int(entry["rows"])
        return None


class Slots:
    """Says which keys are in no settled page, in 0.2 µs: looking into each page would take 150. It never errs there.

    Two slots for each key, of sixteen for each: one in 60 keys that are in no page is looked for all the same.
    """

    def __init__(self) -> None:
        self._taken = bytearray(1)
        self._mask = 0
        self._keys = 0

    def may_hold(self, key: bytes) -> bool:
        high, low = _HALVES.unpack(key)
        return bool(self._taken[high & self._mask] and self._taken[low & self._mask])

    def fill(self, pages: Iterable[npt.NDArray[np.void]]) -> None:
        """Hold the keys of these pages, and no others."""
        pages = list(pages)
        self._keys = sum(len(entries) for entries in pages)
        size = 1 << max(0, 16 * self._keys - 1).bit_length()
        self._taken, self._mask = bytearray(size), size - 1
        for entries in pages:
            self._take(entries)

    def add(self, entries: npt.NDArray[np.void]) -> bool:
        """Hold the keys of one page more; false where there is no room."""
        self._keys += len(entries)
        if 16 * self._keys > len(self._taken):
            return False
        self._take(entries)
        return True

    def _take(self, entries: npt.NDArray[np.void]) -> None:
        taken = np.frombuffer(self._taken, np.uint8)
        for half in ("high", "low"):
            taken[(entries[half] & np.uint64(self._mask)).astype(np.int64)] = 1


def read_page(path: Path, files: FileSystem) -> Iterable[tuple[Page, Place]]:
    """Return what a file holds, up to the first block that is not whole: that was never saved."""
    body = files.read(path)
    if not check_preamble(body, path):
        return ()
    entries = bytearray()
    at, opening, place, newest_s = len(preamble()), b"", BEGIN, 0
    while at + _CHECKSUM.size + _BLOCK.size <= len(body):
        begin = at + _CHECKSUM.size
        head = _BLOCK.unpack_from(body, begin)
        end = begin + _BLOCK.size + head[-1] * _ENTRY.size
        if end > len(body) or zlib.crc32(body[begin:end]) != _CHECKSUM.unpack_from(body, at)[0]:
            break
        opening, number, size_bytes, saved_s, _ = head
        entries += body[begin + _BLOCK.size : end]
        at, place, newest_s = end, Place(number, size_bytes), max(newest_s, saved_s)
    page = Page(opening.hex(), path)
    page.settle(bytes(entries))
    if len(page):
        times = page.settled["arrival_s"]
        page.oldest_s, newest_s = int(times.min()), max(newest_s, int(times.max()))
    page.newest_s = newest_s
    return ((page, place),)
