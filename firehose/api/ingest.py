"""`POST /streams/NAME/records`: records from curl and whatever else speaks HTTP, without an SDK.

A body is lines (each that is not blank is a record) or, as `application/json`, an array (each element is a record) or
values one after another. It is taken whole or not at all: one record too large, and nothing was taken.
"""

from __future__ import annotations

from typing import Final

import pyarrow as pa
from aiohttp import web

from firehose import arrow
from firehose.api import puts
from firehose.api.auth import Keys
from firehose.api.bodies import expanded, too_large
from firehose.api.edge import Exchange
from firehose.api.plain import json_answer
from firehose.api.split import split_json, split_lines
from firehose.api.wire import WireError
from firehose.errors import NotFoundError
from firehose.executors import Executor
from firehose.ports import StreamService

#: As sent, and as expanded: as much as the service takes in one piece.
MAX_BODY_BYTES: Final = 32 * 2**20
#: A row costs about 40 bytes beside its payload, whatever its length.
MAX_RECORDS: Final = 250_000
#: Below this splitting is over before another thread would have begun.
_INLINE_BYTES: Final = 256 * 2**10
#: How many streams a wrong name is answered with.
_HINTS: Final = 10


class Ingest:
    """Takes records that come without the Firehose protocol."""

    def __init__(self, service: StreamService, keys: Keys, executor: Executor) -> None:
        self._service = service
        self._keys = keys
        self._executor = executor

    async def answer(self, request: web.Request, exchange: Exchange) -> web.Response:
        """Store the records of one body, all or none. Errors: WireError and those of `StreamService.put`."""
        proof = self._keys.signed_or_basic(request)
        name = request.match_info["name"]
        sent = await exchange.lease.read(request, max_bytes=MAX_BODY_BYTES)
        proof.check(request, sent)
        self._find(name)

        def split() -> tuple[pa.LargeBinaryArray, bytes]:
            encoding = request.headers.get("Content-Encoding", "")
            body = expanded(sent, encoding, max_bytes=MAX_BODY_BYTES)
            is_json = request.content_type == "application/json"
            what = f"{'array' if is_json else 'lines'} {encoding}"
            token = puts.token_of(proof, request.headers.get("Idempotency-Key", ""), what, sent)
            return (split_json if is_json else split_lines)(body, max_records=MAX_RECORDS), token

        is_small = len(sent) < _INLINE_BYTES and "Content-Encoding" not in request.headers
        data, token = split() if is_small else await self._executor.run(split)
        exchange.lease.take(data.nbytes)
        _check_limits(data)
        stored = await self._service.put(name, data, token=token)
        exchange.rows = stored.rows
        first = puts.record_ids(stored)[0]
        return json_answer({"accepted": stored.rows, "stream": name, "first_record_id": first})

    def _find(self, name: str) -> None:
        try:
            self._service.stream(name)
        except NotFoundError:
            names = [each.name for each in self._service.streams()]
            more = f" and {len(names) - _HINTS} more" if len(names) > _HINTS else ""
            known = f"there are: {', '.join(names[:_HINTS])}{more}" if names else "there are no streams"
            raise WireError("NotFound", f"no delivery stream {name!r}; {known}", status=404) from None


def _check_limits(data: pa.LargeBinaryArray) -> None:
    if not len(data):
        raise WireError("EmptyBody", "The body holds no records: send one line for each, or a JSON array.")
    lengths = arrow.byte_lengths(data)
    if int(lengths.max()) > puts.MAX_RECORD_BYTES:
        index = int((lengths > puts.MAX_RECORD_BYTES).argmax())
        raise too_large(
            f"Record {index} (counting from 0) has {lengths[index]} bytes; a record may have "
            f"{puts.MAX_RECORD_BYTES}. Nothing was taken."
        )
