"""Reading one stream among many: whole, in order, from any position, without touching the others' bytes."""

from __future__ import annotations

import asyncio
import random

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from firehose.protocols import End, Idle, Lag, Read
from firehose.records import RowSet


async def test_streams_that_are_interleaved_are_read_apart(bench) -> None:
    log = await bench.open(segment_bytes=3_000)
    put: dict[str, list[bytes]] = {"a": [], "b": [], "c": []}
    chance = random.Random(5)
    for _ in range(60):
        stream, records = chance.choice("abc"), [chance.randbytes(chance.randrange(200)) for _ in range(3)]
        await bench.put(log, records, stream)
        put[stream] += records
    assert {stream: await bench.records(log, stream) for stream in "abc"} == put
    bench.disk = bench.disk.crash()
    again = await bench.open()
    assert {stream: await bench.records(again, stream, max_bytes=100) for stream in "abc"} == put


async def test_a_stream_of_few_rows_does_not_read_the_others(bench) -> None:
    log = await bench.open()
    for number in range(20):
        await bench.put(log, [random.Random(number).randbytes(50_000)], "large")
        await bench.put(log, [b"small"], "small")
    for state in ("open", "sealed"):
        bench.disk.read_bytes.clear()
        assert await bench.records(log, "small") == [b"small"] * 20
        assert bench.disk.read_bytes.total() < 20_000, state
        await log.close()
        log = await bench.open()


async def test_neighbours_are_read_together(bench) -> None:
    log = await bench.open()
    for _ in range(100):
        await bench.put(log, [b"x" * 100])
    reads = bench.disk.counts["read"]
    assert len(await bench.records(log)) == 100
    assert bench.disk.counts["read"] == reads + 1


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(st.lists(st.integers(0, 60), min_size=1, max_size=8), min_size=1, max_size=10),
    max_bytes=st.integers(1, 900),
    after=st.integers(-1, 20),
)
async def test_any_position_and_any_size_of_read_give_the_same_rows(bench, sizes, max_bytes, after) -> None:
    bench.begin_anew()
    log = await bench.open(segment_bytes=500)
    records: list[bytes] = []
    for group in sizes:
        given_now = [bytes([len(records) % 256]) * size for size in group]
        await bench.put(log, given_now)
        records += given_now
    reads = await bench.reads(log, "s", log.shard("put"), after=after, max_bytes=max_bytes)
    assert [record for read in reads for record in read.batch.data.to_pylist()] == records[after + 1 :]
    assert [read.is_caught_up for read in reads] == [False] * (len(reads) - 1) + [True] * bool(reads)
    position = after
    for read in reads:
        assert (read.span.first, read.span.last) == (position + 1, int(read.batch.sequence[-1]))
        assert read.batch.sequence.tolist() == list(range(position + 1, read.span.last + 1))
        assert read.batch.data_bytes + 32 * len(read.batch) <= max_bytes + 60 + 32  # one row too much at most
        position = read.span.last


async def test_a_frame_larger_than_a_read_is_split_and_read_once(bench) -> None:
    log = await bench.open()
    await bench.put(log, [b"x" * 1_000] * 100)
    reads = bench.disk.counts["read"]
    found = await bench.reads(log, "s", log.shard("put"), max_bytes=10 * (1_000 + 32))
    assert [len(read.batch) for read in found] == [10] * 10
    assert bench.disk.counts["read"] == reads + 1


async def test_waiting_ends_with_idle_after_its_time(bench) -> None:
    log = await bench.open()
    shard = log.open_shard("s", log.shard("put"), after=-1)
    assert await shard.read(max_bytes=1, max_wait_ms=0) == Idle()
    assert not await shard.wait(0)
    waiting = asyncio.create_task(shard.read(max_bytes=1, max_wait_ms=500))
    await bench.clock.advance(499)
    assert not waiting.done()
    await bench.clock.advance(1)
    assert await waiting == Idle()


async def test_wait_says_when_there_is_something_to_read(bench) -> None:
    log = await bench.open()
    shard = log.open_shard("s", log.shard("put"), after=-1)
    waiting = asyncio.create_task(shard.wait(60_000))
    await bench.clock.settle()
    assert not waiting.done()
    await bench.put(log, [b"x"])
    assert await waiting
    assert isinstance(await shard.read(max_bytes=1, max_wait_ms=0), Read)
    assert not await shard.wait(0)


