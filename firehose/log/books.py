"""The books of a banked segment: whose rows it holds. The state keeps them, so that a file that is gone is missed.

They are the same whatever becomes of the segment: rows that were done and compacted away since are done in the state.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from firehose.log.index import Entry, Extent, FrameTable, Key
from firehose.log.segment import Segment


def encode(segment: Segment) -> str:
    """Return the books of a sealed segment that was not banked yet."""
    streams = []
    for (stream, lane), extent in segment.extents.items():
        hours = (segment.accepted if lane == "put" else segment.replayed)[stream]
        streams.append([stream, lane, extent.first, extent.last, extent.data_bytes, extent.oldest_ms, hours])
    books = {"created_ms": segment.created_ms, "size_bytes": segment.size_bytes, "streams": streams}
    return orjson.dumps(books, option=orjson.OPT_NON_STR_KEYS).decode()


def lost(name: str, text: str) -> Segment:
    """Return a segment whose file is gone: of its rows nothing is left but how many they were."""
    books = orjson.loads(text)
    number, _, opening = name.partition("-")
    segment = Segment(int(number), opening, 0, books["created_ms"])
    segment.holes = {}
    for key, extent, hours in _fill(segment, books):
        segment.holes[key] = FrameTable()
        segment.holes[key].add(Entry(extent.first, extent.rows, -1, 0, 0, extent.oldest_ms), hours)
    return segment


def complete(segment: Segment, text: str) -> list[tuple[Key, Entry]]:
    """Add the rows that a scan did not find at the end of streams as holes, and return those."""
    books, holes = orjson.loads(text), []
    for key, extent, hours in _extents(books):
        found = segment.extents.get(key)
        last = found.last if found is not None else extent.first - 1
        if last < extent.last:
            known = (segment.accepted if key[1] == "put" else segment.replayed).get(key[0], {})
            left = {hour: rows - known.get(hour, 0) for hour, rows in hours.items() if rows > known.get(hour, 0)}
            hole = Entry(last + 1, extent.last - last, -1, 0, 0, min(left, default=extent.oldest_ms))
            segment.add(key, hole, left)
            holes.append((key, hole))
    if holes:  # what lies behind the last good frame is no torn write: it is kept with the rest
        segment.is_damaged, segment.size_bytes = True, max(segment.size_bytes, books["size_bytes"])
    return holes


def unavailable(found: Segment, text: str) -> Segment:
    """Return a segment whose file the disk refuses to read now. Reading its rows scans it, as soon as the disk lets us.

    It counts as damaged: it is not compacted, and in the end it is set aside instead of being removed.
    """
    books = orjson.loads(text)
    segment = Segment(found.number, found.opening, found.generation, books["created_ms"], is_damaged=True)
    # a compacted file is whole, so all of it counts; how much that is will be known once it can be read
    segment.size_bytes = books["size_bytes"] if found.generation == 0 else 0
    _fill(segment, books)
    return segment


def _fill(segment: Segment, books: dict[str, Any]) -> list[tuple[Key, Extent, dict[int, int]]]:
    """Fill the index of `segment`, and return it with the hours of its rows."""
    filled = list(_extents(books))
    segment.extents = {key: extent for key, extent, _ in filled}
    segment.pending = len(filled)
    segment.tables = None
    segment.bank()
    return filled


def _extents(books: dict[str, Any]) -> Iterator[tuple[Key, Extent, dict[int, int]]]:
    for stream, lane, first, last, data_bytes, oldest_ms, hours in books["streams"]:
        extent = Extent(first, last, data_bytes, 0, oldest_ms)
        yield (stream, lane), extent, {int(hour): rows for hour, rows in hours.items()}
