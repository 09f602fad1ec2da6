"""What only the embedded state can meet: its file."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
from pathlib import Path

import pytest

from firehose.errors import DataDirectoryError, ThrottledError, UnavailableError
from firehose.executors import InlineExecutor, ThreadExecutor
from firehose.state import AddToAccount, PutStream, StreamRecord, Term
from firehose.stores.schema import FORMAT
from firehose.stores.sqlite import SqliteStateStore


async def open_store(path: Path, **options: bool) -> SqliteStateStore:
    return await SqliteStateStore.open(path, InlineExecutor(), **options)


async def make(path: Path) -> None:
    """Make a state with a stream and a thousand rows."""
    store = await open_store(path)
    await store.apply(PutStream(StreamRecord("u1", "clicks", "config", "{}", 1, 0)))
    for hour in range(1_000):
        await store.apply(AddToAccount("u1", "destination", Term.DELIVERED, {hour: 1}))
    await store.close()


def sql(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path)
    connection.executescript(statement)
    connection.close()


async def test_a_newer_format_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    await make(path)
    sql(path, f"PRAGMA user_version = {FORMAT + 1}")
    before = path.read_bytes()
    for options in ({}, {"read_only": True}):
        with pytest.raises(DataDirectoryError, match=rf"format {FORMAT + 1}, this version knows up to {FORMAT}"):
            await open_store(path, **options)
    assert path.read_bytes() == before


async def test_a_file_that_is_no_state_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.write_bytes(b"This is a letter to my aunt, and nothing else. " * 100)
    with pytest.raises(DataDirectoryError, match=r"state.db is damaged or no state of ours.*backup"):
        await open_store(path)


async def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    sql(path, "CREATE TABLE streams (river TEXT)")
    before = path.read_bytes()
    with pytest.raises(
        DataDirectoryError, match=r"format 0 \(table streams already exists\): it is damaged or no state"
    ):
        await open_store(path)
    assert path.read_bytes() == before
    sql(path, "INSERT INTO streams VALUES ('Rhine')")  # still its own


@pytest.mark.parametrize("damage", ["cut in half", "a page of zeros"])
async def test_a_damaged_state_says_so_when_it_is_read(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "state.db"
    await make(path)
    sql(path, "PRAGMA wal_checkpoint(TRUNCATE)")
    body = path.read_bytes()
    assert len(body) > 5 * 4096
    path.write_bytes(body[: len(body) // 2] if damage == "cut in half" else body[:4096] + bytes(len(body) - 4096))
    with pytest.raises(DataDirectoryError, match=r"state.db is damaged or no state of ours"):
        store = await open_store(path)
        try:
            await store.streams()
            await store.snapshot()
        finally:
            await store.close()


async def test_a_folder_in_its_place_is_told(tmp_path: Path) -> None:
    (tmp_path / "state.db").mkdir()
    with pytest.raises(DataDirectoryError, match=r"state.db cannot be opened: Is a directory"):
        await open_store(tmp_path / "state.db")


async def test_a_state_that_is_missing_cannot_be_opened_for_reading(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="unable to open"):
        await open_store(tmp_path / "state.db", read_only=True)
    assert not (tmp_path / "state.db").exists()


@pytest.mark.parametrize("name", ["with space", "what?", "100%25", "#1", "ä"])
async def test_any_folder_name_will_do(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    await make(folder / "state.db")
    assert {each.name for each in folder.iterdir()} <= {"state.db", "state.db-wal", "state.db-shm"}
    assert [each.name for each in tmp_path.iterdir()] == [name]


async def test_nobody_else_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    store = await open_store(path)
    await store.apply(AddToAccount("u1", "", Term.ACCEPTED, {0: 1}))
    for file in tmp_path.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    await store.close()


async def test_a_full_disk_is_told_and_heals(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    store = await open_store(path)
    store._connection.execute("PRAGMA max_page_count = 1")  # as small as it is now
    record = StreamRecord("u1", "clicks", "config", "x" * 100_000, 1, 0)
    with pytest.raises(ThrottledError, match=r"no room to write .*state.db; free some disk space"):
        await store.apply(AddToAccount("u1", "", Term.ACCEPTED, {0: 1}), PutStream(record))
    assert (await store.snapshot()).account == ()
    store._connection.execute("PRAGMA max_page_count = 1000000")
    await store.apply(PutStream(record))
    assert await store.streams() == [record]
    await store.close()


async def test_a_reader_sees_what_is_saved_while_a_writer_works(tmp_path: Path) -> None:
    store = await open_store(tmp_path / "state.db")
    reader = await open_store(tmp_path / "state.db", read_only=True)
    await store.apply(AddToAccount("u1", "", Term.ACCEPTED, {0: 1}))
    assert [row.rows for row in (await reader.snapshot()).account] == [1]
    await store.apply(AddToAccount("u1", "", Term.ACCEPTED, {0: 1}))
    assert [row.rows for row in (await reader.snapshot()).account] == [2]
    await reader.close()
    await store.close()


async def test_a_caller_that_gives_up_leaves_a_whole_transaction_behind(tmp_path: Path) -> None:
    executor = ThreadExecutor(threads=1, name="state")
    store = await SqliteStateStore.open(tmp_path / "state.db", executor)
    changes = [AddToAccount("u1", "", Term.ACCEPTED, {hour: 1}) for hour in range(2_000)]
    for _ in range(20):
        saving = asyncio.create_task(store.apply(*changes))
        await asyncio.sleep(0)
        saving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await saving
    rows = {row.rows for row in (await store.snapshot()).account}
    assert len(rows) <= 1, "each hour was counted as often as any other"
    await store.close()
    executor.close()
