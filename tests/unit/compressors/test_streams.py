from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest

from firehose.compressors.streams import PIECE_BYTES, ByteReader, pieces_of
from firehose.errors import IntegrityError


def reader(*chunks: bytes) -> ByteReader:
    async def source() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    return ByteReader(source(), "form")


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES])
def test_pieces_are_all_of_the_data_and_none_is_large(size: int) -> None:
    data = bytes(range(256)) * (size // 256) + bytes(size % 256)
    pieces = list(pieces_of(data))
    assert b"".join(pieces) == data
    assert all(0 < len(piece) <= PIECE_BYTES for piece in pieces)


def test_pieces_count_bytes_whatever_the_buffer_holds() -> None:
    data: Any = memoryview(np.arange(3, dtype=np.int64))
    (piece,) = pieces_of(data)
    assert len(piece) == 24


async def test_exact_numbers_of_bytes_are_read_across_chunks() -> None:
    source = reader(b"", b"ab", b"", b"cde", b"f", b"")
    assert await source.exactly(0) == b""
    assert await source.exactly(1) == b"a"
    assert await source.exactly(4) == b"bcde"
    assert source.position == 5
    assert not await source.is_at_end()
    assert await source.exactly(1) == b"f"
    assert await source.is_at_end() and source.position == 6


async def test_what_is_put_back_is_read_again() -> None:
    source = reader(b"abc", b"def")
    assert await source.exactly(1) == b"a"
    assert await source.some() == b"bc"
    source.put_back(1)
    assert source.position == 2
    assert await source.exactly(2) == b"cd"


async def test_a_large_chunk_comes_in_slices() -> None:
    source = reader(bytes(200_000))
    slices = []
    while not await source.is_at_end():
        slices.append(len(await source.some()))
    assert sum(slices) == 200_000 and max(slices) <= 2**16


async def test_an_early_end_is_an_error() -> None:
    for source in (reader(), reader(b"", b"abc")):
        with pytest.raises(IntegrityError, match="form: the data ends too early"):
            await source.exactly(4)
    with pytest.raises(IntegrityError, match="form: the data ends too early"):
        await reader().some()
