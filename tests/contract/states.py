"""What tests of state stores share: streams and objects to keep, and a state that is opened once more."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

from firehose.clock import HOUR_MS
from firehose.records import RowSet
from firehose.state import Intent, StreamRecord, Term
from firehose.stores.sqlite import SqliteStateStore

HOUR = 1_767_225_600_000

Open = Callable[[], Awaitable[SqliteStateStore]]


@asynccontextmanager
async def opened(open_store: Open) -> AsyncIterator[SqliteStateStore]:
    found = await open_store()
    try:
        yield found
    finally:
        await found.close()


def stream(uid: str = "u1", name: str = "clicks") -> StreamRecord:
    return StreamRecord(uid, name, "config", '{"config": {}}', 1, HOUR)


def intent(key: str = "a/b", rows: RowSet | None = None, **changes: object) -> Intent:
    found = Intent(
        stream="u1",
        outlet="destination",
        key=key,
        rows=rows or RowSet.of_range("s", 0, 9),
        term=Term.DELIVERED,
        settles=("destination",),
        path="0.objects",
        offset=7,
        body_bytes=100,
        checksum="c0ffee",
        attempt=1,
        created_ms=HOUR + 1,
        oldest_ms=HOUR,
        hours={HOUR: 4, HOUR + HOUR_MS: 6},
        failures={"convert/DataFormatConversion.ParseError": 2},
        facts={"records": 10, "url": "file:///out"},
        content_type="text/plain",
        content_encoding="gzip",
        metadata={"firehose-rows": "1f"},
    )
    return replace(found, **changes)  # type: ignore[arg-type] # the fields of an intent


async def account(store: SqliteStateStore) -> dict[tuple[str, str, int, Term], int]:
    return {(row.stream, row.outlet, row.hour, row.term): row.rows for row in (await store.snapshot()).account}
