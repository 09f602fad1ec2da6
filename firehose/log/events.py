"""What happens to the ingest log, told once each."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import ClassVar

from firehose.telemetry import Event, Metrics


@dataclass(frozen=True, slots=True)
class TornTailCut(Event):
    """The end of a segment was not whole: a write that a crash cut short, never acknowledged. It was cut off."""

    level: ClassVar[int] = logging.WARNING
    path: str
    offset: int
    cut_bytes: int


@dataclass(frozen=True, slots=True)
class SegmentDamaged(Event):
    """Bytes of a segment are not as they were written. The frames around them stay readable."""

    level: ClassVar[int] = logging.ERROR
    path: str
    offset: int
    damaged_bytes: int

    def measure(self, metrics: Metrics) -> None:
        metrics.count("log_damaged_bytes_total", "Bytes of the ingest log found damaged.", self.damaged_bytes)


@dataclass(frozen=True, slots=True)
class RowsUnreadable(Event):
    """Acknowledged rows are lost to damage on the disk. They are counted; nothing else of the stream is touched."""

    level: ClassVar[int] = logging.ERROR
    stream: str
    shard: str
    first_sequence: int
    rows: int
    path: str

    def measure(self, metrics: Metrics) -> None:
        metrics.count("log_unreadable_rows_total", "Rows lost to damage on the disk.", self.rows)


@dataclass(frozen=True, slots=True)
class SegmentMissing(Event):
    """ALARM: a segment that the state knows is gone from the disk: somebody removed it, or a copy lacks it.

    `rows`: what it held; those of them that are not done yet are counted as unreadable, everything else goes on.
    """

    level: ClassVar[int] = logging.ERROR
    path: str
    streams: int
    rows: int

    def measure(self, metrics: Metrics) -> None:
        metrics.count("log_missing_segments_total", "Segments of the ingest log that are gone from the disk.")


@dataclass(frozen=True, slots=True)
class SegmentUnavailable(Event):
    """The disk refuses to read a segment. It is left where it is; the streams with rows in it wait, others go on."""

    level: ClassVar[int] = logging.ERROR
    path: str
    error: str


@dataclass(frozen=True, slots=True)
class LogWriteFailed(Event):
    """A write or sync failed: its puts were refused, the segment is left as it is, the next put begins a new one."""

    level: ClassVar[int] = logging.ERROR
    path: str
    error: str

    def measure(self, metrics: Metrics) -> None:
        metrics.count("log_write_failures_total", "Writes or syncs of the ingest log that failed.")


@dataclass(frozen=True, slots=True)
class SidecarFailed(Event):
    """A segment's sidecar could not be written. It is tried again; until then a restart takes longer."""

    level: ClassVar[int] = logging.WARNING
    path: str
    error: str


@dataclass(frozen=True, slots=True)
class LogFull(Event):
    """Producers are throttled: the quota or the disk is used up. It heals by itself once there is room."""

    level: ClassVar[int] = logging.WARNING
    reason: str
    used_bytes: int

    def measure(self, metrics: Metrics) -> None:
        metrics.gauge("log_is_full", "1 while producers are throttled for lack of room.", 1)


@dataclass(frozen=True, slots=True)
class LogHasRoom(Event):
    """Puts are taken again after the log was full."""

    used_bytes: int

    def measure(self, metrics: Metrics) -> None:
        metrics.gauge("log_is_full", "1 while producers are throttled for lack of room.", 0)


@dataclass(frozen=True, slots=True)
class SegmentRemoved(Event):
    """Every row of a segment is done and banked; its file is gone."""

    level: ClassVar[int] = logging.DEBUG
    segment: str
    freed_bytes: int


@dataclass(frozen=True, slots=True)
class SegmentSetAside(Event):
    """A damaged segment is no longer needed; its file was kept for whoever wants to look into it."""

    level: ClassVar[int] = logging.WARNING
    path: str


@dataclass(frozen=True, slots=True)
class SegmentCompacted(Event):
    """The frames of slow streams were written anew, so that the rest of a segment could be freed."""

    segment: str
    before_bytes: int
    after_bytes: int


@dataclass(frozen=True, slots=True)
class ReclaimFailed(Event):
    """A segment could not be compacted, removed or set aside. It stays as it was and is tried again."""

    level: ClassVar[int] = logging.WARNING
    segment: str
    error: str


@dataclass(frozen=True, slots=True)
class ReceiptsNotSaved(Event):
    """What is known of puts could not be saved. After a crash a put that is sent again may be taken twice."""

    level: ClassVar[int] = logging.WARNING
    path: str
    error: str


@dataclass(frozen=True, slots=True)
class ReceiptsForgotten(Event):
    """A part of what an opening of the log wrote is damaged: its puts are taken again if they are sent again.

    `puts`: those that were known so far.
    """

    level: ClassVar[int] = logging.WARNING
    opening: str
    puts: int


@dataclass(frozen=True, slots=True)
class ReceiptsUnreadable(Event):
    """What a file knows of puts cannot be read: they are taken again if they are sent again."""

    level: ClassVar[int] = logging.WARNING
    path: str
    error: str
