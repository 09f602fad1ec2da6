from __future__ import annotations

import io
import random
import uuid
import zipfile
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from firehose.compressors.streams import ByteReader
from firehose.compressors.zip import ZipConfig
from firehose.compressors.zip_format import Contents, check_trailer, header, read_header, trailer
from firehose.errors import IntegrityError

CONTEXT: Any = None
LARGE = 2**32 - 1


def compressed(*writes: bytes, **options: int) -> bytes:
    out = io.BytesIO()
    layer = ZipConfig(**options).build(CONTEXT).wrap(out)
    for data in writes:
        layer.write(data)
    layer.close()
    return out.getvalue()


async def unwrapped(body: bytes) -> bytes:
    async def chunks() -> Any:
        yield body

    return b"".join([piece async for piece in ZipConfig().build(CONTEXT).unwrap(chunks())])


def entry_of(body: bytes) -> zipfile.ZipInfo:
    (entry,) = zipfile.ZipFile(io.BytesIO(body)).infolist()
    return entry


class Unseekable:
    def __init__(self) -> None:
        self.body = b""

    def write(self, data: bytes) -> int:
        self.body += data
        return len(data)

    def flush(self) -> None:
        pass


def written_by_python(data: bytes, *, seekable: bool = True, **options: Any) -> bytes:
    out: Any = io.BytesIO() if seekable else Unseekable()
    method = options.pop("method", zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(out, "w", method) as archive, archive.open("entry", "w", **options) as entry:
        entry.write(data)
    body: bytes = out.getvalue() if seekable else out.body
    return body


def test_the_object_says_that_it_is_zip() -> None:
    compressor = ZipConfig().build(CONTEXT)
    assert (compressor.extension, compressor.content_encoding) == (".zip", "zip")


@pytest.mark.parametrize("data", [b"", b"hello\n" * 10_000, random.Random(1).randbytes(2**21 + 1)])
@pytest.mark.parametrize("level", [1, 3, 4, 9])
def test_others_read_one_deflated_entry_named_by_a_uuid(data: bytes, level: int) -> None:
    archive = zipfile.ZipFile(io.BytesIO(compressed(data, level=level)))
    (entry,) = archive.infolist()
    assert archive.read(entry) == data
    assert archive.testzip() is None
    assert str(uuid.UUID(entry.filename)) == entry.filename
    assert (entry.compress_type, entry.date_time) == (zipfile.ZIP_DEFLATED, (1980, 1, 1, 0, 0, 0))


def test_archives_can_be_unpacked_into_one_folder() -> None:
    bodies = [compressed(b"one"), compressed(b"two"), compressed(b"one", b" more")]
    one, two, same = (entry_of(body).filename for body in bodies)
    assert one != two
    assert one == same, "the name is that of the first piece: the rest is not known when it is written"


@pytest.mark.parametrize("options", [{}, {"seekable": False}, {"seekable": False, "force_zip64": True}])
@pytest.mark.parametrize("data", [b"x", b"hello\n" * 10_000])
async def test_we_read_what_others_write(options: dict[str, Any], data: bytes) -> None:
    assert await unwrapped(written_by_python(data, **options)) == data


async def test_comments_are_read_over() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.comment = b"of the archive"
        entry = zipfile.ZipInfo("entry")
        entry.comment, entry.extra, entry.compress_type = b"of the entry", b"\xfe\xca\2\0ab", zipfile.ZIP_DEFLATED
        archive.writestr(entry, b"hello")
    assert await unwrapped(out.getvalue()) == b"hello"


def other_entries() -> Iterator[tuple[str, bytes]]:
    yield "an entry of method 0", written_by_python(b"hello", method=zipfile.ZIP_STORED)
    yield "an entry of method 12", written_by_python(b"hello", method=zipfile.ZIP_BZIP2)
    encrypted = bytearray(written_by_python(b"hello"))
    encrypted[6] |= 1
    yield "flags 0x1", bytes(encrypted)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("one", b"1")
        archive.writestr("two", b"2")
    yield "no directory of this one entry", out.getvalue()
    with zipfile.ZipFile(out := io.BytesIO(), "w"):
        pass
    yield "no header of an entry", out.getvalue() + bytes(30)


@pytest.mark.parametrize(("found", "body"), list(other_entries()))
async def test_other_archives_are_refused(found: str, body: bytes) -> None:
    with pytest.raises(IntegrityError, match=f"zip: damaged data .*{found}"):
        await unwrapped(body)


async def test_what_is_said_behind_the_data_must_be_true() -> None:
    body, lie = compressed(b"hello" * 9), compressed(b"other" * 9)
    data_end = body.index(b"PK\7\x08")
    for sign, found in ((b"PK\7\x08", "checksum or length"), (b"PK\1\2", "no directory"), (b"PK\5\6", "no end")):
        place, other = body.index(sign), lie.index(sign)
        torn = body[:place] + (lie[other:] if sign != b"PK\5\6" else body[data_end:place] + body[place:])
        with pytest.raises(IntegrityError, match=found):
            await unwrapped(torn)


class End(io.RawIOBase):
    """A file of which only the end is there: `zipfile` reads no more to list an archive."""

    def __init__(self, missing_bytes: int, end: bytes) -> None:
        self._missing_bytes, self._end, self._at = missing_bytes, end, 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + [0, self._at, self._missing_bytes + len(self._end)][whence]
        return self._at

    def read(self, size: int = -1) -> bytes:
        start = self._at - self._missing_bytes
        assert start >= 0
        found = self._end[start : None if size < 0 else start + size]
        self._at += len(found)
        return found


@pytest.mark.parametrize("compressed_bytes", [10, LARGE - 60, LARGE - 1, LARGE, LARGE + 1, 2**40])
@pytest.mark.parametrize("data_bytes", [10, LARGE - 1, LARGE, LARGE + 1, 2**41])
async def test_bodies_of_more_than_4_gib(compressed_bytes: int, data_bytes: int) -> None:
    contents = Contents(0x12345678, compressed_bytes, data_bytes)
    head, end = header("entry"), trailer("entry", contents)
    missing_bytes = len(head) + compressed_bytes
    (listed,) = zipfile.ZipFile(End(missing_bytes, end)).infolist()
    assert (listed.CRC, listed.compress_size, listed.file_size) == contents
    assert (listed.filename, listed.header_offset) == ("entry", 0)

    async def chunks() -> Any:
        yield head + end

    source = ByteReader(chunks(), "zip")
    entry, name = await read_header(source)
    start = -compressed_bytes  # as if the data had been read, too
    await check_trailer(source, start, entry, name, contents)
    assert await source.is_at_end()


@pytest.mark.parametrize("level", [0, 10])
def test_levels_are_1_to_9(level: int) -> None:
    with pytest.raises(ValidationError, match="level"):
        ZipConfig(level=level)
