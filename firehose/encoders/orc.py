"""Apache ORC, as Hive, Athena, Trino and Spark read it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from firehose.components import ByteSize, ConvertConfig
from firehose.encoders.arrow_file import ArrowFile
from firehose.errors import InvalidError
from firehose.hive_types import INVALID_SCHEMA
from firehose.protocols import Encoder, Output, RowWriter, Written

#: What ORC's writer takes for each column, nested ones too, before any row: its buffers of compressed and plain bytes.
#: Measured: 290 to 660 KiB, by type and compression.
_COLUMN_BYTES = 600 * 2**10

#: What a dictionary takes for each byte of text, times the threshold: 8 bytes a row and 110 bytes a distinct value, of
#: texts of 4 bytes (8 with their offset). ORC's writer does not count that when it looks whether a stripe is full.
_DICTIONARY_GROWTH = 14

#: The codecs as Arrow calls them, and how hard they try: LZ4's `speed` does not compress at all, zlib's `compression`
#: takes three times as long for a quarter less, zstd's is larger than its `speed`.
_CODECS = {
    "none": ("uncompressed", "speed"),
    "snappy": ("snappy", "speed"),
    "zlib": ("zlib", "speed"),
    "zstd": ("zstd", "speed"),
    "lz4": ("lz4", "compression"),
}

#: Where ORC's library looks for time zones, unless TZDIR says where.
_SYSTEM_ZONES = Path("/usr/share/zoneinfo")

_SECOND = 1_000_000


class OrcConfig(ConvertConfig):
    """Columns in Apache ORC. Times before 1970 keep whole seconds only: their fractions would not be read back."""

    format: Literal["orc"] = "orc"
    compression: Literal["snappy", "zlib", "zstd", "lz4", "none"] = "snappy"
    """The compression of the columns."""
    stripe_size_bytes: ByteSize = Field(64 * 2**20, alias="stripe_size", ge=2**20, le=2**31 - 1)
    """How large a stripe becomes, encoded and compressed; so much is held in memory for each open file, and 600 KiB
    for each column."""
    row_index_stride: int = Field(10_000, ge=1000, le=2**31 - 1)
    """For how many rows at a time readers are told the least and the greatest value, to skip them by."""
    dictionary_key_threshold: float = Field(0, ge=0, le=1)
    """Write texts once, and then their numbers, in each column where at most this part of the values is distinct; 0:
    nowhere, 1: everywhere. The more, the more memory: up to fifteen times that of the texts of a stripe."""
    bloom_filter_columns: tuple[str, ...] = ()
    """The columns that get bloom filters, by which readers skip rows when they look for one value. A field of a struct
    is written as `user.id`."""
    bloom_filter_fpp: float = Field(0.05, gt=0, lt=1)
    """How often a bloom filter may find what is not there."""
    file_version: Literal["0.11", "0.12"] = "0.12"
    """The version of the format: `0.11` is for readers as old as Hive 0.11."""

    def encoder(self) -> Encoder:
        """Return the encoder of this format."""
        return OrcEncoder(self)


class OrcEncoder:
    """Writes stripes with indexes; a timestamp is ORC's `timestamp`, the one without a zone, as Hive's is."""

    extension = ".orc"
    content_type = "application/octet-stream"  # as Firehose labels every object

    def __init__(self, config: OrcConfig) -> None:
        self._config = config
        _provide_time_zones()

    def open(self, out: Output, schema: pa.Schema) -> RowWriter:
        """Return a writer of rows of `schema`, any but empty structs, into `out`.

        Errors: InvalidError where a column that shall have a bloom filter is none, or has no values of its own.
        """
        numbers = _numbers(schema, self._config.bloom_filter_columns)
        return _OrcWriter(out, schema, self._config, numbers)


class _OrcWriter:
    """Hands rows to ORC's own writer: it encodes them at once, and keeps what it encoded until a stripe is full."""

    def __init__(self, out: Output, schema: pa.Schema, config: OrcConfig, bloom_filters: list[int]) -> None:
        from pyarrow import orc

        self._rows = 0
        self._has_text = [any(pa.types.is_string(kind) for _, kind in _preorder([field])) for field in schema]
        self._stripe_size_bytes = config.stripe_size_bytes
        self._dictionary_growth = _DICTIONARY_GROWTH * config.dictionary_key_threshold
        self._own_bytes = self.held_bytes = _COLUMN_BYTES * sum(1 for _ in _preorder(schema))
        self._waiting_bytes = self._waiting_text_bytes = 0
        self._file = ArrowFile(out)
        compression, strategy = _CODECS[config.compression]
        self._writer = orc.ORCWriter(
            pa.PythonFile(self._file, mode="w"),
            file_version=config.file_version,
            stripe_size=config.stripe_size_bytes,
            compression=compression,
            compression_strategy=strategy,
            row_index_stride=config.row_index_stride,
            dictionary_key_size_threshold=config.dictionary_key_threshold,
            bloom_filter_columns=bloom_filters,
            bloom_filter_fpp=config.bloom_filter_fpp,
        )
        self.write(pa.RecordBatch.from_pylist([], schema))  # it takes the schema from the first rows, even from none

    def __del__(self) -> None:
        # a writer left behind unfinished would still write its footer, into an output that is somebody else's by then
        self._file.detach()

    def write(self, rows: pa.RecordBatch) -> None:
        written_bytes = self._file.written_bytes
        columns = [_writable(column) for column in rows.columns]
        self._writer.write(pa.Table.from_arrays(columns, schema=rows.schema))
        self._file.check()
        self._rows += rows.num_rows
        if self._file.written_bytes > written_bytes:  # a stripe went out: at most these rows are still here
            self._waiting_bytes = self._waiting_text_bytes = 0
        self._count(rows)

    def close(self) -> Written:
        self._writer.close()
        self._file.check()
        self._file.detach()
        return Written(self._rows)

    def _count(self, rows: pa.RecordBatch) -> None:
        """Count what the writer holds: at most a stripe, or the rows as they came, and its dictionaries."""
        self._waiting_bytes += rows.nbytes
        self._waiting_text_bytes += sum(
            column.nbytes for column, has_text in zip(rows.columns, self._has_text, strict=True) if has_text
        )
        encoded_bytes = min(self._waiting_bytes, self._stripe_size_bytes)
        dictionary_bytes = int(self._waiting_text_bytes * self._dictionary_growth)
        self.held_bytes = self._own_bytes + encoded_bytes + dictionary_bytes


