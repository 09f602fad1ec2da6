"""The source `direct_put`: rows that producers put into the embedded ingest log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema

from firehose.clock import HOUR_MS
from firehose.components import BuildContext, ByteSize, ComponentConfig
from firehose.log import IngestLog, LogShard
from firehose.log.backlog import split_shard
from firehose.protocols import Assigned, Lag, Revoked
from firehose.units import parse_duration_ms


def _parse_retention(value: Any) -> int | None:
    return None if value in ("forever", None) else parse_duration_ms(value)


#: A duration in milliseconds or `forever`, which is None.
Retention = Annotated[
    int | None,
    BeforeValidator(_parse_retention),
    PlainSerializer(lambda value_ms: "forever" if value_ms is None else f"{value_ms}ms", str, when_used="json"),
    WithJsonSchema({"type": "string", "description": 'a duration like "24h", or "forever"', "examples": ["24h"]}),
]


class DirectPutConfig(ComponentConfig):
    """Producers put records with PutRecord and PutRecordBatch; they are kept until they are delivered."""

    type: Literal["direct_put"] = "direct_put"
    """Always `direct_put`."""
    retention_ms: Retention = Field(24 * HOUR_MS, alias="retention", ge=1)
    """How long records that cannot be delivered are kept before they expire, like `7d`, or `forever`. It begins with
    their arrival, or the last start or resume: time in which nothing could be delivered does not count."""
    quota_bytes: ByteSize | None = Field(None, alias="quota", ge=1)
    """How many bytes of this stream's records may wait; beyond it its producers are throttled. Default: the log's."""

    def build(self, context: BuildContext) -> DirectPutSource:
        """Return the source of the stream that `context` names."""
        log, stream = context.environment.log, context.stream.uid
        assert log is not None, "a source is built for a service, which has a log"
        log.limit_stream(stream, self.quota_bytes)
        return DirectPutSource(log, stream)


class DirectPutSource:
    """The shards of one stream in the log: what earlier openings left, then those of this one."""

    def __init__(self, log: IngestLog, stream_uid: str) -> None:
        self._log = log
        self._stream = stream_uid
        self._is_closed = False
        self._rung: asyncio.Event | None = None

    async def events(self) -> AsyncIterator[Assigned | Revoked]:
        """Yield shards of earlier openings that are not done, the put lane, and the replay lane once it has rows."""
        put, replay = self._log.shard("put"), self._log.shard("replay")
        for shard in self._log.shards(self._stream):
            if shard not in (put, replay) and self._log.is_pending(self._stream, shard):
                is_replay = split_shard(shard)[1] == "replay"
                yield Assigned(shard, self._log.created_ms(self._stream, shard), is_replay)
        yield Assigned(put, self._log.opened_ms)
        is_replaying = False
        with self._log.listening(self._stream, "replay") as self._rung:
            while not self._is_closed and not self._log.is_closed:
                if not is_replaying and self._log.is_pending(self._stream, replay):
                    is_replaying = True
                    yield Assigned(replay, self._log.opened_ms, is_replay=True)
                await self._rung.wait()
                self._rung.clear()

    async def shards(self) -> list[str]:
        """Return the shards of this opening, and those of earlier ones that are still on the disk."""
        ours = [self._log.shard("put"), self._log.shard("replay")]
        return [shard for shard in self._log.shards(self._stream) if shard not in ours] + ours

    async def open(self, shard: str, *, after: int) -> LogShard:
        """Open `shard` for reading behind the position `after` (-1: from its beginning)."""
        return self._log.open_shard(self._stream, shard, after=after)

    async def release(self, shard: str, position: int) -> None:
        """Say that every row up to `position` is done, so that its space can be reclaimed."""
        self._log.release(self._stream, shard, position)

    async def last(self, shard: str) -> int:
        """Return the sequence of the newest row that `shard` holds now, -1 where it holds none."""
        return self._log.last(self._stream, shard)

    async def lag(self, shard: str, position: int) -> Lag:
        """Return what lies beyond `position`."""
        return await self._log.lag(self._stream, shard, position)

    async def close(self) -> None:
        """End `events`."""
        self._is_closed = True
        if self._rung is not None:
            self._rung.set()
