from __future__ import annotations

import io
import random
from typing import Any

import cramjam
import pytest

from firehose.compressors.hadoop_snappy import HadoopSnappyConfig
from firehose.errors import IntegrityError

CONTEXT: Any = None

#: io.compression.codec.snappy.buffersize: compressed or not, a chunk must fit into it.
HADOOP_BUFFER_BYTES = 256 * 1024


def compressed(*writes: bytes) -> bytes:
    out = io.BytesIO()
    layer = HadoopSnappyConfig().build(CONTEXT).wrap(out)
    for data in writes:
        layer.write(data)
    layer.close()
    return out.getvalue()


async def unwrapped(body: bytes) -> bytes:
    async def chunks() -> Any:
        yield body

    return b"".join([piece async for piece in HadoopSnappyConfig().build(CONTEXT).unwrap(chunks())])


def int32(number: int) -> bytes:
    return number.to_bytes(4, "big")


def chunk(data: bytes) -> bytes:
    raw = bytes(cramjam.snappy.compress_raw(data))
    return int32(len(raw)) + raw


def decoded(body: bytes) -> bytes:
    """Decode without any code of ours, with the buffers that Hadoop has."""
    stream, data = io.BytesIO(body), b""
    while word := stream.read(4):
        end = len(data) + int.from_bytes(word, "big", signed=True)
        while len(data) < end:
            chunk_bytes = int.from_bytes(stream.read(4), "big", signed=True)
            assert 0 < chunk_bytes <= HADOOP_BUFFER_BYTES
            piece = bytes(cramjam.snappy.decompress_raw(stream.read(chunk_bytes)))
            assert 0 < len(piece) <= HADOOP_BUFFER_BYTES
            data += piece
        assert len(data) == end
    return data


def test_the_object_says_that_it_is_hadoop_snappy() -> None:
    compressor = HadoopSnappyConfig().build(CONTEXT)
    assert (compressor.extension, compressor.content_encoding) == (".snappy", "hadoop-snappy")


@pytest.mark.parametrize("size", [0, 1, 218_421, 218_422, 218_423, 2**20, 3 * 2**20 + 7])
@pytest.mark.parametrize("is_noise", [True, False])
def test_others_read_what_we_write(size: int, is_noise: bool) -> None:
    data = random.Random(size).randbytes(size) if is_noise else bytes(size)
    assert decoded(compressed(data)) == data
    assert decoded(compressed(data[: size // 3], data[size // 3 :])) == data


def test_an_empty_object_is_one_empty_block_as_of_hadoop() -> None:
    assert compressed() == int32(0)


async def test_we_read_blocks_of_several_chunks_and_of_none() -> None:
    several = int32(10) + chunk(b"one ") + chunk(b"two ") + chunk(b"3 ")
    large = b"a row of text\n" * 300_000  # Hadoop makes one block of each large write
    pieces = [large[start : start + 218_422] for start in range(0, len(large), 218_422)]
    body = several + int32(0) + int32(len(large)) + b"".join(map(chunk, pieces)) + int32(4) + chunk(b" end")
    assert await unwrapped(body) == b"one two 3 " + large + b" end"


async def test_a_body_cut_off_within_a_block_is_refused() -> None:
    first = int32(8) + chunk(b"one ") + chunk(b"two ")
    body = first + int32(5) + chunk(b"three")
    for length in range(len(body)):
        if length == len(first):
            assert await unwrapped(body[:length]) == b"one two ", "which the format cannot tell from a whole one"
            continue
        with pytest.raises(IntegrityError, match="ends too early"):
            await unwrapped(body[:length])


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (int32(5) + int32(2**31 - 1) + b"some", "a block of 2147483647 bytes"),
        (int32(5) + int32(2**32 - 1) + b"some", "a block of 4294967295 bytes"),
        (int32(5) + int32(7) + b"\xff\xff\xff\xff\x0f\0a", "a block of 4294967295 bytes"),
        (int32(5) + int32(0), "a block without a length"),
        (int32(5) + chunk(b"longer"), "a chunk of 6 bytes where 5 are left of its block"),
        (int32(5) + chunk(b"one") + chunk(b"two"), "a chunk of 3 bytes where 2 are left of its block"),
        (int32(5) + chunk(b"") * 1000, "a chunk of 0 bytes where 5 are left of its block"),
        (int32(5) + int32(6) + b"\x05\x10hell", "orrupt"),
    ],
)
async def test_what_cannot_be_is_refused_before_memory_is_taken_for_it(body: bytes, found: str) -> None:
    with pytest.raises(IntegrityError, match=f"hadoop_snappy: damaged data .*{found}"):
        await unwrapped(body)
