"""The sidecar of a sealed segment: where whose frames lie, so that opening the log and reading one stream is cheap.

    preamble, length and checksum of the directory, the directory (JSON, zstd), one table per stream and lane (zstd)

It is a cache: where it is missing or damaged, the segment is scanned and it is written anew.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import orjson
import zstandard

from firehose.filesystem import FileSystem
from firehose.log.index import Extent, FrameTable
from firehose.log.segment import PREAMBLE_BYTES, Segment, check_preamble, preamble

_LENGTH_AND_CHECKSUM = struct.Struct("<II")
_DIRECTORY_AT = PREAMBLE_BYTES + _LENGTH_AND_CHECKSUM.size

#: Read at once when a sidecar is opened: the directory of about a thousand streams.
_FIRST_READ_BYTES = 64 * 1024


def encode(segment: Segment) -> bytes:
    """Return the sidecar of a segment whose tables are in memory, and note in its extents where the tables will lie."""
    assert segment.tables is not None
    compressor = zstandard.ZstdCompressor(level=1)
    streams, tables, at = [], [], 0
    for (stream, lane), extent in segment.extents.items():
        table = segment.tables.get((stream, lane)) or FrameTable()
        mixed = orjson.dumps(table.mixed, option=orjson.OPT_NON_STR_KEYS)
        body = compressor.compress(struct.pack("<I", len(mixed)) + mixed + table.to_bytes())
        tables.append(struct.pack("<I", zlib.crc32(body)) + body)
        extent.at, extent.table_bytes = at, len(tables[-1])
        numbers = (extent.first, extent.last, extent.data_bytes, extent.stored_bytes, extent.oldest_ms)
        streams.append([stream, lane, *numbers, extent.at, extent.table_bytes])
        at += extent.table_bytes
    directory = {
        "created_ms": segment.created_ms,
        "size_bytes": segment.size_bytes,
        "is_damaged": segment.is_damaged,
        "accepted": segment.accepted,
        "replayed": segment.replayed,
        "streams": streams,
    }
    stored = compressor.compress(orjson.dumps(directory, option=orjson.OPT_NON_STR_KEYS))
    for extent in segment.extents.values():
        extent.at += _DIRECTORY_AT + len(stored)
    return b"".join((preamble(), _LENGTH_AND_CHECKSUM.pack(len(stored), zlib.crc32(stored)), stored, *tables))


def write(files: FileSystem, folder: Path, segment: Segment) -> int:
    """Put the sidecar on the disk, all of it or nothing; return its bytes. Errors: OSError."""
    body = encode(segment)
    path = segment.sidecar_path(folder)
    temporary = path.with_name(path.name + ".tmp")
    files.remove(temporary)
    out = files.append(temporary)
    try:
        out.write(body)
        out.sync()
    finally:
        out.close()
    files.rename(temporary, path)
    return len(body)


def load(files: FileSystem, folder: Path, segment: Segment) -> bool:
    """Fill `segment` from its sidecar; false where that is missing or damaged.

    Errors: DataDirectoryError where a newer version wrote it.
    """
    path = segment.sidecar_path(folder)
    try:
        body = files.read(path, 0, _FIRST_READ_BYTES)
        if not check_preamble(body, path) or len(body) < _DIRECTORY_AT:
            return False
        length, checksum = _LENGTH_AND_CHECKSUM.unpack_from(body, PREAMBLE_BYTES)
        index_bytes = files.size(path)
        if length > index_bytes:
            return False
        stored = body[_DIRECTORY_AT : _DIRECTORY_AT + length]
        if len(stored) < length:
            stored = files.read(path, _DIRECTORY_AT, length)
        if zlib.crc32(stored) != checksum:
            return False
    except FileNotFoundError:
        return False
    directory = orjson.loads(zstandard.ZstdDecompressor().decompress(stored))
    if "replayed" not in directory:  # written before there was such a thing
        return False
    _fill(segment, directory, _DIRECTORY_AT + length)
    segment.index_bytes = index_bytes
    return True


def _fill(segment: Segment, directory: dict[str, Any], tables_at: int) -> None:
    segment.created_ms = directory["created_ms"]
    segment.size_bytes = directory["size_bytes"]
    segment.is_damaged = directory["is_damaged"]
    segment.accepted, segment.replayed = (
        {stream: {int(hour): rows for hour, rows in hours.items()} for stream, hours in directory[name].items()}
        for name in ("accepted", "replayed")
    )
    for stream, lane, first, last, data_bytes, stored_bytes, oldest_ms, at, table_bytes in directory["streams"]:
        extent = Extent(first, last, data_bytes, stored_bytes, oldest_ms, tables_at + at, table_bytes)
        segment.extents[stream, lane] = extent
        segment.pending += 1
        segment.live_bytes += stored_bytes
    segment.tables = None


def read_table(files: FileSystem, path: Path, extent: Extent) -> FrameTable | None:
    """Return the table of one stream and lane, or None where it is missing or damaged. Errors: OSError."""
    try:
        body = files.read(path, extent.at, extent.table_bytes)
    except FileNotFoundError:
        return None
    if len(body) < 4 or struct.unpack_from("<I", body)[0] != zlib.crc32(body[4:]):
        return None
    raw = zstandard.ZstdDecompressor().decompress(body[4:])
    (mixed_bytes,) = struct.unpack_from("<I", raw)
    mixed = orjson.loads(raw[4 : 4 + mixed_bytes])
    hours = {int(first): {int(hour): rows for hour, rows in by_hour.items()} for first, by_hour in mixed.items()}
    return FrameTable.from_bytes(raw[4 + mixed_bytes :], hours)
