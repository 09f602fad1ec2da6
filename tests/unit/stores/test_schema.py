"""The tables of the state: their number changes with them; an older format is brought up, whole or not at all."""

from __future__ import annotations

import hashlib
import sqlite3
from pathlib import Path

import pytest

from firehose.errors import DataDirectoryError
from firehose.executors import InlineExecutor
from firehose.state import BankSegment, StreamRecord
from firehose.stores import schema
from firehose.stores.schema import FORMAT, MIGRATIONS
from firehose.stores.sqlite import SqliteStateStore

#: The format, and the digest of its tables. Whoever changes schema.sql raises FORMAT, adds to MIGRATIONS, keeps what
#: the format before held as a fixture beside this file, and only then writes the new digest here.
KNOWN = (2, "7be6a055300d276153c27214597a17427dabd032db482f87bc9610b6f10a6643")


def old(path: Path, number: int = 1) -> None:
    """Make a state of an older format."""
    connection = sqlite3.connect(path)
    connection.executescript(Path(__file__).with_name(f"format-{number}.sql").read_text(encoding="utf-8"))
    connection.close()


def dump(path: Path) -> list[str]:
    connection = sqlite3.connect(path)
    found = [*connection.iterdump(), str(connection.execute("PRAGMA user_version").fetchone())]
    connection.close()
    return found


async def open_store(path: Path, **options: bool) -> SqliteStateStore:
    return await SqliteStateStore.open(path, InlineExecutor(), **options)


def test_the_tables_and_their_number_change_together() -> None:
    digest = hashlib.sha256(schema.script().encode()).hexdigest()
    assert (FORMAT, digest) == KNOWN, "tables were changed: see KNOWN"


@pytest.mark.parametrize("number", range(1, FORMAT))
def test_a_migrated_state_looks_like_a_fresh_one(tmp_path: Path, number: int) -> None:
    old(tmp_path / "old.db", number)
    fresh, migrated = sqlite3.connect(tmp_path / "fresh.db"), sqlite3.connect(tmp_path / "old.db")
    schema.bring_up(fresh, tmp_path / "fresh.db")
    schema.bring_up(migrated, tmp_path / "old.db")
    assert schema.shape_of(migrated) == schema.shape_of(fresh) != {}
    for connection in (fresh, migrated):
        assert connection.execute("PRAGMA user_version").fetchone() == (FORMAT,)
        connection.close()
    assert len(MIGRATIONS) == FORMAT - 1


async def test_what_format_1_held_is_still_there(tmp_path: Path) -> None:
    old(tmp_path / "state.db")
    store = await open_store(tmp_path / "state.db")
    assert await store.streams() == [StreamRecord("u1", "clicks", "config", "{}", 1, 5)]
    banked = dict.fromkeys(("000000000001-5f1c09aa31d2e8b4", "000000000002-5f1c09aa31d2e8b4"), "")
    assert await store.banked_segments() == banked
    await store.apply(BankSegment("000000000003-5f1c09aa31d2e8b4", {"u1": {0: 2}}, "books"))
    assert await store.banked_segments() == banked | {"000000000003-5f1c09aa31d2e8b4": "books"}
    snapshot = await store.snapshot()
    assert [row.rows for row in snapshot.account] == [5]
    assert snapshot.done["u1"][0].position == 2
    await store.close()
    again = await open_store(tmp_path / "state.db", read_only=True)
    assert [each.name for each in await again.streams()] == ["clicks"]
    await again.close()


async def test_an_older_format_is_not_read_without_being_brought_up(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    old(path)
    before = path.read_bytes()
    with pytest.raises(DataDirectoryError, match=rf"has format 1, this version reads {FORMAT}; start the service"):
        await open_store(path, read_only=True)
    assert path.read_bytes() == before


async def test_a_migration_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.db"
    old(path)
    before = dump(path)
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", (MIGRATIONS[0] + "ALTER TABLE nowhere ADD COLUMN x;",))
        with pytest.raises(DataDirectoryError, match=r"tables of its format 1 \(no such table: nowhere\)"):
            await open_store(path)
        patch.setattr(schema, "MIGRATIONS", ("DROP TABLE replays;",))
        with pytest.raises(DataDirectoryError, match=r"format 2 \(index deliveries_finished, table banked, table repl"):
            await open_store(path)
    assert dump(path) == before
    store = await open_store(path)
    assert len(await store.streams()) == 1
    await store.close()


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("DROP TABLE account", "table account"),
        ("ALTER TABLE streams RENAME COLUMN body TO corpse", "table streams"),
        ("DROP INDEX deliveries_newest", "index deliveries_newest"),
        ("ALTER TABLE done ADD COLUMN x TEXT", "table done"),
    ],
)
@pytest.mark.parametrize("read_only", [False, True])
async def test_tables_that_are_not_those_of_their_number_are_told(
    tmp_path: Path, statement: str, told: str, read_only: bool
) -> None:
    path = tmp_path / "state.db"
    await (await open_store(path)).close()
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.close()
    with pytest.raises(
        DataDirectoryError, match=rf"tables of its format {FORMAT} \({told} missing or different\).*back"
    ):
        await open_store(path, read_only=read_only)


async def test_a_table_that_goes_while_we_work_is_told_as_what_it_is(tmp_path: Path) -> None:
    store = await open_store(tmp_path / "state.db")
    store._connection.execute("DROP TABLE account")
    with pytest.raises(DataDirectoryError, match=r"tables of its format \(no such table: account\)"):
        await store.snapshot()
    await store.close()


async def test_a_format_without_its_tables_is_told(tmp_path: Path) -> None:
    """A number that somebody else wrote: nothing of ours is there to be migrated."""
    path = tmp_path / "state.db"
    connection = sqlite3.connect(path)
    connection.executescript("CREATE TABLE rivers (name TEXT); PRAGMA user_version = 1;")
    connection.close()
    before = dump(path)
    with pytest.raises(DataDirectoryError, match=r"format 1 \(no such table: banked\): it is damaged or no state of"):
        await open_store(path)
    assert dump(path) == before
