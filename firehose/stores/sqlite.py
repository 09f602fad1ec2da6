"""The embedded state: one SQLite file (WAL, synchronous=FULL), so that a commit is on the disk when `apply` returns."""

from __future__ import annotations

import dataclasses
import json
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from firehose.errors import ConflictError, DataDirectoryError, StaleEpochError, ThrottledError, UnavailableError
from firehose.executors import Executor
from firehose.records import RowSet
from firehose.state import (
    AccountRow,
    AddToAccount,
    BankSegment,
    Change,
    Done,
    DropIntent,
    FinishIntent,
    FinishReplay,
    ForgetManifests,
    ForgetSegments,
    ForgetShard,
    Intent,
    LetSegmentsGo,
    Manifest,
    PutStream,
    RemoveStream,
    SaveDone,
    SaveIntents,
    SaveReplay,
    StateSnapshot,
    StreamRecord,
    StreamState,
    Term,
)
from firehose.stores import schema

T = TypeVar("T")

#: The outlet of what is counted before outlets part.
BEFORE_OUTLETS = ""

#: The most manifests that are forgotten in one transaction: about 10 ms.
FORGET_AT_ONCE = 1_000


class SqliteStateStore:
    """One process at a time writes, others may read meanwhile; the `epoch` fences off a writer that was replaced."""

    def __init__(self, connection: sqlite3.Connection, executor: Executor, path: Path, epoch: int | None) -> None:
        self._connection = connection
        self._executor = executor
        self._path = path
        self._epoch = epoch
        self._lock = threading.Lock()

    @classmethod
    async def open(cls, path: Path, executor: Executor, *, read_only: bool = False) -> SqliteStateStore:
        """Open the state, making it where it is missing and bringing an older format up to this one.

        Errors: DataDirectoryError where its format is newer, or older and only to be read, or its tables are not those
        of its format.
        """
        return await executor.run(lambda: cls._open(path, executor, read_only))

    @classmethod
    def _open(cls, path: Path, executor: Executor, read_only: bool) -> SqliteStateStore:
        with _errors(path):
            if not read_only:
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))  # for its owner's eyes only
            uri = f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rw'}"
            connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
            try:
                return cls(connection, executor, path, _prepare(connection, path, read_only))
            except BaseException:
                connection.close()
                raise

    async def _run(self, call: Callable[[sqlite3.Connection], T]) -> T:
        def guarded() -> T:
            with self._lock, _errors(self._path):
                return call(self._connection)

        return await self._executor.run(guarded)

    async def apply(self, *changes: Change) -> None:
        assert self._epoch is not None, "the state was opened for reading"
        await self._run(lambda connection: self._apply(connection, changes))

    def _apply(self, connection: sqlite3.Connection, changes: tuple[Change, ...]) -> None:
        connection.execute("BEGIN IMMEDIATE")
        try:
            found = connection.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()[0]
            if found != self._epoch:
                raise StaleEpochError(f"{self._path} was opened by another process (epoch {found}, ours {self._epoch})")
            for change in changes:
                _WRITERS[type(change)](connection, change)
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")

    async def streams(self) -> list[StreamRecord]:
        rows = await self._run(lambda c: c.execute("SELECT body FROM streams ORDER BY name, uid").fetchall())
        return [StreamRecord(**json.loads(body)) for (body,) in rows]

    async def removed_streams(self) -> dict[str, str]:
        """Return the names of the streams that were removed, by uid."""
        return dict(await self._run(lambda c: c.execute("SELECT uid, name FROM removed ORDER BY uid").fetchall()))

    async def load(self, stream: str) -> StreamState:
        return await self._run(lambda connection: _load(connection, stream))

    async def failed_rows(self, stream: str) -> int:
        query = "SELECT coalesce(sum(rows), 0) FROM account WHERE stream = ? AND term = ?"
        found = await self._run(lambda c: c.execute(query, (stream, Term.FAILED)).fetchone())
        return int(found[0])

    async def snapshot(self) -> StateSnapshot:
        return await self._run(_snapshot)

    async def manifests(self, stream: str, outlet: str, *, since_ms: int = 0) -> list[Manifest]:
        query = (
            "SELECT body, rows, finished_ms FROM deliveries WHERE stream = ? AND outlet = ?"
            " AND newest_hour + 3600000 > ? AND finished_ms IS NOT NULL ORDER BY newest_hour, finished_ms, key"
        )
        rows = await self._run(lambda c: c.execute(query, (stream, outlet, since_ms)).fetchall())
        return [Manifest(_intent(body, row_set), finished_ms) for body, row_set, finished_ms in rows]

    async def manifest_page(self, stream: str, outlet: str, *, after: str, limit: int) -> list[Manifest]:
        query = (
            "SELECT body, rows, finished_ms FROM deliveries WHERE stream = ? AND outlet = ? AND key > ?"
            " AND finished_ms IS NOT NULL ORDER BY key LIMIT ?"
        )
        rows = await self._run(lambda c: c.execute(query, (stream, outlet, after, limit)).fetchall())
        return [Manifest(_intent(body, row_set), finished_ms) for body, row_set, finished_ms in rows]

    async def last_manifest(self, stream: str, outlet: str) -> Manifest | None:
        query = (
            "SELECT body, rows, finished_ms FROM deliveries WHERE outlet = ? AND stream = ? AND finished_ms IS NOT NULL"
            " ORDER BY finished_ms DESC LIMIT 1"
        )
        found = await self._run(lambda c: c.execute(query, (outlet, stream)).fetchone())
        return None if found is None else Manifest(_intent(found[0], found[1]), found[2])

    async def banked_segments(self) -> dict[str, str]:
        return dict(await self._run(lambda c: c.execute("SELECT segment, books FROM banked").fetchall()))

    async def replays(self, stream: str) -> tuple[RowSet, list[SaveReplay]]:
        query = "SELECT token, finished, hours, rows FROM replays WHERE stream = ? ORDER BY token"
        finished, unknown = RowSet(), []
        for token, is_finished, hours, body in await self._run(lambda c: c.execute(query, (stream,)).fetchall()):
            rows = RowSet.from_bytes(body)
            if is_finished:
                finished = finished | rows
            else:
                unknown.append(SaveReplay(stream, token, rows, _hours(hours)))
        return finished, unknown

    async def close(self) -> None:
        await self._run(lambda connection: connection.close())


