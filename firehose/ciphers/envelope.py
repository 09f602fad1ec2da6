"""What an object's metadata says of its encryption: the formats of the Amazon S3 Encryption Client.

V3, written and read: AES-256-GCM under a key derived (HKDF-SHA512) from the data key and a message id of 28 random
bytes, with an IV of twelve 0x01, the suite's number as associated data, and a commitment to the key, so that a body
opens under one data key only.

    x-amz-c  "115", the suite        x-amz-d  the commitment          x-amz-t  encryption context, JSON ("12" only)
    x-amz-3  the wrapped data key    x-amz-i  the message id          x-amz-m  material description, JSON (ignored)
    x-amz-w  how it is wrapped: "12" by KMS, "02" by AES-GCM under a key of one's own

V2, read only: AES-256-GCM under the data key itself, with a random IV and no commitment (x-amz-key-v2, x-amz-wrap-alg,
x-amz-iv, x-amz-cek-alg, x-amz-tag-len, x-amz-matdesc). In both the body ends in the tag of 16 bytes.

Not supported: V1 and AES-CBC (not authenticated), older wrappings, RSA, and envelopes in instruction files.

Source: amazon-s3-encryption-client-python 4.0.0 and amazon-s3-encryption-client-java 4.0.1, with which it is tested.
"""

from __future__ import annotations

import base64
import hmac
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from firehose.ciphers.gcm import IV_BYTES, ContentKey
from firehose.errors import IntegrityError, InvalidError
from firehose.protocols import DataKey

DATA_KEY_BYTES = 32
MESSAGE_ID_BYTES = 28
COMMITMENT_BYTES = 28

_SUITE_ID = (115).to_bytes(2, "big")

_V3_KEYS = ("x-amz-c", "x-amz-3", "x-amz-w", "x-amz-d", "x-amz-i")
_V2_KEYS = ("x-amz-cek-alg", "x-amz-key-v2", "x-amz-wrap-alg", "x-amz-iv")


class Suite(StrEnum):
    """How the body is encrypted; the value is what a data key is bound to when it is wrapped."""

    V3 = "115"
    V2 = "AES/GCM/NoPadding"


class Wrapping(StrEnum):
    """How the data key is wrapped, by the format's long names."""

    KMS = "kms+context"
    AES = "AES/GCM"


#: V3 writes two digits for the wrapping.
_V3_CODES = {Wrapping.KMS: "12", Wrapping.AES: "02"}
_V3_WRAPPINGS = {code: wrapping for wrapping, code in _V3_CODES.items()}


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A data key and what the master key made of it. `context` is what KMS bound it to; nothing for local keys."""

    plaintext: bytes = field(repr=False)
    wrapped: bytes
    context: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Envelope:
    """An object's metadata, read. `nonce` is V3's message id or V2's IV."""

    suite: Suite
    wrapping: Wrapping
    wrapped_key: bytes
    context: Mapping[str, str]
    nonce: bytes
    commitment: bytes

    def content_key(self, data_key: bytes) -> ContentKey:
        """Return the key of the body. Errors: IntegrityError where `data_key` is not the one committed to."""
        if len(data_key) != DATA_KEY_BYTES:
            raise IntegrityError(f"the data key has {len(data_key)} bytes, not {DATA_KEY_BYTES}")
        if self.suite is Suite.V2:
            return ContentKey(data_key, self.nonce, b"")
        content_key, commitment = derive(data_key, self.nonce)
        if not hmac.compare_digest(commitment, self.commitment):
            raise IntegrityError("the data key is not the one the object was encrypted with: its metadata was changed")
        return content_key


def derive(data_key: bytes, message_id: bytes) -> tuple[ContentKey, bytes]:
    """Return the key of a V3 body and the commitment to it."""
    assert len(data_key) == DATA_KEY_BYTES and len(message_id) == MESSAGE_ID_BYTES

    def expand(purpose: bytes, length: int) -> bytes:
        return HKDF(SHA512(), length, salt=message_id, info=_SUITE_ID + purpose).derive(data_key)

    # the fixed IV is safe because the key is used for one body: the message id makes it new each time
    key = ContentKey(expand(b"DERIVEKEY", 32), b"\x01" * IV_BYTES, _SUITE_ID)
    return key, expand(b"COMMITKEY", COMMITMENT_BYTES)


def seal(key: WrappedKey, wrapping: Wrapping) -> DataKey:
    """Return the key for one new V3 object, with the metadata that the object carries."""
    message_id = secrets.token_bytes(MESSAGE_ID_BYTES)
    _, commitment = derive(key.plaintext, message_id)
    metadata = {
        "x-amz-c": Suite.V3.value,
        "x-amz-3": base64.b64encode(key.wrapped).decode(),
        "x-amz-w": _V3_CODES[wrapping],
        "x-amz-d": base64.b64encode(commitment).decode(),
        "x-amz-i": base64.b64encode(message_id).decode(),
    }
    if key.context:
        metadata["x-amz-t"] = json.dumps(key.context, separators=(",", ":"))
    return DataKey(key.plaintext, metadata)