def _provide_time_zones() -> None:
    """Show ORC's library the time zones of Python where the system has none, as in small containers.

    It writes nothing without the file of the zone GMT.
    """
    if "TZDIR" not in os.environ and not (_SYSTEM_ZONES / "GMT").exists():
        os.environ["TZDIR"] = str(files("tzdata") / "zoneinfo")


def _preorder(fields: Iterable[pa.Field], parent: str = "") -> Iterator[tuple[str, pa.DataType]]:
    """Yield path and type of each column and what is nested in it, in the order in which ORC numbers them from 1."""
    for field in fields:
        path, kind = f"{parent}{field.name.lower()}", field.type
        yield path, kind
        is_map = pa.types.is_map(kind)
        nested = (kind.key_field, kind.item_field) if is_map else (kind.field(at) for at in range(kind.num_fields))
        yield from _preorder(nested, f"{path}.")


def _numbers(schema: pa.Schema, names: Iterable[str]) -> list[int]:
    """Return the numbers of the columns that are to have a bloom filter. Errors: InvalidError where one cannot."""
    numbers = {path: number for number, (path, kind) in enumerate(_preorder(schema), 1) if not kind.num_fields}
    for name in names:
        if name.lower() not in numbers:
            message = f"bloom_filter_columns: {name!r} is no column of single values; these are {', '.join(numbers)}"
            raise InvalidError(message, code=INVALID_SCHEMA)
    return sorted({numbers[name.lower()] for name in names})


def _writable(column: pa.Array) -> pa.Array:
    """Return the column in the form in which Arrow writes it without mistakes.

    Of structs that are slices it writes other rows; a copy (at 10 GB a second) begins at its first. See also
    `_with_nulls_above` and `_in_whole_seconds`.
    """
    return _with_nulls_above(pa.concat_arrays([column]), None) if column.type.num_fields else _in_whole_seconds(column)


def _with_nulls_above(column: pa.Array, above: pa.Buffer | None) -> pa.Array:
    """Return the column with NULL wherever the bits of `above` say that the struct around it is NULL.

    Arrow does this itself, but stops at the first struct without a NULL, and then writes values for rows that are not
    there: all that follow move to other rows. Source: NormalizeArray in arrow/adapters/orc/util.cc.
    """
    kind, (valid, *own) = column.type, column.buffers()
    assert column.offset == 0
    if above is not None:
        bits = np.frombuffer(above, np.uint8)[: -(-len(column) // 8)]
        valid = above if valid is None else pa.py_buffer(bits & np.frombuffer(valid, np.uint8)[: len(bits)])
    if pa.types.is_struct(kind):
        fields = [_with_nulls_above(column.field(at), valid) for at in range(kind.num_fields)]
        return pa.Array.from_buffers(kind, len(column), [valid], children=fields)
    if kind.num_fields:
        items = _with_nulls_above(column.values, None)
        return pa.Array.from_buffers(kind, len(column), [valid, own[0]], children=[items])
    return _in_whole_seconds(pa.Array.from_buffers(kind, len(column), [valid, *own]))


def _in_whole_seconds(column: pa.Array) -> pa.Array:
    """Return the column; in one of times, those before 1970 are rounded down to the second.

    Arrow writes the fraction of such a time as a negative number, and Java's readers refuse the file for it. In the
    second before 1970 ORC has no way at all to write a fraction. Source: ORC-763, TimestampAppender in util.cc.
    """
    if not pa.types.is_timestamp(column.type):
        return column
    micros = column.view(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    whole = np.where(micros < 0, micros - micros % _SECOND, micros)
    if (whole == micros).all():
        return column
    return pa.array(whole, pa.int64(), mask=column.is_null().to_numpy(zero_copy_only=False)).view(column.type)
