"""What compressors share: bytes in pieces on their way out, and read from chunks on their way back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from firehose.errors import IntegrityError

#: 1 MiB: the most that is compressed, or comes out of a decompressor, at once. Keeps memory flat, also for an object of
#: a few kilobytes that holds gigabytes.
PIECE_BYTES = 2**20

#: 64 KiB: the most that a decompressor is handed at once, because it copies what it leaves.
_SLICE_BYTES = 2**16


def pieces_of(data: bytes | bytearray | memoryview) -> Iterator[memoryview]:
    """Yield all of `data` in pieces of at most `PIECE_BYTES`; nothing for nothing."""
    view = memoryview(data).cast("B")
    for start in range(0, len(view), PIECE_BYTES):
        yield view[start : start + PIECE_BYTES]


class ByteReader:
    """Reads exact numbers of bytes from chunks that are cut anywhere. `form` is what errors call the format.

    A number that is damaged costs nothing: only bytes that are there are ever held.
    """

    def __init__(self, chunks: AsyncIterator[bytes], form: str) -> None:
        self._chunks = chunks
        self._form = form
        self._chunk = b""
        self._at = 0
        self._passed = 0

    @property
    def position(self) -> int:
        """How many bytes were read so far."""
        return self._passed + self._at

    async def is_at_end(self) -> bool:
        """Return whether nothing is left."""
        while self._at == len(self._chunk):
            chunk = await anext(self._chunks, None)
            if chunk is None:
                return True
            self._passed += self._at
            self._chunk, self._at = chunk, 0
        return False

    async def some(self) -> bytes:
        """Return what is at hand, at least a byte. Errors: IntegrityError at the end."""
        return await self._next(_SLICE_BYTES)

    async def exactly(self, count: int) -> bytes:
        """Return the next `count` bytes. Errors: IntegrityError where there are fewer."""
        parts: list[bytes] = []
        while count:
            parts.append(await self._next(count))
            count -= len(parts[-1])
        return b"".join(parts)

    async def _next(self, most: int) -> bytes:
        if await self.is_at_end():
            raise IntegrityError(f"{self._form}: the data ends too early; the object was cut off")
        part = self._chunk[self._at : self._at + most]
        self._at += len(part)
        return part

    def put_back(self, count: int) -> None:
        """Take back the last `count` bytes of what `some` returned last."""
        assert 0 <= count <= self._at
        self._at -= count

    def damaged(self, why: object) -> IntegrityError:
        """Return the error for bytes that are not as the format has them."""
        return IntegrityError(f"{self._form}: damaged data ({why}); the object was changed or is no {self._form}")
