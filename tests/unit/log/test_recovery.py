"""Opening what a crash or a bad disk left: no acknowledged frame that is whole is lost, no wrong byte is returned."""

from __future__ import annotations

import asyncio
import copy
import random
import struct
import zlib
from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from firehose.errors import DataDirectoryError
from firehose.log.events import RowsUnreadable, SegmentDamaged, SegmentUnavailable, SidecarFailed, TornTailCut

HOUR = 3_600_000


async def test_a_tail_torn_at_any_byte_is_cut_and_nothing_before_it(bench) -> None:
    log = await bench.open()
    await bench.put(log, [b"kept"] * 3)
    (path,) = bench.disk.files(".log")
    whole = bench.disk.size(path)
    await bench.put(log, [b"torn", b"off"], token=b"t")
    last = bench.disk.size(path)
    intact = bench.disk
    for size in range(whole, last):
        bench.disk = copy.deepcopy(intact)
        del bench.disk.names[path].data[size:]
        bench.telemetry.events.clear()
        again = await bench.open()
        assert await bench.records(again) == [b"kept"] * 3
        cuts = [(event.offset, event.cut_bytes) for event in bench.telemetry.of(TornTailCut)]
        assert cuts == ([(whole, size - whole)] if size > whole else [])
        assert not bench.telemetry.of(SegmentDamaged)
        assert bench.disk.size(path) == whole
    bench.disk = intact
    assert await bench.records(await bench.open()) == [b"kept"] * 3 + [b"torn", b"off"]


@pytest.mark.parametrize("size", [0, 1, 15, 40, 43])
async def test_a_segment_torn_in_its_header_is_removed(bench, size: int) -> None:
    log = await bench.open()
    await bench.put(log, [b"x"])
    (path,) = bench.disk.files(".log")
    del bench.disk.names[path].data[size:]
    again = await bench.open()
    assert (again.shards("s"), bench.disk.files(".log")) == ([], [])
    await bench.put(again, [b"y"])
    assert await bench.records(again) == [b"y"]


async def test_garbage_behind_the_last_frame_is_cut(bench) -> None:
    log = await bench.open()
    await bench.put(log, [b"kept"])
    (path,) = bench.disk.files(".log")
    bench.disk.names[path].data += random.Random(1).randbytes(3 * 2**20)
    assert await bench.records(await bench.open()) == [b"kept"]
    bench.disk.names[path].data += bytes(5_000)
    assert await bench.records(await bench.open()) == [b"kept"]


async def _filled(bench) -> dict[str, list[bytes]]:
    """Write three streams into one segment, in many frames; return what was put."""
    log = await bench.open()
    chance = random.Random(3)
    put: dict[str, list[bytes]] = {"a": [], "b": [], "c": []}
    for number in range(12):
        stream = "abc"[number % 3]
        records = [chance.randbytes(chance.randrange(30)) for _ in range(chance.randrange(1, 4))]
        await bench.put(log, records, stream, arrival_ms=number * 1_000_000)
        put[stream] += records
    return put


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
async def test_flipped_bits_lose_only_the_frames_they_hit(data, bench) -> None:
    bench.begin_anew()
    put = await _filled(bench)
    (path,) = bench.disk.files(".log")
    size = bench.disk.size(path)
    original = bytes(bench.disk.names[path].data)
    hits = data.draw(
        st.lists(st.tuples(st.integers(0, size - 1), st.sampled_from([1, 16, 128])), min_size=1, max_size=3)
    )
    for offset, bits in hits:
        bench.disk.names[path].data[offset] = original[offset] ^ bits
    again = await bench.open()

    accepted = again.accepted_unbanked()
    frames_hit = {_frame_at(original, offset) for offset, _ in hits} - {None}
    lost_rows = 0
    for stream, records in put.items():
        found: dict[int, bytes] = {}
        unreadable: Counter[int] = Counter()
        readable: Counter[int] = Counter()
        for shard in again.shards(stream):
            for read in await bench.reads(again, stream, shard):
                found |= dict(zip(read.batch.sequence.tolist(), read.batch.data.to_pylist(), strict=True))
                unreadable.update(read.unreadable)
                readable.update(read.batch.hours())
        assert all(records[sequence] == record for sequence, record in found.items())
        assert accepted.get(stream, {}) == dict(unreadable + readable)
        lost_rows += len(records) - len(found)
    assert lost_rows == sum(rows for _, rows in frames_hit)


