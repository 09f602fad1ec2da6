"""The S3 sink against real servers, read back by boto3: what the suite of all sinks cannot ask."""

from __future__ import annotations

import secrets
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import boto3
import pytest

from firehose.components import BuildContext
from firehose.errors import AccessDeniedError, IntegrityError, UnavailableError
from firehose.executors import ThreadExecutor
from firehose.protocols import Delivery
from firehose.sinks.s3 import S3Sink, S3SinkConfig
from tests.services.s3proxy import S3Proxy
from tests.services.server import free_port

pytestmark = pytest.mark.integration

T = TypeVar("T")
MakeDelivery = Callable[..., Delivery]

PART = 5 * 2**20


@dataclass
class Store:
    """A bucket on a real server, seen by boto3, and what builds sinks on it."""

    endpoint: str
    bucket: str
    s3: Any
    context: BuildContext

    def sink(self, **options: Any) -> S3Sink:
        sizes = {"part_size": PART, "multipart_above": PART}
        return S3SinkConfig(**{"bucket": self.bucket, "endpoint_url": self.endpoint, **sizes, **options}).build(
            self.context
        )

    def head(self, key: str) -> Any:
        return self.s3.head_object(Bucket=self.bucket, Key=key)


def store_at(endpoint: str, context: BuildContext) -> Store:
    s3 = boto3.Session().client("s3", endpoint_url=endpoint)
    bucket = f"sink-{secrets.token_hex(4)}"
    s3.create_bucket(Bucket=bucket)
    return Store(endpoint, bucket, s3, context)


@pytest.fixture
def on_moto(moto: str, build_context: BuildContext) -> Store:
    return store_at(moto, build_context)


@pytest.fixture
def on_s3proxy(s3proxy: S3Proxy, build_context: BuildContext, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3proxy.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3proxy.secret_key)
    return store_at(s3proxy.endpoint, build_context)


@pytest.mark.parametrize("size", [100, PART + 1])
async def test_others_read_what_we_write(on_moto: Store, make_delivery: MakeDelivery, size: int) -> None:
    body = secrets.token_bytes(size)
    delivery = make_delivery(body, "dir/ä+ü &=?#'.gz", content_encoding="gzip", metadata={"name": "value"})
    await on_moto.sink().deliver(delivery)
    found = on_moto.s3.get_object(Bucket=on_moto.bucket, Key=delivery.key)
    assert found["Body"].read() == body
    assert found["ContentType"] == "application/octet-stream"
    assert found["ContentEncoding"] == "gzip"
    assert found["Metadata"] == {"name": "value", "firehose-sha256": delivery.checksum}
    assert found["ETag"].endswith('-2"') == (size > PART)


async def test_what_stores_make_of_two_writers_is_found_out(on_moto: Store) -> None:
    assert await on_moto.sink().guarantee() == "conditional"


async def test_a_store_that_ignores_the_condition_of_uploads_is_found_out(on_s3proxy: Store) -> None:
    # S3Proxy keeps it for a put, not at the end of a multipart upload
    sink = on_s3proxy.sink()
    assert await sink.guarantee() == "overwrite"
    assert "Contents" not in on_s3proxy.s3.list_objects_v2(Bucket=on_s3proxy.bucket)


@pytest.mark.parametrize("size", [100, PART + 1])
async def test_the_store_encrypts_with_the_key_it_is_told(
    on_moto: Store, make_delivery: MakeDelivery, size: int
) -> None:
    key = boto3.Session().client("kms", endpoint_url=on_moto.endpoint).create_key()["KeyMetadata"]["Arn"]
    await on_moto.sink(server_side_encryption={"kms_key": key}).deliver(make_delivery(b"x" * size, "kms"))
    assert on_moto.head("kms")["ServerSideEncryption"] == "aws:kms"
    assert on_moto.head("kms")["SSEKMSKeyId"] == key
    await on_moto.sink(server_side_encryption="s3", storage_class="STANDARD_IA").deliver(
        make_delivery(b"x" * size, "s3")
    )
    assert on_moto.head("s3")["ServerSideEncryption"] == "AES256"
    assert on_moto.head("s3")["StorageClass"] == "STANDARD_IA"