def _prepare(connection: sqlite3.Connection, path: Path, read_only: bool) -> int | None:
    """Check the format, or bring it up to ours, and return this writer's epoch (None: it only reads)."""
    connection.execute("PRAGMA busy_timeout = 10000")
    if read_only:
        schema.check(connection, path)
        return None
    connection.execute("PRAGMA synchronous = FULL")
    schema.bring_up(connection, path)
    connection.execute("PRAGMA journal_mode = WAL")
    query = "INSERT INTO meta VALUES ('epoch', 1) ON CONFLICT (key) DO UPDATE SET value = value + 1 RETURNING value"
    epoch: int = connection.execute(query).fetchone()[0]
    return epoch


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    """Translate SQLite's errors."""
    try:
        yield
    except OSError as error:
        raise DataDirectoryError(
            f"{path} cannot be opened: {error.strerror}; let this user read and write it"
        ) from error
    except sqlite3.IntegrityError as error:
        raise ConflictError(f"{path}: {error}") from error
    except sqlite3.OperationalError as error:
        code = getattr(error, "sqlite_errorcode", None)
        if code == sqlite3.SQLITE_FULL:
            raise ThrottledError(f"no room to write {path}; free some disk space") from error
        if code == sqlite3.SQLITE_ERROR:  # no such table, or column: trying again will not help
            raise DataDirectoryError(
                f"{path} does not hold the tables of its format ({error}); put it back from a backup of the data "
                "directory"
            ) from error
        raise UnavailableError(f"{path}: {error}") from error
    except sqlite3.DatabaseError as error:
        raise DataDirectoryError(
            f"{path} is damaged or no state of ours: {error}; put it back from a backup of the data directory"
        ) from error


def _done(connection: sqlite3.Connection, stream: str) -> tuple[Done, ...]:
    beyond: dict[tuple[str, str], RowSet] = {}
    for shard, outlet, rows in connection.execute("SELECT shard, outlet, rows FROM done WHERE stream = ?", (stream,)):
        beyond[shard, outlet] = beyond.get((shard, outlet), RowSet()) | RowSet.from_bytes(rows)
    query = "SELECT shard, outlet, position FROM positions WHERE stream = ?"
    return tuple(
        Done(shard, outlet, position, beyond.get((shard, outlet), RowSet()))
        for shard, outlet, position in connection.execute(query, (stream,))
    )


