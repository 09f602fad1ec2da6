"""What a log finds when it is opened: segments are known from their sidecars; those without one are scanned."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

from firehose.filesystem import FileSystem
from firehose.log import sidecar
from firehose.log.events import RowsUnreadable, SegmentDamaged, SegmentUnavailable, SidecarFailed, TornTailCut
from firehose.log.scan import Findings, scan
from firehose.log.segment import HEADER_BYTES, Segment, parse_header, parse_name, shard_of
from firehose.telemetry import Emitter, Event

#: Ends the name of a file that was not finished; it means nothing after a crash.
TEMPORARY = ".tmp"


class Silence:
    """An emitter for those who only look."""

    def emit(self, event: Event) -> None:
        """Say nothing."""


def load_segments(files: FileSystem, folder: Path, telemetry: Emitter, *, repair: bool) -> list[Segment]:
    """Return the segments in `folder`, oldest first. `repair`: cut torn tails, write sidecars, clear away leftovers.

    A segment that the disk refuses to read is left out and told of; it does not keep the others from being delivered.

    Errors: OSError where the folder itself cannot be read; DataDirectoryError where a newer version wrote it.
    """
    found = list(_newest_generations(files, folder, repair))
    segments = []
    for segment, successor in zip_longest(found, found[1:]):
        try:
            if sidecar.load(files, folder, segment) or _scan(files, folder, segment, successor, telemetry, repair):
                segments.append(segment)
        except OSError as error:
            telemetry.emit(SegmentUnavailable(str(segment.path(folder)), str(error)))
    return segments


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
    files: FileSystem, folder: Path, segment: Segment, successor: Segment | None, telemetry: Emitter, repair: bool
) -> bool:
    """Fill `segment` from its file; false where nothing in it ever counted."""
    path = segment.path(folder)
    size_bytes = files.size(path)
    limit = min(size_bytes, _counted_bytes(files, folder, segment, successor))
    findings = scan(files, path, segment, limit)
    if segment.is_banked:
        segment.accepted.clear()
    _tell(findings, path, segment, telemetry)
    if findings.end < limit and repair:
        telemetry.emit(TornTailCut(str(path), findings.end, limit - findings.end))
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
