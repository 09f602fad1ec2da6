"""Check Signature Version 4 of requests, in the form of an Authorization header.

Two steps, so that strangers cannot make the server read their bodies: `claim` looks at the headers alone, `Claim.check`
proves the signature over headers and body. The body is always hashed here: a client's `UNSIGNED-PAYLOAD` does not
match. Presigned URLs are refused. The region of the scope is taken as the client says it, so that producers keep
whatever region they are configured with.

Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from urllib.parse import parse_qsl, quote

from multidict import CIMultiDictProxy

from firehose.api.wire import AuthError

ALGORITHM = "AWS4-HMAC-SHA256"
SERVICE = "firehose"
#: How far the client's clock may be away from ours.
MAX_SKEW_MS = 15 * 60_000

_AUTHORIZATION = re.compile(
    ALGORITHM + r"\s+Credential=(?P<key>[^/,\s]+)/(?P<date>\d{8})/(?P<region>[^/,\s]+)/(?P<service>[^/,\s]+)"
    r"/aws4_request\s*,\s*SignedHeaders=(?P<headers>[a-z0-9_;-]+)\s*,\s*Signature=(?P<signature>[0-9a-f]{64})"
)
_TIME = "%Y%m%dT%H%M%SZ"

Headers = CIMultiDictProxy[str]


@dataclass(frozen=True, slots=True)
class Claim:
    """Who says to have sent a request, and by which signature."""

    access_key_id: str
    secret: str = field(repr=False)
    date: str
    region: str
    time: str
    signed_headers: tuple[str, ...]
    signature: str

    def check(self, method: str, raw_path: str, headers: Headers, body_hash: str) -> None:
        """Prove the signature over the whole request. `raw_path` is path and query as on the wire, `body_hash` hex.

        Errors: AuthError, InvalidSignatureException.
        """
        scope = f"{self.date}/{self.region}/{SERVICE}/aws4_request"
        canonical = _canonical_request(method, raw_path, headers, self.signed_headers, body_hash)
        text = "\n".join((ALGORITHM, self.time, scope, hashlib.sha256(canonical).hexdigest()))
        expected = hmac.new(_signing_key(self.secret, self.date, self.region), text.encode(), "sha256").hexdigest()
        if not hmac.compare_digest(expected, self.signature):
            raise _invalid_signature(
                "The request signature we calculated does not match the signature you provided. "
                "Check your AWS Secret Access Key and signing method. Consult the service documentation for details."
            )


def claim(headers: Headers, secrets: Mapping[str, str], *, now_ms: int) -> Claim:
    """Return what the headers of a request claim, without looking at its body. `secrets` are by access key id.

    Errors: AuthError: MissingAuthenticationTokenException, IncompleteSignatureException, UnrecognizedClientException,
    InvalidSignatureException.
    """
    authorization = headers.get("Authorization")
    if authorization is None:
        raise AuthError("MissingAuthenticationTokenException", "Missing Authentication Token")
    parts, time = _AUTHORIZATION.fullmatch(authorization.strip()), headers.get("X-Amz-Date")
    if parts is None or time is None:
        raise AuthError(
            "IncompleteSignatureException",
            f"Expected an 'X-Amz-Date' header and 'Authorization: {ALGORITHM} Credential=.../{SERVICE}/aws4_request, "
            "SignedHeaders=..., Signature=...'.",
        )
    signed = tuple(parts["headers"].split(";"))
    needed = {"host", "x-amz-date"} | ({"x-amz-target"} & {name.lower() for name in headers})
    if missing := sorted(needed - set(signed)):
        raise _invalid_signature(f"These headers must be signed: {', '.join(missing)}.")
    if parts["service"] != SERVICE:
        raise _invalid_signature(f"Credential should be scoped to correct service: '{SERVICE}'.")
    _check_time(time, parts["date"], now_ms)
    secret = secrets.get(parts["key"])
    if secret is None:
        raise AuthError("UnrecognizedClientException", "The security token included in the request is invalid.")
    return Claim(parts["key"], secret, parts["date"], parts["region"], time, signed, parts["signature"])


def _check_time(time: str, scope_date: str, now_ms: int) -> None:
    try:
        signed_ms = int(datetime.strptime(time, _TIME).replace(tzinfo=UTC).timestamp() * 1_000)
    except ValueError:
        raise _invalid_signature(f"X-Amz-Date must look like 20260713T140509Z, not {time!r}.") from None
    if not time.startswith(scope_date):
        raise _invalid_signature(f"Date in Credential scope does not match X-Amz-Date: {scope_date} and {time}.")
    now, minutes = _iso(now_ms), MAX_SKEW_MS // 60_000
    earliest, latest = _iso(now_ms - MAX_SKEW_MS), _iso(now_ms + MAX_SKEW_MS)
    if signed_ms < now_ms - MAX_SKEW_MS:
        raise _invalid_signature(f"Signature expired: {time} is now earlier than {earliest} ({now} - {minutes} min.)")
    if signed_ms > now_ms + MAX_SKEW_MS:
        raise _invalid_signature(
            f"Signature not yet current: {time} is still later than {latest} ({now} + {minutes} min.)"
        )


def _canonical_request(method: str, raw_path: str, headers: Headers, signed: tuple[str, ...], body_hash: str) -> bytes:
    path, _, query = raw_path.partition("?")
    pairs = sorted((_quoted(name), _quoted(value)) for name, value in parse_qsl(query, True))
    lines = [
        method,
        _quoted(path, also="/"),
        "&".join(f"{name}={value}" for name, value in pairs),
        *(f"{name}:{','.join(' '.join(value.split()) for value in headers.getall(name, ()))}" for name in signed),
        "",
        ";".join(signed),
        body_hash,
    ]
    return "\n".join(lines).encode(errors="surrogateescape")  # headers need not be UTF-8


def _quoted(text: str, also: str = "") -> str:
    return quote(text, safe="~" + also, errors="surrogateescape")


@lru_cache(maxsize=64)
def _signing_key(secret: str, date: str, region: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (date, region, SERVICE, "aws4_request"):
        key = hmac.new(key, part.encode(), "sha256").digest()
    return key


def _iso(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms // 1_000, UTC).strftime(_TIME)


def _invalid_signature(message: str) -> AuthError:
    return AuthError("InvalidSignatureException", message)
