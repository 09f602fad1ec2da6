"""The contracts between the worker and everything that can be exchanged.

Three rules keep them honest. Sync means CPU, async means waiting: only the worker hands CPU work to threads or
processes. A component never retries, sleeps, logs success or holds a queue: it raises, and the worker decides. What a
component cannot do to a row is a value (`FailedRows`), what it cannot do at all is an exception of `firehose.errors`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from firehose.records import Batch, FailedRows, Outcome, RowSet, Span


class Stage(StrEnum):
    """Where a row failed: a bounded word for metrics and filters. `error_output_type` is Firehose's word for it."""

    DECOMPRESS = "decompress"
    VALIDATE = "validate"
    TRANSFORM = "transform"
    PARTITION = "partition"
    ACTIVE_PARTITIONS = "active-partitions"
    CONVERT = "convert"

    @property
    def error_output_type(self) -> str:
        return _ERROR_OUTPUT_TYPES[self]


_ERROR_OUTPUT_TYPES = {
    Stage.DECOMPRESS: "decompression-failed",
    Stage.VALIDATE: "validation-failed",
    Stage.TRANSFORM: "processing-failed",
    Stage.PARTITION: "metadata-extraction-failed",
    Stage.ACTIVE_PARTITIONS: "activePartitionExceeded",
    Stage.CONVERT: "format-conversion-failed",
}


# --- sources ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Assigned:
    """This worker now owns `shard`. `created_ms`: shards are drained in this order where they follow one another."""

    shard: str
    created_ms: int = 0
    #: True where the rows are replayed ones: they keep their time of arrival, and retention does not end them.
    is_replay: bool = False


@dataclass(frozen=True, slots=True)
class Revoked:
    """This worker no longer owns `shard`: stop reading, commit nothing more."""

    shard: str


@dataclass(frozen=True, slots=True)
class Read:
    """One read: every row of `span` that the shard holds is in `batch`. `is_caught_up`: nothing more waits behind."""

    span: Span
    batch: Batch
    is_caught_up: bool
    #: Rows of the span that can never be read again (damaged on disk), by hour of acceptance.
    unreadable: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Idle:
    """Nothing to read now. The shard is caught up."""


@dataclass(frozen=True, slots=True)
class End:
    """The shard is closed and was read to its end, the sequence `last` (-1: it never held a row)."""

    last: int


@dataclass(frozen=True, slots=True)
class Lag:
    """What a shard holds beyond a position. `oldest_ms`: arrival of the oldest such row, None where there is none."""

    rows: int
    data_bytes: int
    oldest_ms: int | None


class Shard(Protocol):
    """A sequence of rows that can be read again from any position until it is released."""

    name: str

    async def read(self, *, max_bytes: int, max_wait_ms: int) -> Read | Idle | End:
        """Return the next rows, at least one and about `max_bytes` of payload, or Idle after `max_wait_ms`."""
        ...

    async def wait(self, max_wait_ms: int) -> bool:
        """Return true as soon as `read` has rows or an end to tell, so that memory is taken only then; or false."""
        ...

    async def fetch(self, rows: RowSet) -> Batch:
        """Return these rows as the producer sent them, ascending. Rows that cannot be read any more are left out."""
        ...

    async def close(self) -> None:
        """Stop reading."""
        ...


class Source(Protocol):
    """Where rows come from: shards that appear, move and end."""

    def events(self) -> AsyncIterator[Assigned | Revoked]:
        """Yield what this worker owns, as it changes, until the source is closed."""
        ...

    async def shards(self) -> list[str]:
        """Return the names of all shards that exist now, whoever owns them."""
        ...

    async def open(self, shard: str, *, after: int) -> Shard:
        """Open `shard` for reading behind the position `after` (-1: from its beginning)."""
        ...

    async def release(self, shard: str, position: int) -> None:
        """Say that every row up to `position` is done, so that its space can be reclaimed."""
        ...

    async def last(self, shard: str) -> int:
        """Return the sequence of the newest row that `shard` holds now, -1 where it holds none."""
        ...

    async def lag(self, shard: str, position: int) -> Lag:
        """Return what lies beyond `position`."""
        ...

    async def close(self) -> None:
        """End `events`."""
        ...


