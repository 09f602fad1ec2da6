"""Cells: which rows go where, when they are due, and what they hold in memory."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from firehose import arrow
from firehose.delivery.buffer import CELL_OVERHEAD_BYTES, Buffer, Cell, Hints
from firehose.delivery.spill import Spill
from firehose.executors import InlineExecutor
from firehose.records import Batch

HINTS = Hints(max_bytes=10, max_age_ms=1_000)
Rows = list[tuple[str, bytes]]


def batch_of(rows: Rows, first: int = 0, *, grouped: bool = True) -> Batch:
    made = Batch.of("s", arrow.binary_column([data for _, data in rows]), first_sequence=first, arrival_ms=0)
    groups = pa.array([group for group, _ in rows], pa.string()) if grouped else None
    return Batch(made.shard, made.rows, groups=groups)


def drained(buffer: Buffer) -> list[Cell]:
    return buffer.take_due("d", now_ms=10**9, is_caught_up=True, most=10**6)


async def contents(spill: Spill, cells: list[Cell]) -> list[tuple[str, list[tuple[int, bytes]]]]:
    """Return what lies in each cell: its group, and sequence and data of each row."""
    found = []
    for cell in cells:
        rows: list[tuple[int, bytes]] = []
        async for piece in spill.pieces(cell):
            assert isinstance(piece, Batch)
            rows += zip(piece.sequence.tolist(), piece.data.to_pylist(), strict=True)
        found.append((cell.group, rows))
    return found


ROWS = st.lists(st.tuples(st.sampled_from("abc"), st.binary(max_size=12)), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(batches=st.lists(ROWS, max_size=4), spilled=st.sets(st.integers(0, 3)))
async def test_every_row_is_in_one_cell_of_its_group_in_order_and_all_memory_comes_back(
    batches: list[Rows], spilled: set[int]
) -> None:
    with TemporaryDirectory() as folder:
        await _every_row(Path(folder), batches, spilled)


async def _every_row(folder: Path, batches: list[Rows], spilled: set[int]) -> None:
    buffer, spill, held, first = Buffer({"d": HINTS}), Spill(folder, InlineExecutor()), 0, 0
    expected: dict[str, list[tuple[int, bytes]]] = {}
    for number, rows in enumerate(batches):
        held += buffer.add("d", batch_of(rows, first), now_ms=0, wall_ms=0)
        for place, (group, data) in enumerate(rows):
            expected.setdefault(group, []).append((first + place, data))
        first += len(rows)
        if number in spilled:
            for slab in buffer.in_memory("d"):
                held -= buffer.spilled("d", slab, await spill.out(slab))
            assert buffer.held_bytes["d"] == 0
    cells = drained(buffer)
    assert buffer.is_empty and buffer.waiting_bytes["d"] == buffer.full_bytes["d"] == 0
    found = await contents(spill, cells)
    for group, rows in expected.items():
        assert sorted(row for name, part in found if name == group for row in part) == rows
    for (_, rows), cell in zip(found, cells, strict=True):
        assert rows == sorted(rows) and cell.firsts == {"s": rows[0][0]}
        assert cell.data_bytes == sum(len(data) for _, data in rows)
        assert sum(len(data) for _, data in rows[:-1]) < HINTS.max_bytes, "the record that reaches the size is its last"
    unneeded = []
    for cell in cells:
        freed, paths = buffer.let_go(cell)
        held -= freed
        unneeded += paths
    assert held == 0 == buffer.held_bytes["d"]
    await spill.remove(unneeded)
    assert list(folder.iterdir()) == []


def test_a_slab_is_held_until_the_last_of_its_groups_is_gone() -> None:
    buffer = Buffer({"d": Hints(10**6, 1_000)})
    held = buffer.add("d", batch_of([("a", b"x" * 1_000), ("b", b"y")]), now_ms=0, wall_ms=0)
    one, other = drained(buffer)
    assert buffer.let_go(one) == (CELL_OVERHEAD_BYTES, [])
    assert buffer.let_go(other) == (held - CELL_OVERHEAD_BYTES, [])


def test_cells_are_due_by_their_oldest_arrival_or_their_size() -> None:
    buffer = Buffer({"d": HINTS})
    buffer.add("d", batch_of([("a", b"1"), ("b", b"1" * 10), ("a", b"2")]), now_ms=500, wall_ms=200)
    assert buffer.next_due_ms("d", is_caught_up=True) == 0, "one is full"
    (full,) = buffer.take_due("d", now_ms=500, is_caught_up=True, most=64)
    assert full.group == "b"
    assert buffer.next_due_ms("d", is_caught_up=True) == 500 - 200 + 1_000
    assert buffer.next_due_ms("d", is_caught_up=False) == 500 + 1_000
    assert buffer.groups("d") == {"a", "b"}, "it is being sealed: its partition is active"
    buffer.put_back([full])
    assert buffer.take_due("d", now_ms=500, is_caught_up=True, most=64) == [full]
    buffer.let_go(full)
    assert buffer.groups("d") == {"a"}
    buffer.close({"s": -1})
    assert not buffer.take_due("d", now_ms=500, is_caught_up=True, most=64)
    buffer.close({"s": 0})
    assert [cell.group for cell in buffer.take_due("d", now_ms=500, is_caught_up=True, most=64)] == ["a"]


def test_rows_without_groups_are_not_gathered_anew() -> None:
    buffer, rows = Buffer({"d": Hints(10**6, 1)}), batch_of([("", b"x")] * 100, grouped=False)
    buffer.add("d", rows, now_ms=0, wall_ms=0)
    (slab,) = buffer.in_memory("d")
    assert slab.rows is not None and slab.rows.rows is rows.rows


async def test_a_part_of_a_spilled_slab_is_read_without_all_of_it(tmp_path: Path) -> None:
    chance = np.random.default_rng(1)
    rows = [(f"g{number % 500}", chance.bytes(1_000)) for number in range(3_000)]
    buffer, spill = Buffer({"d": Hints(10**6, 1_000)}), Spill(tmp_path, InlineExecutor())
    buffer.add("d", batch_of(rows), now_ms=0, wall_ms=0)
    (slab,) = buffer.in_memory("d")
    path = await spill.out(slab)
    buffer.spilled("d", slab, path)
    with pa.ipc.open_file(path) as file:
        assert file.num_record_batches > 20
    found = await contents(spill, drained(buffer))
    assert sorted(row for _, part in found for row in part) == [(place, data) for place, (_, data) in enumerate(rows)]
    assert all(len(part) == 6 for _, part in found)
