"""The window of known ids against a model of it, over a disk that forgets, fails and is damaged."""

from __future__ import annotations

import errno
import shutil
import time
import tracemalloc
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firehose.deduplication import RecordIdWindow, run, window
from firehose.deduplication.entries import Entries, first_of_each
from firehose.errors import DataDirectoryError
from firehose.filesystem import OsFileSystem
from tests.disk import MemoryDisk

FOLDER = Path("/ids")
HOUR = 3_600_000

#: An id, its row, and when that arrived.
Row = tuple[int, int, int]


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make runs of few ids, so that few rows do all that a million would."""
    monkeypatch.setattr(window, "MEMORY_ENTRIES", 8)
    monkeypatch.setattr(run, "BLOCK_ENTRIES", 8)


def entries(rows: list[Row]) -> Entries:
    digests = b"".join(blake2b(b"%d" % number, digest_size=16).digest() for number, _, _ in rows)
    halves = np.frombuffer(digests, "<u8").reshape(-1, 2)
    sequence, arrival = (np.array([row[at] for row in rows], np.int64) for at in (1, 2))
    return Entries(halves[:, 0].copy(), halves[:, 1].copy(), sequence, arrival, np.zeros(len(rows), np.uint32))


def opened(disk: object, *, max_bytes: int = 2**30, window_ms: int = HOUR) -> RecordIdWindow:
    found = RecordIdWindow(FOLDER, disk, window_ms=window_ms, max_bytes=max_bytes)  # type: ignore[arg-type] # a twin
    assert found.open() == []
    return found


def ask(known: RecordIdWindow, *rows: Row) -> list[bool]:
    return known.admit(entries(list(rows))).tolist()


# --- what a duplicate is ---------------------------------------------------------------------------------------------


def test_the_first_row_holds_its_id_and_others_are_duplicates_of_it() -> None:
    known = opened(MemoryDisk())
    assert ask(known, (1, 0, 0), (2, 1, 0), (1, 2, 5), (1, 3, 6)) == [False, False, True, True]
    assert ask(known, (2, 4, 10), (3, 5, 10)) == [True, False]
    assert ask(known, (1, 0, 0), (2, 1, 0), (1, 2, 5)) == [False, False, True], "a row that is read again finds itself"


def test_a_window_later_an_id_is_new_again_also_within_one_batch() -> None:
    known = opened(MemoryDisk())
    assert ask(known, (1, 0, 0), (1, 1, HOUR - 1), (1, 2, HOUR), (1, 3, HOUR + 1)) == [False, True, False, True]
    assert ask(known, (1, 4, 2 * HOUR - 1), (1, 5, 2 * HOUR)) == [True, False]
    assert ask(known, (1, 0, 0), (1, 2, HOUR), (1, 5, 2 * HOUR)) == [False] * 3


def test_a_row_of_another_shard_that_arrived_before_is_a_duplicate_too() -> None:
    known = opened(MemoryDisk())
    assert ask(known, (1, 9, 1_000)) == [False]
    assert ask(known, (1, 3, 500)) == [True]


def test_many_ids_are_known_over_many_runs_and_after_a_start() -> None:
    disk = MemoryDisk()
    known = opened(disk)
    for number in range(400):
        assert ask(known, (2 * number, number, number), (2 * number + 1, number + 1_000, number)) == [False, False]
    assert known.stats.ids == 800
    assert len(disk.list(FOLDER)) < 16, "runs become larger ones"
    for again in (known, opened(disk)):
        assert all(ask(again, *((number, 5_000 + number, 500) for number in range(800))))
        assert again.stats.ids == 800


@given(
    st.lists(
        st.tuples(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 3 * HOUR)), max_size=8), st.booleans()),
        max_size=40,
    )
)
@settings(max_examples=60, deadline=None)
def test_a_window_answers_as_a_list_of_all_that_were_asked_would(
    batches: list[tuple[list[tuple[int, int]], bool]],
) -> None:
    """Arrivals go up by more than the window in no batch here, so that nothing goes before its time."""
    disk = MemoryDisk()
    known, held, sequence, base_ms = opened(disk), list[Row](), 0, 0
    for batch, crashes in batches:
        rows = []
        for number, late_ms in batch:
            rows.append((number, sequence, base_ms + late_ms % 1_000))
            sequence += 1
        expected = []
        for row in rows:
            is_near = any(number == row[0] and abs(row[2] - arrival) < HOUR for number, _, arrival in held)
            expected.append(is_near)
            held += [] if is_near else [row]
        assert ask(known, *rows) == expected
        if crashes:
            disk = disk.crash()
            known = opened(disk)
        assert ask(known, *rows) == expected, "asked again, the answer is the same"
        base_ms += max((late_ms for _, late_ms in batch), default=0) // 4


def test_the_first_of_each_is_found_also_where_halves_are_equal() -> None:
    columns = np.array([[5, 1], [5, 2], [5, 1], [6, 1]], np.uint64)
    few = Entries(
        columns[:, 0].copy(), columns[:, 1].copy(), np.arange(4), np.zeros(4, np.int64), np.zeros(4, np.uint32)
    )
    ordered, order = few.ordered()
    assert order.tolist() == [0, 2, 1, 3]
    assert first_of_each(ordered, HOUR).tolist() == [True, False, True, True]
    assert [pair.tolist() for pair in ordered.matches(few.take(np.array([1])))] == [[0], [2]]


# --- what goes -------------------------------------------------------------------------------------------------------


def test_ids_go_when_they_are_old_and_their_files_with_them() -> None:
    disk = MemoryDisk()
    known = opened(disk)
    for number in range(200):
        assert ask(known, (number, number, number * HOUR // 10)) == [False]
    assert known.forgotten == 0
    assert known.stats.ids < 100, "ten of an hour, and what shares their runs"
    assert all(ask(known, *((number, 1_000 + number, 199 * HOUR // 10) for number in range(190, 200))))
    assert ask(known, (5, 2_000, 199 * HOUR // 10)) == [False]


def test_the_oldest_go_before_their_time_where_there_is_no_room_and_that_is_told() -> None:
    known = opened(MemoryDisk(), max_bytes=40_000)
    for number in range(2_000):
        assert ask(known, (number, number, number)) == [False]
    assert known.forgotten > 500
    assert known.forgotten + known.stats.ids == 2_000
    assert known.stats.file_bytes <= 40_000
    oldest_ms = known.stats.oldest_ms
    assert oldest_ms is not None and oldest_ms > 500
    assert all(ask(known, *((number, 5_000 + number, 2_000) for number in range(oldest_ms, 2_000))))
    assert ask(known, (oldest_ms - 1, 9_999, 2_000)) == [False]


# --- faults ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["append", "write", "sync", "rename", "remove", "sync_folder", "close", "read"])
def test_whatever_fails_is_asked_again_and_nothing_is_forgotten(verb: str) -> None:
    disk, calls = MemoryDisk(), 0

    def plan(asked: str, path: Path) -> int | None:
        nonlocal calls
        calls += asked == verb
        if asked == verb and calls % 3 == 0:
            if verb == "write":
                return 5
            raise OSError(errno.EIO, "Input/output error", str(path))
        return 2**31 if asked == "write" else None

    known = opened(disk)
    disk.plan = plan
    for number in range(60):
        for _ in range(20):
            try:
                assert ask(known, (number, number, number)) == [False]
                break
            except OSError:
                continue
        else:
            pytest.fail(f"{verb} never worked")
    assert calls >= 3
    disk.plan = None
    again = opened(disk.crash())
    assert all(ask(again, *((number, 1_000 + number, 60) for number in range(60))))
    assert not any(ask(again, *((number, number, number) for number in range(60))))


def test_a_torn_end_of_a_journal_was_never_answered_and_is_no_damage() -> None:
    disk = MemoryDisk()
    known = opened(disk)
    ask(known, (1, 0, 0))
    (name,) = disk.list(FOLDER)
    whole = len(disk.names[FOLDER / name].data)
    ask(known, (2, 1, 0), (3, 2, 0))
    for size in range(whole, len(disk.names[FOLDER / name].data)):
        torn = disk.crash(kept=1.0)
        del torn.names[FOLDER / name].data[size:]
        again = opened(torn)
        assert ask(again, (1, 9, 0), (2, 1, 0), (3, 2, 0)) == [True, False, False]
    zeros = disk.crash(kept=1.0)
    zeros.names[FOLDER / name].data[whole:] = bytes(4_096)
    assert ask(opened(zeros), (1, 9, 0), (2, 1, 0)) == [True, False]


@pytest.mark.parametrize("what", ["run", "journal", "preamble"])
def test_damage_is_told_and_errs_towards_landing_twice(what: str) -> None:
    disk = MemoryDisk()
    known = opened(disk)
    for number in range(21):
        ask(known, (number, number, 0))
    run_name, later_run, journal = disk.list(FOLDER)
    assert journal.endswith(".journal") and run_name.endswith(later_run[-4:])
    name, offset = {"run": (run_name, 60), "journal": (journal, 40), "preamble": (run_name, 2)}[what]
    disk.flip(FOLDER / name, offset)
    again = RecordIdWindow(FOLDER, disk, window_ms=HOUR, max_bytes=2**30)  # type: ignore[arg-type] # a twin
    (damage,) = again.open()
    assert damage.path.name == name
    answers = ask(again, *((number, 100 + number, 0) for number in range(21)))
    assert not all(answers), "what is not known is no duplicate"
    assert any(answers), "the other files are as they were"
    assert opened(disk).stats.ids == again.stats.ids, "damage is told once"


@pytest.mark.parametrize("block", [0, 1, 2])
@pytest.mark.parametrize("offset", [0, 4, 7, 8, 12, 16, 40])
def test_a_flipped_bit_of_a_journal_costs_one_block_and_is_told(block: int, offset: int) -> None:
    disk = MemoryDisk()
    known, ends = opened(disk), [8]
    for first in (0, 2, 4):
        ask(known, (first, first, 0), (first + 1, first + 1, 0))
        (name,) = disk.list(FOLDER)
        ends.append(len(disk.names[FOLDER / name].data))
    disk.flip(FOLDER / name, ends[block] + offset, 128)
    again = RecordIdWindow(FOLDER, disk, window_ms=HOUR, max_bytes=2**30)  # type: ignore[arg-type] # a twin
    (damage,) = again.open()
    assert damage.path.name == name
    assert ask(again, *((number, 100 + number, 0) for number in range(6))) == [
        number // 2 != block for number in range(6)
    ]


def test_what_a_killed_process_left_is_on_the_disk_before_it_is_believed() -> None:
    disk = MemoryDisk()
    disk.plan = lambda verb, path: _refused() if verb == "sync" else None
    with pytest.raises(OSError, match="killed"):
        ask(opened(disk), (1, 0, 0))
    disk.plan = None
    assert ask(opened(disk), (1, 1, 0)) == [True], "found in memory, although its process was killed before it synced"
    assert ask(opened(disk.crash()), (1, 1, 0)) == [True], "and then the power was cut"


def _refused() -> int:
    raise OSError(errno.EIO, "killed")


def test_nothing_is_forgotten_where_an_old_journal_cannot_be_removed() -> None:
    disk = MemoryDisk()
    known, is_refused = opened(disk), True

    def plan(verb: str, path: Path) -> int | None:
        if verb == "remove" and path.suffix == ".journal" and is_refused:
            raise OSError(errno.EPERM, "Operation not permitted", str(path))
        return 2**31 if verb == "write" else None

    disk.plan = plan
    for number in range(40):
        for _ in range(3):
            try:
                assert ask(known, (number, number, 0)) == [False]
                break
            except PermissionError:
                is_refused = number < 20
    disk.plan = None
    for again in (known, opened(disk.crash())):
        assert all(ask(again, *((number, 100 + number, 0) for number in range(40))))


def test_whoever_removes_the_folder_loses_ids_and_stops_nothing(tmp_path: Path) -> None:
    known = RecordIdWindow(tmp_path / "ids", OsFileSystem(), window_ms=HOUR, max_bytes=2**24)
    known.open()
    for number in range(100):
        assert ask(known, (number, number, 0)) == [False]
        if number == 50:
            shutil.rmtree(tmp_path / "ids")
    known.close()
    again = RecordIdWindow(tmp_path / "ids", OsFileSystem(), window_ms=HOUR, max_bytes=2**24)
    assert again.open() == []
    found = ask(again, *((number, 1_000 + number, 0) for number in range(100)))
    assert found[60:] == [True] * 40
    again.close()


def test_a_disk_that_refuses_to_read_a_run_is_an_error_and_not_the_end() -> None:
    disk = MemoryDisk()
    known = opened(disk)
    for number in range(20):
        ask(known, (number, number, 0))
    disk.plan = lambda verb, path: _refused() if verb == "read" and path.suffix == ".run" else 2**31
    with pytest.raises(OSError, match="killed"):
        opened(disk)
    disk.plan = None
    assert opened(disk).stats.ids == 20


def test_one_id_again_and_again_takes_no_more_than_others() -> None:
    """Of a stream with a short window each id may have thousands of holders."""
    known = opened(MemoryDisk(), window_ms=1_000)
    for number in range(7):
        assert not any(
            ask(known, *((1, second, second * 1_000) for second in range(number * 1_000, number * 1_000 + 1_000)))
        )
    tracemalloc.start()
    answer = ask(known, *((1, 10_000 + number, 6_999_500) for number in range(100_000)))
    assert all(answer)
    assert tracemalloc.get_traced_memory()[1] < 100_000 * 400
    tracemalloc.stop()
    begun = time.process_time()
    answer = ask(known, *((1, 10**6 + number, 10**8 + number * 500) for number in range(100_000)))
    assert sum(answer) == 50_000
    assert time.process_time() - begun < 10, "a step for each holder, not one for each pair"


def test_a_clock_that_was_ahead_for_a_while_makes_nothing_old() -> None:
    known = opened(MemoryDisk())
    for number in range(60):
        assert ask(known, (number, number, 10**15 if number % 10 == 9 else number)) == [False]
    assert all(ask(known, *((number, 100 + number, 60) for number in range(60) if number % 10 != 9)))


def test_files_of_a_later_version_are_refused_and_left_alone() -> None:
    disk = MemoryDisk()
    ask(opened(disk), (1, 0, 0))
    (name,) = disk.list(FOLDER)
    disk.names[FOLDER / name].data[7] = 9
    known = RecordIdWindow(FOLDER, disk, window_ms=HOUR, max_bytes=2**30)  # type: ignore[arg-type] # a twin
    with pytest.raises(DataDirectoryError, match="format 9, this version reads 1; use a newer one"):
        known.open()
    assert disk.list(FOLDER) == [name]


def test_it_works_on_the_file_system_of_this_machine(tmp_path: Path) -> None:
    known = RecordIdWindow(tmp_path / "ids", OsFileSystem(), window_ms=HOUR, max_bytes=2**20)
    known.open()
    rows = [(number, number, number) for number in range(500)]
    for at in range(0, 500, 50):
        assert not any(ask(known, *rows[at : at + 50]))
    known.close()
    again = RecordIdWindow(tmp_path / "ids", OsFileSystem(), window_ms=HOUR, max_bytes=2**20)
    assert again.open() == [] and again.stats.ids == 500
    assert all(ask(again, *((number, 1_000 + number, 500) for number in range(500))))
    again.close()