def _frame_at(body: bytes, offset: int) -> tuple[int, int] | None:
    """Return offset and rows of the frame that `offset` lies in, None for the segment's header."""
    at = 44
    while at < len(body):
        meta_bytes, rows = struct.unpack_from("<II", body, at + 8)
        (stored_bytes,) = struct.unpack_from("<Q", body, at + 40)
        end = at + 112 + meta_bytes + stored_bytes
        if at <= offset < end:
            return at, rows
        at = end
    return None


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.floats(0, 1, exclude_max=True), bits=st.sampled_from([1, 16, 128]))
async def test_a_damaged_sidecar_costs_nothing(bench, where: float, bits: int) -> None:
    bench.begin_anew()
    put = await _filled(bench)
    await (await bench.open()).close()
    (path,) = bench.disk.files(".idx")
    bench.disk.flip(path, int(where * bench.disk.size(path)), bits)
    again = await bench.open()
    accepted = again.accepted_unbanked()
    for stream, records in put.items():
        assert await bench.records(again, stream) == records
        assert sum(accepted[stream].values()) == len(records)
    await bench.reclaim(again)
    assert len(again.unbanked()) == 1
    bench.telemetry.events.clear()
    third = await bench.open()
    assert await bench.records(third, "a") == put["a"]
    assert not bench.telemetry.of(SidecarFailed)


async def test_a_hole_is_told_and_counted_to_the_row(bench) -> None:
    log = await bench.open()
    path = await _put_and_path(bench, log, b"zero")
    begin = bench.disk.size(path)
    await bench.put(log, [b"lost"] * 5, arrival_ms=HOUR + 1)
    end = bench.disk.size(path)
    await bench.put(log, [b"good"], arrival_ms=2 * HOUR)
    bench.disk.flip(path, begin + 130)  # in the body: what was lost is known from the head

    again = await bench.open()
    shard = again.shards("s")[0]
    (read,) = await bench.reads(again, "s", shard)
    assert (read.span.first, read.span.last, dict(read.unreadable)) == (0, 6, {HOUR: 5})
    assert read.batch.sequence.tolist() == [0, 6]
    assert again.accepted_unbanked()["s"][HOUR] == 5
    (damaged,) = bench.telemetry.of(SegmentDamaged)
    assert (damaged.path, damaged.offset, damaged.damaged_bytes) == (str(path), begin, end - begin)
    (lost,) = bench.telemetry.of(RowsUnreadable)
    assert (lost.stream, lost.shard, lost.first_sequence, lost.rows) == ("s", shard, 1, 5)


async def _put_and_path(bench, log, record: bytes):
    await bench.put(log, [record])
    return bench.disk.files(".log")[0]


async def test_a_stream_that_lost_its_first_frame_knows_it(bench) -> None:
    log = await bench.open()
    path = await _put_and_path(bench, log, b"lost")
    await bench.put(log, [b"good"])
    bench.disk.flip(path, 44 + 20)  # in the head: nothing of the frame is known but its place
    again = await bench.open()
    (read,) = await bench.reads(again, "s", again.shards("s")[0])
    assert (read.batch.sequence.tolist(), sum(read.unreadable.values())) == ([1], 1)


async def test_damage_that_comes_after_sealing_is_found_by_the_reader(bench) -> None:
    log = await bench.open()
    arrivals = [HOUR, HOUR + 1, 2 * HOUR]
    await bench.put(log, [b"a", b"b", b"c"], arrival_ms=np.array(arrivals, np.int64))
    await bench.put(log, [b"d"], arrival_ms=2 * HOUR)
    await log.close()
    (path,) = bench.disk.files(".log")
    bench.disk.flip(path, 44 + 150)
    again = await bench.open()
    shard = again.shards("s")[0]
    (read,) = await bench.reads(again, "s", shard)
    assert (read.batch.data.to_pylist(), dict(read.unreadable)) == ([b"d"], {HOUR: 2, 2 * HOUR: 1})
    assert again.accepted_unbanked() == {"s": {HOUR: 2, 2 * HOUR: 2}}
    await bench.reads(again, "s", shard)
    assert len(bench.telemetry.of(RowsUnreadable)) == 1

    (behind,) = await bench.reads(again, "s", shard, after=0)
    assert dict(behind.unreadable) == {HOUR: 1, 2 * HOUR: 1}


async def test_rows_from_two_hours_in_one_frame_count_in_both_after_a_restart(bench) -> None:
    log = await bench.open()
    await asyncio.gather(bench.put(log, [b"a"], arrival_ms=HOUR - 1), bench.put(log, [b"b"] * 2, arrival_ms=HOUR))
    assert (await bench.open()).accepted_unbanked() == {"s": {0: 1, HOUR: 2}}
    assert (await bench.open()).accepted_unbanked() == {"s": {0: 1, HOUR: 2}}


