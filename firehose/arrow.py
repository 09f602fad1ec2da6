"""Columns of records, handled whole. Whoever needs more of Arrow's kernels adds it here, so that there is one place.

A column of records is always `large_binary`: 64-bit offsets, because one slab may hold more than 2 GiB.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


def binary_column(records: Sequence[bytes]) -> pa.LargeBinaryArray:
    """Return one column holding `records`, copied once."""
    return pa.array(records, pa.large_binary())


def binary_column_from_lengths(lengths: npt.NDArray[np.integer[Any]], body: pa.Buffer | bytes) -> pa.LargeBinaryArray:
    """Return the column whose values lie end to end in `body`, without a copy of it.

    Errors: ValueError where the lengths do not add up to the bytes of `body`.
    """
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    buffer = body if isinstance(body, pa.Buffer) else pa.py_buffer(body)
    if offsets[-1] != buffer.size or (len(lengths) and int(lengths.min()) < 0):
        raise ValueError(f"lengths add up to {offsets[-1]} bytes, the body has {buffer.size}")
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(lengths), [None, pa.py_buffer(offsets), buffer])


def byte_lengths(column: pa.LargeBinaryArray) -> Ints:
    """Return the length in bytes of each value. Shape: as `column`."""
    return np.diff(offsets_of(column))


def offsets_of(column: pa.LargeBinaryArray) -> Ints:
    """Return where each value begins in `values_of(column)`, and where the last one ends. Shape: n + 1."""
    if not len(column):
        return np.zeros(1, np.int64)
    raw: Ints = np.frombuffer(column.buffers()[1], np.int64)[column.offset : column.offset + len(column) + 1]
    relative: Ints = raw - raw[0]
    return relative


def values_of(column: pa.LargeBinaryArray) -> memoryview:
    """Return the bytes of all values end to end, without a copy: exactly what this slice of the column holds."""
    if not len(column) or column.buffers()[2] is None:
        return memoryview(b"")
    raw = np.frombuffer(column.buffers()[1], np.int64)[column.offset : column.offset + len(column) + 1]
    return memoryview(column.buffers()[2])[int(raw[0]) : int(raw[-1])]


def take(rows: pa.RecordBatch, indices: npt.NDArray[np.integer[Any]]) -> pa.RecordBatch:
    """Return the rows at `indices`, in that order."""
    return rows.take(pa.array(indices, pa.int64()))


def equal(column: pa.StringArray, value: str) -> Mask:
    """Return for each text whether it is `value`. Shape: as `column`, which has no NULLs."""
    found: Mask = pc.equal(column, value).to_numpy(zero_copy_only=False)
    return found


def is_valid(column: pa.Array) -> Mask:
    """Return for each value whether it is one, and no NULL. Shape: as `column`."""
    found: Mask = column.is_valid().to_numpy(zero_copy_only=False)
    return found


def numbers_of(column: pa.StringArray, words: pa.StringArray) -> Ints:
    """Return the place of each text among `words`, -1 where it is none of them. Shape: as `column`."""
    return ints(pc.index_in(column, words).fill_null(-1))


def ints(column: pa.Array) -> Ints:
    """Return an int64 or int32 column without NULLs as numpy, without a copy where it is int64."""
    values: Ints = column.to_numpy(zero_copy_only=False).astype(np.int64, copy=False)
    return values


def counts(values: npt.NDArray[np.int64]) -> dict[int, int]:
    """Return how often each value occurs."""
    unique, number = np.unique(values, return_counts=True)
    return dict(zip(unique.tolist(), number.tolist(), strict=True))


def concat(pieces: Sequence[pa.RecordBatch], schema: pa.Schema) -> pa.RecordBatch:
    """Return one record batch with the rows of all `pieces`, in order."""
    if len(pieces) == 1:
        return pieces[0]
    if not pieces:
        return pa.RecordBatch.from_pylist([], schema=schema)
    return pa.concat_batches(pieces)
