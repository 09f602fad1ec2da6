from __future__ import annotations

import base64
import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from firehose.ciphers.envelope import Envelope, Suite, Wrapping
from firehose.ciphers.keyrings import KmsKeyring, read_key_file
from firehose.errors import (
    AccessDeniedError,
    ConfigError,
    FirehoseError,
    IntegrityError,
    InvalidError,
    NotFoundError,
    ThrottledError,
    UnavailableError,
)

KEY = bytes(range(100, 132))


def key_file(folder: Path, content: bytes, mode: int = 0o600) -> Path:
    path = folder / "key"
    path.write_bytes(content)
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    "content",
    [
        KEY,
        KEY.hex().encode(),
        KEY.hex().upper().encode() + b"\n",
        base64.b64encode(KEY),
        base64.b64encode(KEY) + b"\r\n",
    ],
)
def test_a_key_may_be_raw_or_text(tmp_path: Path, content: bytes) -> None:
    assert read_key_file(key_file(tmp_path, content)) == KEY


@pytest.mark.parametrize(
    "content",
    [
        b"",
        KEY[:16],
        KEY + b"\n",
        KEY[:31],
        KEY.hex().encode()[:-1],
        base64.b64encode(KEY[:24]),
        KEY[:16].hex().encode(),
        bytes(10**6),
    ],
)
def test_a_file_without_a_key_of_32_bytes_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ConfigError, match=r"holds no key of 32 bytes.*openssl rand -out .*/key 32"):
        read_key_file(key_file(tmp_path, content))


def test_a_missing_file_is_refused_with_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing does not exist; make one with: .*openssl rand"):
        read_key_file(tmp_path / "nothing")


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Is a directory"):
        read_key_file(tmp_path)


def test_a_file_open_to_everybody_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="chmod 600"):
        read_key_file(key_file(tmp_path, KEY, mode=0o644))
    assert read_key_file(key_file(tmp_path, KEY, mode=0o640)) == KEY


def refusal(code: str, status: int = 400) -> ClientError:
    return ClientError(
        {"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": status}}, "Decrypt"
    )


class IncorrectKeyException(ClientError):
    pass


class InvalidCiphertextException(ClientError):
    pass


def keyring(error: Exception) -> KmsKeyring:
    """Return one whose KMS answers with an error that no stand-in of KMS shows."""

    async def fail(**_: Any) -> Any:
        raise error

    async def client() -> Any:
        errors = SimpleNamespace(
            IncorrectKeyException=IncorrectKeyException, InvalidCiphertextException=InvalidCiphertextException
        )
        return SimpleNamespace(generate_data_key=fail, decrypt=fail, exceptions=errors)

    return KmsKeyring(client, "alias/firehose", {})


def envelope(suite: Suite = Suite.V3, bound_to: str = "115") -> Envelope:
    return Envelope(suite, Wrapping.KMS, b"wrapped", {"aws:x-amz-cek-alg": bound_to}, bytes(28), bytes(28))


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (refusal("AccessDeniedException"), AccessDeniedError, "KMS.AccessDeniedException"),
        (refusal("NotFoundException"), NotFoundError, "KMS.NotFoundException"),
        (refusal("DisabledException"), InvalidError, "KMS.DisabledException"),
        (refusal("KMSInvalidStateException"), InvalidError, "KMS.InvalidStateException"),
        (refusal("ThrottlingException"), ThrottledError, "KMS.ThrottlingException"),
        (refusal("DependencyTimeoutException", 503), UnavailableError, "KMS.DependencyTimeoutException"),
        (EndpointConnectionError(endpoint_url="https://kms"), UnavailableError, "KMS.ServiceUnavailable"),
    ],
)
async def test_refusals_of_kms_are_translated(error: Exception, kind: type[FirehoseError], code: str) -> None:
    with pytest.raises(kind, match="KMS key alias/firehose") as caught:
        await keyring(error).new_key()
    assert caught.value.code == code
    with pytest.raises(kind, match="KMS key alias/firehose"):
        await keyring(error).open(envelope())


@pytest.mark.parametrize("kind", [IncorrectKeyException, InvalidCiphertextException])
async def test_a_data_key_that_kms_cannot_open_is_damage(kind: type[ClientError]) -> None:
    error = kind({"Error": {"Code": kind.__name__}}, "Decrypt")
    with pytest.raises(IntegrityError, match=r"does not open with KMS key alias/firehose: .*another KMS key, or"):
        await keyring(error).open(envelope())


@pytest.mark.parametrize(("suite", "bound_to"), [(Suite.V2, "115"), (Suite.V3, "AES/GCM/NoPadding")])
async def test_a_key_made_for_one_format_does_not_open_another(suite: Suite, bound_to: str) -> None:
    with pytest.raises(IntegrityError, match="not made for its suite"):
        await keyring(AssertionError("KMS was asked")).open(envelope(suite, bound_to))


async def test_an_object_with_another_encryption_context_is_refused_before_kms_is_asked() -> None:
    found = dataclasses.replace(envelope(), context={"aws:x-amz-cek-alg": "115", "team": "data"})
    with pytest.raises(IntegrityError, match=r"context \{'team': 'data'\}, but \{\} is configured"):
        await keyring(AssertionError("KMS was asked")).open(found)