def content_key_of(key: DataKey) -> ContentKey:
    """Return the key of the body that `key`, made by `seal`, stands for."""
    content_key, _ = derive(key.plaintext, base64.b64decode(key.metadata["x-amz-i"]))
    return content_key


def read(metadata: Mapping[str, str]) -> Envelope:
    """Return what `metadata` says. Errors: InvalidError for formats we do not read, IntegrityError for damage."""
    found = {name.lower(): value for name, value in metadata.items()}
    versions = [version for version in ("x-amz-3", "x-amz-key-v2", "x-amz-key") if version in found]
    if len(versions) > 1 or ("x-amz-key-v2" in found and any(name in found for name in _V3_KEYS)):
        # V3's commitment must not be stepped around by adding a V2 key to the object
        raise IntegrityError("the metadata holds keys of several format versions: it was changed")
    if "x-amz-key" in found:
        raise InvalidError("the object is in format V1 of the S3 Encryption Client, which is not authenticated")
    if versions == ["x-amz-3"]:
        return _read_v3(found)
    if versions == ["x-amz-key-v2"]:
        return _read_v2(found)
    raise InvalidError(
        "the metadata holds no data key: the object is not encrypted by an S3 Encryption Client, or its key is in an "
        "instruction file, which is not supported"
    )


def _read_v3(found: Mapping[str, str]) -> Envelope:
    _require(found, _V3_KEYS)
    if found["x-amz-c"] != Suite.V3:
        raise InvalidError(f"the object's algorithm suite {found['x-amz-c']!r} is not known (x-amz-c); known: 115")
    wrapping = _V3_WRAPPINGS.get(found["x-amz-w"])
    if wrapping is None:
        raise InvalidError(
            f"the data key's wrapping {found['x-amz-w']!r} is not supported (x-amz-w); supported: 12, 02"
        )
    return Envelope(
        Suite.V3,
        wrapping,
        _binary(found, "x-amz-3"),
        _json(found, "x-amz-t") if wrapping is Wrapping.KMS else {},
        _binary(found, "x-amz-i", MESSAGE_ID_BYTES),
        _binary(found, "x-amz-d", COMMITMENT_BYTES),
    )


def _read_v2(found: Mapping[str, str]) -> Envelope:
    _require(found, _V2_KEYS)
    if found["x-amz-cek-alg"] != Suite.V2:
        raise InvalidError(
            f"the object is encrypted with {found['x-amz-cek-alg']!r} (x-amz-cek-alg), which is not supported; "
            f"supported: {Suite.V2.value}"
        )
    if found.get("x-amz-tag-len", "128") != "128":
        raise InvalidError(f"tags of {found['x-amz-tag-len']} bits (x-amz-tag-len) are not supported; supported: 128")
    try:
        wrapping = Wrapping(found["x-amz-wrap-alg"])
    except ValueError:
        raise InvalidError(
            f"the data key's wrapping {found['x-amz-wrap-alg']!r} is not supported (x-amz-wrap-alg); "
            f"supported: {', '.join(Wrapping)}"
        ) from None
    return Envelope(
        Suite.V2,
        wrapping,
        _binary(found, "x-amz-key-v2"),
        _json(found, "x-amz-matdesc") if wrapping is Wrapping.KMS else {},
        _binary(found, "x-amz-iv", IV_BYTES),
        b"",
    )


def _require(found: Mapping[str, str], names: tuple[str, ...]) -> None:
    missing = [name for name in names if name not in found]
    if missing:
        raise IntegrityError(f"the metadata lacks {', '.join(missing)}: it was changed, or copied in part")


def _binary(found: Mapping[str, str], name: str, length: int | None = None) -> bytes:
    try:
        value = base64.b64decode(found[name], validate=True)
    except ValueError as error:
        raise IntegrityError(f"the metadata's {name} is no base64 ({error}): it was changed") from error
    if length is not None and len(value) != length:
        raise IntegrityError(f"the metadata's {name} has {len(value)} bytes, not {length}: it was changed")
    return value


def _json(found: Mapping[str, str], name: str) -> dict[str, str]:
    try:
        value = json.loads(found.get(name, "{}"))
    except ValueError as error:
        raise IntegrityError(f"the metadata's {name} is no JSON ({error}): it was changed") from error
    if not isinstance(value, dict) or not all(isinstance(each, str) for each in value.values()):
        raise IntegrityError(f"the metadata's {name} is no JSON object of texts: it was changed")
    return value
