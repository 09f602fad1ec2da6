"""What every encoder must do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from errno import ENOSPC
from io import BytesIO

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import orc, parquet

from firehose import arrow
from firehose.encoders.orc import OrcConfig
from firehose.encoders.parquet import ParquetConfig
from firehose.encoders.records import RecordsEncoder
from firehose.protocols import Encoder

SCHEMA = pa.schema([pa.field("data", pa.large_binary())])


@dataclass
class Memory:
    """An output that knows what was done to it."""

    body: bytearray = field(default_factory=bytearray)
    is_closed: bool = False
    room_bytes: int = 2**60

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        assert isinstance(data, bytes | bytearray | memoryview)
        if len(self.body) + len(data) > self.room_bytes:
            raise OSError(28, "No space left on device")
        self.body += data
        return len(data)

    def close(self) -> None:
        self.is_closed = True


def read_lines(body: bytes) -> list[bytes]:
    return body.split(b"\n")[:-1]


def read_parquet(body: bytes) -> list[bytes]:
    found: list[bytes] = parquet.read_table(BytesIO(body)).column("data").to_pylist()
    return found


def read_orc(body: bytes) -> list[bytes]:
    found: list[bytes] = orc.read_table(BytesIO(body)).column("data").to_pylist()
    return found


@dataclass(frozen=True)
class Kind:
    """An encoder, and how to read back what it wrote."""

    encoder: Encoder
    read: Callable[[bytes], list[bytes]]


KINDS = {
    "records": Kind(RecordsEncoder("newline"), read_lines),
    "orc": Kind(OrcConfig(table="a.b").encoder(), read_orc),
    "orc with everything": Kind(
        OrcConfig(
            table="a.b", compression="zstd", dictionary_key_threshold=1, bloom_filter_columns=("data",)
        ).encoder(),
        read_orc,
    ),
    "parquet": Kind(ParquetConfig(table="a.b").encoder(), read_parquet),
    "parquet zstd": Kind(ParquetConfig(table="a.b", compression="zstd").encoder(), read_parquet),
}
every = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def batch(records: Sequence[bytes]) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([arrow.binary_column(records)], schema=SCHEMA)


LINES = st.lists(st.binary(max_size=20).map(lambda line: line.replace(b"\n", b"")), max_size=6)


@every
@settings(max_examples=40, deadline=None)
@given(batches=st.lists(LINES, max_size=4))
def test_what_went_in_is_read_back_in_order(kind: Kind, batches: list[list[bytes]]) -> None:
    out = Memory()
    writer = kind.encoder.open(out, SCHEMA)
    for records in batches:
        writer.write(batch(records))
    expected = [record for records in batches for record in records]
    assert writer.close().rows == len(expected)
    assert kind.read(bytes(out.body)) == expected


@every
def test_slices_of_a_batch_are_written_as_they_are(kind: Kind) -> None:
    out = Memory()
    writer = kind.encoder.open(out, SCHEMA)
    whole = batch([b"%d" % number for number in range(10)])
    writer.write(whole.slice(3, 2))
    writer.write(whole.slice(9))
    assert writer.close().rows == 3
    assert kind.read(bytes(out.body)) == [b"3", b"4", b"9"]


@every
def test_closing_leaves_the_output_open(kind: Kind) -> None:
    out = Memory()
    writer = kind.encoder.open(out, SCHEMA)
    writer.write(batch([b"a"]))
    writer.close()
    size = len(out.body)
    del writer
    assert not out.is_closed
    assert len(out.body) == size, "nothing may follow the end"


@every
def test_a_writer_left_behind_writes_nothing_more(kind: Kind) -> None:
    out = Memory()
    writer = kind.encoder.open(out, SCHEMA)
    writer.write(batch([b"a"]))
    size = len(out.body)
    del writer
    assert len(out.body) == size


@every
def test_an_error_of_the_output_comes_through(kind: Kind) -> None:
    out = Memory(room_bytes=10)
    writer = kind.encoder.open(out, SCHEMA)
    with pytest.raises(OSError, match="No space left on device") as caught:
        writer.write(batch([b"a" * 100]))
        writer.close()
    assert caught.value.errno == ENOSPC
    del writer
    assert len(out.body) <= 10


@every
def test_the_same_rows_make_the_same_bytes(kind: Kind) -> None:
    outs = [Memory(), Memory()]
    for out in outs:
        writer = kind.encoder.open(out, SCHEMA)
        for start in range(0, 3000, 1000):
            writer.write(batch([b"%d" % (number % 70) for number in range(start, start + 1000)]))
        writer.close()
    assert outs[0].body == outs[1].body


@every
def test_rows_that_are_held_are_counted(kind: Kind) -> None:
    writer = kind.encoder.open(Memory(), SCHEMA)
    before_bytes = writer.held_bytes
    writer.write(batch([b"a" * 1000] * 100))
    assert writer.held_bytes in (0, before_bytes + batch([b"a" * 1000] * 100).nbytes)
    writer.close()


@every
def test_one_encoder_writes_several_objects_at_once(kind: Kind) -> None:
    outs = [Memory(), Memory()]
    writers = [kind.encoder.open(out, SCHEMA) for out in outs]
    for number in range(3):
        for name, writer in zip((b"a", b"b"), writers, strict=True):
            writer.write(batch([name + b"%d" % number]))
    assert [writer.close().rows for writer in writers] == [3, 3]
    assert [kind.read(bytes(out.body)) for out in outs] == [[b"a0", b"a1", b"a2"], [b"b0", b"b1", b"b2"]]


@every
def test_what_keys_and_headers_say(kind: Kind) -> None:
    assert kind.encoder.content_type == "application/octet-stream"
    assert kind.encoder.extension == "" or kind.encoder.extension.startswith(".")
