"""DEFLATE, which is in gzip and zip: which library compresses at which level, and how it is read.

`level` says how hard to try, from 1 to 9. igzip (Intel's ISA-L) does 1 to 3, zlib 4 to 9. MB per CPU second, and the
size relative to zlib's level 6, on one core of an AMD EPYC with AVX-512 (isal 1.9.1, zlib 1.2.13):

    level       real access log   made access log   JSON events      base64 of noise
    1  igzip    1,270   127%       920   131%       640   113%       960    99%
    2  igzip    1,330   126%       870   130%       570   109%       560    99%
    3  igzip      445   118%       385   130%       345   108%       440    99%
    4  zlib       130   110%       110   115%        70   104%        36   100%
    6  zlib        94   100%        63   100%        53   100%        36   100%
    9  zlib        66    95%        37    95%        18    98%        35   100%

zlib's own levels 1 to 3 take three to eight times as long as igzip's on text, for objects that are 9% smaller at best.
Level 3 is the default: three to five times as fast as 4 on text, for objects that are 4 to 13% larger.

Both release the GIL. The same writes give the same bytes on the same machine; igzip's may differ between kinds of
processors, as zlib's do between versions.
"""

from __future__ import annotations

import zlib
from typing import Protocol

from isal import isal_zlib

from firehose.compressors.streams import PIECE_BYTES, ByteReader

DEFAULT_LEVEL = 3

#: The largest window (32 KiB, 2^15), in zlib's words for no container around it, and for gzip's.
RAW = -15
GZIP = 16 + 15

_LAST_IGZIP_LEVEL = 3


class Deflater(Protocol):
    """What both libraries return."""

    def compress(self, data: memoryview, /) -> bytes: ...

    def flush(self) -> bytes: ...


def deflater(level: int, container: int) -> Deflater:
    """Return a compressor for one stream, in `container` (`RAW`, `GZIP`). No time and no name go into a header."""
    if level <= _LAST_IGZIP_LEVEL:
        return isal_zlib.compressobj(level, isal_zlib.DEFLATED, container)
    return zlib.compressobj(level, zlib.DEFLATED, container)


class InflatingReader:
    """Reads one stream in pieces and leaves what is behind it.

    zlib reads: its limit on what comes out is exact, and reading is rare.
    """

    def __init__(self, source: ByteReader, container: int) -> None:
        self._source = source
        self._inflater = zlib.decompressobj(container)

    async def read(self) -> bytes:
        """Return the next piece; nothing at the end. Errors: IntegrityError."""
        while not self._inflater.eof:
            data = self._inflater.unconsumed_tail or await self._source.some()
            try:
                piece = self._inflater.decompress(data, PIECE_BYTES)
            except zlib.error as error:
                raise self._source.damaged(error) from error
            self._source.put_back(len(self._inflater.unused_data))
            if piece:
                return piece
        return b""