async def test_a_role_is_assumed_where_one_is_named(
    on_moto: Store, make_delivery: MakeDelivery, monkeypatch: Any
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", on_moto.endpoint)
    sink = on_moto.sink(role_arn="arn:aws:iam::123456789012:role/firehose", external_id="123456789012")
    await sink.deliver(make_delivery())
    bucket = await sink._bucket()
    credentials = await bucket.client._request_signer._credentials.get_frozen_credentials()
    assert credentials.access_key.startswith("ASIA")
    assert credentials.token
    assert on_moto.head("a/b")["ContentLength"] == 3


async def test_the_endpoint_may_come_from_the_environment(
    on_moto: Store, make_delivery: MakeDelivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", on_moto.endpoint)
    await on_moto.sink(endpoint_url=None).deliver(make_delivery())
    assert on_moto.head("a/b")["ContentLength"] == 3


async def test_a_wrong_secret_is_denied(
    on_s3proxy: Store, make_delivery: MakeDelivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    sink = on_s3proxy.sink()
    for call in (sink.check(), sink.deliver(make_delivery()), sink.stat("a/b")):
        with pytest.raises(AccessDeniedError, match="check the credentials") as denied:
            await call
        assert denied.value.code == "S3.AccessDenied"
        assert "wrong" not in str(denied.value)


async def test_missing_credentials_say_what_to_set(
    on_moto: Store, make_delivery: MakeDelivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(AccessDeniedError, match="set AWS_ACCESS_KEY_ID"):
        await on_moto.sink().deliver(make_delivery())


async def test_a_server_that_is_down_is_unavailable(on_moto: Store, make_delivery: MakeDelivery) -> None:
    for endpoint in (f"http://127.0.0.1:{free_port()}", "http://no-such-host.invalid:9000"):
        with pytest.raises(UnavailableError, match="not reachable") as raised:
            await on_moto.sink(endpoint_url=endpoint).deliver(make_delivery())
        assert raised.value.code == "S3.ServiceUnavailable"


class Damaging(ThreadExecutor):
    """Damages the delivery's file behind every call, so between its checksum and its upload."""

    path: Path

    async def run(self, call: Callable[[], T]) -> T:
        result = await super().run(call)
        self.path.write_bytes(self.path.read_bytes().replace(b"x", b"y"))
        return result


@pytest.mark.parametrize("size", [100, 3 * PART])
async def test_bytes_damaged_on_their_way_are_refused_by_the_store(
    on_s3proxy: Store, make_delivery: MakeDelivery, size: int
) -> None:
    executor = Damaging(threads=1, name="damaging")
    delivery = make_delivery(b"x" * size)
    executor.path = delivery.path
    environment = replace(on_s3proxy.context.environment, executor=executor)
    sink = replace(on_s3proxy, context=replace(on_s3proxy.context, environment=environment)).sink(conditional="never")
    with pytest.raises(IntegrityError) as refused:
        await sink.deliver(delivery)
    executor.close()
    assert refused.value.code == "S3.BadDigest"
    listed = on_s3proxy.s3.list_objects_v2(Bucket=on_s3proxy.bucket).get("Contents", [])
    assert delivery.key not in {found["Key"] for found in listed}, listed
    assert "Uploads" not in on_s3proxy.s3.list_multipart_uploads(Bucket=on_s3proxy.bucket)


@pytest.mark.slow
async def test_one_put_does_not_hold_its_object(on_moto: Store, make_delivery: MakeDelivery) -> None:
    sink = on_moto.sink(multipart_above="64MiB")
    delivery = make_delivery(secrets.token_bytes(64 * 2**20))
    await sink.check()
    tracemalloc.start()
    try:
        await sink.deliver(delivery)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert on_moto.head("a/b")["ContentLength"] == 64 * 2**20
    assert peak_bytes < 4 * 2**20
