"""The error output: one JSON line for each failed record, with the reason and the original bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
import pybase64

from firehose.protocols import Output, Stage
from firehose.records import WHOLE, FailedRows


@dataclass(frozen=True, slots=True)
class Layout:
    """How one stage's entries look. Dashboards written for Firehose read these names, so they differ by stage."""

    code: str
    message: str
    #: Members that every entry of the stage carries, like the function or the table.
    facts: Mapping[str, Any]


def layout_of(stage: str, facts: Mapping[str, Any]) -> Layout:
    """Return how the entries of `stage` look."""
    if stage == Stage.CONVERT:
        return Layout("lastErrorCode", "lastErrorMessage", facts)
    return Layout("errorCode", "errorMessage", facts)


def write_entries(failed: FailedRows, layout: Layout, out: Output) -> None:
    """Write one line for each row. `failed` must hold the original bytes."""
    assert not failed.changed, "an entry keeps the original bytes"
    # per record, in one of the few places for it: an entry is a JSON object of its own
    out.write(b"".join(orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE) for entry in _entries(failed, layout)))


def _entries(failed: FailedRows, layout: Layout) -> Iterator[dict[str, Any]]:
    columns = failed.rows.to_pydict()
    facts = dict(layout.facts)
    for index in range(len(failed)):
        sub_sequence = columns["sub_sequence"][index]
        yield {
            "attemptsMade": columns["attempts"][index],
            "arrivalTimestamp": columns["arrival_ms"][index],
            layout.code: columns["code"][index],
            layout.message: columns["message"][index],
            "attemptEndingTimestamp": columns["ended_ms"][index],
            "rawData": pybase64.b64encode(columns["data"][index]).decode(),
            "sequenceNumber": str(columns["sequence"][index]),
            "subSequenceNumber": None if sub_sequence == WHOLE else sub_sequence,
            "shardId": failed.shard,
            **({"errorDetail": detail} if (detail := columns["detail"][index]) else {}),
            **facts,
        }