async def test_a_segment_of_a_newer_version_is_refused(bench) -> None:
    log = await bench.open()
    path = await _put_and_path(bench, log, b"x")
    begin = bytes(bench.disk.names[path].data[:8]) + struct.pack("<I", 2)
    bench.disk.names[path].data[:16] = begin + struct.pack("<I", zlib.crc32(begin))
    with pytest.raises(DataDirectoryError, match=r"format 2, this version knows up to 1; use a newer one"):
        await bench.open()


async def test_a_frame_of_a_newer_version_is_refused(bench) -> None:
    log = await bench.open()
    path = await _put_and_path(bench, log, b"x")
    head = bench.disk.names[path].data[44 : 44 + 112]
    head[4] = 2
    head[-4:] = struct.pack("<I", zlib.crc32(head[:-4], zlib.crc32(path.name.split(".")[0].encode())))
    bench.disk.names[path].data[44 : 44 + 112] = head
    with pytest.raises(DataDirectoryError, match="frames of format 2"):
        await bench.open()


async def test_a_sidecar_of_a_newer_version_is_refused(bench) -> None:
    log = await bench.open()
    await bench.put(log, [b"x"])
    await log.close()
    (path,) = bench.disk.files(".idx")
    begin = bytes(bench.disk.names[path].data[:8]) + struct.pack("<I", 7)
    bench.disk.names[path].data[:16] = begin + struct.pack("<I", zlib.crc32(begin))
    with pytest.raises(DataDirectoryError, match="format 7"):
        await bench.open()


async def test_opening_a_large_backlog_reads_only_directories(bench) -> None:
    log = await bench.open(segment_bytes=64 * 1024)
    for number in range(40):
        await bench.put(log, [random.Random(number).randbytes(16 * 1024)])
    await log.close()
    stored = sum(bench.disk.size(path) for path in bench.disk.files(".log"))
    bench.disk.read_bytes.clear()
    again = await bench.open()
    assert not any(path.suffix == ".log" for path in bench.disk.read_bytes)
    assert bench.disk.read_bytes.total() < stored / 50
    assert len(await bench.records(again)) == 40


async def test_only_the_segment_without_a_sidecar_is_scanned(bench) -> None:
    log = await bench.open(segment_bytes=4_096)
    for number in range(20):
        await bench.put(log, [random.Random(number).randbytes(1_000)])
    *sealed, last = bench.disk.files(".log")
    bench.disk = bench.disk.crash()
    await bench.open()
    assert sealed
    assert [path for path in bench.disk.read_bytes if path.suffix == ".log"] == [last]


async def test_unfinished_files_and_strangers_are_no_segments(bench) -> None:
    log = await bench.open()
    path = await _put_and_path(bench, log, b"x")
    bench.disk.append(path.with_name(path.name + ".tmp")).write(b"half")
    stranger = path.with_name("notes.txt")
    bench.disk.append(stranger).write(b"mine")
    again = await bench.open()
    assert await bench.records(again) == [b"x"]
    assert stranger in bench.disk.names
    assert not bench.disk.files(".tmp")


async def test_a_segment_the_disk_refuses_does_not_stop_the_others(bench) -> None:
    log = await bench.open()
    first = await _put_and_path(bench, log, b"first")
    log = await bench.open()
    await bench.put(log, [b"second"])
    bench.disk.names.pop(first.with_suffix(".idx"))

    def refuse(verb, path):
        if verb == "read" and path == first:
            raise OSError(5, "Input/output error")

    bench.disk.plan = refuse
    again = await bench.open()
    assert await bench.records(again) == [b"second"]
    assert [event.path for event in bench.telemetry.of(SegmentUnavailable)] == [str(first)]
    await bench.put(again, [b"third"])
    bench.disk.plan = None
    assert await bench.records(await bench.open()) == [b"first", b"second", b"third"]


async def test_a_full_disk_does_not_stop_recovery(bench) -> None:
    log = await bench.open()
    path = await _put_and_path(bench, log, b"x")
    bench.disk.names[path].data += b"torn"

    def refuse(verb, path):
        if verb in ("write", "truncate"):
            raise OSError(28, "No space left on device")

    bench.disk.plan = refuse
    again = await bench.open()
    assert await bench.records(again) == [b"x"]
    assert again.unbanked() == []  # nothing durable says yet how many rows count
    bench.disk.plan = None
    await bench.reclaim(again)
    assert [account.accepted for account in again.unbanked()] == [{"s": {bench.clock.now_ms(): 1}}]
