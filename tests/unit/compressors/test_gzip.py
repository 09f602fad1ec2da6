from __future__ import annotations

import gzip
import io
import random
import subprocess
from typing import Any

import pytest
from pydantic import ValidationError

from firehose.compressors.gzip import GzipConfig

CONTEXT: Any = None

#: 320 KB of an access log.
_RANDOM = random.Random(7)
LINES = b"".join(
    b'10.0.%d.%d - - [17/May/2026:12:%02d:%02d +0000] "GET /%s/%d HTTP/1.1" 200 %d "-" "curl/8.%d.0"\n'
    % (
        _RANDOM.randrange(4),
        _RANDOM.randrange(256),
        number // 60 % 60,
        number % 60,
        _RANDOM.choice([b"cart", b"search", b"product/shoes"]),
        _RANDOM.randrange(10**4),
        _RANDOM.randrange(10**5),
        _RANDOM.randrange(9),
    )
    for number in range(4000)
)


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


@pytest.mark.parametrize("level", range(1, 10))
def test_every_level_is_read_by_others_and_names_no_time_and_no_file(level: int) -> None:
    body = compressed(LINES, level=level)
    assert run_gzip("-dc", body) == LINES
    assert body[:8] == b"\x1f\x8b\x08" + bytes(5)


async def test_we_read_what_others_write() -> None:
    named = io.BytesIO()
    with gzip.GzipFile(filename="log.txt", mode="wb", fileobj=named, mtime=1) as file:
        file.write(b"one ")
    body = named.getvalue() + run_gzip("-c9", b"two")

    async def chunks() -> Any:
        yield body

    assert b"".join([piece async for piece in GzipConfig().build(CONTEXT).unwrap(chunks())]) == b"one two"


async def test_thousands_of_small_members_are_read() -> None:
    async def chunks() -> Any:
        yield gzip.compress(b"a record\n", mtime=0) * 5000

    read = [piece async for piece in GzipConfig().build(CONTEXT).unwrap(chunks())]
    assert b"".join(read) == b"a record\n" * 5000


def test_a_higher_level_is_smaller() -> None:
    sizes = [len(compressed(LINES, level=level)) for level in (1, 3, 4, 6, 9)]
    assert sizes == sorted(sizes, reverse=True) and sizes[-1] < 0.9 * sizes[0]


@pytest.mark.parametrize("level", [0, 10])
def test_levels_are_1_to_9(level: int) -> None:
    with pytest.raises(ValidationError, match="level"):
        GzipConfig(level=level)
