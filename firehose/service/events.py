"""What happens to the service as a whole."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import ClassVar

from firehose.delivery.events import PARTITION_GAUGES, RECORD_ID_GAUGES
from firehose.telemetry import MEASUREMENT, Event, Metrics

BACKLOG_RECORDS = "backlog_records"
OLDEST_RECORD = "oldest_record_seconds"


@dataclass(frozen=True, slots=True)
class BacklogMeasured(Event):
    """What waits for one stream, now and again. `oldest_ms`: the age of the oldest record, 0 where none waits."""

    level: ClassVar[int] = MEASUREMENT
    stream: str
    records: int
    oldest_ms: int

    def measure(self, metrics: Metrics) -> None:
        stream, oldest_s = self.stream, self.oldest_ms / 1_000
        metrics.gauge(BACKLOG_RECORDS, "Records accepted and not done.", self.records, stream=stream)
        metrics.gauge(OLDEST_RECORD, "Age of the oldest record that is not done, or 0.", oldest_s, stream=stream)


@dataclass(frozen=True, slots=True)
class LogMeasured(Event):
    """How large the ingest log is, now and again, and how far back it knows puts that are sent again."""

    level: ClassVar[int] = MEASUREMENT
    disk_bytes: int
    quota_bytes: int
    retry_window_ms: int

    def measure(self, metrics: Metrics) -> None:
        metrics.gauge("log_bytes", "Bytes of the ingest log on the disk.", self.disk_bytes)
        metrics.gauge("log_quota_bytes", "Bytes at which producers are throttled.", self.quota_bytes)
        known_s = self.retry_window_ms / 1_000
        metrics.gauge("retry_window_seconds", "How far back puts that are sent again are known.", known_s)


@dataclass(frozen=True, slots=True)
class PutRepeated(Event):
    """A producer sent a put again that was stored already; it got the answer of the first, and nothing was stored."""

    level: ClassVar[int] = logging.DEBUG
    stream: str
    records: int

    def measure(self, metrics: Metrics) -> None:
        help = "Records of puts that were sent again and not stored again."
        metrics.count("repeated_records_total", help, self.records, stream=self.stream)


@dataclass(frozen=True, slots=True)
class ServiceStarted(Event):
    """The service takes records."""

    version: str
    data_dir: str
    url: str
    streams: int
    engine: str


@dataclass(frozen=True, slots=True)
class ServiceStopped(Event):
    """The service stopped; nothing needed flushing."""

    took_ms: int


@dataclass(frozen=True, slots=True)
class StopForced(Event):
    """Something held up the end, like a disk that hangs; it was not waited for. What was acknowledged is durable."""

    level: ClassVar[int] = logging.WARNING
    after_ms: int


@dataclass(frozen=True, slots=True)
class StreamDefined(Event):
    """A stream was made, changed or found again."""

    stream: str
    origin: str
    version: int


@dataclass(frozen=True, slots=True)
class StreamOrphaned(Event):
    """A stream is no longer defined in any file. What it still holds is delivered to its end, as last defined."""

    level: ClassVar[int] = logging.WARNING
    stream: str


@dataclass(frozen=True, slots=True)
class EncryptionKeyChanged(Event):
    """Objects of a stream are encrypted with another key from now on. `last_object` and older ones need the former.

    Also failed records do, which wait for a replay: it is possible while the stream has the former key.
    """

    level: ClassVar[int] = logging.WARNING
    stream: str
    last_object: str
    advice: str = "keep the former key: that object, older ones and failed records that wait for a replay need it"


@dataclass(frozen=True, slots=True)
class StreamRemoved(Event):
    """A stream is gone: it was deleted (`discarded` rows with it), or an orphan was delivered to its end."""

    stream: str
    discarded: int

    def measure(self, metrics: Metrics) -> None:
        for name in (BACKLOG_RECORDS, OLDEST_RECORD, *RECORD_ID_GAUGES, *PARTITION_GAUGES):
            metrics.forget(name, stream=self.stream)


@dataclass(frozen=True, slots=True)
class WorkerFailed(Event):
    """A stream's worker ended by an error; its rows wait in the log, and it starts again after `retry_in_ms`."""

    level: ClassVar[int] = logging.ERROR
    stream: str
    code: str
    error: str
    retry_in_ms: int

    def measure(self, metrics: Metrics) -> None:
        metrics.count("worker_failures_total", "Workers that ended by an error.", stream=self.stream, code=self.code)


@dataclass(frozen=True, slots=True)
class RowsOfNobody(Event):
    """ALARM: the log holds rows of a stream that the state does not know, as after a restore of one without the other.

    They are kept, and `audit` shows them under the stream's uid.
    """

    level: ClassVar[int] = logging.ERROR
    uid: str
