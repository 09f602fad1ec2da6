"""`status`: what each stream is doing, and what keeps it from it."""

from __future__ import annotations

from typing import Any

from firehose.delivery.worker import StreamWorker
from firehose.operations.parameters import chosen
from firehose.service import Service
from firehose.service.backlog import waiting
from firehose.service.runner import StreamRunner


async def status(service: Service, parameters: dict[str, Any]) -> dict[str, Any]:
    """Return each stream's state, backlog, freshness and last error.

    `problems`: segments of the log that are missing or cannot be read. `retry_window_ms`: how far back a put that is
    sent again is known.

    Units: `backlog_bytes` payload bytes; `failed_records` those in the error output that were not replayed;
    `freshness_ms` age of the oldest undelivered record, None where there is none; `deduplicate` how many ids of
    records are known, how far back they reach (None: none yet), and how many records since the start had none; None
    where the stream does not look for duplicates. `failed_quota_is_full`: it waits for its error output.
    """
    stats = service.log.stats()
    return {
        "data_dir": str(service.directory.path),
        "log_bytes": stats.disk_bytes,
        "log_quota_bytes": service.configuration.server.log_quota_bytes,
        "log_is_full": stats.is_full or stats.disk_bytes >= stats.quota_bytes,
        "retry_window_ms": stats.retry_window_ms,
        "memory_used_bytes": service.budget.used_bytes,
        "memory_limit_bytes": service.budget.limit_bytes,
        "problems": service.log.troubles(),
        "streams": [await _stream(service, runner) for runner in chosen(service, parameters)],
    }


async def _stream(service: Service, runner: StreamRunner) -> dict[str, Any]:
    uid, now_ms = runner.record.uid, service.environment.clock.now_ms()
    lag = await waiting(service.log, service.state, uid, has_objects=runner.has_objects)
    worker, error = runner.worker, runner.last_error or runner.function_error
    return {
        "name": runner.record.name,
        "state": _state(runner),
        "paused": runner.record.is_paused,
        "origin": runner.record.origin,
        "version": runner.record.version,
        "backlog_records": lag.rows,
        "backlog_bytes": lag.data_bytes,
        "freshness_ms": None if lag.oldest_ms is None else max(0, now_ms - lag.oldest_ms),
        "failed_records": await service.state.failed_rows(uid),
        "open_objects": worker.open_objects if worker else 0,
        "failed_quota_is_full": worker is not None and worker.is_failed_quota_full,
        "deduplicate": _deduplicate(worker),
        "active_partitions": len(worker.partitions.names) if worker and worker.partitions else None,
        "last_error": None if error is None else {"code": error.code, "message": str(error)},
    }


def _deduplicate(worker: StreamWorker | None) -> dict[str, Any] | None:
    known = worker.known_ids if worker else None
    if known is None:
        return None
    facts = {"ids": known.ids, "bytes": known.file_bytes, "window_ms": known.reach_ms}
    return facts | {"without_id": known.without_id}


def _state(runner: StreamRunner) -> str:
    record = runner.record
    if record.is_deleted:
        return "deleting"
    if record.is_orphaned:
        return "orphaned"
    if record.is_paused:
        return "paused"
    if runner.worker is None:
        return "failing" if runner.last_error else "stopped"
    return "failing" if runner.last_error else "delivering"
