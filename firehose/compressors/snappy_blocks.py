"""Raw snappy blocks, which both Snappy forms put into frames of their own.

A raw block is its uncompressed length as a varint, then literals and copies: no checksum, no end.
Source: https://github.com/google/snappy/blob/main/format_description.txt
"""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa

from firehose.compressors.streams import ByteReader, pieces_of
from firehose.protocols import Output

#: 32 MiB: the largest block that is read, before and after. Writers make blocks of 32 KiB to 4 MiB.
_MAX_BLOCK_BYTES = 2**25

# keeps nothing between calls, and releases the GIL: one for all threads
_SNAPPY = pa.Codec("snappy")


def int32(number: int) -> bytes:
    """Return a length as both forms write it."""
    return number.to_bytes(4, "big")


def compressed_block(data: bytes) -> bytes:
    """Return `data` compressed, behind its compressed length."""
    block: bytes = _SNAPPY.compress(data, asbytes=True)
    return int32(len(block)) + block


async def read_block(source: ByteReader, length: bytes) -> bytes:
    """Return the contents of the block behind its compressed `length`. Errors: IntegrityError."""
    block_bytes = int.from_bytes(length, "big")
    if block_bytes > _MAX_BLOCK_BYTES:
        raise source.damaged(f"a block of {block_bytes} bytes")
    block = await source.exactly(block_bytes)
    data_bytes = _data_bytes(block)
    if data_bytes is None or data_bytes > _MAX_BLOCK_BYTES:
        raise source.damaged("a block without a length" if data_bytes is None else f"a block of {data_bytes} bytes")
    try:
        data: bytes = _SNAPPY.decompress(block, data_bytes, asbytes=True)
    except (OSError, pa.ArrowInvalid) as error:
        raise source.damaged(error) from error
    return data


def _data_bytes(block: bytes) -> int | None:
    """Return the varint that a block begins with: seven bits a byte, the lowest first."""
    number = 0
    for index, byte in enumerate(block[:5]):
        number |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return number
    return None


class BlockOutput:
    """Cuts what is written into blocks of `block_bytes` and writes `framed` of each.

    `start` goes before the first block; `empty` is all that is written where there is none.
    """

    def __init__(
        self, out: Output, *, block_bytes: int, framed: Callable[[bytes], bytes], start: bytes, empty: bytes
    ) -> None:
        self._out = out
        self._block_bytes = block_bytes
        self._framed = framed
        self._start = start
        self._empty = empty
        self._rest = bytearray()

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        for piece in pieces_of(data):
            self._rest += piece
            self._write_blocks(len(self._rest) - len(self._rest) % self._block_bytes)
        return memoryview(data).nbytes

    def close(self) -> None:
        self._write_blocks(len(self._rest))
        if self._empty:
            self._out.write(self._empty)

    def _write_blocks(self, end: int) -> None:
        if not end:
            return
        starts = range(0, end, self._block_bytes)
        blocks = [self._framed(bytes(self._rest[start : start + self._block_bytes])) for start in starts]
        del self._rest[:end]
        self._out.write(b"".join([self._start, *blocks]))
        self._start = self._empty = b""
