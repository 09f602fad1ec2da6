"""What happens to a delivery stream."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from firehose.telemetry import MEASUREMENT, Event, Metrics

#: What is told of a stream's record ids for as long as there is the stream.
RECORD_ID_GAUGES = ("record_ids", "record_id_bytes", "record_id_window_seconds")
PARTITION_GAUGES = ("active_partitions", "active_partitions_limit")


@dataclass(frozen=True, slots=True)
class StreamStarted(Event):
    """A worker took up a stream: so many finished objects are sent again, so many have to be made again."""

    stream: str
    resent: int
    remade: int


@dataclass(frozen=True, slots=True)
class ObjectDelivered(Event):
    """An object stands at the sink. `existed`: it stood there from an earlier attempt."""

    stream: str
    outlet: str
    url: str
    key: str
    records: int
    body_bytes: int
    data_bytes: int
    attempt: int
    existed: bool
    freshness_ms: int

    def measure(self, metrics: Metrics) -> None:
        labels = {"stream": self.stream, "outlet": self.outlet}
        metrics.count("delivered_records_total", "Records in objects that stand at the sink.", self.records, **labels)
        metrics.count("delivered_bytes_total", "Payload bytes of those records.", self.data_bytes, **labels)
        metrics.count("delivered_object_bytes_total", "Bytes of those objects.", self.body_bytes, **labels)
        metrics.count("delivered_objects_total", "Objects that stand at the sink.", **labels)
        metrics.gauge(
            "delivery_freshness_seconds",
            "Age of the oldest record of the object delivered last.",
            self.freshness_ms / 1_000,
            **labels,
        )


@dataclass(frozen=True, slots=True)
class DeliveryFailed(Event):
    """An attempt to deliver an object failed; it is tried again after `retry_in_ms`. The data is kept."""

    level: ClassVar[int] = logging.WARNING
    stream: str
    outlet: str
    url: str
    key: str
    code: str
    error: str
    failures: int
    retry_in_ms: int

    def measure(self, metrics: Metrics) -> None:
        metrics.count(
            "delivery_failures_total",
            "Failed attempts to deliver an object.",
            stream=self.stream,
            outlet=self.outlet,
            code=self.code,
        )


@dataclass(frozen=True, slots=True)
class FailedQuotaFull(Event):
    """ALARM: as many failed records as may (`server.failed_quota`) wait on this disk for an error output.

    The stream reads nothing more until they are written there; its records wait in the log, and nothing is dropped.
    """

    level: ClassVar[int] = logging.ERROR
    stream: str
    waiting_bytes: int
    quota_bytes: int

    def measure(self, metrics: Metrics) -> None:
        _measure_failed_quota(metrics, self.stream, is_full=True)


@dataclass(frozen=True, slots=True)
class FailedQuotaHasRoom(Event):
    """Failed records were written to their error output again, and the stream goes on."""

    stream: str

    def measure(self, metrics: Metrics) -> None:
        _measure_failed_quota(metrics, self.stream, is_full=False)


def _measure_failed_quota(metrics: Metrics, stream: str, *, is_full: bool) -> None:
    told = "1 while a stream waits for its error output with as many failed records as may wait."
    metrics.gauge("failed_quota_is_full", told, int(is_full), stream=stream)


@dataclass(frozen=True, slots=True)
class StepFailed(Event):
    """A step that every row must pass (catalog, key service, transform, disk, state) failed as a whole. Rows wait."""

    level: ClassVar[int] = logging.ERROR
    stream: str
    step: str
    code: str
    error: str
    retry_in_ms: int

    def measure(self, metrics: Metrics) -> None:
        metrics.count(
            "step_failures_total",
            "Failures of a step as a whole; rows wait meanwhile.",
            stream=self.stream,
            step=self.step,
            code=self.code,
        )


@dataclass(frozen=True, slots=True)
class RecordsFailed(Event):
    """Records failed alone and go to the error output. `codes`: how many for each reason."""

    level: ClassVar[int] = logging.WARNING
    stream: str
    stage: str
    records: int
    codes: Mapping[str, int]

    def measure(self, metrics: Metrics) -> None:
        for code, count in self.codes.items():
            metrics.count(
                "failed_records_total",
                "Records that go to the error output.",
                count,
                stream=self.stream,
                stage=self.stage,
                code=code,
            )


@dataclass(frozen=True, slots=True)
class RecordsDropped(Event):
    """A transform dropped records on purpose."""

    level: ClassVar[int] = logging.DEBUG
    stream: str
    records: int

    def measure(self, metrics: Metrics) -> None:
        metrics.count(
            "dropped_records_total", "Records dropped on purpose by a transform.", self.records, stream=self.stream
        )


@dataclass(frozen=True, slots=True)
class DuplicatesDropped(Event):
    """Records have an id that another one had: they were acknowledged as any other, and end here."""

    level: ClassVar[int] = logging.DEBUG
    stream: str
    records: int

    def measure(self, metrics: Metrics) -> None:
        metrics.count("duplicate_records_total", "Records with an id that was seen.", self.records, stream=self.stream)


@dataclass(frozen=True, slots=True)
class RecordsWithoutId(Event):
    """Records have no id where their stream looks for one: they are delivered, however often they come."""

    level: ClassVar[int] = logging.DEBUG
    stream: str
    records: int

    def measure(self, metrics: Metrics) -> None:
        metrics.count("records_without_id_total", "Records without a record id.", self.records, stream=self.stream)


@dataclass(frozen=True, slots=True)
class RecordIdsMeasured(Event):
    """So many record ids are known, of records that arrived since `reach_ms` ago."""

    level: ClassVar[int] = MEASUREMENT
    stream: str
    ids: int
    file_bytes: int
    reach_ms: int

    def measure(self, metrics: Metrics) -> None:
        ids, taken, reach = RECORD_ID_GAUGES
        metrics.gauge(ids, "Record ids that are known.", self.ids, stream=self.stream)
        metrics.gauge(taken, "Bytes of record ids on the disk.", self.file_bytes, stream=self.stream)
        metrics.gauge(reach, "How far back known record ids reach.", self.reach_ms / 1_000, stream=self.stream)


@dataclass(frozen=True, slots=True)
class PartitionsMeasured(Event):
    """So many partitions of a stream are active, of so many that may be."""

    level: ClassVar[int] = MEASUREMENT
    stream: str
    active: int
    limit: int

    def measure(self, metrics: Metrics) -> None:
        active, limit = PARTITION_GAUGES
        metrics.gauge(active, "Partitions with rows or objects under way.", self.active, stream=self.stream)
        metrics.gauge(limit, "Partitions that may be active at once.", self.limit, stream=self.stream)


@dataclass(frozen=True, slots=True)
class RecordIdsForgotten(Event):
    """There are more record ids than may be kept: the oldest went before their time. They reach back `reach_ms` now."""

    level: ClassVar[int] = logging.WARNING
    stream: str
    ids: int
    reach_ms: int
    advice: str = "a larger `deduplicate.size` keeps them longer; records sent again after that land twice"

    def measure(self, metrics: Metrics) -> None:
        told = "Record ids that went before their time, for lack of room."
        metrics.count("forgotten_record_ids_total", told, self.ids, stream=self.stream)


@dataclass(frozen=True, slots=True)
class RecordIdsDamaged(Event):
    """ALARM: a file of record ids is damaged, and what it held unknown: those that are sent again may land twice."""

    level: ClassVar[int] = logging.ERROR
    stream: str
    path: str
    reason: str

    def measure(self, metrics: Metrics) -> None:
        told = "Files of record ids that were found damaged."
        metrics.count("damaged_record_id_files_total", told, stream=self.stream)


@dataclass(frozen=True, slots=True)
class RecordsExpired(Event):
    """ALARM: undelivered records outlived the stream's retention and are gone. The account shows them as expired."""

    level: ClassVar[int] = logging.ERROR
    stream: str
    records: int

    def measure(self, metrics: Metrics) -> None:
        metrics.count(
            "expired_records_total", "Undelivered records given up after retention.", self.records, stream=self.stream
        )


