"""The source over the ingest log: what is assigned when, and its options."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from pydantic import ValidationError

from firehose import arrow
from firehose.components import BuildContext, Environment, StreamIdentity
from firehose.errors import ThrottledError
from firehose.executors import InlineExecutor
from firehose.filesystem import OsFileSystem
from firehose.log import IngestLog
from firehose.protocols import Assigned, End, Lag, Read
from firehose.sources.direct_put import DirectPutConfig, DirectPutSource
from firehose.testing import FakeClock, RecordingTelemetry

DAY_MS = 86_400_000


async def open_log(folder: Path) -> IngestLog:
    return await IngestLog.open(
        folder / "log",
        files=OsFileSystem(),
        executor=InlineExecutor(),
        clock=FakeClock(),
        telemetry=RecordingTelemetry(),
        quota_bytes=2**30,
    )


async def put(log: IngestLog, *records: bytes, stream: str = "u1", lane: str = "put") -> None:
    await log.append(stream, arrow.binary_column(records), arrival_ms=5, lane=lane)


@asynccontextmanager
async def following(source: DirectPutSource) -> AsyncIterator[list[Assigned]]:
    """Collect events while the block runs."""
    found: list[Assigned] = []

    async def follow() -> None:
        async for event in source.events():
            found.append(event)

    task = asyncio.create_task(follow())
    await FakeClock().settle()
    yield found
    await source.close()
    await asyncio.wait_for(task, 5)


async def test_shards_of_earlier_openings_come_first_and_only_where_rows_wait(tmp_path: Path) -> None:
    names = []
    for number in range(4):
        log = await open_log(tmp_path)
        names.append(log.shard("put"))
        await put(log, b"%d" % number, stream="u2" if number == 2 else "u1")
        await log.close()
    log = await open_log(tmp_path)
    log.release("u1", names[1], 0)
    async with following(DirectPutSource(log, "u1")) as events:
        assert [event.shard for event in events] == [names[0], names[3], log.shard("put")]
        assert [event.created_ms for event in events] == sorted({event.created_ms for event in events})
    await log.close()


async def test_the_replay_lane_is_assigned_when_it_first_gets_rows(tmp_path: Path) -> None:
    log = await open_log(tmp_path)
    source = DirectPutSource(log, "u1")
    async with following(source) as events:
        await put(log, b"x")
        await put(log, b"other", stream="u2", lane="replay")
        await FakeClock().settle()
        assert [event.shard for event in events] == [log.shard("put")]
        await put(log, b"r", lane="replay")
        await put(log, b"r", lane="replay")
        await FakeClock().settle()
        assert [event.shard for event in events] == [log.shard("put"), log.shard("replay")]
    async with following(DirectPutSource(log, "u1")) as events:  # a worker that is started again
        assert [event.shard for event in events] == [log.shard("put"), log.shard("replay")]
    await log.close()


async def test_events_end_when_the_log_closes(tmp_path: Path) -> None:
    log = await open_log(tmp_path)
    source = DirectPutSource(log, "u1")
    task = asyncio.create_task(anext_to_end(source))
    await FakeClock().settle()
    await log.close()
    assert await asyncio.wait_for(task, 5) == 1


async def anext_to_end(source: DirectPutSource) -> int:
    return len([event async for event in source.events()])


async def test_a_closed_source_has_no_events_to_wait_for(tmp_path: Path) -> None:
    log = await open_log(tmp_path)
    source = DirectPutSource(log, "u1")
    await source.close()
    assert await asyncio.wait_for(anext_to_end(source), 5) == 1
    await log.close()


async def test_reading_releasing_and_lag_are_those_of_the_log(tmp_path: Path) -> None:
    log = await open_log(tmp_path)
    await put(log, b"a", b"bb")
    await log.close()
    log = await open_log(tmp_path)
    source = DirectPutSource(log, "u1")
    earlier, *ours = await source.shards()
    assert ours == [log.shard("put"), log.shard("replay")]
    assert await source.lag(earlier, 0) == Lag(1, 2, 5)
    shard = await source.open(earlier, after=0)
    read = await shard.read(max_bytes=10, max_wait_ms=0)
    assert isinstance(read, Read)
    assert read.batch.data.to_pylist() == [b"bb"]
    assert await shard.read(max_bytes=10, max_wait_ms=0) == End(1)
    await source.release(earlier, 1)
    assert not log.is_pending("u1")
    await shard.close()
    await log.close()


def context(log: IngestLog, folder: Path) -> BuildContext:
    environment = Environment(
        clock=FakeClock(),
        telemetry=RecordingTelemetry(),
        executor=InlineExecutor(),
        files=OsFileSystem(),
        data_dir=folder,
        aws=None,
        log=log,
    )
    return BuildContext(environment, StreamIdentity("u1", "clicks"), {}, {})


async def test_the_quota_of_a_stream_throttles_its_puts(tmp_path: Path) -> None:
    log = await open_log(tmp_path)
    DirectPutConfig(type="direct_put", quota="1KiB").build(context(log, tmp_path))
    await put(log, b"x" * 1_000)
    with pytest.raises(ThrottledError):
        await put(log, b"x" * 100)
    DirectPutConfig().build(context(log, tmp_path))
    await put(log, b"x" * 100)
    await log.close()


@pytest.mark.parametrize(
    ("given", "expected"), [({}, DAY_MS), ({"retention": "7d"}, 7 * DAY_MS), ({"retention": "forever"}, None)]
)
def test_retention_is_a_duration_or_forever(given: dict[str, str], expected: int | None) -> None:
    config = DirectPutConfig(**given)
    assert config.retention_ms == expected
    again = DirectPutConfig.model_validate_json(config.model_dump_json(by_alias=True))
    assert again == config


@pytest.mark.parametrize(
    "given", [{"retention": "soon"}, {"retention": -1}, {"quota": "-1"}, {"quota": 0}, {"size": 1}]
)
def test_anything_else_is_refused(given: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        DirectPutConfig(**given)
