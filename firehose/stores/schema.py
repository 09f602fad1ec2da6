"""The tables of the embedded state, and how those of an older format become those of this one.

A change of `schema.sql` needs a new FORMAT and, in MIGRATIONS, the statements that make the tables of the format before
look the same. A test holds the three together.
"""

from __future__ import annotations

import sqlite3
from importlib import resources
from pathlib import Path

from firehose.errors import DataDirectoryError

#: The version of the tables; a newer one in the file is refused.
FORMAT = 2

#: What makes format n + 2 of format n + 1, by its place.
MIGRATIONS = (
    # 1 to 2: books of banked segments (those banked before have none: they are not missed), manifests by their age
    """
    ALTER TABLE banked ADD COLUMN books TEXT NOT NULL DEFAULT '';
    CREATE INDEX deliveries_finished ON deliveries (outlet, finished_ms) WHERE finished_ms IS NOT NULL;
    """,
)

#: Each table and index with its columns: name, type, whether it may be null, default, place in the primary key.
Shape = dict[str, list[tuple[object, ...]]]


def script() -> str:
    """Return the statements that make the tables."""
    return resources.files("firehose.stores").joinpath("schema.sql").read_text(encoding="utf-8")


def bring_up(connection: sqlite3.Connection, path: Path) -> None:
    """Make the tables where there are none, and migrate those of an older format, all of it or nothing.

    Errors: DataDirectoryError where the format is newer, or the tables are not those of it.
    """
    found = _format(connection, path)
    if found == FORMAT:
        _require_shape(connection, path)
        return
    steps = MIGRATIONS[found - 1 :] if found else (script(),)
    try:
        connection.executescript(f"BEGIN IMMEDIATE; {''.join(steps)} PRAGMA user_version = {FORMAT};")
        _require_shape(connection, path)
        connection.execute("COMMIT")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_ERROR:
            raise
        raise _strange(path, found, str(error)) from error
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def check(connection: sqlite3.Connection, path: Path) -> None:
    """Return if the tables can be read as they are.

    Errors: DataDirectoryError where the format is another, or the tables are not those of it.
    """
    found = _format(connection, path)
    if found < FORMAT:
        raise DataDirectoryError(
            f"{path} has format {found}, this version reads {FORMAT}; start the service with it once: that brings it up"
        )
    _require_shape(connection, path)


def _format(connection: sqlite3.Connection, path: Path) -> int:
    found: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if found > FORMAT:
        raise DataDirectoryError(f"{path} has format {found}, this version knows up to {FORMAT}; use a newer one")
    return found


def _require_shape(connection: sqlite3.Connection, path: Path) -> None:
    fresh = sqlite3.connect(":memory:")
    try:
        fresh.executescript(script())
        wanted = shape_of(fresh)
    finally:
        fresh.close()
    found = shape_of(connection)
    wrong = sorted(name for name, columns in wanted.items() if found.get(name) != columns)
    if wrong:
        raise _strange(path, FORMAT, f"{', '.join(wrong)} missing or different")


def shape_of(connection: sqlite3.Connection) -> Shape:
    """Return what tables and indexes look like, however they came about."""
    shape = {}
    for kind in ("table", "index"):
        query = "SELECT name FROM sqlite_master WHERE type = ? AND name NOT LIKE 'sqlite_%'"
        for (name,) in connection.execute(query, (kind,)).fetchall():
            shape[f"{kind} {name}"] = connection.execute(f"PRAGMA {kind}_xinfo('{name}')").fetchall()
    return shape


def _strange(path: Path, found: int, what: str) -> DataDirectoryError:
    return DataDirectoryError(
        f"{path} does not hold the tables of its format {found} ({what}): it is damaged or no state of ours; put it "
        "back from a backup of the data directory"
    )
