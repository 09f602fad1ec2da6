"""`POST /-/admin/VERB`: the door for the command line. A JSON object in, JSON out, a bearer token to open it."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Any, Final

import orjson
from aiohttp import web

from firehose.api.edge import Exchange
from firehose.api.plain import json_answer
from firehose.api.wire import AuthError, WireError
from firehose.ports import AdminHandler

MAX_BODY_BYTES: Final = 2**20


class Admin:
    """Runs verbs for those who know the token. Without a token nobody does."""

    def __init__(self, verbs: Mapping[str, AdminHandler], token: str) -> None:
        self._verbs = verbs
        self._token = token.encode()

    async def answer(self, request: web.Request, exchange: Exchange) -> web.Response:
        """Run one verb. Errors: WireError, FirehoseError."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        is_known = hmac.compare_digest(token.strip().encode(errors="replace"), self._token)
        if not self._token or scheme.lower() != "bearer" or not is_known:
            raise AuthError("AccessDenied", "The admin token is missing or wrong; send 'Authorization: Bearer TOKEN'.")
        verb = request.match_info["verb"]
        handler = self._verbs.get(verb)
        if handler is None:
            known = ", ".join(sorted(self._verbs))
            raise WireError("NotFound", f"no admin verb {verb!r}; verbs: {known}", status=404)
        exchange.operation = f"admin.{verb}"
        body = await exchange.lease.read(request, max_bytes=MAX_BODY_BYTES)
        return json_answer(await handler(_parameters(body)))


def _parameters(body: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(body or b"{}")
    except orjson.JSONDecodeError as error:
        raise WireError("InvalidBody", f"The body is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise WireError("InvalidBody", "The body must be a JSON object.")
    return found