@dataclass(frozen=True, slots=True)
class RecordsUnreadable(Event):
    """ALARM: records were damaged on the log's disk. The account shows them as unreadable."""

    level: ClassVar[int] = logging.ERROR
    stream: str
    shard: str
    records: int

    def measure(self, metrics: Metrics) -> None:
        metrics.count(
            "unreadable_records_total", "Records damaged on the log's disk.", self.records, stream=self.stream
        )


@dataclass(frozen=True, slots=True)
class ConversionRemarks(Event):
    """Something was visibly cut or ignored while converting, as Firehose does; here it is counted."""

    level: ClassVar[int] = logging.DEBUG
    stream: str
    remarks: Mapping[str, int]

    def measure(self, metrics: Metrics) -> None:
        for remark, count in self.remarks.items():
            metrics.count(
                "conversion_remarks_total",
                "Values cut or keys ignored while converting.",
                count,
                stream=self.stream,
                remark=remark,
            )


@dataclass(frozen=True, slots=True)
class BufferSpilled(Event):
    """Rows waiting to become objects went to disk, because the memory budget was asked for."""

    stream: str
    spilled_bytes: int

    def measure(self, metrics: Metrics) -> None:
        metrics.count(
            "spilled_bytes_total", "Bytes of buffered rows moved to disk.", self.spilled_bytes, stream=self.stream
        )
