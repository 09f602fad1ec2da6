"""Signatures, against those botocore makes."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from multidict import CIMultiDict, CIMultiDictProxy

from firehose.api import sigv4
from firehose.api.wire import AuthError

SECRETS = {"AKID": "secret/with+signs="}


def signed(
    url: str = "http://127.0.0.1:4573/", body: bytes = b"{}", *, service: str = "firehose", token: str | None = None
) -> CIMultiDict[str]:
    headers = {"Host": url.split("/")[2], "X-Amz-Target": "Firehose_20150804.PutRecord", "X-Padded": "  a   b  "}
    request = AWSRequest("POST", url, data=body, headers=headers)
    SigV4Auth(Credentials("AKID", SECRETS["AKID"], token), service, "eu-central-1").add_auth(request)
    return CIMultiDict(request.headers.items())


def now_ms() -> int:
    return int(datetime.now(UTC).timestamp() * 1_000)


def verify(headers: CIMultiDict[str], *, raw_path: str = "/", body: bytes = b"{}", skew_ms: int = 0) -> None:
    given = CIMultiDictProxy(headers)
    sigv4.claim(given, SECRETS, now_ms=now_ms() + skew_ms).check(
        "POST", raw_path, given, hashlib.sha256(body).hexdigest()
    )


def test_what_botocore_signs_is_accepted() -> None:
    verify(signed())
    verify(signed(token="session"))
    verify(signed(body=b""), body=b"")


@pytest.mark.parametrize("raw_path", ["/streams/a.b-c_d/records", "/x?b=2&a=1&a=0&e=", "/x?q=a%20b%2Fc~", "/a%20b"])
def test_path_and_query_are_signed_as_botocore_does(raw_path: str) -> None:
    verify(signed("http://127.0.0.1:4573" + raw_path), raw_path=raw_path)


def test_whatever_is_changed_is_noticed() -> None:
    with pytest.raises(AuthError, match="does not match"):
        verify(signed(), body=b"{} ")
    with pytest.raises(AuthError, match="does not match"):
        verify(signed(), raw_path="/other")
    headers = signed()
    headers["X-Amz-Target"] = "Firehose_20150804.DeleteDeliveryStream"
    with pytest.raises(AuthError, match="does not match"):
        verify(headers)
    headers = signed()
    headers.add("X-Amz-Target", "Firehose_20150804.DeleteDeliveryStream")
    with pytest.raises(AuthError, match="does not match"):
        verify(headers)


def test_a_claim_keeps_its_secret_out_of_logs() -> None:
    given = CIMultiDictProxy(signed())
    assert SECRETS["AKID"] not in repr(sigv4.claim(given, SECRETS, now_ms=now_ms()))


def test_paths_and_headers_need_not_be_text() -> None:
    headers = signed()
    headers["X-Padded"] = "\udcff"
    with pytest.raises(AuthError, match="does not match"):
        verify(headers, raw_path="/\udcfe?\udcff=\udcff")


def test_an_unsigned_payload_is_not_signed() -> None:
    headers = CIMultiDict({"Host": "127.0.0.1:4573", "X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"})
    request = AWSRequest("POST", "http://127.0.0.1:4573/", data=b"{}", headers=dict(headers))
    signer = SigV4Auth(Credentials("AKID", SECRETS["AKID"]), "firehose", "eu-central-1")
    signer.payload = lambda _request: "UNSIGNED-PAYLOAD"
    signer.add_auth(request)
    with pytest.raises(AuthError, match="does not match"):
        verify(CIMultiDict(request.headers.items()))


def test_the_target_must_be_signed_where_there_is_one() -> None:
    headers = signed()
    headers["Authorization"] = headers["Authorization"].replace("x-amz-target;", "").replace(";x-amz-target", "")
    with pytest.raises(AuthError, match="These headers must be signed: x-amz-target"):
        verify(headers)


@pytest.mark.parametrize("skew_ms", [-sigv4.MAX_SKEW_MS - 2_000, sigv4.MAX_SKEW_MS + 2_000])
def test_another_time_is_refused(skew_ms: int) -> None:
    with pytest.raises(AuthError, match=r"expired|not yet current"):
        verify(signed(), skew_ms=skew_ms)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"Authorization": "AWS4-HMAC-SHA256 Credential=AKID"}, "IncompleteSignatureException"),
        ({"Authorization": "AWS4-HMAC-SHA512 " + "x" * 100}, "IncompleteSignatureException"),
        ({"X-Amz-Date": "yesterday"}, "InvalidSignatureException"),
        ({"X-Amz-Date": "20200101T000000Z"}, "InvalidSignatureException"),
    ],
)
def test_what_cannot_be_read_is_refused(change: dict[str, str], code: str) -> None:
    headers = signed()
    headers.update(change)
    with pytest.raises(AuthError) as found:
        verify(headers)
    assert found.value.code == code


def test_missing_headers_are_named() -> None:
    headers = signed()
    del headers["X-Amz-Date"]
    with pytest.raises(AuthError) as found:
        verify(headers)
    assert found.value.code == "IncompleteSignatureException"
    with pytest.raises(AuthError) as found:
        verify(CIMultiDict())
    assert found.value.code == "MissingAuthenticationTokenException"


def test_signatures_for_other_services_are_refused() -> None:
    with pytest.raises(AuthError, match="scoped to correct service"):
        verify(signed(service="kinesis"))
