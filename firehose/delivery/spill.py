"""Buffered rows on disk instead of in memory. Not durable and not meant to be: a crash reads the rows again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
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
        paths: list[str] = []
        try:
            await self._executor.run(lambda: self._folder.mkdir(parents=True, exist_ok=True))
            for piece in pieces:
                path = self._folder / f"{self._next:016x}.rows"
                self._next += 1
                paths.append(str(path))
                await self._executor.run(partial(_write, path, piece))
        except BaseException:
            for name in paths:
                Path(name).unlink(missing_ok=True)
            raise
        earlier = tuple(path for piece in cell.pieces if isinstance(piece, SpilledPieces) for path in piece.paths)
        later = cell.pieces[len(pieces) + (1 if earlier else 0) :]
        cell.pieces[:] = [SpilledPieces((*earlier, *paths)), *later]
        cell.held_bytes = CELL_OVERHEAD_BYTES + sum(
            piece.nbytes for piece in later if not isinstance(piece, SpilledPieces)
        )
        return freed

    async def pieces(self, cell: Cell) -> AsyncIterator[Batch | FailedRows]:
        """Yield the cell's pieces in order, reading back one at a time what was spilled.

        Errors: IntegrityError where somebody removed it; OSError.
        """
        for piece in list(cell.pieces):
            if not isinstance(piece, SpilledPieces):
                yield piece
                continue
            for path in piece.paths:
                try:
                    yield await self._executor.run(partial(_read, Path(path)))
                except FileNotFoundError as error:
                    raise IntegrityError(f"{path}: spilled rows are gone; they are read again") from error

    def forget(self, cell: Cell) -> None:
        """Remove the files of a cell that was sealed."""
        for piece in cell.pieces:
            if isinstance(piece, SpilledPieces):
                for path in piece.paths:
                    Path(path).unlink(missing_ok=True)


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
