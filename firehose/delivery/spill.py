"""Buffered rows on disk instead of in memory. Not durable and not meant to be: a crash reads the rows again."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from functools import partial
from pathlib import Path

import pyarrow as pa

from firehose.delivery.buffer import Cell, Part, Slab
from firehose.errors import IntegrityError
from firehose.executors import Executor
from firehose.records import Batch, FailedRows

#: Slabs are compressed lightly: JSON shrinks 4-5 times, and the disk is slower than lz4.
_OPTIONS = pa.ipc.IpcWriteOptions(compression="lz4")

#: About so much of a slab is compressed together, and read back together: a part of it may be a row, of thousands.
_CHUNK_BYTES = 128 * 1024


class Spill:
    """The spilled rows of one stream."""

    def __init__(self, folder: Path, executor: Executor) -> None:
        self._folder = folder
        self._executor = executor
        self._next = 0

    def clear(self) -> None:
        """Remove what an earlier process left."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for path in self._folder.glob("*.rows"):
            path.unlink()

    async def out(self, slab: Slab) -> Path:
        """Write a slab's rows to disk; return where. Errors: OSError, and there is nothing."""
        path = self._folder / f"{self._next:016x}.rows"
        self._next += 1
        try:
            await self._executor.run(partial(_write, path, slab))
        except BaseException:  # also of a worker that is cancelled: nobody else knows of the file
            path.unlink(missing_ok=True)
            raise
        return path

    async def pieces(self, cell: Cell) -> AsyncGenerator[Batch | FailedRows, None]:
        """Yield the cell's rows by shard and sequence, reading back one part at a time of what was spilled.

        In this order the same rows make the same bytes, however they came together.
        Errors: IntegrityError where somebody removed it; OSError.
        """
        for part in sorted(cell.parts, key=lambda part: (part.slab.shard, part.first)):
            rows = part.slab.rows
            if rows is not None:
                yield rows.slice(part.start, part.count)
            else:
                yield await self._read_back(part)

    async def _read_back(self, part: Part) -> Batch | FailedRows:
        try:
            return await self._executor.run(partial(_read, part))
        except FileNotFoundError as error:
            raise IntegrityError(f"{part.slab.path}: spilled rows are gone; they are read again") from error

    async def remove(self, paths: Sequence[Path]) -> None:
        """Remove files that no cell needs any more."""

        def unlink() -> None:
            for path in paths:
                path.unlink(missing_ok=True)

        if paths:
            await self._executor.run(unlink)


def _write(path: Path, slab: Slab) -> None:
    rows = slab.rows
    assert rows is not None
    chunk_rows = max(1, len(rows) * _CHUNK_BYTES // max(1, rows.nbytes)) if slab.parts > 1 else len(rows)
    facts = {
        b"shard": rows.shard.encode(),
        b"stage": (rows.stage if isinstance(rows, FailedRows) else "").encode(),
        b"changed": b"1" if rows.changed else b"",
        b"chunk_rows": str(chunk_rows).encode(),
    }
    schema = rows.rows.schema.with_metadata(facts)
    path.parent.mkdir(parents=True, exist_ok=True)
    with pa.OSFile(str(path), "wb") as out, pa.ipc.new_file(out, schema, options=_OPTIONS) as writer:
        for start in range(0, len(rows), chunk_rows):
            writer.write_batch(rows.rows.slice(start, chunk_rows))


def _read(part: Part) -> Batch | FailedRows:
    with pa.OSFile(str(part.slab.path), "rb") as file, pa.ipc.open_file(file) as reader:
        facts = reader.schema.metadata
        rows = pa.concat_batches(list(_chunks(reader, part, int(facts[b"chunk_rows"]))))
    rows = rows.replace_schema_metadata(None)
    shard, stage, changed = facts[b"shard"].decode(), facts[b"stage"].decode(), bool(facts[b"changed"])
    return FailedRows(shard, stage, rows, changed) if stage else Batch(shard, rows, changed)


def _chunks(reader: pa.ipc.RecordBatchFileReader, part: Part, chunk_rows: int) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a part from the chunks that it lies in."""
    at, stop = part.start, part.start + part.count
    while at < stop:
        number, offset = divmod(at, chunk_rows)
        rows = reader.get_batch(number).slice(offset, min(stop - at, chunk_rows - offset))
        yield rows
        at += len(rows)
