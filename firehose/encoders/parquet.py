"""Apache Parquet, as Athena, Trino, Spark, DuckDB and pandas read it."""

from __future__ import annotations

from typing import Literal, Self

import pyarrow as pa
from pydantic import Field, model_validator

from firehose.components import ByteSize, ConvertConfig
from firehose.encoders.arrow_file import ArrowFile
from firehose.protocols import Encoder, Output, RowWriter, Written

#: The levels of each codec that has any, and what we take of them: zlib's 9, which Arrow would take, is five times
#: slower than 4 and saves half a percent.
_LEVELS = {"gzip": range(1, 10), "zstd": range(1, 23)}
_DEFAULT_LEVELS = {"gzip": 4, "zstd": 1}


class ParquetConfig(ConvertConfig):
    """Columns in Apache Parquet."""

    format: Literal["parquet"] = "parquet"
    compression: Literal["snappy", "gzip", "zstd", "none"] = "snappy"
    """The compression of the pages."""
    level: int | None = None
    """The level of `gzip` (1 to 9, default 4) or `zstd` (1 to 22, default 1)."""
    block_size_bytes: ByteSize = Field(128 * 2**20, alias="block_size", ge=2**20, le=2**31 - 1)
    """How large a row group becomes before encoding and compression; so much is held in memory for each open file."""
    page_size_bytes: ByteSize = Field(2**20, alias="page_size", ge=2**13, le=2**30)
    """How large a page becomes before compression."""
    dictionary: bool = True
    """Write repeated values of a column once, and then their numbers, as long as that is shorter."""
    page_version: Literal[1, 2] = 1
    """The version of the data pages. Readers of today take both."""
    timestamps: Literal["micros", "int96"] = "micros"
    """How timestamps are written. `micros` is what Athena, Trino, Spark and DuckDB read, and skip row groups by; Hive
    before version 4 reads `int96` only, the deprecated form without statistics, which is also what Firehose writes."""

    @model_validator(mode="after")
    def _level_fits(self) -> Self:
        levels = _LEVELS.get(self.compression, range(0))
        if self.level is not None and self.level not in levels:
            allowed = f"from {levels[0]} to {levels[-1]}" if levels else "not given"
            raise ValueError(f"level {self.level}: with compression {self.compression} it must be {allowed}")
        return self

    def encoder(self) -> Encoder:
        """Return the encoder of this format."""
        return ParquetEncoder(self)


class ParquetEncoder:
    """Writes row groups with statistics, lists and maps in their standard three levels."""

    extension = ".parquet"
    content_type = "application/octet-stream"  # as Firehose labels every object

    def __init__(self, config: ParquetConfig) -> None:
        self._config = config

    def open(self, out: Output, schema: pa.Schema) -> RowWriter:
        """Return a writer of rows of `schema`, any but empty structs, into `out`."""
        return _ParquetWriter(out, schema, self._config)


class _ParquetWriter:
    """Collects batches until they make a row group: it is encoded column by column, so nothing can go out earlier."""

    def __init__(self, out: Output, schema: pa.Schema, config: ParquetConfig) -> None:
        import pyarrow.parquet as pq

        self._block_size_bytes = config.block_size_bytes
        self._waiting: list[pa.RecordBatch] = []
        self.held_bytes = 0
        self._rows = 0
        self._file = ArrowFile(out)
        self._writer = pq.ParquetWriter(
            pa.PythonFile(self._file, mode="w"),
            schema,
            version="2.6",
            compression=config.compression,
            compression_level=_DEFAULT_LEVELS.get(config.compression) if config.level is None else config.level,
            data_page_size=config.page_size_bytes,
            use_dictionary=config.dictionary,
            data_page_version=f"{config.page_version}.0",
            use_deprecated_int96_timestamps=config.timestamps == "int96",
            write_statistics=True,
            store_schema=False,  # every type of ours is told by Parquet itself; the copy costs a kilobyte a file
        )

    def __del__(self) -> None:
        # a writer left behind unfinished would still write its footer, into an output that is somebody else's by then
        self._file.detach()

    def write(self, rows: pa.RecordBatch) -> None:
        self._rows += rows.num_rows
        self._waiting.append(rows)
        self.held_bytes += rows.nbytes
        if self.held_bytes >= self._block_size_bytes:
            self._flush()

    def close(self) -> Written:
        if self._waiting:
            self._flush()
        self._writer.close()
        self._file.check()
        self._file.detach()
        return Written(self._rows)

    def _flush(self) -> None:
        table = pa.Table.from_batches(self._waiting)
        groups = max(1, round(self.held_bytes / self._block_size_bytes))
        self._waiting, self.held_bytes = [], 0
        if table.num_rows:
            self._writer.write_table(table, row_group_size=-(-table.num_rows // groups))
            self._file.check()
