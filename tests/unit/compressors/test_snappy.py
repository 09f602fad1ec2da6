from __future__ import annotations

import io
import random
from typing import Any

import cramjam
import pytest

from firehose.compressors.snappy import SnappyConfig
from firehose.errors import IntegrityError

CONTEXT: Any = None
HEADER = bytes.fromhex("82534e4150505900 00000001 00000001")
BLOCK_BYTES = 32 * 1024


def compressed(*writes: bytes) -> bytes:
    out = io.BytesIO()
    layer = SnappyConfig().build(CONTEXT).wrap(out)
    for data in writes:
        layer.write(data)
    layer.close()
    return out.getvalue()


async def unwrapped(body: bytes) -> bytes:
    async def chunks() -> Any:
        yield body

    return b"".join([piece async for piece in SnappyConfig().build(CONTEXT).unwrap(chunks())])


def framed(block: bytes) -> bytes:
    return len(block).to_bytes(4, "big") + block


def blocks_of(body: bytes) -> list[bytes]:
    """Decode without any code of ours."""
    stream = io.BytesIO(body)
    assert stream.read(16) == HEADER
    blocks = []
    while word := stream.read(4):
        block = stream.read(int.from_bytes(word, "big", signed=True))
        blocks.append(bytes(cramjam.snappy.decompress_raw(block)))
    return blocks


def test_the_object_says_that_it_is_snappy_java() -> None:
    compressor = SnappyConfig().build(CONTEXT)
    assert (compressor.extension, compressor.content_encoding) == (".snappy", "snappy-java")


@pytest.mark.parametrize("size", [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 2**20, 2**20 + BLOCK_BYTES + 7])
def test_others_read_blocks_of_32_kib(size: int) -> None:
    data = random.Random(size).randbytes(size)
    for writes in ([data], [data[: size // 3], data[size // 3 :]]):
        blocks = blocks_of(compressed(*writes))
        assert b"".join(blocks) == data
        assert [len(block) for block in blocks[:-1]] == [BLOCK_BYTES] * (len(blocks) - 1)
        assert all(blocks)


async def test_we_read_what_others_write() -> None:
    large = b"a row of text\n" * 300_000  # one block of 4 MiB
    blocks = [framed(bytes(cramjam.snappy.compress_raw(data))) for data in (b"one ", b"", b"two ", large)]
    assert await unwrapped(HEADER + b"".join(blocks)) == b"one two " + large


async def test_streams_in_a_row_are_read_wherever_the_second_begins() -> None:
    assert await unwrapped(HEADER + HEADER + compressed(b"one") + HEADER) == b"one"


async def test_a_body_cut_off_within_a_block_is_refused() -> None:
    data = random.Random(1).randbytes(2 * BLOCK_BYTES)
    body = compressed(data)
    second = 16 + 4 + int.from_bytes(body[16:20], "big")
    assert await unwrapped(body[:second]) == data[:BLOCK_BYTES], "which the format cannot tell from a whole one"
    for length in (second - 1, second + 1, second + 4, len(body) - 1):
        with pytest.raises(IntegrityError, match="ends too early"):
            await unwrapped(body[:length])


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (HEADER[:8] + bytes(8), "not snappy-java's of version 1"),
        (HEADER[:15] + b"\2", "not snappy-java's of version 1"),
        (b"sNaPpY" + HEADER, "no header"),
        (HEADER + b"\x7f\xff\xff\xff" + b"some", "a block of 2147483647 bytes"),
        (HEADER + b"\xff\xff\xff\xff" + b"some", "a block of 4294967295 bytes"),
        (HEADER + framed(b""), "a block without a length"),
        (HEADER + framed(b"\xff" * 6), "a block without a length"),
        (HEADER + framed(b"\xff\xff\xff\xff\x0f" + b"\0a"), "a block of 4294967295 bytes"),
        (HEADER + framed(b"\x05\x10hell"), "orrupt"),
        (HEADER + framed(b"\x06\x10hello"), "orrupt"),
        (HEADER + framed(b"\x05\x09\x05"), "orrupt"),
    ],
)
async def test_what_cannot_be_is_refused_before_memory_is_taken_for_it(body: bytes, found: str) -> None:
    with pytest.raises(IntegrityError, match=f"snappy: damaged data .*{found}"):
        await unwrapped(body)
