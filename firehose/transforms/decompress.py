"""The `decompress` transform: records that their producers compressed, each by itself."""

from __future__ import annotations

import zlib
from typing import Final, Literal

from firehose.components import BuildContext, ComponentConfig
from firehose.protocols import Stage
from firehose.transforms.kernel_step import KernelStep, RecordKernel

#: How large a record may become: a few kilobytes of gzip can hold gigabytes.
MAX_RECORD_BYTES: Final = 64 * 2**20

#: What Firehose says of a record that is not compressed as it should be.
FAILED: Final = "Decompression failed."

#: zlib's word for a gzip container around its largest window (32 KiB, 2^15).
_GZIP_CONTAINER: Final = 16 + 15


class DecompressConfig(ComponentConfig):
    """Decompresses records, like those that CloudWatch Logs subscriptions send.

    What is no gzip goes to the error output as `decompression-failed`, as it came.
    """

    type: Literal["decompress"] = "decompress"
    format: Literal["gzip"] = "gzip"
    """How the records are compressed."""

    def build(self, context: BuildContext) -> KernelStep:
        """Return the transform."""
        return KernelStep.of(DecompressKernel(), context, Stage.DECOMPRESS)


class DecompressKernel(RecordKernel):
    """Decompresses each record: one gzip member, or several end to end. 5 µs for one that becomes 1 KB."""

    code = FAILED

    def make(self, record: bytes) -> bytes:
        return plain(record)


def plain(record: bytes) -> bytes:
    """Return what a record holds that is compressed with gzip. Errors: ValueError, for people."""
    pieces: list[bytes] = []
    rest, room = record, MAX_RECORD_BYTES
    while rest or not pieces:
        member = zlib.decompressobj(_GZIP_CONTAINER)
        try:
            pieces.append(member.decompress(rest, room + 1))
        except zlib.error as error:
            raise ValueError(f"the record is no gzip: {error}") from error
        room -= len(pieces[-1])
        if room < 0:
            raise ValueError(f"the record becomes larger than {MAX_RECORD_BYTES} bytes")
        if not member.eof:
            raise ValueError("the record is cut off: its gzip has no end")
        rest = member.unused_data
    return b"".join(pieces)
