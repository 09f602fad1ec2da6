"""Looking into a log that another process may have open: nothing is written, cut or locked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from firehose.errors import UnavailableError
from firehose.filesystem import FileSystem
from firehose.log import sidecar
from firehose.log.backlog import Backlog, split_shard
from firehose.log.index import FrameTable, Key
from firehose.log.recovery import Silence, load_segments
from firehose.log.segment import Segment
from firehose.protocols import Lag

#: How often the folder is looked at again because segments came or went meanwhile.
_LOOKS = 10


@dataclass(frozen=True, slots=True)
class Inspection:
    """What lay in a log when it was looked at. `accepted`: rows by segment name, stream and hour, banked ones included.

    Compacted segments accept nothing here: they were banked before.
    """

    accepted: Mapping[str, Mapping[str, Mapping[int, int]]]
    _folder: Path
    _files: FileSystem
    _backlog: Backlog

    def stream_uids(self) -> set[str]:
        """Return the streams with rows on the disk, done or not."""
        return self._backlog.streams()

    def shards(self, stream_uid: str) -> list[str]:
        """Return the shards of a stream with rows on the disk, done or not; earlier openings first."""
        return self._backlog.shards(stream_uid)

    def lag(self, stream_uid: str, shard: str, position: int) -> Lag:
        """Return what a shard holds beyond `position`. Blocks for a read."""
        cut = self._backlog.cut_by(stream_uid, shard, position)
        table = self._table(cut, (stream_uid, split_shard(shard)[1])) if cut is not None else None
        return self._backlog.lag(stream_uid, shard, position, cut=cut, table=table)

    def _table(self, segment: Segment, key: Key) -> FrameTable | None:
        if segment.tables is not None:
            return segment.tables[key]
        return sidecar.read_table(self._files, segment.sidecar_path(self._folder), segment.extents[key])


def inspect(folder: Path, files: FileSystem) -> Inspection:
    """Return what is in the log in `folder`. Blocks; what is written meanwhile may or may not be seen.

    Errors: DataDirectoryError where a newer version wrote it; UnavailableError where the disk refuses.
    """
    try:
        for _ in range(_LOOKS):
            names = files.list(folder)
            segments = load_segments(files, folder, Silence(), repair=False).segments
            if files.list(folder) == names:
                break
    except OSError as error:
        raise UnavailableError(f"the ingest log in {folder} cannot be read: {error}") from error
    backlog = Backlog()
    for segment in segments:
        backlog.add(segment)
    accepted = {segment.name: segment.accepted for segment in segments}
    return Inspection(accepted, folder, files, backlog)