async def test_a_shard_of_an_earlier_opening_ends(bench) -> None:
    log = await bench.open()
    await bench.put(log, [b"a", b"b"])
    name = log.shard("put")
    again = await bench.open()
    shard = again.open_shard("s", name, after=0)
    read = await shard.read(max_bytes=100, max_wait_ms=0)
    assert (read.batch.data.to_pylist(), read.is_caught_up) == ([b"b"], True)
    assert await shard.wait(0)
    assert await shard.read(max_bytes=100, max_wait_ms=0) == End(1)
    nothing = again.open_shard("other", name, after=-1)
    assert await nothing.read(max_bytes=100, max_wait_ms=0) == End(-1)


async def test_a_name_that_is_no_shard_is_refused(bench) -> None:
    log = await bench.open()
    with pytest.raises(ValueError, match="no shard of an ingest log"):
        log.open_shard("s", "shardId-000000000000", after=-1)


async def test_rows_are_fetched_again_by_identity(bench) -> None:
    log = await bench.open(segment_bytes=300)
    for begin in range(0, 100, 10):
        await bench.put(log, [b"%d" % number for number in range(begin, begin + 10)], arrival_ms=begin)
    name = log.shard("put")
    shard = log.open_shard("s", name, after=-1)
    wanted = RowSet.of_whole(name, [0, 9, 10, 55, 99, 100, 5_000])
    wanted.add(name, np.array([42, 42]), np.array([0, 7], np.int32))
    wanted.add("log-other-put", np.array([1]), np.array([-1], np.int32))
    found = await shard.fetch(wanted)
    assert found.data.to_pylist() == [b"0", b"9", b"10", b"42", b"55", b"99"]
    assert found.sequence.tolist() == [0, 9, 10, 42, 55, 99]
    assert found.arrival_ms.tolist() == [0, 0, 10, 40, 50, 90]
    assert found.shard == name
    assert len(await shard.fetch(RowSet())) == 0
    assert (await shard.read(max_bytes=66, max_wait_ms=0)).batch.data.to_pylist() == [b"0", b"1"]


async def test_fetching_leaves_out_what_is_damaged(bench) -> None:
    log = await bench.open()
    await bench.put(log, [b"a"])
    await bench.put(log, [b"b"])
    bench.disk.flip(bench.disk.files(".log")[0], 44 + 120)
    shard = log.open_shard("s", log.shard("put"), after=-1)
    assert (await shard.fetch(RowSet.of_range(shard.name, 0, 1))).data.to_pylist() == [b"b"]


async def test_fetching_few_rows_reads_few_frames(bench) -> None:
    log = await bench.open()
    for number in range(50):
        await bench.put(log, [random.Random(number).randbytes(40_000)])
    shard = log.open_shard("s", log.shard("put"), after=-1)
    bench.disk.read_bytes.clear()
    assert len(await shard.fetch(RowSet.of_whole(shard.name, [3, 40]))) == 2
    assert bench.disk.read_bytes.total() < 81_000


async def test_lag_is_what_lies_beyond_a_position(bench) -> None:
    log = await bench.open(segment_bytes=2_000)
    for number in range(30):
        await bench.put(log, [random.Random(number).randbytes(100)] * 2, arrival_ms=number * 10)
    name = log.shard("put")
    for _ in range(2):
        assert await log.lag("s", name, -1) == Lag(60, 6_000, 0)
        assert await log.lag("s", name, 1) == Lag(58, 5_800, 10)
        assert await log.lag("s", name, 32) == Lag(27, 2_700, 160)
        assert await log.lag("s", name, 59) == Lag(0, 0, None)
        assert await log.lag("t", name, -1) == Lag(0, 0, None)
        await log.close()
        log = await bench.open()


async def test_tables_of_sealed_segments_do_not_pile_up_in_memory(bench, monkeypatch) -> None:
    monkeypatch.setattr("firehose.log.access._CACHE_BYTES", 5_000)
    log = await bench.open(segment_bytes=20_000)
    for number in range(600):
        await bench.put(log, [random.Random(number).randbytes(100)])
    await log.close()
    again = await bench.open()
    assert len(await bench.records(again)) == 600
    assert all(segment.tables is None for segment in again._backlog.segments.values())
    assert again._access._cached_bytes <= 5_000