# --- steps on rows ---------------------------------------------------------------------------------------------------


class Transform(Protocol):
    """Changes, drops or fails rows; may call out."""

    async def apply(self, batch: Batch) -> Outcome:
        """Return what became of every row. Raise only where nothing is known of any row."""
        ...

    async def close(self) -> None:
        """Stop processes and connections."""
        ...


@dataclass(frozen=True, slots=True)
class Converted:
    """Columns made from records, and the records that did not fit.

    Shape: `columns` has a row for each JSON object of a good record, in order; `failed` holds the positions in the
    batch of the records that failed, ascending, with a code and a message for each. `details` has what a message in
    Firehose's words does not say, like the column; empty where the message says all, and no detail at all is none.
    """

    columns: pa.RecordBatch
    failed: npt.NDArray[np.int64]
    codes: Sequence[str]
    messages: Sequence[str]
    details: Sequence[str] = ()
    #: Units: how often something was visibly cut or ignored, by a bounded word (`unknown_key`, `cut_text`).
    remarks: Mapping[str, int] = field(default_factory=dict)

    def sort(self, batch: Batch, stage: Stage, *, ended_ms: int) -> tuple[Batch, tuple[FailedRows, ...]]:
        """Return the rows of the batch that it was asked about which are good, and those that failed at `stage`."""
        if not len(self.failed):
            return batch, ()
        is_good = np.ones(len(batch), np.bool_)
        is_good[self.failed] = False
        failed = FailedRows.of(
            stage,
            batch.take(self.failed),
            codes=self.codes,
            messages=self.messages,
            details=self.details or "",
            attempts=1,
            ended_ms=ended_ms,
        )
        return batch.where(is_good), (failed,)


class Converter(Protocol):
    """Turns a column of JSON records into typed columns. Sync: it is CPU."""

    #: What the columns look like.
    schema: pa.Schema
    #: True where `convert` lets go of the GIL, so that a thread is enough; else the worker sends it to a process.
    releases_gil: bool

    def convert(self, data: pa.LargeBinaryArray) -> Converted:
        """Return the columns and the failures. Never raises for what a record holds."""
        ...


# --- layers of an object ---------------------------------------------------------------------------------------------


class Output(Protocol):
    """Where bytes are written, layer on layer. Closing finishes this layer only; the one beneath stays open."""

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        """Take all of `data`; return its bytes."""
        ...

    def close(self) -> None:
        """Write what is left of this layer (a frame's end, a tag)."""
        ...


@dataclass(frozen=True, slots=True)
class Written:
    """What an encoder wrote. Units: `rows` of the file, which may be more than records went in."""

    rows: int


class RowWriter(Protocol):
    """Writes one object's rows."""

    #: Bytes of rows that it holds in memory until they can be encoded (a row group).
    held_bytes: int

    def write(self, rows: pa.RecordBatch) -> None:
        """Append rows."""
        ...

    def close(self) -> Written:
        """Finish the object; the output beneath stays open."""
        ...


class Encoder(Protocol):
    """The object's format. Sync: it is CPU."""

    #: The key's ending for this format, with its dot, or "".
    extension: str
    content_type: str

    def open(self, out: Output, schema: pa.Schema) -> RowWriter:
        """Return a writer of rows of `schema` into `out`."""
        ...


