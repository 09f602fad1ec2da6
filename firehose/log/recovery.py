"""What a log finds when it is opened: segments are known from their sidecars; those without one are scanned."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from firehose.filesystem import FileSystem, sync_anew
from firehose.log import books, sidecar
from firehose.log.events import (
    RowsUnreadable,
    SegmentDamaged,
    SegmentMissing,
    SegmentUnavailable,
    SidecarFailed,
    TornTailCut,
)
from firehose.log.scan import Findings, scan
from firehose.log.segment import HEADER_BYTES, Segment, parse_header, parse_name, shard_of
from firehose.telemetry import Emitter, Event

#: Ends the name of a file that was not finished; it means nothing after a crash.
TEMPORARY = ".tmp"


class Silence:
    """An emitter for those who only look."""

    def emit(self, event: Event) -> None:
        """Say nothing."""


class Loaded(NamedTuple):
    """The segments of a log, oldest first, and those that the disk refuses to read and nobody knows the rows of."""

    segments: list[Segment]
    unknown: list[Segment]


def load_segments(
    files: FileSystem,
    folder: Path,
    telemetry: Emitter,
    *,
    repair: bool,
    banked: Mapping[str, str] = MappingProxyType({}),
) -> Loaded:
    """Return the segments in `folder`. `repair`: cut torn tails, write sidecars, clear away leftovers.

    A segment that the disk refuses to read, or that is gone, does not keep the others from being delivered. It is told
    of, and known by its books, where `banked` has them by its name.

    Errors: OSError where the folder itself cannot be read; DataDirectoryError where a newer version wrote it.
    """
    found = list(_newest_generations(files, folder, repair))
    if repair:
        files.sync_folder(folder)  # the names of files that are believed, too
    segments: list[Segment] = []
    unknown: list[Segment] = []
    for segment, successor in zip_longest(found, found[1:]):
        try:
            text = banked.get(segment.name, "")
            is_indexed = _is_indexed(files, folder, segment, telemetry)
            if is_indexed or _scan(files, folder, segment, successor, telemetry, repair, text):
                segments.append(segment)
        except OSError as error:
            telemetry.emit(SegmentUnavailable(str(segment.path(folder)), str(error)))
            if text:
                segments.append(books.unavailable(segment, text))
            else:
                unknown.append(segment)
    segments += _missing(folder, banked, {segment.name for segment in (*segments, *unknown)}, telemetry)
    return Loaded(sorted(segments, key=lambda each: (each.number, each.opening)), unknown)


def _missing(folder: Path, banked: Mapping[str, str], present: set[str], telemetry: Emitter) -> Iterator[Segment]:
    """Yield the segments whose files are gone without having been let go."""
    for name, text in banked.items():
        if text and name not in present:
            segment = books.lost(name, text)
            rows = sum(extent.rows for extent in segment.extents.values())
            streams = len({stream for stream, _ in segment.extents})
            telemetry.emit(SegmentMissing(str(segment.path(folder)), streams, rows))
            yield segment


def _is_indexed(files: FileSystem, folder: Path, segment: Segment, telemetry: Emitter) -> bool:
    """Fill `segment` from its sidecar; false where that is no use."""
    try:
        return sidecar.load(files, folder, segment)
    except OSError as error:
        telemetry.emit(SidecarFailed(str(segment.sidecar_path(folder)), str(error)))
        return False


def _newest_generations(files: FileSystem, folder: Path, repair: bool) -> Iterator[Segment]:
    """Yield one segment per number: a compacted file was complete when it got its name, so it stands for its elders."""
    generations: dict[tuple[int, str], dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
    leftovers = []
    for name in files.list(folder):
        if parts := parse_name(name):
            number, opening, generation, ending = parts
            generations[number, opening][generation].add(ending)
        elif name.endswith(TEMPORARY) and parse_name(name.removesuffix(TEMPORARY)):
            leftovers.append(folder / name)
    for (number, opening), found in sorted(generations.items()):
        newest = max((generation for generation, endings in found.items() if "log" in endings), default=-1)
        for generation in found:
            segment = Segment(number, opening, generation, 0)
            if generation == newest:
                # only what was banked is compacted
                segment.is_banked = generation > 0
                yield segment
            else:
                leftovers += [segment.path(folder), segment.sidecar_path(folder)]
    for path in leftovers if repair else []:
        files.remove(path)


def _scan(
    files: FileSystem,
    folder: Path,
    segment: Segment,
    successor: Segment | None,
    telemetry: Emitter,
    repair: bool,
    text: str,
) -> bool:
    """Fill `segment` from its file, and from its books what is damaged there; false where nothing in it counts."""
    path = segment.path(folder)
    size_bytes = files.size(path)
    if repair:
        sync_anew(files, path)
    limit = min(size_bytes, _counted_bytes(files, folder, segment, successor))
    findings = scan(files, path, segment, limit)
    if text and segment.extents and not segment.generation:  # a compacted one lacks rows that are done
        findings.holes += books.complete(segment, text)
    if segment.is_banked:
        segment.bank()
    _tell(findings, path, segment, telemetry)
    if segment.size_bytes < limit and repair:
        telemetry.emit(TornTailCut(str(path), segment.size_bytes, limit - segment.size_bytes))
    if not segment.extents:
        if repair:
            files.remove(path)
        return False
    if repair:
        _repair(files, folder, segment, size_bytes, telemetry)
    return True


def _counted_bytes(files: FileSystem, folder: Path, segment: Segment, successor: Segment | None) -> int:
    """Return how many bytes the next segment says of this one: after a failed write, what came later was refused."""
    everything = 2**63
    if successor is None or successor.opening != segment.opening or segment.generation:
        return everything
    path = successor.path(folder)
    header = parse_header(successor, files.read(path, 0, HEADER_BYTES), path)
    return header.previous_bytes if header is not None and header.previous == segment.number else everything


def _tell(findings: Findings, path: Path, segment: Segment, telemetry: Emitter) -> None:
    for offset, damaged_bytes in findings.damage:
        telemetry.emit(SegmentDamaged(str(path), offset, damaged_bytes))
    for (stream, lane), hole in findings.holes:
        shard = shard_of(segment.opening, lane)
        telemetry.emit(RowsUnreadable(stream, shard, hole.first, hole.rows, str(path)))


def _repair(files: FileSystem, folder: Path, segment: Segment, size_bytes: int, telemetry: Emitter) -> None:
    """Cut what does not count and write the sidecar; neither is needed to go on, so a full disk does not stop us."""
    path = segment.path(folder)
    try:
        if segment.size_bytes < size_bytes:
            files.truncate(path, segment.size_bytes)
        segment.index_bytes = sidecar.write(files, folder, segment)
        segment.tables = None
    except OSError as error:
        telemetry.emit(SidecarFailed(str(path), str(error)))
