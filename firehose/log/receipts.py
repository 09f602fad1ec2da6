"""Receipts: which puts are in the log, and where, for as long as their producers may send them again.

A producer whose answer was lost sends the same put once more, under the same key. The log then says where the first one
lies instead of writing a second. A put's key is in its frame, synced with its rows, so nothing about it is ever less
durable than they are; but frames go once their rows are done, which may be seconds later. So receipts are also written
to files of their own, now and again and before any frame goes, and each file says up to where in the log it knows all:
after a crash only what was written behind that is read from the frames.

    receipts/000000000007.rcp    a page: preamble, then blocks of an opening, a place in the log, and entries

Nothing here can lose a row. A receipt that is missing makes a put that is sent again a second put; those of an opening
of which a part is found damaged at the start are forgotten.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from firehose.clock import Clock
from firehose.executors import Executor
from firehose.filesystem import FileSystem
from firehose.log.events import ReceiptsForgotten, ReceiptsNotSaved, ReceiptsUnreadable
from firehose.log.segment import check_preamble, preamble, shard_of
from firehose.telemetry import Emitter

#: What names a put: 16 bytes, so that two never share one by chance.
KEY_BYTES = 16

#: How many puts are remembered, whatever the window: 32 MB of memory and of disk.
MAX_PUTS = 1_000_000

#: Puts of one page, which is forgotten as a whole.
PAGE_PUTS = 32_768

#: Bytes of a page's file: blocks without entries count, too.
PAGE_BYTES = 4 * 2**20

#: How often receipts are saved. A crash costs reading what the log got meanwhile, at most half a second for 5 s.
SAVE_EVERY_MS = 5_000

#: Key, first sequence, rows, arrival in Unix seconds.
_ENTRY = struct.Struct("<16sqII")
_ENTRIES = np.dtype([("high", "<u8"), ("low", "<u8"), ("first", "<i8"), ("rows", "<u4"), ("arrival_s", "<u4")])
#: The checksum of what follows it: opening, number and bytes of the last segment that is known, when (Unix seconds),
#: how many entries.
_CHECKSUM = struct.Struct("<I")
_HALVES = struct.Struct("<QQ")
_BLOCK = struct.Struct("<8sQQII")

_ENDING = ".rcp"


class Receipt(NamedTuple):
    """Where the rows of a put lie."""

    shard: str
    first_sequence: int
    rows: int


class Place(NamedTuple):
    """A place in an opening of the log: `size_bytes` of the segment `number`."""

    number: int
    size_bytes: int


#: Behind all that an opening wrote, and before.
END, BEGIN = Place(2**62, 0), Place(0, 0)


class _Page:
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


class _Slots:
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


class Receipts:
    """The puts of the last `window_ms`, or of the last `max_puts`, whichever are fewer. 0: none."""

    def __init__(
        self,
        folder: Path,
        *,
        opening: str,
        files: FileSystem,
        executor: Executor,
        clock: Clock,
        telemetry: Emitter,
        window_ms: int,
        max_puts: int = MAX_PUTS,
    ) -> None:
        self._folder = folder
        self._opening = opening
        self._files = files
        self._executor = executor
        self._clock = clock
        self._telemetry = telemetry
        self._wanted_ms = window_ms
        self._max_puts = max_puts
        self._page_puts = min(PAGE_PUTS, max(1, max_puts // 8))
        #: Oldest first; only the last one grows.
        self._pages: list[_Page] = []
        self._slots = _Slots()
        self._puts = 0
        self._number = 0
        #: Up to where all puts of an opening are in files.
        self._saved: dict[str, Place] = {}
        #: Up to where those of this opening are in memory.
        self._place = BEGIN
        self._save_due_ms = 0
        #: Files that nobody needs any more.
        self._rubbish: list[Path] = []
        self._is_cut = False

    # --- what is asked -----------------------------------------------------------------------------------------------

    def find(self, key: bytes) -> Receipt | None:
        """Return where the put lies, if it is known."""
        may_be_settled = self._slots.may_hold(key)
        for page in reversed(self._pages):
            if page.young is None and not may_be_settled:
                break  # only the last page is young
            if (found := page.find(key)) is not None:
                return Receipt(shard_of(page.opening, "put"), *found)
        return None

    @property
    def window_ms(self) -> int:
        """How far back puts are remembered: less than was wanted where there were too many."""
        if not self._is_cut or not self._pages:
            return self._wanted_ms
        return max(0, min(self._wanted_ms, self._clock.now_ms() - self._pages[0].oldest_s * 1_000))

    # --- what is told ------------------------------------------------------------------------------------------------

    def add(self, key: bytes, first: int, rows: int, arrival_ms: int, *, opening: str | None = None) -> None:
        """Remember a put whose rows are on the disk, of this opening if not said otherwise."""
        if self._wanted_ms:
            page = self._growing(opening or self._opening)
            before = len(page)
            page.add(key, first, rows, max(0, arrival_ms // 1_000))
            self._puts += len(page) - before

    def _growing(self, opening: str) -> _Page:
        """Return the page that takes entries of an opening."""
        page = self._pages[-1] if self._pages else None
        is_full = page is not None and (len(page) >= self._page_puts or page.file_bytes >= PAGE_BYTES)
        if page is None or page.young is None or page.opening != opening or is_full:
            if page is not None and page.young is not None:
                page.settle()
                if not self._slots.add(page.settled):
                    self._fill_slots()
            page = _Page(opening)
            self._pages.append(page)
        return page

    def _fill_slots(self) -> None:
        self._slots.fill(page.settled for page in self._pages if page.young is None)

    def reached(self, place: Place) -> None:
        """Say that all puts of this opening up to `place` were added."""
        self._place = place

    def saved(self, opening: str) -> Place:
        """Return up to where all puts of an opening are in files."""
        return self._saved.get(opening, BEGIN)

    def forget(self, opening: str) -> None:
        """Forget the puts of an opening of which a part is damaged, since nobody knows which put that was."""
        gone = [page for page in self._pages if page.opening == opening]
        if gone or self.saved(opening) < END:  # else it was told before
            self._telemetry.emit(ReceiptsForgotten(opening, sum(len(page) for page in gone)))
        for page in gone:
            self._drop(page)
        self._saved[opening] = END

    # --- files -------------------------------------------------------------------------------------------------------

    async def load(self) -> None:
        """Remember what earlier processes saved; a file that the disk refuses is told of, and does without.

        Errors: OSError where the folder itself is refused; DataDirectoryError where a newer version wrote it.
        """
        for page, place in await self._executor.run(lambda: list(self._load())):
            self._pages.append(page)
            self._puts += len(page)
            self._saved[page.opening] = max(self.saved(page.opening), place)
        self._shed()
        self._fill_slots()

    def _load(self) -> Iterator[tuple[_Page, Place]]:
        self._files.make_folder(self._folder)
        for name in self._files.list(self._folder):
            stem = name.removesuffix(_ENDING)
            if name != stem and stem.isdecimal():
                self._number = max(self._number, int(stem))
                path = self._folder / name
                try:
                    yield from _read_page(path, self._files)
                except OSError as error:  # the streams are worth more than what is known of their last puts
                    self._telemetry.emit(ReceiptsUnreadable(str(path), str(error)))

    async def save(self, *, now: bool = True) -> None:
        """Save what is not saved yet; where not `now`, only if that was not done in the last seconds.

        What cannot be saved is told, stays in memory, and is tried again.
        """
        now_ms = self._clock.monotonic_ms()
        if not now and now_ms < self._save_due_ms:
            return
        self._save_due_ms = now_ms + SAVE_EVERY_MS
        self._shed()
        place = self._place
        if self._wanted_ms and self.saved(self._opening) < place:
            self._growing(self._opening)  # also where no put had a key: nobody need look again
        last = {page.opening: page for page in self._pages}
        for page, end in [(page, len(page.unsaved)) for page in self._pages]:
            before = self.saved(page.opening)
            # only the last page of an opening may say that all is known
            after = before if page is not last[page.opening] else place if page.opening == self._opening else END
            if end or before < after:
                if not await self._save_page(page, end, after):
                    return
                self._saved[page.opening] = after
        await self._clear()

    async def _save_page(self, page: _Page, end: int, place: Place) -> bool:
        """Append a block to a page's file; return whether it is on the disk."""
        now_s, is_new = self._clock.now_ms() // 1_000, page.path is None
        if page.path is None:
            self._number += 1
            page.path = self._folder / f"{self._number:012d}{_ENDING}"
        path, entries = page.path, page.to_bytes() if is_new else bytes(page.unsaved[:end])
        body = _BLOCK.pack(bytes.fromhex(page.opening), *place, now_s, len(entries) // _ENTRY.size) + entries
        body = (preamble() if is_new else b"") + _CHECKSUM.pack(zlib.crc32(body)) + body
        end = len(page.unsaved) if is_new else end
        try:
            await self._executor.run(lambda: self._append(path, body, is_new=is_new))
        except OSError as error:
            # what the file holds now is not known: the page goes to another one, as a whole
            self._telemetry.emit(ReceiptsNotSaved(str(path), str(error)))
            self._rubbish.append(path)
            page.path = None
            return False
        del page.unsaved[:end]
        page.file_bytes += len(body)
        page.newest_s = max(page.newest_s, now_s)
        return True

    def _append(self, path: Path, body: bytes, *, is_new: bool) -> None:
        if is_new:
            self._files.remove(path)
        file = self._files.append(path)
        try:
            file.write(body)
            file.sync()
        finally:
            file.close()
        if is_new:
            self._files.sync_folder(self._folder)

    def _shed(self) -> None:
        """Forget pages that are too old, or too many."""
        oldest_s = (self._clock.now_ms() - self._wanted_ms) // 1_000
        for page in [page for page in self._pages if page.newest_s < oldest_s]:
            self._drop(page)
            self._is_cut = False
        while self._puts > self._max_puts and len(self._pages) > 1:
            self._drop(self._pages[0])
            self._is_cut = True

    def _drop(self, page: _Page) -> None:
        self._pages.remove(page)
        self._puts -= len(page)
        if page.path is not None:
            self._rubbish.append(page.path)

    async def _clear(self) -> None:
        rubbish, self._rubbish = self._rubbish, []

        def remove() -> None:
            for path in rubbish:
                self._files.remove(path)

        try:
            await self._executor.run(remove)
        except OSError:
            self._rubbish += rubbish  # it is tried again, at the latest by the next process


def _read_page(path: Path, files: FileSystem) -> Iterable[tuple[_Page, Place]]:
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
    page = _Page(opening.hex(), path)
    page.settle(bytes(entries))
    if len(page):
        times = page.settled["arrival_s"]
        page.oldest_s, newest_s = int(times.min()), max(newest_s, int(times.max()))
    page.newest_s = newest_s
    return ((page, place),)
