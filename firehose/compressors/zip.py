"""zip: an archive of a single deflated entry, which every desktop opens."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from typing import Literal
from uuid import uuid5

from isal.isal_zlib import crc32
from pydantic import Field

from firehose.components import BuildContext, ComponentConfig
from firehose.compressors.deflate import DEFAULT_LEVEL, RAW, InflatingReader, deflater
from firehose.compressors.streams import ByteReader, pieces_of
from firehose.compressors.zip_format import Contents, check_trailer, header, read_header, trailer
from firehose.keys import NAMESPACE
from firehose.protocols import Output


class ZipConfig(ComponentConfig):
    """Compress into a zip archive of one entry, named by a UUID."""

    type: Literal["zip"] = "zip"
    level: int = Field(DEFAULT_LEVEL, ge=1, le=9)
    """How hard to try, from 1 (fast) to 9 (small); as that of gzip."""

    def build(self, context: BuildContext) -> ZipCompressor:
        """Return the compressor."""
        return ZipCompressor(level=self.level)


class ZipCompressor:
    """Writes an archive of one entry; reads any number of such archives in a row."""

    extension = ".zip"
    content_encoding: str | None = "zip"

    def __init__(self, *, level: int) -> None:
        self._level = level

    def wrap(self, out: Output) -> Output:
        return _ZipOutput(out, self._level)

    async def unwrap(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        source = ByteReader(chunks, "zip")
        while True:
            start = source.position
            entry, name = await read_header(source)
            data_start = source.position
            reader = InflatingReader(source, RAW)
            crc = data_bytes = 0
            while piece := await reader.read():
                crc = crc32(piece, crc)
                data_bytes += len(piece)
                yield piece
            contents = Contents(crc, source.position - data_start, data_bytes)
            await check_trailer(source, start, entry, name, contents)
            if await source.is_at_end():
                return


class _ZipOutput:
    def __init__(self, out: Output, level: int) -> None:
        self._out = out
        self._deflater = deflater(level, RAW)
        self._name = ""
        self._crc = 0
        self._compressed_bytes = 0
        self._data_bytes = 0

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        for piece in pieces_of(data):
            self._begin(piece)
            self._crc = crc32(piece, self._crc)
            self._data_bytes += len(piece)
            self._write(self._deflater.compress(piece))
        return memoryview(data).nbytes

    def close(self) -> None:
        self._begin(b"")
        self._write(self._deflater.flush())
        self._out.write(trailer(self._name, Contents(self._crc, self._compressed_bytes, self._data_bytes)))

    def _begin(self, first: bytes | memoryview) -> None:
        """Write the header, unless it is written. The entry is named after its first piece.

        Firehose takes a random UUID; but the same bytes in must be the same bytes out. One name for all would do, if
        archives that are unpacked into one folder did not overwrite each other's entry then.
        """
        if not self._name:
            self._name = str(uuid5(NAMESPACE, hashlib.sha256(first).hexdigest()))
            self._out.write(header(self._name))

    def _write(self, compressed: bytes) -> None:
        if compressed:
            self._compressed_bytes += len(compressed)
            self._out.write(compressed)
