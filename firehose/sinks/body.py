"""The bytes of a delivery, read from its file piece by piece: memory does not grow with the object."""

from __future__ import annotations

import hashlib
import io
import os
from base64 import b64encode
from collections.abc import Iterator
from typing import TYPE_CHECKING

from firehose.errors import IntegrityError
from firehose.protocols import Delivery

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

#: How much is read at once: large enough that hashing dominates, small beside any part.
CHUNK_BYTES = 2**18


class Body(io.RawIOBase):
    """A delivery's bytes, or a piece of them, as a file that begins at 0 and can be read again.

    Errors: FileNotFoundError where the delivery's file is gone.
    """

    def __init__(self, delivery: Delivery, start: int = 0, length: int | None = None) -> None:
        self._begin = delivery.offset + start
        self._size = delivery.body_bytes - start if length is None else min(length, delivery.body_bytes - start)
        self._at = 0
        self._file = delivery.path.open("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")[: max(self._size - self._at, 0)]
        count = os.preadv(self._file.fileno(), [view], self._begin + self._at) if view else 0
        self._at += count
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


def verified_chunks(delivery: Delivery) -> Iterator[bytes]:
    """Yield the delivery's bytes. Errors: IntegrityError at their end, where they are not those of the checksum."""
    found = hashlib.sha256()
    with Body(delivery) as body:
        while chunk := body.read(CHUNK_BYTES):
            found.update(chunk)
            yield chunk
    if found.hexdigest() != delivery.checksum:
        raise IntegrityError(f"{delivery.path}: the bytes of {delivery.key} are not those that were finished")


def md5_of_parts(delivery: Delivery, part_bytes: int) -> list[str]:
    """Return the Content-MD5 of each part, at least one. Errors: IntegrityError, as `verified_chunks`."""
    # not for security: a store compares it with what arrived
    parts = [hashlib.md5(usedforsecurity=False)]
    room = part_bytes
    for chunk in verified_chunks(delivery):
        view = memoryview(chunk)
        while len(view) > room:
            parts[-1].update(view[:room])
            view, room = view[room:], part_bytes
            parts.append(hashlib.md5(usedforsecurity=False))
        parts[-1].update(view)
        room -= len(view)
    return [b64encode(part.digest()).decode() for part in parts]
