"""Client-side encryption: a data key for each object, from whoever holds the master key."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from firehose.ciphers import envelope
from firehose.ciphers.gcm import EncryptingOutput, decrypt_file
from firehose.ciphers.keyrings import Keyring
from firehose.errors import IntegrityError, InvalidError
from firehose.executors import Executor
from firehose.protocols import DataKey, Output


class ClientSideCipher:
    """Encrypts in format V3 of the S3 Encryption Client; decrypts V3 and V2."""

    def __init__(self, keyring: Keyring, executor: Executor) -> None:
        self._keyring = keyring
        self._executor = executor

    async def data_key(self) -> DataKey:
        """Return a fresh key, wrapped by the master key. Errors: KMS's, translated."""
        return envelope.seal(await self._keyring.new_key(), self._keyring.wrapping)

    def wrap(self, out: Output, key: DataKey) -> Output:
        """Return an output that encrypts into `out`. A key serves one body: a second one under it reveals both."""
        return EncryptingOutput(out, envelope.content_key_of(key))

    async def unwrap(self, body: Path, metadata: Mapping[str, str], out: Output) -> None:
        """Decrypt the file `body` into `out`, which gets nothing before key commitment and tag were verified.

        Errors: IntegrityError for another key and for changed bytes, InvalidError for formats that are not supported,
        and KMS's, translated.
        """
        found = envelope.read(metadata)
        if found.wrapping is not self._keyring.wrapping:
            raise InvalidError(
                f"the object's data key is wrapped with {found.wrapping.value}, the configured key makes "
                f"{self._keyring.wrapping.value}; use {_OPTIONS[found.wrapping]} to read it"
            )
        content_key = found.content_key(await self._keyring.open(found))
        await self._executor.run(partial(decrypt_file, body, content_key, out))

    async def opens(self, metadata: Mapping[str, str]) -> bool | None:
        """Return whether an object's data key opens here; None where only KMS could tell."""
        if not self._keyring.is_local:
            return None
        try:
            found = envelope.read(metadata)
            return found.wrapping is self._keyring.wrapping and bool(await self._keyring.open(found))
        except (IntegrityError, InvalidError):
            return False


_OPTIONS = {envelope.Wrapping.KMS: "kms_key", envelope.Wrapping.AES: "key_file"}
