"""From cells to finished objects in the outbox: convert, encode, compress, encrypt, hash; then one fsync for all."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial

import pyarrow as pa

from firehose.budget import BudgetShare
from firehose.components import Environment
from firehose.delivery.buffer import Cell
from firehose.delivery.conversion import Prepared
from firehose.delivery.error_output import layout_of, write_entries
from firehose.delivery.events import ConversionRemarks
from firehose.delivery.outbox import ObjectOutput, Outbox, OutboxFile
from firehose.delivery.plan import DESTINATION, FAILED, Outlet, StreamPlan
from firehose.delivery.spill import Spill
from firehose.delivery.standing import ROWS_METADATA, rows_digest
from firehose.kernels import SLAB_BYTES
from firehose.protocols import DataKey, Output, Stage
from firehose.records import Batch, FailedRows, RowSet, concat_batches, hours_of
from firehose.state import Intent, Term

#: What an encoder of unconverted records is given.
RECORDS = pa.schema([pa.field("data", pa.large_binary(), nullable=False)])


#: The encrypted object's metadata that says how it was compressed before.
ENCODING_METADATA = "firehose-content-encoding"


@dataclass(slots=True)
class _Object:
    """What one object holds, as it is being written."""

    rows: RowSet = field(default_factory=RowSet)
    hours: dict[int, int] = field(default_factory=dict)
    oldest_ms: int = 2**63 - 1
    records: int = 0
    data_bytes: int = 0
    file_rows: int = 0
    #: What its columns are described by: a table, and its version.
    schema: dict[str, str] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)
    failed: list[FailedRows] = field(default_factory=list)

    def add(self, batch: Batch) -> None:
        if not len(batch):
            return
        self.rows.add(batch.shard, batch.sequence, batch.sub_sequence)
        for hour, count in hours_of(batch.arrival_ms).items():
            self.hours[hour] = self.hours.get(hour, 0) + count
        self.oldest_ms = min(self.oldest_ms, int(batch.arrival_ms.min()))
        self.records += len(batch)
        self.data_bytes += batch.data_bytes


class Layers:
    """The nested outputs of one object: encoder → compressor → cipher → outbox file."""

    def __init__(self, base: ObjectOutput, outlet: Outlet, key: DataKey | None) -> None:
        self._layers: list[Output] = [base]
        if outlet.cipher is not None:
            assert key is not None
            self._layers.append(outlet.cipher.wrap(self.top, key))
        self._layers.append(outlet.compressor.wrap(self.top))

    @property
    def top(self) -> Output:
        """The output to write into."""
        return self._layers[-1]

    def close(self) -> None:
        """Finish every layer, from the top down."""
        for layer in reversed(self._layers):
            layer.close()


@dataclass(frozen=True, slots=True)
class Sealed:
    """What became of some cells: objects that wait for their intents to be saved, and rows that failed meanwhile."""

    file: OutboxFile
    intents: tuple[Intent, ...]
    failed: tuple[FailedRows, ...]


class Sealer:
    """Seals the cells of one stream."""

    def __init__(
        self, plan: StreamPlan, outbox: Outbox, spill: Spill, budget: BudgetShare, environment: Environment
    ) -> None:
        self._plan = plan
        self._outbox = outbox
        self._spill = spill
        self._budget = budget
        self._executor = environment.executor
        self._encoding, self._writing = environment.encoding, environment.writing
        self._clock = environment.clock
        self._telemetry = environment.telemetry

    async def seal(self, cells: Sequence[Cell], *, redo: Intent | None = None) -> Sealed:
        """Write one object for each cell into one outbox file and sync it; nothing is removed from the cells.

        `redo` names the intent whose object is made again, under its key, because its bytes are gone.
        Errors: those of the catalog, the key service, a converter process and the disk; then nothing is kept.
        """
        file = await self._executor.run(partial(self._outbox.begin, self._outbox.new_path()))
        try:
            intents: list[Intent] = []
            failed: list[FailedRows] = []
            for cell in cells:
                intent, cell_failed = await self._write(cell, file, redo)
                intents += [intent] if intent else []
                failed += cell_failed
            await self._executor.run(lambda: self._outbox.seal(file))
        except BaseException:  # also of a worker that is cancelled: nobody else knows of the file
            await self._executor.run(lambda: self._outbox.discard(file))
            raise
        return Sealed(file, tuple(intents), tuple(failed))

    async def _write(self, cell: Cell, file: OutboxFile, redo: Intent | None) -> tuple[Intent | None, list[FailedRows]]:
        outlet = self._plan.outlet(cell.outlet)
        key = await outlet.cipher.data_key() if outlet.cipher else None
        output = file.new_object()
        layers = Layers(output, outlet, key)
        write = self._write_failed if cell.outlet == FAILED else self._write_rows
        made = await write(cell, layers.top)
        await self._executor.run(layers.close)
        if not made.records and redo is None:
            return None, made.failed
        return self._intent(cell, outlet, file, output, key, made, redo), made.failed

    async def _write_failed(self, cell: Cell, out: Output) -> _Object:
        made = _Object()
        async with self._writing, aclosing(self._spill.pieces(cell)) as pieces:
            async for piece in pieces:
                assert isinstance(piece, FailedRows)
                layout = layout_of(piece.stage, self._plan.stage_facts.get(Stage(piece.stage), {}))
                await self._executor.run(partial(write_entries, piece, layout, out))
                made.add(piece.batch())
                for code in piece.rows.column("code").value_counts().to_pylist():
                    name = f"{piece.stage}/{code['values']}"
                    made.failures[name] = made.failures.get(name, 0) + code["counts"]
        made.file_rows = made.records
        return made

    async def _write_rows(self, cell: Cell, out: Output) -> _Object:
        made = _Object()
        conversion = self._plan.conversion
        prepared = await conversion.prepare() if conversion else None
        if prepared is None:
            async with self._writing:
                await self._encode(cell, out, RECORDS, None, made)
            return made
        made.schema = {
            "table": f"{prepared.table.database}.{prepared.table.table}",
            "schema_version": prepared.table.version,
        }
        async with self._encoding:
            await self._encode(cell, out, prepared.converter.schema, prepared, made)
        return made

    async def _encode(
        self, cell: Cell, out: Output, schema: pa.Schema, prepared: Prepared | None, made: _Object
    ) -> None:
        """Write the rows of a cell; what the writer holds meanwhile is the budget's, too."""
        writer = await self._executor.run(lambda: self._plan.encoder.open(out, schema))
        held_bytes = 0
        try:
            async for slab in self._slabs(cell):
                columns, ok = (
                    await self._columns(slab, prepared, made) if prepared else (slab.rows.select(["data"]), slab)
                )
                await self._executor.run(partial(writer.write, columns))
                made.add(ok)
                self._budget.overdraw(max(0, writer.held_bytes - held_bytes))
                self._budget.give(max(0, held_bytes - writer.held_bytes))
                held_bytes = writer.held_bytes
            made.file_rows = (await self._executor.run(writer.close)).rows
        finally:
            self._budget.give(held_bytes)

    async def _columns(self, slab: Batch, prepared: Prepared, made: _Object) -> tuple[pa.RecordBatch, Batch]:
        assert self._plan.conversion is not None
        found = await self._plan.conversion.convert(prepared, slab.data)
        if found.remarks:
            self._telemetry.emit(ConversionRemarks(self._plan.identity.name, found.remarks))
        good, failed = found.sort(slab, Stage.CONVERT, ended_ms=self._clock.now_ms())
        made.failed += failed
        return found.columns, good

    async def _slabs(self, cell: Cell) -> AsyncIterator[Batch]:
        """Yield the rows of a cell in slabs: small pieces of one shard together, large ones in parts."""
        waiting: list[Batch] = []
        waiting_bytes = 0
        async for piece in self._spill.pieces(cell):
            assert isinstance(piece, Batch)
            if waiting and (piece.shard != waiting[0].shard or waiting_bytes + piece.data_bytes > SLAB_BYTES):
                yield concat_batches(waiting)
                waiting, waiting_bytes = [], 0
            waiting.append(piece)
            waiting_bytes += piece.data_bytes
        if waiting:
            yield concat_batches(waiting)

    def _intent(
        self,
        cell: Cell,
        outlet: Outlet,
        file: OutboxFile,
        output: ObjectOutput,
        key: DataKey | None,
        made: _Object,
        redo: Intent | None,
    ) -> Intent:
        plan = self._plan
        name = (
            redo.key
            if redo
            else outlet.key(plan.identity, plan.version, made.rows, oldest_ms=made.oldest_ms, group=cell.group)
        )
        attempt = redo.attempt + 1 if redo else 1
        facts: dict[str, str | int] = {
            "records": made.records,
            "data_bytes": made.data_bytes,
            "file_rows": made.file_rows,
            "format": plan.encoder.extension.removeprefix(".") or "records",
            "url": outlet.sink.url,
            **made.schema,
        }
        return Intent(
            stream=plan.identity.uid,
            outlet=cell.outlet,
            key=name,
            rows=made.rows,
            term=Term.DELIVERED if cell.outlet == DESTINATION else Term.FAILED,
            settles=(DESTINATION,),
            path=file.path.name,
            offset=output.offset,
            body_bytes=output.body_bytes,
            checksum=output.checksum,
            attempt=attempt,
            created_ms=self._clock.now_ms(),
            oldest_ms=made.oldest_ms if made.records else self._clock.now_ms(),
            hours=made.hours,
            failures=made.failures,
            facts=facts,
            content_type=outlet.content_type,
            content_encoding=outlet.compressor.content_encoding if key is None else None,
            metadata={ROWS_METADATA: rows_digest(made.rows), **_sealed_metadata(outlet, key)},
            group=redo.group if redo else cell.group,
        )


def _sealed_metadata(outlet: Outlet, key: DataKey | None) -> dict[str, str]:
    """Return what an encrypted object carries: its key, and its compression, which no header may tell.

    A client that decodes Content-Encoding by itself would choke on the ciphertext.
    """
    if key is None:
        return {}
    encoding = outlet.compressor.content_encoding
    return dict(key.metadata) | ({ENCODING_METADATA: encoding} if encoding else {})
