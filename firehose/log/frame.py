"""The frame: rows of one stream as they lie in a segment, written once and never changed.

    head   112 bytes: what the frame holds, the checksum of its body, and its own checksum
    meta   tokens of puts, and rows by hour where they are of more than one; mostly empty
    stored zstd level 1 of [length of each row][arrival of each row, where it is not one for all][data end to end]

The checksum is `zlib.crc32`, begun with the segment's name so that a frame is only good where it was written. Measured
on 1 MiB of JSON: zstd's own checksum costs 60 µs to write and 60 µs to verify (it hashes the raw bytes) and leaves the
head open to damage; crc32 of the stored bytes costs 43 µs, lets go of the GIL, and is in the standard library.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import zstandard

from firehose import arrow
from firehose.clock import hour_of
from firehose.errors import DataDirectoryError, IntegrityError
from firehose.records import ROWS, WHOLE, Batch, hours_of

#: The version of frames; a newer one is refused.
FORMAT = 1

Lane = Literal["put", "replay"]
LANES: tuple[Lane, ...] = ("put", "replay")

#: What a frame begins with: not UTF-8, so that text never looks like one.
MAGIC = b"\xf5\xa7Fr"

#: magic, version, lane, layout, meta bytes, rows, first and base sequence, data bytes, stored bytes, oldest and newest
#: arrival, stream, checksum of the body (meta and stored bytes), checksum of all before it
_HEAD = struct.Struct("<4sBBBxIIqqQQqq40sII")
HEAD_BYTES = _HEAD.size

_META = struct.Struct("<II")
_TOKEN = struct.Struct("<IIH")
_HOUR = struct.Struct("<qI")

#: What a row costs in memory beside its payload: sequence, sub-sequence, arrival, offset.
ROW_BYTES = 32

#: Bits of `layout`: lengths are int64 instead of int32; each row has its own arrival.
_WIDE, _ARRIVALS = 1, 2

#: The largest buffer that is kept from frame to frame: larger puts are rare.
_KEPT_BYTES = 2 * 2**20

#: Measured on JSON events: 4.5 times smaller at 640 MB/s. Level 3 is three times slower and gains nothing.
_LEVEL = 1


@dataclass(frozen=True, slots=True)
class Put:
    """Rows that were put together: all of them are in the log, or none. `token` is the producer's, kept with them."""

    stream: str
    lane: Lane
    data: pa.LargeBinaryArray
    arrival_ms: int | arrow.Ints
    token: bytes = b""

    @property
    def data_bytes(self) -> int:
        return arrow.values_of(self.data).nbytes

    @property
    def cost_bytes(self) -> int:
        """What the rows cost in memory; those without a byte of data cost something, too."""
        return self.data_bytes + ROW_BYTES * len(self.data)


@dataclass(frozen=True, slots=True)
class Head:
    """What a frame says of itself. `base`: the first sequence of its stream and lane in this segment."""

    stream: str
    lane: Lane
    layout: int
    meta_bytes: int
    rows: int
    first: int
    base: int
    data_bytes: int
    stored_bytes: int
    oldest_ms: int
    newest_ms: int
    body_crc: int

    @property
    def frame_bytes(self) -> int:
        return HEAD_BYTES + self.meta_bytes + self.stored_bytes

    def to_bytes(self, seed: int) -> bytes:
        """Return the head as it is written, with its checksum."""
        fields = (self.meta_bytes, self.rows, self.first, self.base, self.data_bytes, self.stored_bytes)
        times_and_name = (self.oldest_ms, self.newest_ms, self.stream.encode(), self.body_crc)
        body = _HEAD.pack(MAGIC, FORMAT, LANES.index(self.lane), self.layout, *fields, *times_and_name, 0)[:-4]
        return body + struct.pack("<I", zlib.crc32(body, seed))


@dataclass(frozen=True, slots=True)
class Token:
    """The token of one put, and which rows came with it."""

    token: bytes
    shard: str
    first_sequence: int
    rows: int


def seed_of(segment_name: str) -> int:
    """Return what checksums of frames of this segment begin with."""
    return zlib.crc32(segment_name.encode())


@dataclass(frozen=True, slots=True)
class Encoded:
    """A frame to be written: its head, its rows by hour, its bytes in pieces."""

    head: Head
    hours: dict[int, int]
    pieces: tuple[bytes, bytes, bytes]


