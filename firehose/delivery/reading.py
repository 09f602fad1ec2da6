"""Reading back what was delivered: decrypted and decompressed, with nothing released before it was verified."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path

from firehose.executors import Executor
from firehose.protocols import Cipher, Compressor, ObjectReader

CHUNK_BYTES = 1 << 20


#: The metadata that holds an encrypted object's data key, in each version of the format.
_DATA_KEYS = frozenset(("x-amz-3", "x-amz-key-v2", "x-amz-key"))


def is_encrypted(metadata: Mapping[str, str]) -> bool:
    """Return whether an object is encrypted, as its metadata says."""
    return not _DATA_KEYS.isdisjoint(metadata)


class _FileOutput:
    def __init__(self, path: Path) -> None:
        self._file = path.open("xb")

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        return self._file.write(data)

    def close(self) -> None:
        self._file.close()


@asynccontextmanager
async def open_object(
    reader: ObjectReader,
    key: str,
    *,
    cipher: Cipher | None,
    compressor: Compressor,
    scratch: Path,
    executor: Executor,
) -> AsyncIterator[AsyncIterator[bytes]]:
    """Open an object and yield its plain bytes, chunk by chunk.

    Errors: NotFoundError; IntegrityError where it is damaged or was encrypted with another key.
    """
    if cipher is None:
        async with reader.open(key) as chunks:
            yield compressor.unwrap(chunks)
        return
    scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
    sealed, plain = (scratch / f"{uuid.uuid4().hex}.{kind}" for kind in ("sealed", "plain"))
    try:
        info = await reader.stat(key)
        async with reader.open(key) as chunks:
            with closing(_FileOutput(sealed)) as out:
                async for chunk in chunks:
                    await executor.run(partial(out.write, chunk))
        with closing(_FileOutput(plain)) as out:
            await cipher.unwrap(sealed, info.metadata, out)
        yield compressor.unwrap(_chunks(plain, executor))
    finally:
        sealed.unlink(missing_ok=True)
        plain.unlink(missing_ok=True)


async def _chunks(path: Path, executor: Executor) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while chunk := await executor.run(lambda: file.read(CHUNK_BYTES)):
            yield chunk


async def lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the lines of an object without their ends."""
    rest = b""
    async for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line
    if rest:
        yield rest
