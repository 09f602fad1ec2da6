from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from firehose.ciphers.client_side import ClientSideConfig
from firehose.errors import ConfigError
from firehose.executors import InlineExecutor

ARN = "arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"


class Aws:
    """Takes down which client was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.given: dict[str, Any] = {}

    async def client(self, service: str, **options: Any) -> Any:
        self.asked.append((service, options))

        async def generate_data_key(**given: Any) -> Any:
            self.given = given
            return {"Plaintext": bytes(32), "CiphertextBlob": b"wrapped"}

        return SimpleNamespace(generate_data_key=generate_data_key)


def context(aws: Aws | None = None) -> Any:
    return SimpleNamespace(environment=SimpleNamespace(executor=InlineExecutor(), aws=aws))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "exactly one of 'key_file' and 'kms_key' is needed"),
        ({"key_file": "key", "kms_key": ARN}, "exactly one of 'key_file' and 'kms_key' is needed"),
        ({"key_file": "key", "encryption_context": {"a": "b"}}, "encryption_context goes with kms_key"),
        ({"key_file": "key", "role_arn": "arn:aws:iam::123456789012:role/r"}, "role_arn goes with kms_key"),
        ({"kms_key": ""}, "at least 1 character"),
        (
            {"kms_key": ARN, "encryption_context": {"aws:x-amz-cek-alg": "115"}},
            "aws:x-amz-cek-alg belongs to the format",
        ),
        ({"kms_key": ARN, "encryption_context": {"kms_cmk_id": ARN}}, "kms_cmk_id belongs to the format"),
        ({"kms_key": ARN, "encryption_context": {"a": "größer"}}, "only ASCII"),
        ({"kms_key": ARN, "encryption_context": {"a": "b" * 1024}}, "more than 1024 bytes"),
        ({"key_file": "key", "password": "x"}, "Extra inputs are not permitted"),
    ],
)
def test_what_does_not_fit_together_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ClientSideConfig(**options)


def test_a_key_file_is_read_when_the_stream_is_built(tmp_path: Path) -> None:
    config = ClientSideConfig(key_file=tmp_path / "key")
    with pytest.raises(ConfigError, match="does not exist"):
        config.build(context())


@pytest.mark.parametrize(
    ("options", "region"),
    [
        ({"kms_key": ARN}, "eu-central-1"),
        ({"kms_key": ARN.replace("key/1234abcd-12ab-34cd-56ef-1234567890ab", "alias/firehose")}, "eu-central-1"),
        ({"kms_key": ARN, "region": "us-west-2"}, "us-west-2"),
        ({"kms_key": "alias/firehose"}, None),
    ],
)
async def test_kms_is_asked_where_the_key_is(options: dict[str, Any], region: str | None) -> None:
    aws = Aws()
    cipher = ClientSideConfig(**options, role_arn="role", external_id="id", endpoint_url="http://kms").build(
        context(aws)
    )
    assert aws.asked == []  # building a stream does not wait
    await cipher.data_key()
    wanted = {"region": region, "role_arn": "role", "external_id": "id", "endpoint_url": "http://kms"}
    assert aws.asked == [("kms", wanted)]


async def test_kms_makes_the_data_key_and_binds_it_to_the_context() -> None:
    aws = Aws()
    cipher = ClientSideConfig(kms_key=ARN, encryption_context={"team": "data"}).build(context(aws))
    key = await cipher.data_key()
    bound_to = {"team": "data", "aws:x-amz-cek-alg": "115"}
    assert aws.given == {"KeyId": ARN, "KeySpec": "AES_256", "EncryptionContext": bound_to}
    assert key.plaintext == bytes(32)
