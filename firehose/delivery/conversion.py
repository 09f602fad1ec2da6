"""Converting records away from the event loop: in a thread where the engine lets go of the GIL, else in a process."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from firehose.components import ComponentConfig, ConvertConfig, config_classes
from firehose.executors import Executor
from firehose.protocols import Catalog, Converted, Converter, TableSchema

#: Payload bytes converted at a time: 4 MiB keep a process busy for 0.15 s and cost about 40 MiB at the worst.
SLAB_BYTES = 4 * 2**20

#: How long one slab may take. The slowest seen is 1 MB a second; a slab that takes this long hangs.
SLAB_TIMEOUT_MS = 120_000

_LENGTH = struct.Struct("<I")


class Processes(Protocol):
    """The pool of converter processes."""

    async def call(self, request: bytes, *, timeout_ms: int) -> bytes:
        """Send `request` to a process that runs `child` and return its answer."""
        ...


@dataclass(frozen=True, slots=True)
class Prepared:
    """A table at one version, and what turns records into its columns."""

    table: TableSchema
    converter: Converter
    deserializer: ComponentConfig


class Conversion:
    """Converts the records of one stream to the columns of its table."""

    def __init__(self, config: ConvertConfig, catalog: Catalog, executor: Executor, processes: Processes) -> None:
        self._config = config
        self._catalog = catalog
        self._executor = executor
        self._processes = processes
        self._prepared: Prepared | None = None

    async def prepare(self) -> Prepared:
        """Return the table as the catalog has it now. Errors: the catalog's; the records wait meanwhile."""
        database, _, table = self._config.table.partition(".")
        schema = await self._catalog.table_schema(database, table, self._config.version)
        if self._prepared is None or self._prepared.table != schema:
            deserializer = self._config.deserializer
            self._prepared = Prepared(schema, deserializer.build(schema), deserializer)
        return self._prepared

    async def convert(self, prepared: Prepared, data: pa.LargeBinaryArray) -> Converted:
        """Return the columns of `data` and what failed."""
        if prepared.converter.releases_gil:
            return await self._executor.run(lambda: prepared.converter.convert(data))
        request = _encode_request(prepared, data)
        answer = await self._processes.call(request, timeout_ms=SLAB_TIMEOUT_MS)
        return _decode_answer(answer)


def _frame(head: Mapping[str, Any], rows: pa.RecordBatch) -> bytes:
    text = json.dumps(head).encode()
    out = pa.BufferOutputStream()
    out.write(_LENGTH.pack(len(text)))
    out.write(text)
    with pa.ipc.new_stream(out, rows.schema) as writer:
        writer.write_batch(rows)
    body: bytes = out.getvalue().to_pybytes()
    return body


def _unframe(frame: bytes) -> tuple[dict[str, Any], pa.RecordBatch]:
    (size,) = _LENGTH.unpack_from(frame)
    head = json.loads(frame[_LENGTH.size : _LENGTH.size + size])
    with pa.ipc.open_stream(pa.py_buffer(frame)[_LENGTH.size + size :]) as reader:
        return head, reader.read_next_batch()


def _encode_request(prepared: Prepared, data: pa.LargeBinaryArray) -> bytes:
    head = {
        "deserializer": prepared.deserializer.model_dump(mode="json", by_alias=True),
        "schema": asdict(prepared.table),
    }
    return _frame(head, pa.RecordBatch.from_arrays([data], names=["data"]))


def _decode_answer(frame: bytes) -> Converted:
    head, columns = _unframe(frame)
    failed = np.array(head["failed"], np.int64)
    return Converted(columns, failed, head["codes"], head["messages"], head["details"], head["remarks"])


def child(setup: Mapping[str, Any]) -> Callable[[bytes], bytes]:
    """Return the function that a converter process answers requests with; it keeps the tables it met last."""

    @lru_cache(maxsize=32)
    def converter(deserializer: str, schema: str) -> Converter:
        options, table = json.loads(deserializer), json.loads(schema)
        columns = tuple((name, hive_type) for name, hive_type in table.pop("columns"))
        config = config_classes("converters")[options["type"]].model_validate(options)
        built: Converter = config.build(TableSchema(**table, columns=columns))
        return built

    def answer(frame: bytes) -> bytes:
        head, rows = _unframe(frame)
        convert = converter(json.dumps(head["deserializer"]), json.dumps(head["schema"])).convert
        found = convert(rows.column("data"))
        reply = {
            "failed": found.failed.tolist(),
            "codes": list(found.codes),
            "messages": list(found.messages),
            "details": list(found.details),
            "remarks": dict(found.remarks),
        }
        return _frame(reply, found.columns)

    return answer
