"""Read request bodies within bounds: of one body, of all bodies together, of time, and of what they expand to."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pyarrow as pa
from aiohttp import web

from firehose.api.wire import WireError
from firehose.budget import ByteBudget
from firehose.errors import ThrottledError
from firehose.units import format_bytes

#: Of all requests under way together; beyond it producers are throttled. 256 MiB are 45 full PutRecordBatch calls.
MAX_TOTAL_BYTES: Final = 256 * 2**20

#: A body that takes longer is given up: it would hold its memory, and AWS gives up as well.
MAX_READ_S: Final = 60

#: A producer that sends nothing for so long has left without a word.
STALL_S: Final = 20

#: How many times its own size a compressed body may expand to. JSON logs reach 30, a bomb begins at about 1,000.
MAX_EXPANSION: Final = 200
#: Up to here the ratio is not asked: a small body of one repeated line is no bomb.
FREE_EXPANSION_BYTES: Final = 2**20
_STEP_BYTES: Final = 2**20


class Lease:
    """The memory of one request. Everything read or made for it is taken here, and given back at its end."""

    def __init__(self, budget: ByteBudget) -> None:
        self._budget = budget
        self.taken_bytes = 0
        #: Bytes of the body as sent.
        self.read_bytes = 0

    def take(self, amount_bytes: int) -> None:
        """Errors: ThrottledError where the requests under way hold all there is."""
        if not self._budget.try_take(amount_bytes):
            raise ThrottledError("too many bytes of requests under way; send again later")
        self.taken_bytes += amount_bytes

    async def read(self, request: web.Request, *, max_bytes: int) -> bytes:
        """Return the body as it was sent.

        Errors: WireError (413 where it is larger than `max_bytes`, 408 where it comes too slowly or stops);
        ThrottledError.
        """
        if (request.content_length or 0) > max_bytes:
            raise too_large(f"The body has {request.content_length} bytes; allowed are {max_bytes}.")
        pieces: list[bytes] = []
        loop = asyncio.get_running_loop()
        end_s = loop.time() + MAX_READ_S
        try:
            async with asyncio.timeout(None) as limit:
                while True:
                    limit.reschedule(min(end_s, loop.time() + STALL_S))
                    piece = await request.content.readany()
                    if not piece:
                        break
                    self.take(len(piece))
                    pieces.append(piece)
                    self.read_bytes += len(piece)
                    if self.read_bytes > max_bytes:
                        raise too_large(f"The body has more than {max_bytes} bytes.")
        except TimeoutError:
            is_late = loop.time() >= end_s
            problem = f"did not arrive within {MAX_READ_S} s" if is_late else f"stopped arriving for {STALL_S} s"
            raise WireError("RequestTimeoutException", f"The body {problem}.", status=408) from None
        except ConnectionError:
            raise WireError("RequestAborted", "The connection was closed before the body was complete.") from None
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


class Bodies:
    """All request bodies in memory."""

    def __init__(self, limit_bytes: int) -> None:
        self._budget = ByteBudget(limit_bytes)

    @contextmanager
    def lease(self) -> Iterator[Lease]:
        """Lend memory to one request until it is answered."""
        lease = Lease(self._budget)
        try:
            yield lease
        finally:
            self._budget.give(lease.taken_bytes)


def expanded(body: bytes, coding: str, *, max_bytes: int) -> bytes:
    """Return `body` without its `Content-Encoding`: gzip (also of several members), zstd or identity.

    Errors: WireError, 413 before more than `max_bytes` or `MAX_EXPANSION` times the body are made, 415 for other
    codings, 400 where the body is damaged or cut off.
    """
    codings = {"gzip": "gzip", "x-gzip": "gzip", "zstd": "zstd"}
    name = coding.strip().lower()
    if name in ("", "identity"):
        return body
    if name not in codings:
        raise WireError("UnsupportedMediaType", f"Content-Encoding {coding!r}: allowed are gzip and zstd.", status=415)
    allowed_bytes = min(max_bytes, max(FREE_EXPANSION_BYTES, len(body) * MAX_EXPANSION))
    pieces: list[bytes] = []
    made_bytes = 0
    try:
        with pa.CompressedInputStream(pa.BufferReader(body), codings[name]) as stream:
            while piece := stream.read(min(_STEP_BYTES, allowed_bytes + 1 - made_bytes)):
                pieces.append(piece)
                made_bytes += len(piece)
                if made_bytes > allowed_bytes:
                    raise too_large(
                        f"The body expands to more than {format_bytes(allowed_bytes)}; allowed are "
                        f"{format_bytes(max_bytes)} and {MAX_EXPANSION} times its compressed size."
                    )
    except OSError as error:
        raise WireError("InvalidBody", f"The body is not valid {name}: {error}") from None
    return b"".join(pieces)


def too_large(message: str) -> WireError:
    """Return the error for more than is taken at once."""
    return WireError("RequestEntityTooLargeException", message, status=413)
