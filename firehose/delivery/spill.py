"""Buffered rows on disk instead of in memory. Not durable and not meant to be: a crash reads the rows again."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from functools import partial
from operator import itemgetter
from pathlib import Path

import pyarrow as pa

from firehose.delivery.buffer import CELL_OVERHEAD_BYTES, Cell, SpilledPieces
from firehose.errors import IntegrityError
from firehose.executors import Executor
from firehose.records import Batch, FailedRows

#: Runs are compressed lightly: JSON shrinks 4-5 times, and the disk is slower than lz4.
_OPTIONS = pa.ipc.IpcWriteOptions(compression="lz4")


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

    async def out(self, cell: Cell) -> int:
        """Move the cell's pieces to disk; return the bytes of memory free now. Errors: OSError, nothing was moved."""
        pieces = [piece for piece in cell.pieces if not isinstance(piece, SpilledPieces)]
        if not pieces:
            return 0
        freed = cell.held_bytes - CELL_OVERHEAD_BYTES
        files: list[tuple[str, int, str]] = []
        try:
            await self._executor.run(lambda: self._folder.mkdir(parents=True, exist_ok=True))
            for piece in pieces:
                path = self._folder / f"{self._next:016x}.rows"
                self._next += 1
                files.append((*_place(piece), str(path)))
                await self._executor.run(partial(_write, path, piece))
        except BaseException:  # also of a worker that is cancelled: nobody else knows of the files
            for _, _, name in files:
                Path(name).unlink(missing_ok=True)
            raise
        earlier = tuple(file for piece in cell.pieces if isinstance(piece, SpilledPieces) for file in piece.files)
        later = cell.pieces[len(pieces) + (1 if earlier else 0) :]
        cell.pieces[:] = [SpilledPieces((*earlier, *files)), *later]
        cell.held_bytes = CELL_OVERHEAD_BYTES + sum(
            piece.nbytes for piece in later if not isinstance(piece, SpilledPieces)
        )
        return freed

    async def pieces(self, cell: Cell) -> AsyncGenerator[Batch | FailedRows, None]:
        """Yield the cell's pieces by shard and sequence, reading back one at a time what was spilled.

        In this order the same rows make the same bytes, however they came together.
        Errors: IntegrityError where somebody removed it; OSError.
        """
        waiting: list[tuple[str, int, str | Batch | FailedRows]] = []
        for piece in cell.pieces:
            waiting += piece.files if isinstance(piece, SpilledPieces) else [(*_place(piece), piece)]
        for _, _, each in sorted(waiting, key=itemgetter(0, 1)):
            yield await self._read_back(each) if isinstance(each, str) else each

    async def _read_back(self, path: str) -> Batch | FailedRows:
        try:
            return await self._executor.run(partial(_read, Path(path)))
        except FileNotFoundError as error:
            raise IntegrityError(f"{path}: spilled rows are gone; they are read again") from error

    def forget(self, cell: Cell) -> None:
        """Remove the files of a cell that was sealed."""
        for piece in cell.pieces:
            if isinstance(piece, SpilledPieces):
                for _, _, path in piece.files:
                    Path(path).unlink(missing_ok=True)


def _place(piece: Batch | FailedRows) -> tuple[str, int]:
    """Return where a piece belongs among others: its shard, and its first sequence."""
    return piece.shard, int(piece.rows.column("sequence")[0].as_py())


def _write(path: Path, piece: Batch | FailedRows) -> None:
    stage = piece.stage if isinstance(piece, FailedRows) else ""
    facts = {b"shard": piece.shard.encode(), b"stage": stage.encode(), b"changed": b"1" if piece.changed else b""}
    schema = piece.rows.schema.with_metadata(facts)
    with pa.OSFile(str(path), "wb") as out, pa.ipc.new_file(out, schema, options=_OPTIONS) as writer:
        writer.write_batch(piece.rows)


def _read(path: Path) -> Batch | FailedRows:
    with pa.OSFile(str(path), "rb") as file, pa.ipc.open_file(file) as reader:
        facts = reader.schema.metadata
        rows = reader.get_batch(0).replace_schema_metadata(None)
    shard, stage, changed = facts[b"shard"].decode(), facts[b"stage"].decode(), bool(facts[b"changed"])
    return FailedRows(shard, stage, rows, changed) if stage else Batch(shard, rows, changed)
