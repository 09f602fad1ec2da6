"""No compression: bytes pass as they are."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Literal

from firehose.components import BuildContext, ComponentConfig
from firehose.protocols import Output


class NoneConfig(ComponentConfig):
    """Do not compress."""

    type: Literal["none"] = "none"

    def build(self, context: BuildContext) -> NoneCompressor:
        """Return the compressor."""
        return NoneCompressor()


class NoneCompressor:
    """Hands bytes on."""

    extension = ""
    content_encoding: str | None = None

    def wrap(self, out: Output) -> Output:
        return _Passage(out)

    async def unwrap(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for chunk in chunks:
            yield chunk


class _Passage:
    """A layer of its own, because closing it must not close the one beneath."""

    def __init__(self, out: Output) -> None:
        self._out = out

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        return self._out.write(data)

    def close(self) -> None:
        pass
