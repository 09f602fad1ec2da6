"""`status`: what each stream is doing, and what keeps it from it."""

from __future__ import annotations

from typing import Any

from firehose.delivery.progress import Progress
from firehose.operations.parameters import chosen
from firehose.service import Service
from firehose.service.runner import StreamRunner


async def status(service: Service, parameters: dict[str, Any]) -> dict[str, Any]:
    """Return each stream's state, backlog, freshness and last error.

    Units: `backlog_bytes` payload bytes; `freshness_ms` age of the oldest undelivered record, None where there is none.
    """
    stats = service.log.stats()
    return {
        "data_dir": str(service.directory.path),
        "log_bytes": stats.disk_bytes,
        "log_quota_bytes": service.configuration.server.log_quota_bytes,
        "memory_used_bytes": service.budget.used_bytes,
        "memory_limit_bytes": service.budget.limit_bytes,
        "streams": [await _stream(service, runner) for runner in chosen(service, parameters)],
    }


async def _stream(service: Service, runner: StreamRunner) -> dict[str, Any]:
    uid, now_ms = runner.record.uid, service.environment.clock.now_ms()
    # as it is saved: what is not waiting any more is found by every other command, and after a crash
    saved = await service.state.load(uid)
    progress = {each.shard: Progress(each.shard, each.position, each.beyond) for each in saved.done}
    rows, data_bytes, oldest = 0, 0, None
    for shard in service.log.shards(uid):
        done = progress.get(shard) or Progress(shard)
        lag = await service.log.lag(uid, shard, done.position)
        rows, data_bytes = rows + lag.rows - len(done.beyond()), data_bytes + lag.data_bytes
        oldest = min((each for each in (oldest, lag.oldest_ms) if each is not None), default=None)
    worker, error = runner.worker, runner.last_error
    return {
        "name": runner.record.name,
        "state": _state(runner),
        "paused": runner.record.is_paused,
        "origin": runner.record.origin,
        "version": runner.record.version,
        "backlog_records": rows,
        "backlog_bytes": data_bytes,
        "freshness_ms": None if oldest is None else max(0, now_ms - oldest),
        "open_objects": worker.open_objects if worker else 0,
        "last_error": None if error is None else {"code": error.code, "message": str(error)},
    }


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