class FrameEncoder:
    """Makes frames, one thread at a time. It keeps what is dear to make anew: the compressor, and the buffer it reads.

    Measured: a fresh buffer of 1 MiB for each frame costs 0.6 ms of page faults, a third of what compressing it costs.
    """

    def __init__(self) -> None:
        self._compressor = zstandard.ZstdCompressor(level=_LEVEL)
        self._buffer = bytearray()

    def encode(self, puts: Sequence[Put], *, first: int, base: int, seed: int) -> Encoded:
        """Return one frame with the rows of `puts`, which are of one stream and lane."""
        lengths = np.concatenate([arrow.byte_lengths(put.data) for put in puts])
        values = [arrow.values_of(put.data).cast("B") for put in puts]
        layout = _WIDE if int(lengths.max()) > np.iinfo(np.int32).max else 0
        columns = [lengths.astype("<i8" if layout else "<i4").data.cast("B")]
        arrivals = _one_for_all(puts)
        if isinstance(arrivals, int):
            oldest, newest = arrivals, arrivals
        else:
            layout |= _ARRIVALS
            oldest, newest = int(arrivals.min()), int(arrivals.max())
            columns.append(arrivals.astype("<i8").data.cast("B"))
        hours = {hour_of(oldest): len(lengths)}
        if not isinstance(arrivals, int) and hour_of(newest) not in hours:
            hours = hours_of(arrivals)
        stored = self._compress([*columns, *values])
        meta = _encode_meta(puts, hours)
        head = Head(
            stream=puts[0].stream,
            lane=puts[0].lane,
            layout=layout,
            meta_bytes=len(meta),
            rows=len(lengths),
            first=first,
            base=base,
            data_bytes=sum(map(len, values)),
            stored_bytes=len(stored),
            oldest_ms=oldest,
            newest_ms=newest,
            body_crc=zlib.crc32(stored, zlib.crc32(meta, seed)),
        )
        return Encoded(head, hours, (head.to_bytes(seed), meta, stored))

    def _compress(self, pieces: Sequence[memoryview]) -> bytes:
        total_bytes = sum(map(len, pieces))
        buffer = self._buffer if total_bytes <= len(self._buffer) else bytearray(total_bytes)
        if total_bytes <= _KEPT_BYTES:
            self._buffer = buffer
        at = 0
        for piece in pieces:
            buffer[at : at + len(piece)] = piece
            at += len(piece)
        return self._compressor.compress(memoryview(buffer)[:at])


def _one_for_all(puts: Sequence[Put]) -> int | arrow.Ints:
    first = puts[0].arrival_ms
    if isinstance(first, int) and all(isinstance(put.arrival_ms, int) and put.arrival_ms == first for put in puts):
        return first
    return np.concatenate([np.broadcast_to(np.asarray(put.arrival_ms, np.int64), (len(put.data),)) for put in puts])


def _encode_meta(puts: Sequence[Put], hours: dict[int, int]) -> bytes:
    hours = hours if len(hours) > 1 else {}
    if not hours and not any(put.token for put in puts):
        return b""
    out, at, count = bytearray(), 0, 0
    for put in puts:
        if put.token:
            out += _TOKEN.pack(at, len(put.data), len(put.token)) + put.token
            count += 1
        at += len(put.data)
    for hour, rows in hours.items():
        out += _HOUR.pack(hour, rows)
    return _META.pack(count, len(hours)) + bytes(out)


def parse_head(buffer: bytes | memoryview, at: int, seed: int) -> Head | None:
    """Return the head that lies at `at`, or None where none does.

    Errors: DataDirectoryError where a newer version of this software wrote it.
    """
    if len(buffer) - at < HEAD_BYTES or bytes(buffer[at : at + 4]) != MAGIC:
        return None
    _magic, version, lane, layout, *numbers, stream, body_crc, head_crc = _HEAD.unpack_from(buffer, at)
    if zlib.crc32(memoryview(buffer)[at : at + HEAD_BYTES - 4], seed) != head_crc:
        return None
    if version > FORMAT:
        raise DataDirectoryError(
            f"the ingest log holds frames of format {version}, this version knows up to {FORMAT}; use a newer one"
        )
    meta_bytes, rows, first, base, data_bytes, stored_bytes, oldest_ms, newest_ms = numbers
    return Head(
        stream=stream.rstrip(b"\0").decode(),
        lane=LANES[lane],
        layout=layout,
        meta_bytes=meta_bytes,
        rows=rows,
        first=first,
        base=base,
        data_bytes=data_bytes,
        stored_bytes=stored_bytes,
        oldest_ms=oldest_ms,
        newest_ms=newest_ms,
        body_crc=body_crc,
    )


