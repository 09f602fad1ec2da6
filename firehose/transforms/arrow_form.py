"""Rows as local functions with `batch` get them, and their answers: Arrow, all records at once.

The columns of an answer are put right in the child (`batch_runtime`). Here nothing of them is believed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import orjson
import pyarrow as pa

from firehose import arrow
from firehose.records import Batch
from firehose.transforms.batch_runtime import ANSWER, ROWS
from firehose.transforms.contract import (
    ANSWER_BYTES,
    DUPLICATED_ID,
    INVALID_FORMAT,
    MISSING_ID,
    NULL_DATA,
    PROCESSING_FAILED,
    Answer,
    malformed,
    partition_keys_of,
    shown,
    too_large,
)

_RESULTS = pa.array(["Ok", "Dropped", "ProcessingFailed"])
_OK, _DROPPED, _PROCESSING_FAILED = range(3)


class ArrowQuestion:
    """Rows as a stream of Arrow IPC with one batch. Shape: `batch_runtime.ROWS`."""

    def __init__(self, batch: Batch) -> None:
        self._count = len(batch)
        columns = [pa.array(np.arange(self._count, dtype=np.int32)), batch.data, pa.array(batch.arrival_ms)]
        out = pa.BufferOutputStream()
        with pa.ipc.new_stream(out, ROWS) as writer:
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=ROWS))
        self._event = out.getvalue().to_pybytes()

    @property
    def event_bytes(self) -> int:
        return len(self._event)

    def event(self) -> Sequence[bytes]:
        return [self._event]

    def answer(self, body: bytes) -> Answer:
        return read_answer(body, self._count)


def read_answer(body: bytes, count: int) -> Answer:
    """Return what the function said of `count` rows. Rows that were not sent are ignored.

    Shape: a stream of Arrow IPC with one batch of `batch_runtime.ANSWER`.
    Errors: InvocationError, final, where the answer as a whole cannot be used.
    """
    given = _columns(body)
    place, times = _places(given.column("row"), count)
    result = _results(given.column("result"), place, np.flatnonzero(times == 1))
    failures = _failures(given.column("message"), place, times, result)
    ok = np.flatnonzero(result == _OK)
    data = _taken(given.column("data"), place[ok])
    keys, wrong = _partition_keys(_taken(given.column("partition_keys"), place[ok]))
    is_there = arrow.is_valid(data)
    is_right = is_there.copy()
    is_right[list(wrong)] = False
    if not bool(is_right.all()):
        failures |= {int(ok[at]): (INVALID_FORMAT, why, "") for at, why in wrong.items()}
        failures |= {int(row): (*NULL_DATA, "") for row in ok[~is_there]}
        kept = pa.array(is_right)
        ok, data, keys = ok[is_right], data.filter(kept), None if keys is None else keys.filter(kept)
    failed = sorted(failures)
    codes, messages, details = zip(*(failures[row] for row in failed), strict=True) if failed else ((), (), ())
    dropped = np.flatnonzero(result == _DROPPED)
    return Answer(ok, data, dropped, np.array(failed, np.int64), codes, messages, details, keys)


def _columns(body: bytes) -> pa.RecordBatch:
    """Return the answer's columns, each value of which may be read."""
    if len(body) > ANSWER_BYTES:
        raise too_large(f"{len(body)}")
    try:
        reader = pa.ipc.open_stream(body)
        if not reader.schema.equals(ANSWER):
            raise malformed("the answer has other columns than were asked for")
        rows = reader.read_next_batch()
        rows.validate(full=True)
    except (pa.ArrowException, OSError, StopIteration) as error:
        raise malformed(f"the answer is not Arrow: {error}") from error
    return rows


def _places(row: pa.Array, count: int) -> tuple[arrow.Ints, arrow.Ints]:
    """Return where each row stands in the answer, and how often; where it does not, a place that means nothing."""
    sent = row.fill_null(-1).to_numpy(zero_copy_only=False)
    at = np.flatnonzero((sent >= 0) & (sent < count))
    place = np.zeros(count, np.int64)
    place[sent[at]] = at
    return place, np.bincount(sent[at], minlength=count)


def _results(result: pa.Array, place: arrow.Ints, rows: arrow.Ints) -> arrow.Ints:
    """Return for each row of the event its result's number, -1 for all but `rows`. Errors: InvocationError."""
    numbers = arrow.numbers_of(result, _RESULTS)[place[rows]]
    if len(unknown := np.flatnonzero(numbers < 0)):
        row = int(rows[unknown[0]])
        value = shown(result[int(place[row])].as_py())
        raise malformed(f"result of row {row} is {value}; allowed: Ok, Dropped, ProcessingFailed")
    found = np.full(len(place), -1, np.int64)
    found[rows] = numbers
    return found


def _failures(
    message: pa.StringArray, place: arrow.Ints, times: arrow.Ints, result: arrow.Ints
) -> dict[int, tuple[str, str, str]]:
    """Return code, message and detail of the rows that the function failed, or did not speak of once."""
    refused = np.flatnonzero(result == _PROCESSING_FAILED)
    said = message.take(pa.array(place[refused])).to_pylist()
    return {
        **dict.fromkeys(np.flatnonzero(times == 0).tolist(), (*MISSING_ID, "")),
        **dict.fromkeys(np.flatnonzero(times > 1).tolist(), (*DUPLICATED_ID, "")),
        **{row: (*PROCESSING_FAILED, text or "") for row, text in zip(refused.tolist(), said, strict=True)},
    }


def _partition_keys(given: pa.StringArray) -> tuple[pa.StringArray | None, dict[int, str]]:
    """Return the keys of each row as compact JSON, and what is wrong with some, by their place."""
    if given.null_count == len(given):
        return None, {}
    encoded = given.dictionary_encode()  # there are far fewer keys than rows, mostly
    texts: list[str | None] = []
    wrong: dict[int, str] = {}
    for number, text in enumerate(encoded.dictionary.to_pylist()):
        texts.append(None)
        try:
            texts[-1] = partition_keys_of(_json(text), where="partition_keys")
        except ValueError as error:
            wrong[number] = str(error)
    keys = pa.array(texts, pa.string()).take(encoded.indices)
    if not wrong:
        return keys, {}
    numbers = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    return keys, {at: wrong[numbers[at]] for at in np.flatnonzero(np.isin(numbers, list(wrong))).tolist()}


def _json(text: str) -> object:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"partition_keys is {shown(text)}, not JSON: {error}") from error


def _taken(column: pa.Array, places: arrow.Ints) -> pa.Array:
    """Return the values at `places`, without a copy where those are all, in order."""
    if len(places) == len(column) and bool((places == np.arange(len(column))).all()):
        return column
    return column.take(pa.array(places))
