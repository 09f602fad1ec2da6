"""Encryption on this machine, in the format of the Amazon S3 Encryption Client: stores see ciphertext only.

Each object has a data key of its own, wrapped by a master key in AWS KMS or in a local file; the wrapped key travels in
the object's metadata. The official clients read our objects, and we read theirs (see `envelope` for the formats).
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from firehose.ciphers.context import RESERVED_ENTRIES
from firehose.components import BuildContext, ComponentConfig

if TYPE_CHECKING:
    from firehose.ciphers.cipher import ClientSideCipher

#: 1 KiB of the 2 KB of metadata that S3 allows an object; the rest of the envelope needs about 450 bytes.
_MAX_CONTEXT_BYTES = 1024


class ClientSideConfig(ComponentConfig):
    """Encrypt each object before it leaves this machine, in the format of the Amazon S3 Encryption Client."""

    type: Literal["client_side"] = "client_side"
    key_file: Path | None = None
    """A file with an AES key of 32 bytes (raw, hex or base64) that wraps the data keys. Relative to the configuration
    file. Make one with `(umask 077 && openssl rand -out FILE 32)`, and keep a copy: without it nothing can be read."""
    kms_key: str | None = Field(None, min_length=1, max_length=2048)
    """The AWS KMS key that wraps the data keys: its ARN, its id, or `alias/NAME`."""
    encryption_context: dict[str, str] = Field(default_factory=dict)
    """Names and values that KMS binds the data keys to and logs; whoever decrypts must give the same."""
    region: str | None = None
    """The region of the KMS key. Default: the one in its ARN, else that of the environment or the server."""
    role_arn: str | None = None
    """The role to assume for KMS. Default: the credentials of this service."""
    external_id: str | None = None
    """The external id that the role asks for."""
    endpoint_url: str | None = None
    """The address of KMS, where it is not AWS's own."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.key_file is None) == (self.kms_key is None):
            raise ValueError("exactly one of 'key_file' and 'kms_key' is needed")
        if self.key_file is not None:
            for name in ("encryption_context", "region", "role_arn", "external_id", "endpoint_url"):
                if getattr(self, name):
                    raise ValueError(f"{name} goes with kms_key, not with key_file")
        reserved = RESERVED_ENTRIES & self.encryption_context.keys()
        if reserved:
            raise ValueError(f"encryption_context: {', '.join(sorted(reserved))} belongs to the format")
        if not all(text.isascii() for entry in self.encryption_context.items() for text in entry):
            raise ValueError("encryption_context: only ASCII; the official clients refuse anything else")
        if len(json.dumps(self.encryption_context)) > _MAX_CONTEXT_BYTES:
            raise ValueError(f"encryption_context: more than {_MAX_CONTEXT_BYTES} bytes as JSON do not fit an object")
        return self

    def build(self, context: BuildContext) -> ClientSideCipher:
        """Return the cipher. Errors: ConfigError where the key file holds no key."""
        from firehose.ciphers.cipher import ClientSideCipher
        from firehose.ciphers.keyrings import FileKeyring, KmsKeyring

        executor = context.environment.executor
        if self.key_file is not None:
            return ClientSideCipher(FileKeyring(self.key_file), executor)
        assert self.kms_key is not None
        client = partial(
            context.environment.aws.client,
            "kms",
            region=self.region or _region_of(self.kms_key),
            role_arn=self.role_arn,
            external_id=self.external_id,
            endpoint_url=self.endpoint_url,
        )
        return ClientSideCipher(KmsKeyring(client, self.kms_key, self.encryption_context), executor)


def _region_of(kms_key: str) -> str | None:
    """Return the region in a key's ARN (`arn:aws:kms:REGION:...`), None for ids and aliases."""
    return kms_key.split(":")[3] if kms_key.startswith("arn:") and kms_key.count(":") >= 5 else None
