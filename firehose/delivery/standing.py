"""Which attempt an object is that stands at its sink: it says itself which rows it holds."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence

from firehose.protocols import ObjectInfo
from firehose.records import RowSet
from firehose.state import Intent

#: The object's metadata that says which rows it holds.
ROWS_METADATA = "firehose-rows"


def rows_digest(rows: RowSet) -> str:
    """Return 32 hex digits that stand for a set of rows."""
    return hashlib.blake2b(rows.to_bytes(), digest_size=16).hexdigest()


#: What an object says that holds no rows: it only keeps what was sent before from arriving (`redo.py`).
NO_ROWS = rows_digest(RowSet())


def what_stands(info: ObjectInfo, attempts: Sequence[Intent]) -> Intent | None:
    """Return the attempt whose rows the object holds, as the store describes it; None where it is none of them.

    One without rows, whoever sent it, is the newest attempt without its rows. Other bytes than an attempt's are still
    its rows: whoever puts back an old copy of the data directory seals them again, with another data key and another
    answer of a function.
    """
    found, newest = info.metadata.get(ROWS_METADATA), attempts[-1]
    if found == NO_ROWS:
        return _as_it_stands(dataclasses.replace(newest, rows=RowSet(), hours={}), info)
    for attempt in reversed(attempts):
        if found == rows_digest(attempt.rows):
            return _as_it_stands(attempt, info)
    return None


def _as_it_stands(intent: Intent, info: ObjectInfo) -> Intent:
    return dataclasses.replace(
        intent,
        body_bytes=info.body_bytes,
        checksum=info.checksum or "",
        content_encoding=info.content_encoding,
        metadata=info.metadata,
        earlier=(),
    )
