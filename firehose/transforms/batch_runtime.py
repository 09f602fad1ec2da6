"""What calls a local function with `batch`, inside a child process: a batch of Arrow goes in and one comes out.

Of ours only `runtime` is imported here, and of others pyarrow, which the function needs anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from json import dumps  # by name: functions replace `json.dumps`
from pathlib import Path
from typing import Any

import pyarrow as pa

from firehose.transforms.runtime import Code, MarshalError, set_up_logging

#: What the function gets. Units: `arrival_ms` Unix milliseconds UTC.
ROWS = pa.schema(
    [
        pa.field("row", pa.int32(), nullable=False),
        pa.field("data", pa.large_binary(), nullable=False),
        pa.field("arrival_ms", pa.int64(), nullable=False),
    ]
)

#: What it may return, and what is made of that: columns that it leaves out are null, `result` is Ok.
ANSWER = pa.schema(
    {
        "row": pa.int64(),
        "data": pa.large_binary(),
        "result": pa.string(),
        "message": pa.string(),
        "partition_keys": pa.string(),
    }
)

_NEEDED = ("row", "data")
#: A column of what it got that it may leave where it is.
_IGNORED = "arrival_ms"


def serve(setup: Mapping[str, Any]) -> Callable[[bytes], bytes]:
    """Return a function from the rows' Arrow IPC to the answer's, which calls the one in the file `setup["path"]`."""
    set_up_logging()
    code = Code(Path(setup["path"]), setup["handler"], key="batch")

    def invoke(rows: bytes) -> bytes:
        return _marshal(code.handler()(pa.ipc.open_stream(rows).read_next_batch()))

    return invoke


def _marshal(answer: Any) -> bytes:
    if not isinstance(answer, pa.RecordBatch | pa.Table):
        raise MarshalError(f"the function returned a {type(answer).__name__}, not a pyarrow.RecordBatch")
    names = answer.schema.names
    if wrong := [name for name in names if names.count(name) > 1 or name not in (*ANSWER.names, _IGNORED)]:
        raise MarshalError(f"the function returned {', '.join(wrong)}; its columns may be {', '.join(ANSWER.names)}")
    if missing := [name for name in _NEEDED if name not in names]:
        raise MarshalError(f"the function returned no column {' and no '.join(missing)}")
    columns = [_column(answer, field) for field in ANSWER]
    out = pa.BufferOutputStream()
    with pa.ipc.new_stream(out, ANSWER) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=ANSWER))
    return bytes(out.getvalue())


def _column(answer: Any, field: pa.Field) -> pa.Array:
    """Return a column of the answer as it is sent."""
    if field.name not in answer.schema.names:
        return pa.repeat("Ok", answer.num_rows) if field.name == "result" else pa.nulls(answer.num_rows, field.type)
    column = answer.column(field.name)
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if field.name == "partition_keys" and pa.types.is_map(column.type):
        column = _json_of_maps(column)
    try:
        return column.cast(field.type)
    except pa.ArrowException as error:
        raise MarshalError(f"column {field.name} is {column.type}, which is no {field.type}: {error}") from error


def _json_of_maps(column: pa.MapArray) -> pa.StringArray:
    try:
        return pa.array([None if each is None else dumps(dict(each)) for each in column.to_pylist()], pa.string())
    except (TypeError, ValueError) as error:
        raise MarshalError(f"column partition_keys is {column.type}, which JSON cannot say: {error}") from error
