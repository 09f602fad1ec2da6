"""What every compressor must do."""

from __future__ import annotations

import io
import random
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firehose.compressors.gzip import GzipConfig
from firehose.compressors.hadoop_snappy import HadoopSnappyConfig
from firehose.compressors.none import NoneConfig
from firehose.compressors.snappy import SnappyConfig
from firehose.compressors.zip import ZipConfig
from firehose.compressors.zstd import ZstdConfig
from firehose.errors import IntegrityError

CONTEXT: Any = None  # compressors use nothing of it
#: Their formats have a checksum and an end.
CHECKED: list[Any] = [config().build(CONTEXT) for config in (GzipConfig, ZipConfig, ZstdConfig)]
#: Theirs have neither.
UNCHECKED: list[Any] = [config().build(CONTEXT) for config in (SnappyConfig, HadoopSnappyConfig)]
COMPRESSING = [*CHECKED, *UNCHECKED]
COMPRESSORS = [NoneConfig().build(CONTEXT), *COMPRESSING]

BODIES = st.binary(max_size=300) | st.binary(min_size=1, max_size=20).map(lambda some: some * 5000)


def names(compressor: Any) -> str:
    return type(compressor).__name__


every = pytest.mark.parametrize("compressor", COMPRESSORS, ids=names)
every_compressing = pytest.mark.parametrize("compressor", COMPRESSING, ids=names)
every_checked = pytest.mark.parametrize("compressor", CHECKED, ids=names)
every_unchecked = pytest.mark.parametrize("compressor", UNCHECKED, ids=names)


def compressed(compressor: Any, *writes: Any) -> bytes:
    out = io.BytesIO()
    layer = compressor.wrap(out)
    for data in writes:
        assert layer.write(data) == len(data)
    layer.close()
    assert not out.closed
    return out.getvalue()


async def pieces(body: bytes, cuts: Sequence[int] = ()) -> AsyncIterator[bytes]:
    marks = sorted({0, len(body), *(cut % (len(body) + 1) for cut in cuts)})
    for start, end in zip(marks, marks[1:], strict=False):  # noqa: RUF007 - pairwise would hide the empty body
        yield body[start:end]


async def unwrapped(compressor: Any, body: bytes, cuts: Sequence[int] = ()) -> bytes:
    return b"".join([piece async for piece in compressor.unwrap(pieces(body, cuts))])


@every
@given(writes=st.lists(BODIES, max_size=4), cuts=st.lists(st.integers(0, 10**6), max_size=4))
async def test_what_was_written_comes_back_however_it_is_cut(
    compressor: Any, writes: list[bytes], cuts: list[int]
) -> None:
    assert await unwrapped(compressor, compressed(compressor, *writes), cuts) == b"".join(writes)


@every
@pytest.mark.parametrize("size", [2**20 - 1, 2**20, 2**20 + 1, 2**21])
async def test_bodies_as_long_as_a_piece_come_back(compressor: Any, size: int) -> None:
    body = bytes(range(256)) * (size // 256) + bytes(size % 256)
    assert await unwrapped(compressor, compressed(compressor, body)) == body


@every
async def test_every_kind_of_buffer_is_taken(compressor: Any) -> None:
    body = compressed(compressor, b"ab", bytearray(b"cd"), memoryview(b"ef"), memoryview(pa.py_buffer(b"gh")), b"")
    assert await unwrapped(compressor, body) == b"abcdefgh"


@every
async def test_objects_in_a_row_are_read_as_one(compressor: Any) -> None:
    body = compressed(compressor, b"one ") + compressed(compressor) + compressed(compressor, b"two")
    for cut in range(len(body)):
        assert await unwrapped(compressor, body, [cut]) == b"one two"


@every
def test_the_same_bytes_in_are_the_same_bytes_out(compressor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    first = compressed(compressor, b"abc" * 1000, b"def")
    monkeypatch.setattr("time.time", lambda: 2e9)
    assert compressed(compressor, b"abc" * 1000, b"def") == first


@every_checked
async def test_a_body_cut_off_anywhere_is_refused(compressor: Any) -> None:
    body = compressed(compressor, b"abc" * 100)
    for length in range(len(body)):
        with pytest.raises(IntegrityError, match="ends too early"):
            await unwrapped(compressor, body[:length])


@every_unchecked
async def test_a_body_cut_off_anywhere_but_behind_a_block_is_refused(compressor: Any) -> None:
    content = b"abc" * 100
    body = compressed(compressor, content)
    whole = []
    for length in range(len(body)):
        try:
            whole.append(await unwrapped(compressor, body[:length]))
        except IntegrityError as error:
            assert "ends too early" in str(error)
    assert whole in ([], [b""]), "nothing, or behind the header, where a stream without blocks would end"


@every_checked
async def test_a_changed_bit_is_found_or_harmless(compressor: Any) -> None:
    content = b"the quick brown fox" * 5
    body = compressed(compressor, content)
    found = 0
    for bit in range(len(body) * 8):
        changed = bytearray(body)
        changed[bit // 8] ^= 1 << bit % 8
        try:
            assert await unwrapped(compressor, bytes(changed)) == content
        except IntegrityError:
            found += 1
    # what may change unnoticed are words of the header that say nothing of the content, such as gzip's time
    assert found >= len(body) * 8 - 80


@every_unchecked
async def test_a_changed_bit_is_found_or_leaves_as_many_bytes(compressor: Any) -> None:
    content = b"the quick brown fox" * 5
    body = compressed(compressor, content)
    for bit in range(len(body) * 8):
        changed = bytearray(body)
        changed[bit // 8] ^= 1 << bit % 8
        try:
            assert len(await unwrapped(compressor, bytes(changed))) == len(content)
        except IntegrityError:
            pass  # found


@every_compressing
@pytest.mark.parametrize("rest", [b"\0", b"garbage", b"\x1f\x8b", b"\x28\xb5\x2f\xfd"])
async def test_anything_else_behind_the_end_is_refused(compressor: Any, rest: bytes) -> None:
    with pytest.raises(IntegrityError):
        await unwrapped(compressor, compressed(compressor, b"abc") + rest)


@every_compressing
async def test_plain_bytes_are_refused(compressor: Any) -> None:
    with pytest.raises(IntegrityError, match="damaged data"):
        await unwrapped(compressor, b'{"level":"info"}\n' * 10)
    with pytest.raises(IntegrityError, match="ends too early"):
        await unwrapped(compressor, b"")


@every_compressing
async def test_a_small_object_that_holds_much_comes_in_pieces(compressor: Any) -> None:
    body = compressed(compressor, *[bytes(2**20)] * 64)
    assert len(body) < 2**22
    total = 0
    async for piece in compressor.unwrap(pieces(body)):
        assert len(piece) <= 32 * 2**20
        total += len(piece)
    assert total == 64 * 2**20


@every_compressing
def test_large_writes_are_passed_on_in_pieces(compressor: Any) -> None:
    largest = 0

    class Out:
        def write(self, data: Any, /) -> int:
            nonlocal largest
            largest = max(largest, len(data))
            return len(data)

        def close(self) -> None:
            raise AssertionError("the layer beneath stays open")

    layer = compressor.wrap(Out())
    layer.write(random.Random(7).randbytes(8 * 2**20))
    layer.close()
    assert largest < 2 * 2**20