class Compressor(Protocol):
    """The object's compression as a whole. Sync: it is CPU."""

    #: The key's ending for this compression, with its dot, or "".
    extension: str
    #: The Content-Encoding header, or None.
    content_encoding: str | None

    def wrap(self, out: Output) -> Output:
        """Return an output that compresses into `out`."""
        ...

    def unwrap(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Yield the decompressed bytes of `chunks`. Errors: IntegrityError where they are damaged."""
        ...


@dataclass(frozen=True, slots=True)
class DataKey:
    """A key for one object. `metadata` is what the reader needs to find it again; the object carries it."""

    plaintext: bytes = field(repr=False)
    metadata: Mapping[str, str]


class Cipher(Protocol):
    """Encrypts objects before they leave this machine, outbox included."""

    async def data_key(self) -> DataKey:
        """Return a fresh key, wrapped by the master key. Errors: as the key service's."""
        ...

    def wrap(self, out: Output, key: DataKey) -> Output:
        """Return an output that encrypts into `out`."""
        ...

    async def unwrap(self, body: Path, metadata: Mapping[str, str], out: Output) -> None:
        """Decrypt the file `body` into `out`, releasing nothing before the tag was verified. Errors: IntegrityError."""
        ...

    async def opens(self, metadata: Mapping[str, str]) -> bool | None:
        """Return whether an object's data key opens here; None where only a call to somebody else could tell."""
        ...


# --- sinks -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Delivery:
    """One finished object on its way. Its bytes lie in `path` from `offset` on, `body_bytes` of them.

    Every attempt sends the same bytes under the same key.
    """

    key: str
    path: Path
    offset: int
    body_bytes: int
    #: SHA-256 of the bytes, as hex.
    checksum: str
    rows: RowSet
    content_type: str = "application/octet-stream"
    content_encoding: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a sink did: every row of the delivery is in one of the three. `existed`: it stood there already."""

    delivered: RowSet
    failed: tuple[FailedRows, ...] = ()
    retry: RowSet = field(default_factory=RowSet)
    existed: bool = False


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a store says of an object. `checksum`: our SHA-256 as it was sent along, None where it was not ours."""

    key: str
    body_bytes: int
    modified_ms: int
    checksum: str | None
    content_encoding: str | None
    metadata: Mapping[str, str]


class Sink(Protocol):
    """Where finished objects go."""

    #: The sink as people name it: `s3://bucket`, `file:///folder`. Never with credentials.
    url: str

    async def deliver(self, delivery: Delivery) -> Receipt:
        """Create the object where it does not exist yet. One that stands there with our checksum counts as delivered.

        Errors: ConflictError where another object stands under the key; any other error means that nothing is known.
        """
        ...

    async def check(self) -> None:
        """Return if the sink can be reached and written to. Errors: what is wrong, for people."""
        ...

    async def close(self) -> None:
        """Close connections."""
        ...


class ObjectReader(Protocol):
    """A sink whose objects can be read back: what `cat`, `replay` and `audit` use."""

    async def stat(self, key: str) -> ObjectInfo:
        """Return what the store says of the object. Errors: NotFoundError."""
        ...

    def open(self, key: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Read the object's bytes as they are stored, chunk by chunk. Errors: NotFoundError."""
        ...

    def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        """Yield the objects whose keys begin with `prefix`, ascending by key; metadata may be missing."""
        ...


# --- catalogs --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TableSchema:
    """A table of a catalog at one version. Columns are (name, Hive type) in order; types as Hive writes them."""

    database: str
    table: str
    version: str
    columns: tuple[tuple[str, str], ...]


class Catalog(Protocol):
    """Where tables are described."""

    async def table_schema(self, database: str, table: str, version: str = "LATEST") -> TableSchema:
        """Return the table at `version`. Errors: NotFoundError, InvalidError, UnavailableError."""
        ...

    async def add_columns(self, database: str, table: str, columns: Sequence[tuple[str, str]]) -> TableSchema:
        """Add those of `columns` (name, Hive type) that the table does not have, at its end: all of them or none.

        They may be NULL. Returns the table with them. Errors: ConflictError where one is there with another type; as
        those of `table_schema`.
        """
        ...