def is_whole(head: Head, body: bytes | memoryview, seed: int) -> bool:
    """Return whether `body` (meta and stored bytes) is what was written with `head`."""
    return len(body) == head.meta_bytes + head.stored_bytes and zlib.crc32(body, seed) == head.body_crc


def hours_in(head: Head, meta: memoryview) -> dict[int, int]:
    """Return rows by hour of a frame whose body is whole."""
    if hour_of(head.oldest_ms) == hour_of(head.newest_ms):
        return {hour_of(head.oldest_ms): head.rows}
    count = _META.unpack_from(meta)[1]
    return dict(_HOUR.iter_unpack(meta[len(meta) - count * _HOUR.size :]))


def tokens_in(head: Head, meta: memoryview, shard: str) -> Iterator[Token]:
    """Yield the tokens of a frame whose body is whole."""
    at = _META.size
    for _ in range(_META.unpack_from(meta)[0] if meta else 0):
        row, rows, token_bytes = _TOKEN.unpack_from(meta, at)
        at += _TOKEN.size
        yield Token(bytes(meta[at : at + token_bytes]), shard, head.first + row, rows)
        at += token_bytes


@dataclass(frozen=True, slots=True)
class Rows:
    """Decoded rows, contiguous from `first` on. Shape: `lengths` and `arrival_ms` one each, `data` end to end."""

    first: int
    lengths: npt.NDArray[np.integer[Any]]
    arrival_ms: arrow.Ints
    data: memoryview

    @property
    def last(self) -> int:
        return self.first + len(self.lengths) - 1

    @property
    def cost_bytes(self) -> int:
        return len(self.data) + ROW_BYTES * len(self.lengths)

    def part(self, start: int, stop: int) -> Rows:
        """Return the rows from index `start` to before `stop`, without a copy."""
        if start == 0 and stop == len(self.lengths):
            return self
        ends = np.concatenate(([0], np.cumsum(self.lengths, dtype=np.int64)))
        data = self.data[int(ends[start]) : int(ends[stop])]
        return Rows(self.first + start, self.lengths[start:stop], self.arrival_ms[start:stop], data)

    def count_within(self, max_bytes: int) -> int:
        """Return how many rows from the first on cost at most `max_bytes` together, but at least one."""
        ends = np.cumsum(self.lengths + np.int64(ROW_BYTES))
        return max(1, int(np.searchsorted(ends, max_bytes, side="right")))


def decode(frame: memoryview, seed: int) -> tuple[Head, Rows]:
    """Return the rows of a frame. Errors: IntegrityError where a bit of it is not as it was written."""
    head = parse_head(frame, 0, seed)
    if head is None or not is_whole(head, frame[HEAD_BYTES:], seed):
        raise IntegrityError("a frame of the ingest log is damaged")
    raw = zstandard.ZstdDecompressor().decompress(frame[HEAD_BYTES + head.meta_bytes :])
    width = "<i8" if head.layout & _WIDE else "<i4"
    lengths = np.frombuffer(raw, width, head.rows)
    at = lengths.nbytes
    if head.layout & _ARRIVALS:
        arrival_ms = np.frombuffer(raw, "<i8", head.rows, at).astype(np.int64, copy=False)
        at += arrival_ms.nbytes
    else:
        arrival_ms = np.broadcast_to(np.int64(head.oldest_ms), (head.rows,))
    return head, Rows(head.first, lengths, arrival_ms, memoryview(raw)[at:])


def batch_of(shard: str, pieces: Sequence[Rows]) -> Batch:
    """Return one batch with the rows of all `pieces`; the bytes of a single piece are not copied."""
    data = pieces[0].data if len(pieces) == 1 else memoryview(b"".join([piece.data for piece in pieces]))
    lengths = np.concatenate([piece.lengths for piece in pieces]) if pieces else np.zeros(0, np.int64)
    sequences = [np.arange(piece.first, piece.last + 1, dtype=np.int64) for piece in pieces]
    arrivals = [piece.arrival_ms for piece in pieces]
    columns = [
        pa.array(np.concatenate(sequences) if sequences else np.zeros(0, np.int64)),
        pa.array(np.full(len(lengths), WHOLE, np.int32)),
        pa.array(np.concatenate(arrivals) if arrivals else np.zeros(0, np.int64)),
        pa.nulls(len(lengths), pa.string()),
        arrow.binary_column_from_lengths(lengths, pa.py_buffer(data)),
    ]
    return Batch(shard, pa.RecordBatch.from_arrays(columns, schema=ROWS))
