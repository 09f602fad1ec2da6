"""Snappy as the Java library snappy-java writes it, and Firehose with it: not the format other tools call snappy.

A header (magic, version, the oldest version that can read it), then blocks: the compressed length, and a raw block.
Source: https://github.com/xerial/snappy-java, SnappyOutputStream.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Literal

from firehose.components import BuildContext, ComponentConfig
from firehose.compressors.snappy_blocks import BlockOutput, compressed_block, int32, read_block
from firehose.compressors.streams import ByteReader
from firehose.protocols import Output

_HEADER = b"\x82SNAPPY\0" + int32(1) + int32(1)

#: 32 KiB: snappy-java's own.
_BLOCK_BYTES = 2**15


class SnappyConfig(ComponentConfig):
    """Compress with Snappy, in the frames of snappy-java: fast, large, and without checksums."""

    type: Literal["snappy"] = "snappy"

    def build(self, context: BuildContext) -> SnappyCompressor:
        """Return the compressor."""
        return SnappyCompressor()


class SnappyCompressor:
    """Writes one stream; reads any number of them in a row.

    The format has neither checksums nor an end: damage may pass, and a body cut off between two blocks is one.
    """

    extension = ".snappy"
    content_encoding: str | None = "snappy-java"

    def wrap(self, out: Output) -> Output:
        return BlockOutput(out, block_bytes=_BLOCK_BYTES, framed=compressed_block, start=_HEADER, empty=_HEADER)

    async def unwrap(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        source = ByteReader(chunks, "snappy")
        word = await source.exactly(4)
        if word != _HEADER[:4]:
            raise source.damaged("no header of snappy-java")
        while True:
            if word == _HEADER[:4]:  # as a length it would be negative: another stream begins
                if await source.exactly(len(_HEADER) - 4) != _HEADER[4:]:
                    raise source.damaged("a header that is not snappy-java's of version 1")
            elif data := await read_block(source, word):
                yield data
            if await source.is_at_end():
                return
            word = await source.exactly(4)