@contextmanager
def _one_moment(connection: sqlite3.Connection) -> Iterator[None]:
    """Let several queries see the same moment."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")


def _snapshot(connection: sqlite3.Connection) -> StateSnapshot:
    query = "SELECT stream, outlet, hour, term, rows FROM account WHERE rows != 0 ORDER BY stream, hour, outlet, term"
    with _one_moment(connection):
        account = tuple(
            AccountRow(stream, outlet, hour, Term(term), rows)
            for stream, outlet, hour, term, rows in connection.execute(query)
        )
        uids = [uid for (uid,) in connection.execute("SELECT DISTINCT stream FROM positions")]
        return StateSnapshot(account, {uid: _done(connection, uid) for uid in uids})


def _load(connection: sqlite3.Connection, stream: str) -> StreamState:
    query = "SELECT body, rows FROM deliveries WHERE stream = ? AND finished_ms IS NULL ORDER BY rowid"
    with _one_moment(connection):
        intents = tuple(_intent(body, rows) for body, rows in connection.execute(query, (stream,)))
        return StreamState(_done(connection, stream), intents)


def _hours(text: str) -> dict[int, int]:
    return {int(hour): count for hour, count in json.loads(text).items()}


def _body(intent: Intent) -> dict[str, Any]:
    """Return an intent as JSON, without its rows."""
    fields = {each.name: getattr(intent, each.name) for each in dataclasses.fields(intent) if each.name != "rows"}
    for name in ("hours", "failures", "facts", "metadata"):
        fields[name] = dict(fields[name])
    fields["earlier"] = [{"body": _body(each), "rows": each.rows.to_bytes().hex()} for each in intent.earlier]
    return fields


def _intent(body: str, rows: bytes) -> Intent:
    return _intent_of(json.loads(body), rows)


def _intent_of(fields: dict[str, Any], rows: bytes) -> Intent:
    fields |= {
        "rows": RowSet.from_bytes(rows),
        "earlier": tuple(_intent_of(each["body"], bytes.fromhex(each["rows"])) for each in fields.get("earlier", ())),
        "term": Term(fields["term"]),
        "settles": tuple(fields["settles"]),
        "hours": {int(hour): count for hour, count in fields["hours"].items()},
    }
    return Intent(**fields)


def _put_stream(connection: sqlite3.Connection, change: PutStream) -> None:
    record = change.record
    body = json.dumps(dataclasses.asdict(record))
    connection.execute("INSERT OR REPLACE INTO streams VALUES (?, ?, ?)", (record.uid, record.name, body))


def _remove_stream(connection: sqlite3.Connection, change: RemoveStream) -> None:
    for table in ("positions", "done", "replays"):
        connection.execute(f"DELETE FROM {table} WHERE stream = ?", (change.stream,))
    connection.execute("INSERT INTO removed SELECT uid, name FROM streams WHERE uid = ?", (change.stream,))
    connection.execute("DELETE FROM streams WHERE uid = ?", (change.stream,))
    connection.execute("DELETE FROM deliveries WHERE stream = ? AND finished_ms IS NULL", (change.stream,))


def _save_intents(connection: sqlite3.Connection, change: SaveIntents) -> None:
    for intent in change.intents:
        newest_hour, body = max(intent.hours, default=0), json.dumps(_body(intent))
        connection.execute(
            "INSERT OR REPLACE INTO deliveries VALUES (?, ?, ?, ?, NULL, ?, ?)",
            (intent.stream, intent.outlet, intent.key, newest_hour, body, intent.rows.to_bytes()),
        )


def _finish_intent(connection: sqlite3.Connection, change: FinishIntent) -> None:
    intent = change.intent
    connection.execute(
        "UPDATE deliveries SET finished_ms = ?, body = ?, rows = ? WHERE stream = ? AND outlet = ? AND key = ?",
        (
            change.finished_ms,
            json.dumps(_body(intent)),
            intent.rows.to_bytes(),
            intent.stream,
            intent.outlet,
            intent.key,
        ),
    )


def _drop_intent(connection: sqlite3.Connection, change: DropIntent) -> None:
    intent = change.intent
    connection.execute(
        "DELETE FROM deliveries WHERE stream = ? AND outlet = ? AND key = ? AND finished_ms IS NULL",
        (intent.stream, intent.outlet, intent.key),
    )


def _save_done(connection: sqlite3.Connection, change: SaveDone) -> None:
    at = (change.stream, change.shard, change.outlet)
    connection.execute("INSERT OR REPLACE INTO positions VALUES (?, ?, ?, ?)", (*at, change.position))
    for chunk, rows in change.chunks.items():
        if rows is None:
            connection.execute(
                "DELETE FROM done WHERE stream = ? AND shard = ? AND outlet = ? AND chunk = ?", (*at, chunk)
            )
        else:
            connection.execute("INSERT OR REPLACE INTO done VALUES (?, ?, ?, ?, ?)", (*at, chunk, rows))


def _forget_shard(connection: sqlite3.Connection, change: ForgetShard) -> None:
    for table in ("positions", "done"):
        connection.execute(f"DELETE FROM {table} WHERE stream = ? AND shard = ?", (change.stream, change.shard))


def _add_to_account(connection: sqlite3.Connection, change: AddToAccount) -> None:
    for hour, count in change.hours.items():
        connection.execute(
            "INSERT INTO account VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET rows = rows + excluded.rows",
            (change.stream, change.outlet, hour, change.term, count),
        )


def _bank_segment(connection: sqlite3.Connection, change: BankSegment) -> None:
    values = (change.segment, change.books)
    fresh = connection.execute("INSERT OR IGNORE INTO banked VALUES (?, ?)", values).rowcount
    if fresh:
        for stream, hours in change.accepted.items():
            _add_to_account(connection, AddToAccount(stream, BEFORE_OUTLETS, Term.ACCEPTED, hours))


def _let_segments_go(connection: sqlite3.Connection, change: LetSegmentsGo) -> None:
    names = [(name,) for name in change.segments]
    connection.executemany("UPDATE banked SET books = '' WHERE segment = ?", names)


def _forget_segments(connection: sqlite3.Connection, change: ForgetSegments) -> None:
    connection.executemany("DELETE FROM banked WHERE segment = ?", [(name,) for name in change.segments])


def _forget_manifests(connection: sqlite3.Connection, change: ForgetManifests) -> None:
    for which, *values in (("outlet = ?", change.outlet), ("stream IN (SELECT uid FROM removed)",)):
        connection.execute(
            f"DELETE FROM deliveries WHERE rowid IN (SELECT rowid FROM deliveries WHERE {which} AND finished_ms < ?"
            " ORDER BY finished_ms LIMIT ?)",
            (*values, change.before_ms, FORGET_AT_ONCE),
        )


def _save_replay(connection: sqlite3.Connection, change: SaveReplay) -> None:
    hours = json.dumps(dict(change.hours))
    values = (change.stream, change.token, 0, hours, change.rows.to_bytes())
    connection.execute("INSERT INTO replays VALUES (?, ?, ?, ?, ?)", values)


def _finish_replay(connection: sqlite3.Connection, change: FinishReplay) -> None:
    at = (change.stream, change.token)
    query = "UPDATE replays SET finished = 1 WHERE stream = ? AND token = ? AND finished = 0"
    if not change.entered:
        query = "DELETE FROM replays WHERE stream = ? AND token = ? AND finished = 0"
    connection.execute(query, at)


_WRITERS: dict[type, Callable[[sqlite3.Connection, Any], None]] = {
    PutStream: _put_stream,
    RemoveStream: _remove_stream,
    SaveIntents: _save_intents,
    FinishIntent: _finish_intent,
    DropIntent: _drop_intent,
    SaveDone: _save_done,
    ForgetShard: _forget_shard,
    AddToAccount: _add_to_account,
    BankSegment: _bank_segment,
    LetSegmentsGo: _let_segments_go,
    ForgetSegments: _forget_segments,
    ForgetManifests: _forget_manifests,
    SaveReplay: _save_replay,
    FinishReplay: _finish_replay,
}
