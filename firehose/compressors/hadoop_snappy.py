"""Snappy as Hadoop's SnappyCodec writes it, which Hive, Spark, Trino and Athena read.

Blocks: the uncompressed length of the block, then chunks until it is reached, each its compressed length and a raw
block. Source: https://github.com/apache/hadoop, BlockCompressorStream and BlockDecompressorStream.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Literal

from firehose.components import BuildContext, ComponentConfig
from firehose.compressors.snappy_blocks import BlockOutput, compressed_block, int32, read_block
from firehose.compressors.streams import ByteReader
from firehose.protocols import Output

#: 213 KiB: what certainly fits Hadoop's buffers of 256 KiB once it is compressed (a sixth and 32 bytes more at worst),
#: where Hadoop's own writer cuts, too. Its reader fails on larger chunks.
_BLOCK_BYTES = 2**18 - (2**18 // 6 + 32)


class HadoopSnappyConfig(ComponentConfig):
    """Compress with Snappy, in the frames of Hadoop: fast, large, and without checksums."""

    type: Literal["hadoop_snappy"] = "hadoop_snappy"

    def build(self, context: BuildContext) -> HadoopSnappyCompressor:
        """Return the compressor."""
        return HadoopSnappyCompressor()


class HadoopSnappyCompressor:
    """Writes blocks of one chunk; reads blocks of any number of them.

    The format has neither checksums nor an end: damage may pass, and a body cut off between two blocks is one.
    """

    # Firehose's documentation says .hsnappy, its objects end in .snappy
    extension = ".snappy"
    content_encoding: str | None = "hadoop-snappy"

    def wrap(self, out: Output) -> Output:
        return BlockOutput(out, block_bytes=_BLOCK_BYTES, framed=_framed, start=b"", empty=int32(0))

    async def unwrap(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        source = ByteReader(chunks, "hadoop_snappy")
        while True:
            expected_bytes = int.from_bytes(await source.exactly(4), "big")
            while expected_bytes:
                data = await read_block(source, await source.exactly(4))
                if not 0 < len(data) <= expected_bytes:
                    raise source.damaged(f"a chunk of {len(data)} bytes where {expected_bytes} are left of its block")
                expected_bytes -= len(data)
                yield data
            if await source.is_at_end():
                return


def _framed(data: bytes) -> bytes:
    return int32(len(data)) + compressed_block(data)
