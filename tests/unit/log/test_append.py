"""Putting rows: durable when answered, many puts to one sync, contiguous sequences."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from firehose import arrow
from firehose.errors import UnavailableError
from firehose.protocols import Read


async def test_rows_are_on_the_disk_when_append_returns(bench) -> None:
    log = await bench.open()
    answer = await bench.put(log, [b"one", b"two"])
    assert (answer.shard, answer.first_sequence, answer.rows) == (log.shard("put"), 0, 2)

    bench.disk = bench.disk.crash()
    assert await bench.records(await bench.open()) == [b"one", b"two"]


async def test_waiting_puts_share_one_sync(bench) -> None:
    log = await bench.open()
    await bench.put(log, [b"first"])
    before = bench.disk.counts["sync"]
    answers = await asyncio.gather(*(bench.put(log, [b"%d" % number], f"s{number % 3}") for number in range(300)))
    assert bench.disk.counts["sync"] == before + 1
    assert sorted(answer.first_sequence for answer in answers[0::3]) == list(range(100))
    assert await bench.records(log, "s2") == [b"%d" % number for number in range(2, 300, 3)]


async def test_a_group_is_bounded_in_bytes(bench) -> None:
    log = await bench.open()
    before = bench.disk.counts["sync"]
    await asyncio.gather(*(bench.put(log, [b"x" * 2**20]) for _ in range(20)))
    assert bench.disk.counts["sync"] - before == 3  # 20 MiB in groups of 8 MiB


async def test_a_put_larger_than_a_group_and_a_segment_is_taken_whole(bench) -> None:
    log = await bench.open(segment_bytes=2**20)
    record = np.random.default_rng(1).bytes(10 * 2**20)
    answers = await asyncio.gather(bench.put(log, [b"small"]), bench.put(log, [record, b""]), bench.put(log, [b"next"]))
    assert [answer.first_sequence for answer in answers] == [0, 1, 3]
    assert await bench.records(log) == [b"small", record, b"", b"next"]


async def test_empty_records_are_records(bench) -> None:
    log = await bench.open()
    await bench.put(log, [b"", b"", b""])
    await bench.put(log, [b"a", b""])
    bench.disk = bench.disk.crash()
    assert await bench.records(await bench.open()) == [b"", b"", b"", b"a", b""]


async def test_a_slice_of_a_column_is_stored_without_its_neighbours(bench) -> None:
    log = await bench.open()
    column = arrow.binary_column([b"no", b"yes", b"also", b"no"])
    await log.append("s", column.slice(1, 2), arrival_ms=5)
    assert await bench.records(log) == [b"yes", b"also"]


async def test_lanes_and_streams_count_for_themselves(bench) -> None:
    log = await bench.open()
    first, second, replayed, other = await asyncio.gather(
        bench.put(log, [b"1", b"2"]),
        bench.put(log, [b"3"]),
        bench.put(log, [b"r"], lane="replay"),
        bench.put(log, [b"o"], "t"),
    )
    assert [each.first_sequence for each in (first, second, replayed, other)] == [0, 2, 0, 0]
    assert replayed.shard == log.shard("replay") != first.shard
    assert await bench.read_all(log) == {log.shard("put"): [b"1", b"2", b"3"], log.shard("replay"): [b"r"]}
    assert log.accepted_unbanked() == {"s": {bench.clock.now_ms(): 3}, "t": {bench.clock.now_ms(): 1}}


async def test_each_row_keeps_its_arrival(bench) -> None:
    log = await bench.open()
    await asyncio.gather(
        bench.put(log, [b"a"], arrival_ms=1_000),
        bench.put(log, [b"b", b"c"], arrival_ms=np.array([7_200_000, 5], np.int64)),
        bench.put(log, [b"d"], arrival_ms=1_000),
    )
    (read,) = await bench.reads(log, "s", log.shard("put"))
    assert read.batch.arrival_ms.tolist() == [1_000, 7_200_000, 5, 1_000]
    assert log.accepted_unbanked() == {"s": {0: 3, 7_200_000: 1}}


async def test_each_opening_names_its_shards_anew(bench) -> None:
    for number in range(3):
        log = await bench.open()
        answer = await bench.put(log, [b"%d" % number])
        assert answer.first_sequence == 0
        await log.close()
    log = await bench.open()
    assert list((await bench.read_all(log)).values()) == [[b"0"], [b"1"], [b"2"]]
    assert len(set(log.shards("s"))) == 3


async def test_an_opening_without_puts_leaves_nothing_behind(bench) -> None:
    for _ in range(3):
        await (await bench.open()).close()
    assert bench.disk.names == {}


async def test_a_cancelled_put_does_not_disturb_the_others(bench) -> None:
    log = await bench.open()
    cancelled = asyncio.create_task(bench.put(log, [b"never"]))
    kept = asyncio.create_task(bench.put(log, [b"kept"]))
    await asyncio.sleep(0)
    cancelled.cancel()
    assert (await kept).first_sequence == 0
    assert await bench.records(log) == [b"kept"]


async def test_tokens_are_found_again(bench) -> None:
    log = await bench.open()
    await asyncio.gather(
        bench.put(log, [b"a", b"b"], token=b"first"),
        bench.put(log, [b"c"]),
        bench.put(log, [b"d"], token=b"second"),
        bench.put(log, [b"r"], token=b"replayed", lane="replay"),
    )
    bench.disk = bench.disk.crash()
    again = await bench.open()
    found = [(each.token, each.first_sequence, each.rows) for each in await again.tokens("s", lane="put")]
    assert found == [(b"first", 0, 2), (b"second", 3, 1)]
    assert {each.token for each in await again.tokens("s")} == {b"first", b"second", b"replayed"}
    assert await again.tokens("s", since_ms=bench.clock.now_ms() + 1) == []


async def test_a_closed_log_takes_nothing_and_wakes_its_readers(bench) -> None:
    log = await bench.open()
    shard = log.open_shard("s", log.shard("put"), after=-1)
    waiting = asyncio.create_task(shard.read(max_bytes=1, max_wait_ms=60_000))
    await bench.clock.settle()
    await log.close()
    with pytest.raises(UnavailableError, match="closed"):
        await waiting
    with pytest.raises(UnavailableError, match="closed"):
        await bench.put(log, [b"late"])


async def test_puts_that_wait_while_the_log_closes_are_refused(bench) -> None:
    log = await bench.open()
    puts = [asyncio.create_task(bench.put(log, [b"x"])) for _ in range(3)]
    await asyncio.sleep(0)
    await log.close()
    answers = await asyncio.gather(*puts, return_exceptions=True)
    assert all(isinstance(answer, UnavailableError) for answer in answers)
    assert await bench.records(await bench.open()) == []


async def test_an_append_wakes_a_waiting_reader(bench) -> None:
    log = await bench.open()
    shard = log.open_shard("s", log.shard("put"), after=-1)
    waiting = asyncio.create_task(shard.read(max_bytes=100, max_wait_ms=60_000))
    await bench.clock.settle()
    await bench.put(log, [b"other"], "t")
    await bench.clock.settle()
    assert not waiting.done()
    await bench.put(log, [b"mine"])
    got = await waiting
    assert isinstance(got, Read)
    assert got.batch.data.to_pylist() == [b"mine"]
