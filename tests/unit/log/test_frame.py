"""The bytes of a frame."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firehose import arrow
from firehose.errors import IntegrityError
from firehose.log.frame import HEAD_BYTES, ROW_BYTES, FrameEncoder, Put, batch_of, decode, seed_of
from firehose.log.index import Entry, FrameTable

SEED = seed_of("000000000001-0000000000000001")


def frame_of(*puts: Put, first: int = 0) -> bytes:
    return b"".join(FrameEncoder().encode(puts, first=first, base=0, seed=SEED).pieces)


@given(
    puts=st.lists(
        st.tuples(
            st.lists(st.binary(max_size=30), min_size=1, max_size=5),
            st.integers(-(2**40), 2**45),
            st.binary(max_size=9),
        ),
        min_size=1,
        max_size=5,
    ),
    first=st.integers(0, 2**60),
)
def test_what_went_in_comes_out(puts, first: int) -> None:
    given_puts = [Put("s", "put", arrow.binary_column(records), at, token) for records, at, token in puts]
    head, rows = decode(memoryview(frame_of(*given_puts, first=first)), SEED)
    batch = batch_of("x", [rows])
    expected = [(record, at) for records, at, _ in puts for record in records]
    assert list(zip(batch.data.to_pylist(), batch.arrival_ms.tolist(), strict=True)) == expected
    assert batch.sequence.tolist() == list(range(first, first + len(expected)))
    assert (head.oldest_ms, head.newest_ms) == (min(at for _, at in expected), max(at for _, at in expected))
    assert head.data_bytes == sum(len(record) for record, _ in expected)


def test_no_flipped_bit_goes_unnoticed() -> None:
    frame = frame_of(Put("stream", "replay", arrow.binary_column([b"a record", b""]), 5, b"token"))
    for bit in range(len(frame) * 8):
        damaged = bytearray(frame)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(IntegrityError):
            decode(memoryview(bytes(damaged)), SEED)


def test_a_frame_is_good_only_in_its_own_segment() -> None:
    frame = memoryview(frame_of(Put("s", "put", arrow.binary_column([b"x"]), 5)))
    with pytest.raises(IntegrityError):
        decode(frame, seed_of("000000000002-0000000000000001"))


def test_a_frame_inside_a_record_is_not_taken_for_one() -> None:
    inner = frame_of(Put("s", "put", arrow.binary_column([b"x"]), 5))
    _, rows = decode(memoryview(frame_of(Put("s", "put", arrow.binary_column([inner]), 5))), SEED)
    assert bytes(rows.data) == inner


def test_json_shrinks_and_costs_a_head() -> None:
    record = b'{"id": 12345, "user": "somebody", "path": "/a/long/path/that/repeats"}'
    assert len(frame_of(Put("s", "put", arrow.binary_column([record] * 1_000), 5))) < len(record) * 1_000 / 20
    assert len(frame_of(Put("s", "put", arrow.binary_column([b""]), 5))) < HEAD_BYTES + 20


def test_the_checksum_covers_the_whole_head() -> None:
    frame = frame_of(Put("s", "put", arrow.binary_column([b"x"]), 5))
    assert frame[HEAD_BYTES - 4 : HEAD_BYTES] == zlib.crc32(frame[: HEAD_BYTES - 4], SEED).to_bytes(4, "little")


@given(counts=st.lists(st.integers(1, 5), min_size=1, max_size=30), position=st.integers(-1, 160))
def test_a_table_finds_the_frames_behind_any_position(counts: list[int], position: int) -> None:
    table, first = FrameTable(), 7
    for rows in counts:
        table.add(Entry(first, rows, first * 10, 10, rows * 100, first), {0: rows})
        first += rows
    copied = FrameTable.from_bytes(table.to_bytes(), table.mixed)
    expected = [table[index] for index in range(len(table)) if table[index].last > position]
    assert list(table.after(position)) == list(copied.after(position)) == expected
    left = range(max(position + 1, 7), first)
    assert table.beyond(position) == ((len(left) * 100, expected[0].oldest_ms) if left else None)


def test_rows_are_int64_wherever_they_come_from() -> None:
    arrivals = np.array([3, 2, 1], np.int64)
    _, rows = decode(memoryview(frame_of(Put("s", "put", arrow.binary_column([b"a", b"b", b"c"]), arrivals))), SEED)
    assert rows.part(1, 3).arrival_ms.tolist() == [2, 1]
    assert bytes(rows.part(1, 3).data) == b"bc"
    assert [rows.count_within(ROW_BYTES * 2 + size) for size in (1, 2, 3)] == [1, 2, 2]
    assert rows.count_within(0) == 1
