from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import pytest
import zstandard
from pydantic import ValidationError

from firehose.compressors.zstd import ZstdConfig
from firehose.errors import IntegrityError

CONTEXT: Any = None


def compressed(data: bytes, **options: int) -> bytes:
    out = io.BytesIO()
    layer = ZstdConfig(**options).build(CONTEXT).wrap(out)
    layer.write(data)
    layer.close()
    return out.getvalue()


async def unwrapped(body: bytes) -> bytes:
    async def chunks() -> Any:
        yield body

    return b"".join([piece async for piece in ZstdConfig().build(CONTEXT).unwrap(chunks())])


def test_the_object_says_that_it_is_zstd() -> None:
    compressor = ZstdConfig().build(CONTEXT)
    assert (compressor.extension, compressor.content_encoding) == (".zst", "zstd")


@pytest.mark.parametrize("data", [b"", b"hello\n" * 100_000])
def test_others_read_what_we_write(data: bytes) -> None:
    # Arrow has a zstd of its own
    assert pa.input_stream(pa.py_buffer(compressed(data)), compression="zstd").read() == data


def test_the_frame_carries_a_checksum() -> None:
    assert zstandard.get_frame_parameters(compressed(b"hello")).has_checksum


async def test_we_read_what_others_write() -> None:
    out = pa.BufferOutputStream()
    with pa.output_stream(out, compression="zstd") as stream:
        stream.write(b"one ")
    skippable = b"\x50\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"notes"
    one_shot = zstandard.ZstdCompressor(level=19).compress(b"two")
    assert await unwrapped(out.getvalue().to_pybytes() + skippable + one_shot) == b"one two"


async def test_a_window_that_would_take_too_much_memory_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters.from_level(1, window_log=28)
    frame = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    with pytest.raises(IntegrityError, match="too much memory"):
        await unwrapped(frame.compress(b"hello") + frame.flush())


def test_a_higher_level_is_smaller() -> None:
    data = b"".join(b'{"id":%d,"level":"info"}\n' % (number * 7919) for number in range(5000))
    assert len(compressed(data, level=19)) < len(compressed(data, level=1))


@pytest.mark.parametrize("level", [0, 20])
def test_levels_are_1_to_19(level: int) -> None:
    with pytest.raises(ValidationError, match="level"):
        ZstdConfig(level=level)
