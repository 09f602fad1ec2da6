"""Who wraps data keys: AWS KMS, or a key in a local file."""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from firehose.aws import aws_errors
from firehose.ciphers.context import RESERVED_ENTRIES, SUITE_ENTRY
from firehose.ciphers.envelope import DATA_KEY_BYTES, Envelope, Suite, WrappedKey, Wrapping
from firehose.ciphers.gcm import IV_BYTES
from firehose.errors import ConfigError, IntegrityError


class Keyring(Protocol):
    """Makes data keys and opens them again. One call a key: one that keeps keys for a while could stand in front."""

    #: What it writes; the only wrapping it opens.
    wrapping: Wrapping
    #: True where it asks nobody else.
    is_local: bool

    async def new_key(self) -> WrappedKey:
        """Return a fresh data key for a V3 object."""
        ...

    async def open(self, envelope: Envelope) -> bytes:
        """Return the data key of an object. Errors: IntegrityError where it was wrapped by another key, or changed."""
        ...


class FileKeyring:
    """Wraps with AES-256-GCM under a key of 32 bytes: IV, wrapped key and tag in a row, bound to the suite's name.

    With random IVs one master key is good for four billion objects (2^32, NIST SP 800-38D).
    """

    wrapping = Wrapping.AES
    is_local = True

    def __init__(self, path: Path) -> None:
        self._path = path
        self._master = AESGCM(read_key_file(path))

    async def new_key(self) -> WrappedKey:
        plaintext = secrets.token_bytes(DATA_KEY_BYTES)
        iv = secrets.token_bytes(IV_BYTES)
        return WrappedKey(plaintext, iv + self._master.encrypt(iv, plaintext, Suite.V3.encode()))

    async def open(self, envelope: Envelope) -> bytes:
        iv, wrapped = envelope.wrapped_key[:IV_BYTES], envelope.wrapped_key[IV_BYTES:]
        try:
            return self._master.decrypt(iv, wrapped, envelope.suite.encode())
        except (InvalidTag, ValueError) as error:
            raise IntegrityError(
                f"the object's data key does not open with the key in {self._path}: it was wrapped with another key, "
                "or the object's metadata was changed. What was encrypted with the former key is read with that one"
            ) from error


class KmsKeyring:
    """Has AWS KMS make and open data keys, bound to an encryption context."""

    wrapping = Wrapping.KMS
    is_local = False

    def __init__(self, client: Callable[[], Awaitable[Any]], key_id: str, context: Mapping[str, str]) -> None:
        self._client = client
        self._key_id = key_id
        self._context = dict(context)

    async def new_key(self) -> WrappedKey:
        context = {**self._context, SUITE_ENTRY: Suite.V3.value}
        client = await self._client()
        with aws_errors("kms", f"KMS key {self._key_id}"):
            answer = await client.generate_data_key(KeyId=self._key_id, KeySpec="AES_256", EncryptionContext=context)
        return WrappedKey(answer["Plaintext"], answer["CiphertextBlob"], context)

    async def open(self, envelope: Envelope) -> bytes:
        self._check_context(envelope)
        client = await self._client()
        does_not_open = (client.exceptions.IncorrectKeyException, client.exceptions.InvalidCiphertextException)
        with aws_errors("kms", f"KMS key {self._key_id}"):
            try:
                answer = await client.decrypt(
                    KeyId=self._key_id, CiphertextBlob=envelope.wrapped_key, EncryptionContext=dict(envelope.context)
                )
            except does_not_open as error:
                raise IntegrityError(
                    f"the object's data key does not open with KMS key {self._key_id}: it was wrapped by another KMS "
                    "key, or the object's metadata was changed"
                ) from error
        plaintext: bytes = answer["Plaintext"]
        return plaintext

    def _check_context(self, envelope: Envelope) -> None:
        own = {name: value for name, value in envelope.context.items() if name not in RESERVED_ENTRIES}
        if own != self._context:
            raise IntegrityError(
                f"the object was encrypted with the encryption context {own}, but {self._context} is configured "
                "(encryption_context)"
            )
        if envelope.context.get(SUITE_ENTRY) != envelope.suite:
            # else a V3 key could be passed off as that of a V2 object, which has no commitment
            raise IntegrityError(f"the object's data key was not made for its suite {envelope.suite.value!r}")


def read_key_file(path: Path) -> bytes:
    """Return the key of 32 bytes in `path`: as they are, or as hex or base64 text. Errors: ConfigError."""
    make = f"make one with: (umask 077 && openssl rand -out {path} {DATA_KEY_BYTES})"
    try:
        mode = path.stat().st_mode
        with path.open("rb") as file:
            content = file.read(1024)  # more than any form of a key: a wrong path may lead to anything
    except FileNotFoundError:
        raise ConfigError(f"key_file: {path} does not exist; {make}") from None
    except OSError as error:
        raise ConfigError(f"key_file: cannot read {path} ({error.strerror}); it must be a file we may read") from error
    if mode & 0o007:
        raise ConfigError(f"key_file: everybody on this machine may open {path}; close it with: chmod 600 {path}")
    for decode in (_as_it_is, _from_hex, _from_base64):
        key = decode(content)
        if len(key) == DATA_KEY_BYTES:
            return key
    raise ConfigError(
        f"key_file: {path} holds no key of {DATA_KEY_BYTES} bytes, neither as they are nor as hex or base64; {make}"
    )


def _as_it_is(content: bytes) -> bytes:
    # 32 printable characters are no key of 32 bytes, but a shorter one in hex or base64, or a password
    return b"" if all(0x20 <= byte <= 0x7E for byte in content) else content


def _from_hex(content: bytes) -> bytes:
    try:
        return binascii.unhexlify(content.strip())
    except binascii.Error:
        return b""


def _from_base64(content: bytes) -> bytes:
    try:
        return base64.b64decode(content.strip(), validate=True)
    except binascii.Error:
        return b""
