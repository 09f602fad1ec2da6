"""A segment: one file of frames, and what is known of it in memory.

000000000007-5f1c09aa31d2e8b4.0.log     the seventh segment, of the opening 5f1c…, not compacted (0 times)
000000000007-5f1c09aa31d2e8b4.0.idx     its sidecar: where whose frames lie; a cache, made when it is sealed
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from firehose.errors import DataDirectoryError
from firehose.log.frame import Lane, seed_of
from firehose.log.index import Entry, Extent, FrameTable, Key

#: The version of segments and sidecars; a newer one is refused.
FORMAT = 1

#: magic, version, checksum of both: the same in every version to come, so that a newer one is told from a damaged one.
_PREAMBLE = struct.Struct("<8sII")
_MAGIC = b"\xf5FHLOG\r\n"

#: created, number of the segment before, how many of its bytes count; then the checksum of all of the header
_HEADER = struct.Struct("<qQQ")
HEADER_BYTES = _PREAMBLE.size + _HEADER.size + 4

_NAME = re.compile(r"(\d{12})-([0-9a-f]{16})\.(\d+)\.(log|idx)")


def shard_of(opening: str, lane: Lane) -> str:
    """Return the name of the shard that the rows of a lane are in: random per opening, so identities never repeat."""
    return f"log-{opening}-{lane}"


@dataclass(slots=True, eq=False)
class Segment:
    """One segment file. `tables` is None once its sidecar is on the disk: tables are then read from there."""

    number: int
    opening: str
    generation: int
    created_ms: int
    #: The bytes that count: frames that were acknowledged. The file may be longer after a failed write.
    size_bytes: int = 0
    index_bytes: int = 0
    extents: dict[Key, Extent] = field(default_factory=dict)
    tables: dict[Key, FrameTable] | None = field(default_factory=dict)
    #: Rows by stream and hour, until they are banked: of the put lane, and of the replay lane.
    accepted: dict[str, dict[int, int]] = field(default_factory=dict)
    replayed: dict[str, dict[int, int]] = field(default_factory=dict)
    #: Set where the file is gone from the disk: tables in which every row is lost.
    holes: dict[Key, FrameTable] | None = None
    is_open: bool = False
    is_banked: bool = False
    is_damaged: bool = False
    #: How many streams and lanes have not released all they have here, and the bytes of their frames.
    pending: int = 0
    live_bytes: int = 0
    #: How many reads are under way: its files must stay meanwhile.
    pins: int = 0

    @property
    def name(self) -> str:
        """The name the accounts know it by; compaction does not change it."""
        return f"{self.number:012d}-{self.opening}"

    @property
    def seed(self) -> int:
        return seed_of(self.name)

    @property
    def disk_bytes(self) -> int:
        return self.size_bytes + self.index_bytes

    def path(self, folder: Path) -> Path:
        return folder / f"{self.name}.{self.generation}.log"

    def sidecar_path(self, folder: Path) -> Path:
        return folder / f"{self.name}.{self.generation}.idx"

    def add(self, key: Key, entry: Entry, hours: Mapping[int, int]) -> None:
        """Take a frame, or a hole where one was, into the index."""
        assert self.tables is not None
        extent = self.extents.get(key)
        if extent is None:
            extent = self.extents[key] = Extent(entry.first, entry.first - 1, 0, 0, entry.oldest_ms)
            self.pending += 1
            self.tables[key] = FrameTable()
        assert entry.first == extent.last + 1, f"{self.name}: {key} has a gap before {entry.first}"
        if not extent.is_released:
            self.live_bytes += entry.frame_bytes
        extent.last = entry.last
        extent.data_bytes += entry.data_bytes
        extent.stored_bytes += entry.frame_bytes
        extent.oldest_ms = min(extent.oldest_ms, entry.oldest_ms)
        self.tables[key].add(entry, hours)
        stream, lane = key
        account = (self.accepted if lane == "put" else self.replayed).setdefault(stream, {})
        for hour, rows in hours.items():
            account[hour] = account.get(hour, 0) + rows

    def bank(self) -> None:
        """Take note that the accounts hold what was accepted here."""
        self.is_banked = True
        self.accepted, self.replayed = {}, {}

    def mark(self, extent: Extent, *, is_released: bool) -> None:
        """Take note that all rows of an extent are released, or that new ones came after they had been."""
        if extent.is_released != is_released:
            extent.is_released = is_released
            self.pending -= 1 if is_released else -1
            self.live_bytes -= extent.stored_bytes if is_released else -extent.stored_bytes

    @contextmanager
    def pinned(self) -> Iterator[None]:
        """Keep the files while they are read."""
        self.pins += 1
        try:
            yield
        finally:
            self.pins -= 1


def preamble(version: int = FORMAT) -> bytes:
    """Return what every file of the log begins with."""
    begin = struct.pack("<8sI", _MAGIC, version)
    return begin + struct.pack("<I", zlib.crc32(begin))


PREAMBLE_BYTES = _PREAMBLE.size


def check_preamble(body: bytes, path: Path) -> bool:
    """Return whether `body` begins as our files do. Errors: DataDirectoryError where a newer version wrote it."""
    if len(body) < PREAMBLE_BYTES:
        return False
    magic, version, checksum = _PREAMBLE.unpack_from(body)
    if magic != _MAGIC or zlib.crc32(body[: PREAMBLE_BYTES - 4]) != checksum:
        return False
    if version > FORMAT:
        raise DataDirectoryError(f"{path} has format {version}, this version knows up to {FORMAT}; use a newer one")
    return True


class Header(NamedTuple):
    """What a segment says of itself, and of the one before: bytes of that one beyond `previous_bytes` never counted."""

    created_ms: int
    previous: int = 0
    previous_bytes: int = 0


def encode_header(segment: Segment, header: Header) -> bytes:
    """Return the first bytes of a segment."""
    body = preamble() + _HEADER.pack(*header)
    return body + struct.pack("<I", zlib.crc32(body, segment.seed))


def parse_header(segment: Segment, body: bytes, path: Path) -> Header | None:
    """Return the header, or None where it is damaged. Errors: DataDirectoryError where a newer version wrote it."""
    if not check_preamble(body, path) or len(body) < HEADER_BYTES:
        return None
    (checksum,) = struct.unpack_from("<I", body, HEADER_BYTES - 4)
    if zlib.crc32(body[: HEADER_BYTES - 4], segment.seed) != checksum:
        return None
    return Header(*_HEADER.unpack_from(body, PREAMBLE_BYTES))


def parse_name(name: str) -> tuple[int, str, int, str] | None:
    """Return number, opening, generation and ending of a file's name, or None where it is not one of ours."""
    found = _NAME.fullmatch(name)
    return (int(found[1]), found[2], int(found[3]), found[4]) if found else None
