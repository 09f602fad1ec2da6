from __future__ import annotations

import gzip
import io
import subprocess
from typing import Any

import pytest
from pydantic import ValidationError

from firehose.compressors.gzip import GzipConfig

CONTEXT: Any = None


def compressed(data: bytes, **options: int) -> bytes:
    out = io.BytesIO()
    layer = GzipConfig(**options).build(CONTEXT).wrap(out)
    layer.write(data)
    layer.close()
    return out.getvalue()


def run_gzip(option: str, data: bytes) -> bytes:
    return subprocess.run(["gzip", option], input=data, capture_output=True, check=True).stdout


def test_the_object_says_that_it_is_gzip() -> None:
    compressor = GzipConfig().build(CONTEXT)
    assert (compressor.extension, compressor.content_encoding) == (".gz", "gzip")


@pytest.mark.parametrize("data", [b"", b"hello\n" * 10_000])
def test_others_read_what_we_write(data: bytes) -> None:
    assert gzip.decompress(compressed(data)) == data
    assert run_gzip("-dc", compressed(data)) == data


def test_the_header_holds_no_time_and_no_name() -> None:
    header = compressed(b"hello")[:10]
    assert header[:8] == b"\x1f\x8b\x08" + bytes(5)


async def test_we_read_what_others_write() -> None:
    named = io.BytesIO()
    with gzip.GzipFile(filename="log.txt", mode="wb", fileobj=named, mtime=1) as file:
        file.write(b"one ")
    body = named.getvalue() + run_gzip("-c9", b"two")

    async def chunks() -> Any:
        yield body

    assert b"".join([piece async for piece in GzipConfig().build(CONTEXT).unwrap(chunks())]) == b"one two"


def test_a_higher_level_is_smaller() -> None:
    data = b"".join(b'{"id":%d,"level":"info"}\n' % (number * 7919) for number in range(5000))
    assert len(compressed(data, level=9)) < len(compressed(data, level=1))


@pytest.mark.parametrize("level", [0, 10])
def test_levels_are_1_to_9(level: int) -> None:
    with pytest.raises(ValidationError, match="level"):
        GzipConfig(level=level)
