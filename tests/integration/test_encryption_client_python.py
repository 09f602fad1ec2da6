"""KMS keys: the official Python client decrypts our objects, and we decrypt its."""

from __future__ import annotations

import io
import secrets
from collections.abc import AsyncIterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import boto3
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from s3_encryption import S3EncryptionClient, S3EncryptionClientConfig
from s3_encryption.exceptions import S3EncryptionClientError
from s3_encryption.materials.kms_keyring import KmsKeyring as OfficialKmsKeyring
from s3_encryption.materials.materials import AlgorithmSuite, CommitmentPolicy

from firehose.aws import AwsClients
from firehose.ciphers.cipher import ClientSideCipher
from firehose.ciphers.keyrings import KmsKeyring
from firehose.errors import AccessDeniedError, IntegrityError, NotFoundError
from firehose.executors import InlineExecutor

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("moto")]

#: Short ones of any content, and lengths around our pieces of 64 KiB.
BODIES = st.binary(max_size=200) | st.sampled_from((65535, 65536, 65537, 300_000)).map(secrets.token_bytes)

EXAMPLES = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


class Place(NamedTuple):
    s3: Any
    bucket: str
    kms: Any
    aws: AwsClients
    key_id: str

    def cipher(self, key_id: str | None = None, **context: str) -> ClientSideCipher:
        client = partial(self.aws.client, "kms", endpoint_url=self.kms.meta.endpoint_url)
        return ClientSideCipher(KmsKeyring(client, key_id or self.key_id, context), InlineExecutor())

    def official(self, *, v2: bool = False) -> Any:
        keyring = OfficialKmsKeyring(self.kms, self.key_id)
        config = S3EncryptionClientConfig(keyring)
        if v2:
            config = S3EncryptionClientConfig(
                keyring,
                encryption_algorithm=AlgorithmSuite.ALG_AES_256_GCM_IV12_TAG16_NO_KDF,
                commitment_policy=CommitmentPolicy.FORBID_ENCRYPT_ALLOW_DECRYPT,
            )
        # it hooks itself into the client's events, so that each needs its own
        return S3EncryptionClient(boto3.client("s3", endpoint_url=self.s3.meta.endpoint_url), config)

    async def put_ours(self, cipher: ClientSideCipher, body: bytes, cuts: list[int] | None = None) -> None:
        key = await cipher.data_key()
        encrypted = io.BytesIO()
        layer = cipher.wrap(encrypted, key)
        marks = sorted({0, len(body), *(cut % (len(body) + 1) for cut in cuts or [])})
        for start, end in pairwise(marks):
            layer.write(body[start:end])
        layer.close()
        self.s3.put_object(Bucket=self.bucket, Key="o", Body=encrypted.getvalue(), Metadata=dict(key.metadata))

    async def get_ours(self, cipher: ClientSideCipher, folder: Path) -> bytes:
        found = self.s3.get_object(Bucket=self.bucket, Key="o")
        (folder / "body").write_bytes(found["Body"].read())
        decrypted = io.BytesIO()
        await cipher.unwrap(folder / "body", found["Metadata"], decrypted)
        return decrypted.getvalue()


@pytest.fixture
async def place(moto: str) -> AsyncIterator[Place]:
    s3, kms = (boto3.client(service, endpoint_url=moto) for service in ("s3", "kms"))
    bucket = f"python-{secrets.token_hex(4)}"
    s3.create_bucket(Bucket=bucket)
    aws = AwsClients()
    yield Place(s3, bucket, kms, aws, kms.create_key()["KeyMetadata"]["KeyId"])
    await aws.close()


@EXAMPLES
@given(body=BODIES, cuts=st.lists(st.integers(0, 2**20), max_size=5))
async def test_the_official_client_decrypts_what_we_encrypt(place: Place, body: bytes, cuts: list[int]) -> None:
    await place.put_ours(place.cipher(), body, cuts)
    assert place.official().get_object(Bucket=place.bucket, Key="o")["Body"].read() == body


@EXAMPLES
@given(body=BODIES, v2=st.booleans())
async def test_we_decrypt_what_the_official_client_encrypts(
    place: Place, tmp_path_factory: pytest.TempPathFactory, body: bytes, v2: bool
) -> None:
    place.official(v2=v2).put_object(Bucket=place.bucket, Key="o", Body=body)
    assert await place.get_ours(place.cipher(), tmp_path_factory.mktemp("body")) == body


async def test_we_decrypt_what_the_official_client_uploads_in_parts(place: Place, tmp_path: Path) -> None:
    body = secrets.token_bytes(5 * 2**20 + 3)
    (tmp_path / "plain").write_bytes(body)
    place.official().upload_file(
        tmp_path / "plain", place.bucket, "o", multipart_threshold=2**20, multipart_chunksize=5 * 2**20
    )
    assert await place.get_ours(place.cipher(), tmp_path) == body


async def test_both_sides_must_give_the_same_encryption_context(place: Place, tmp_path: Path) -> None:
    context = {"team": "data", "purpose": 'click "stream"'}
    await place.put_ours(place.cipher(**context), b"hello")
    official = place.official()
    found = official.get_object(Bucket=place.bucket, Key="o", EncryptionContext=context)
    assert found["Body"].read() == b"hello"
    with pytest.raises(S3EncryptionClientError, match="encryption context"):
        official.get_object(Bucket=place.bucket, Key="o")

    official.put_object(Bucket=place.bucket, Key="o", Body=b"hello again", EncryptionContext=context)
    assert await place.get_ours(place.cipher(**context), tmp_path) == b"hello again"
    with pytest.raises(IntegrityError, match=r"'team': 'data'.* but \{\} is configured"):
        await place.get_ours(place.cipher(), tmp_path)


async def test_a_missing_kms_key_is_named(place: Place) -> None:
    with pytest.raises(NotFoundError, match="KMS key alias/nothing: GenerateDataKey: NotFoundException") as caught:
        await place.cipher("alias/nothing").data_key()
    assert caught.value.code == "KMS.NotFoundException"


async def test_another_kms_key_does_not_open_an_object(place: Place, tmp_path: Path) -> None:
    await place.put_ours(place.cipher(), b"hello")
    other = place.kms.create_key()["KeyMetadata"]["KeyId"]
    with pytest.raises(AccessDeniedError, match=f"KMS key {other}"):  # AWS itself: IncorrectKeyException
        await place.get_ours(place.cipher(other), tmp_path)


async def test_a_changed_wrapped_key_does_not_open(place: Place, tmp_path: Path) -> None:
    await place.put_ours(place.cipher(), b"hello")
    found = place.s3.get_object(Bucket=place.bucket, Key="o")
    wrapped = found["Metadata"]["x-amz-3"]
    metadata = {**found["Metadata"], "x-amz-3": wrapped[:-8] + ("A" if wrapped[-8] != "A" else "B") + wrapped[-7:]}
    place.s3.put_object(Bucket=place.bucket, Key="o", Body=found["Body"].read(), Metadata=metadata)
    with pytest.raises(IntegrityError, match="metadata was changed"):
        await place.get_ours(place.cipher(), tmp_path)
