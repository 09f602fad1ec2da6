"""Reading a segment without its sidecar: every good frame is found, whatever stands between them.

Three findings. A frame is good when both its checksums fit. Bad bytes with a good frame behind them are *damage*: the
rows that lay there are lost, and because sequences are contiguous it is known exactly how many of which stream (each
frame also names the first sequence of its stream in the segment, so that a lost first frame shows, too). Bad bytes with
nothing good behind them are a *torn tail*: a write that a crash cut short and nobody was told of.

Two limits. Of a stream whose last frame of the segment lost its head, only the damaged bytes are known, not the rows.
And a disk that writes out of order may, in a power cut, keep the end of a group without its beginning: that counts as
damage, though nobody was told of those rows either; the account closes, the alarm is one too many.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from firehose.clock import hour_of
from firehose.filesystem import FileSystem
from firehose.log.frame import HEAD_BYTES, MAGIC, Head, hours_in, is_whole, parse_head
from firehose.log.index import Entry, Key
from firehose.log.segment import HEADER_BYTES, Segment, parse_header

#: How much is read at once, unless a frame is larger.
_READ_BYTES = 2**20


@dataclass(slots=True)
class Findings:
    """What a scan found. `end`: where the last good frame ends; what lies behind is torn."""

    end: int = HEADER_BYTES
    damage: list[tuple[int, int]] = field(default_factory=list)
    holes: list[tuple[Key, Entry]] = field(default_factory=list)


def scan(files: FileSystem, path: Path, segment: Segment, limit: int) -> Findings:
    """Fill the index of `segment` from its first `limit` bytes.

    Errors: OSError; DataDirectoryError where a newer version wrote it.
    """
    window = _Window(files, path, limit)
    findings = Findings()
    bad: list[tuple[int, int, Head | None]] = []
    header = parse_header(segment, bytes(window.get(0, HEADER_BYTES)), path)
    if header is None:
        bad.append((0, min(HEADER_BYTES, limit), None))
    at = HEADER_BYTES
    while at < limit:
        head = parse_head(window.get(at, HEAD_BYTES), 0, segment.seed)
        if head is None:
            end = _find_head(window, at + 1, limit, segment.seed)
            bad.append((at, end, None))
        else:
            end = at + head.frame_bytes
            body = window.get(at + HEAD_BYTES, head.frame_bytes - HEAD_BYTES)
            if is_whole(head, body, segment.seed) and head.first >= _expected(segment, head):
                _settle(segment, findings, bad)
                _take(segment, findings, head, at, hours_in(head, body[: head.meta_bytes]))
                findings.end = end
            else:
                bad.append((at, min(end, limit), head))
        at = end
    oldest_ms = min((extent.oldest_ms for extent in segment.extents.values()), default=0)
    segment.created_ms = header.created_ms if header is not None else oldest_ms
    segment.size_bytes = findings.end
    return findings


def _expected(segment: Segment, head: Head) -> int:
    """Return the sequence that the next frame of this stream and lane begins with."""
    extent = segment.extents.get((head.stream, head.lane))
    return extent.last + 1 if extent is not None else head.base


def _settle(segment: Segment, findings: Findings, bad: list[tuple[int, int, Head | None]]) -> None:
    """Count bad bytes as damage, now that a good frame was found behind them."""
    for begin, end, head in bad:
        findings.damage.append((begin, end - begin))
        segment.is_damaged = True
        if head is not None and head.first >= _expected(segment, head):
            _take(segment, findings, head, -1, {})
    bad.clear()


def _take(segment: Segment, findings: Findings, head: Head, offset: int, hours: dict[int, int]) -> None:
    """Put a frame into the index, and before it a hole where rows of its stream are missing."""
    key: Key = (head.stream, head.lane)
    expected = _expected(segment, head)
    if head.first > expected:
        _take_hole(segment, findings, key, Entry(expected, head.first - expected, -1, 0, 0, head.oldest_ms))
    if offset < 0:
        _take_hole(segment, findings, key, Entry(head.first, head.rows, -1, 0, 0, head.oldest_ms))
    else:
        entry = Entry(head.first, head.rows, offset, head.frame_bytes, head.data_bytes, head.oldest_ms)
        segment.add(key, entry, hours)


def _take_hole(segment: Segment, findings: Findings, key: Key, hole: Entry) -> None:
    findings.holes.append((key, hole))
    segment.add(key, hole, {hour_of(hole.oldest_ms): hole.rows})


def _find_head(window: _Window, at: int, limit: int, seed: int) -> int:
    """Return where the next frame begins, or `limit` where none does."""
    while at < limit:
        chunk = bytes(window.get(at, _READ_BYTES))
        found = chunk.find(MAGIC)
        while found >= 0:
            if parse_head(window.get(at + found, HEAD_BYTES), 0, seed) is not None:
                return at + found
            found = chunk.find(MAGIC, found + 1)
        at += max(len(chunk) - len(MAGIC) + 1, 1)
    return limit


class _Window:
    """Reads ahead, so that small frames do not cost a system call each."""

    def __init__(self, files: FileSystem, path: Path, limit: int) -> None:
        self._files, self._path, self._limit = files, path, limit
        self._at = 0
        self._buffer = memoryview(b"")

    def get(self, offset: int, length: int) -> memoryview:
        """Return `length` bytes from `offset` on, fewer where the file ends before."""
        length = max(min(length, self._limit - offset), 0)
        if offset < self._at or offset + length > self._at + len(self._buffer):
            ahead = min(max(length, _READ_BYTES), self._limit - offset)
            self._buffer = memoryview(self._files.read(self._path, offset, ahead))
            self._at = offset
        return self._buffer[offset - self._at : offset - self._at + length]
