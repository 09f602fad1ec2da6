"""The words of a zip archive around its one entry: header, data, descriptor, directory, end.

`zipfile` would write them, but has to be told before the first byte whether a body may pass 2 GiB, and Java before 23
refuses to stream an archive of a smaller one that says so (JDK-8303866). So they are packed here, the way Java's
ZipOutputStream does it: lengths follow the data, in 64 bits only where 32 are too few.
Source: PKWARE's APPNOTE.TXT, sections 4.3 and 4.5.3.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct, unpack_from
from typing import NamedTuple

from firehose.compressors.streams import ByteReader

# All begin with their signature. Header: entry, length of name, of extra. Directory: maker, entry, length of name, of
# extra, of comment, disk, two attributes, place of the header. End: disk, disk of the directory, entries there and in
# all, length and place of the directory, length of comment.
_ENTRY = "5H3I"
_HEADER, _DIRECTORY, _END = Struct(f"<4s{_ENTRY}2H"), Struct(f"<4sH{_ENTRY}3H2H2I"), Struct("<4s4H2IH")
_DESCRIPTOR, _DESCRIPTOR_64 = Struct("<4s3I"), Struct("<4sI2Q")
# Where the directory lies behind 4 GiB: an end of its own (its length, maker, version, then as above), and its place.
_END_64, _LOCATOR_64 = Struct("<4sQ2H2I4Q"), Struct("<4sIQI")

_HEADER_SIGN, _DESCRIPTOR_SIGN, _DIRECTORY_SIGN, _END_SIGN = b"PK\3\4", b"PK\7\x08", b"PK\1\2", b"PK\5\6"
_END_64_SIGN, _LOCATOR_64_SIGN = b"PK\6\6", b"PK\6\7"

#: What 32 bits say where 64 are needed.
_ELSEWHERE = 2**32 - 1

_VERSION, _VERSION_64 = 20, 45
_DEFLATED = 8
#: Lengths follow the data.
_STREAMED = 0x0008
#: What else changes nothing here: how hard the writer tried, and that names are UTF-8.
_HARMLESS = 0x0806
#: 1980-01-01, where the format's time begins: the same bytes in are the same bytes out.
_DATE = 1 << 5 | 1
_ZIP64_EXTRA = 1


class Entry(NamedTuple):
    """An entry as header and directory describe it, without its name."""

    version: int
    flags: int
    method: int
    time: int
    date: int
    crc: int
    compressed_bytes: int
    data_bytes: int


class Contents(NamedTuple):
    """What an entry holds, as it was counted."""

    crc: int
    compressed_bytes: int
    data_bytes: int

    def descriptor(self) -> bytes:
        """Return what goes behind the data, where the lengths follow it."""
        if max(self.compressed_bytes, self.data_bytes) > _ELSEWHERE:
            return _DESCRIPTOR_64.pack(_DESCRIPTOR_SIGN, *self)
        return _DESCRIPTOR.pack(_DESCRIPTOR_SIGN, *self)


def _word(number: int) -> int:
    return min(number, _ELSEWHERE)


def header(name: str) -> bytes:
    """Return what goes before the data of an entry."""
    entry = Entry(_VERSION, _STREAMED, _DEFLATED, 0, _DATE, 0, 0, 0)
    return _HEADER.pack(_HEADER_SIGN, *entry, len(name), 0) + name.encode("ascii")


def trailer(name: str, contents: Contents) -> bytes:
    """Return what goes behind the data of an entry whose header began the archive."""
    descriptor = contents.descriptor()
    place = _HEADER.size + len(name) + contents.compressed_bytes + len(descriptor)
    directory = _directory(name, contents)
    end = _END.pack(_END_SIGN, 0, 0, 1, 1, len(directory), _word(place), 0)
    if place >= _ELSEWHERE:
        end = _far_end(place, len(directory)) + end
    return descriptor + directory + end


def _directory(name: str, contents: Contents) -> bytes:
    long = [number for number in (contents.data_bytes, contents.compressed_bytes) if number >= _ELSEWHERE]
    extra = Struct(f"<2H{len(long)}Q").pack(_ZIP64_EXTRA, 8 * len(long), *long) if long else b""
    version = _VERSION_64 if long else _VERSION
    lengths = _word(contents.compressed_bytes), _word(contents.data_bytes)
    entry = Entry(version, _STREAMED, _DEFLATED, 0, _DATE, contents.crc, *lengths)
    head = _DIRECTORY.pack(_DIRECTORY_SIGN, version, *entry, len(name), len(extra), 0, 0, 0, 0, 0)
    return head + name.encode("ascii") + extra


def _far_end(place: int, directory_bytes: int) -> bytes:
    rest_bytes = _END_64.size - 12  # without signature and this length
    end = _END_64.pack(_END_64_SIGN, rest_bytes, _VERSION_64, _VERSION_64, 0, 0, 1, 1, directory_bytes, place)
    return end + _LOCATOR_64.pack(_LOCATOR_64_SIGN, 0, place + directory_bytes, 1)


async def read_header(source: ByteReader) -> tuple[Entry, bytes]:
    """Return an entry and its name. Errors: IntegrityError."""
    sign, *words, name_bytes, extra_bytes = _HEADER.unpack(await source.exactly(_HEADER.size))
    if sign != _HEADER_SIGN:
        raise source.damaged("no header of an entry")
    entry = Entry(*words)
    if entry.method != _DEFLATED or entry.flags & ~(_STREAMED | _HARMLESS) or entry.version > _VERSION_64:
        raise source.damaged(f"an entry of method {entry.method}, flags {entry.flags:#x}, version {entry.version}")
    name = await source.exactly(name_bytes)
    await source.exactly(extra_bytes)
    return entry, name


async def check_trailer(source: ByteReader, start: int, entry: Entry, name: bytes, contents: Contents) -> None:
    """Read what goes behind the data of an entry, to the end of the archive that began at `start`.

    Errors: IntegrityError where it does not fit what was read so far.
    """
    if not await _is_told(source, entry, contents):
        raise source.damaged("the data has another checksum or length")
    place = source.position - start
    if not await _is_in_directory(source, entry, name, contents):
        raise source.damaged("no directory of this one entry")
    if not await _is_at_end(source, place, source.position - start - place):
        raise source.damaged("no end of an archive of one entry")


async def _is_told(source: ByteReader, entry: Entry, contents: Contents) -> bool:
    told = Contents(*entry[5:])
    if not entry.flags & _STREAMED:
        return told == contents
    expected = contents.descriptor()
    found = await source.exactly(len(expected))
    if found != expected and len(found) < _DESCRIPTOR_64.size:
        # others take 64 bits for small bodies, too
        expected = _DESCRIPTOR_64.pack(_DESCRIPTOR_SIGN, *contents)
        found += await source.exactly(len(expected) - len(found))
    return found == expected and told in (Contents(0, 0, 0), Contents(0, _ELSEWHERE, _ELSEWHERE))


async def _is_in_directory(source: ByteReader, entry: Entry, name: bytes, contents: Contents) -> bool:
    sign, _, *words = _DIRECTORY.unpack(await source.exactly(_DIRECTORY.size))
    if sign != _DIRECTORY_SIGN:
        return False
    listed, (name_bytes, extra_bytes, comment_bytes, disk, _, _, place) = Entry(*words[:8]), words[8:]
    listed_name, extra = await source.exactly(name_bytes), await source.exactly(extra_bytes)
    await source.exactly(comment_bytes)
    long = _long_lengths(extra)
    data_bytes = next(long, _ELSEWHERE) if listed.data_bytes == _ELSEWHERE else listed.data_bytes
    compressed_bytes = next(long, _ELSEWHERE) if listed.compressed_bytes == _ELSEWHERE else listed.compressed_bytes
    return (
        (listed_name, disk, place) == (name, 0, 0)
        and listed.version in (entry.version, _VERSION_64)
        and listed[1:5] == entry[1:5]
        and (listed.crc, compressed_bytes, data_bytes) == contents
    )


def _long_lengths(extra: bytes) -> Iterator[int]:
    """Yield the lengths that needed 64 bits: of the data, then compressed."""
    while len(extra) >= 4:
        kind, length = unpack_from("<2H", extra)
        if kind == _ZIP64_EXTRA:
            for start in range(4, min(4 + length, len(extra)) - 7, 8):
                yield int.from_bytes(extra[start : start + 8], "little")
        extra = extra[4 + length :]


async def _is_at_end(source: ByteReader, place: int, directory_bytes: int) -> bool:
    end = await source.exactly(_END.size)
    if end.startswith(_END_64_SIGN):
        expected = _far_end(place, directory_bytes)
        if end + await source.exactly(len(expected) - len(end)) != expected:
            return False
        end = await source.exactly(_END.size)
    comment_bytes = int.from_bytes(end[-2:], "little")
    await source.exactly(comment_bytes)
    return end == _END.pack(_END_SIGN, 0, 0, 1, 1, directory_bytes, _word(place), comment_bytes)
