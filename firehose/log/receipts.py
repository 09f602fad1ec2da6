"""Receipts: which puts are in the log, and where, for as long as their producers may send them again.

A producer whose answer was lost sends the same put once more, under the same key. The log then says where the first one
lies instead of writing a second. A put's key is in its frame, synced with its rows, so nothing about it is ever less
durable than they are; but frames go once their rows are done, which may be seconds later. So receipts are also written
to files of their own, now and again and before any frame goes, and each file says up to where in the log it knows all:
after a crash only what was written behind that is read from the frames.

    receipts/000000000007.rcp    a page, see `pages`

Nothing here can lose a row. A receipt that is missing makes a put that is sent again a second put; those of an opening
of which a part is found damaged at the start are forgotten.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from firehose.clock import Clock
from firehose.executors import Executor
from firehose.filesystem import FileSystem
from firehose.log.events import ReceiptsForgotten, ReceiptsNotSaved, ReceiptsUnreadable
from firehose.log.pages import BEGIN, END, Page, Place, Slots, read_page
from firehose.log.segment import shard_of
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

_ENDING = ".rcp"


class Receipt(NamedTuple):
    """Where the rows of a put lie."""

    shard: str
    first_sequence: int
    rows: int


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
        self._pages: list[Page] = []
        self._slots = Slots()
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

    def _growing(self, opening: str) -> Page:
        """Return the page that takes entries of an opening."""
        page = self._pages[-1] if self._pages else None
        is_full = page is not None and (len(page) >= self._page_puts or page.file_bytes >= PAGE_BYTES)
        if page is None or page.young is None or page.opening != opening or is_full:
            if page is not None and page.young is not None:
                page.settle()
                if not self._slots.add(page.settled):
                    self._fill_slots()
            page = Page(opening)
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

    def _load(self) -> Iterator[tuple[Page, Place]]:
        self._files.make_folder(self._folder)
        for name in self._files.list(self._folder):
            stem = name.removesuffix(_ENDING)
            if name != stem and stem.isdecimal():
                self._number = max(self._number, int(stem))
                path = self._folder / name
                try:
                    yield from read_page(path, self._files)
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

    async def _save_page(self, page: Page, end: int, place: Place) -> bool:
        """Append a block to a page's file; return whether it is on the disk."""
        now_s, is_new = self._clock.now_ms() // 1_000, page.path is None
        if page.path is None:
            self._number += 1
            page.path = self._folder / f"{self._number:012d}{_ENDING}"
        path = page.path
        body, end = page.block(place, now_s, None if is_new else end)
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

    def _drop(self, page: Page) -> None:
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
