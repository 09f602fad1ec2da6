"""Faults that no real server shows on demand, and what is asked of S3 when. Real servers: tests/contract."""

from __future__ import annotations

import asyncio
import hashlib
from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from botocore import exceptions as botocore
from pydantic import ValidationError

from firehose.components import BuildContext
from firehose.errors import AccessDeniedError, ConflictError, FirehoseError, ThrottledError, UnavailableError
from firehose.protocols import Delivery
from firehose.sinks.s3 import S3Sink, S3SinkConfig

MakeDelivery = Callable[..., Delivery]
Fault = Callable[[dict[str, Any]], Exception | None]

AWS = "https://s3.eu-central-1.amazonaws.com"
MIB = 2**20


def refusal(code: str, status: int) -> botocore.ClientError:
    response: Any = {"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return botocore.ClientError(response, "Operation")


class Store:
    """As much of an S3 client as the sink uses. `faults`: what goes wrong before or after a call takes effect."""

    def __init__(self, endpoint: str) -> None:
        self.meta = SimpleNamespace(endpoint_url=endpoint)
        self.objects: dict[str, dict[str, Any]] = {}
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.calls: list[str] = []
        self.requests: list[dict[str, Any]] = []
        self.before: dict[str, Fault] = {}
        self.after: dict[str, Fault] = {}

    async def client(self, service: str, **options: Any) -> Store:
        assert service == "s3"
        return self

    def __getattr__(self, name: str) -> Any:
        take_effect = getattr(self, f"_{name}")

        async def call(**request: Any) -> Any:
            self.calls.append(name)
            self.requests.append(request)
            await asyncio.sleep(0)
            self._fail(self.before, name, request)
            answer = take_effect(**request)
            self._fail(self.after, name, request)
            return answer

        return call

    def _fail(self, faults: dict[str, Fault], name: str, request: dict[str, Any]) -> None:
        error = faults[name](request) if name in faults else None
        if error is not None:
            raise error

    def _create(self, key: str, body: bytes, request: dict[str, Any], attributes: dict[str, Any]) -> None:
        if request.get("IfNoneMatch") == "*" and key in self.objects:
            raise refusal("PreconditionFailed", 412)
        self.objects[key] = {**attributes, "Body": body}

    def _put_object(self, Key: str, Body: Any, **request: Any) -> None:
        body = Body if isinstance(Body, bytes) else Body.read()
        if "ContentMD5" in request:
            assert request["ContentMD5"] == b64encode(hashlib.md5(body).digest()).decode()
        self._create(Key, body, request, request)

    def _head_object(self, Key: str, **request: Any) -> dict[str, Any]:
        if Key not in self.objects:
            raise refusal("404", 404)
        found = self.objects[Key]
        modified = datetime(2026, 1, 1, tzinfo=UTC)
        return {"Metadata": found.get("Metadata", {}), "ContentLength": len(found["Body"]), "LastModified": modified}

    def _head_bucket(self, **request: Any) -> None:
        pass

    def _delete_object(self, Key: str, **request: Any) -> None:
        self.objects.pop(Key, None)

    def _create_multipart_upload(self, **request: Any) -> dict[str, Any]:
        upload = f"upload-{len(self.calls)}"
        self.uploads[upload] = {}
        return {"UploadId": upload}

    def _upload_part(self, UploadId: str, PartNumber: int, Body: Any, **request: Any) -> dict[str, Any]:
        self.uploads[UploadId][PartNumber] = Body if isinstance(Body, bytes) else Body.read()
        return {"ETag": f"tag-{PartNumber}"}

    def _complete_multipart_upload(self, Key: str, UploadId: str, MultipartUpload: Any, **request: Any) -> None:
        numbers = [part["PartNumber"] for part in MultipartUpload["Parts"]]
        assert numbers == sorted(self.uploads[UploadId])
        body = b"".join(self.uploads[UploadId][number] for number in numbers)
        begun = next(r for r, c in zip(self.requests, self.calls, strict=True) if c == "create_multipart_upload")
        self._create(Key, body, request, begun)
        del self.uploads[UploadId]

    def _abort_multipart_upload(self, UploadId: str, **request: Any) -> None:
        if self.uploads.pop(UploadId, None) is None:
            raise refusal("NoSuchUpload", 404)


MakeSink = Callable[..., tuple[S3Sink, Store]]


@pytest.fixture
def make_sink(build_context: BuildContext) -> MakeSink:
    def make(endpoint: str = AWS, **options: Any) -> tuple[S3Sink, Store]:
        store: Any = Store(endpoint)
        context = replace(build_context, environment=replace(build_context.environment, aws=store))
        config = S3SinkConfig(bucket="lake", part_size=5 * MIB, multipart_above=5 * MIB, **options)
        return config.build(context), store

    return make


# --- what is asked when ----------------------------------------------------------------------------------------------


async def test_on_aws_an_object_costs_one_request(make_sink: MakeSink, make_delivery: MakeDelivery) -> None:
    sink, store = make_sink()
    await sink.deliver(make_delivery())
    assert store.calls == ["put_object"]
    assert store.requests[0]["IfNoneMatch"] == "*"
    assert await sink.guarantee() == "conditional"


async def test_another_store_is_probed_once_and_trusted_if_it_keeps_its_word(
    make_sink: MakeSink, make_delivery: MakeDelivery
) -> None:
    sink, store = make_sink("http://store:9000", prefix="clicks/!{timestamp:yyyy}/")
    await sink.deliver(make_delivery(key="one"))
    assert await sink.guarantee() == "conditional"
    assert list(store.objects) == ["one"]
    assert not store.uploads
    assert store.requests[0]["Key"].startswith("clicks/.firehose-probe-")
    store.calls.clear()
    await sink.deliver(make_delivery(key="two"))
    assert store.calls == ["put_object"]


@pytest.mark.parametrize("careless", ["put_object", "complete_multipart_upload"])
async def test_a_store_that_overwrites_is_looked_at_first(
    make_sink: MakeSink, make_delivery: MakeDelivery, careless: str
) -> None:
    sink, store = make_sink("http://store:9000")

    def ignore_condition(request: dict[str, Any]) -> None:
        store.objects.pop(request["Key"], None)

    store.before[careless] = ignore_condition
    await sink.deliver(make_delivery(b"theirs", "a"))
    assert await sink.guarantee() == "overwrite"
    store.calls.clear()
    with pytest.raises(ConflictError):
        await sink.deliver(make_delivery(b"ours", "a"))
    assert store.calls == ["head_object"]
    assert store.objects["a"]["Body"] == b"theirs"


async def test_a_store_that_refuses_the_header_is_not_sent_it_again(
    make_sink: MakeSink, make_delivery: MakeDelivery
) -> None:
    sink, store = make_sink("http://store:9000")
    store.before["put_object"] = lambda request: refusal("NotImplemented", 501) if "IfNoneMatch" in request else None
    assert not (await sink.deliver(make_delivery())).existed
    assert await sink.guarantee() == "overwrite"
    assert list(store.objects) == ["a/b"]


async def test_a_probe_that_may_not_be_deleted_stays(make_sink: MakeSink) -> None:
    sink, store = make_sink("http://store:9000")
    store.before["delete_object"] = lambda request: refusal("AccessDenied", 403)
    assert await sink.guarantee() == "conditional"
    assert len(store.objects) == 1


async def test_a_probe_that_gets_no_answer_is_made_again(make_sink: MakeSink) -> None:
    sink, store = make_sink("http://store:9000")
    store.before["put_object"] = lambda request: refusal("SlowDown", 503)
    with pytest.raises(ThrottledError):
        await sink.guarantee()
    store.before.clear()
    assert await sink.guarantee() == "conditional"


async def test_never_sends_no_condition_and_always_does_not_probe(
    make_sink: MakeSink, make_delivery: MakeDelivery
) -> None:
    sink, store = make_sink(conditional="never")
    await sink.deliver(make_delivery())
    assert store.calls == ["head_object", "put_object"]
    assert "IfNoneMatch" not in store.requests[1]

    sink, store = make_sink("http://store:9000", conditional="always")
    await sink.deliver(make_delivery())
    assert store.calls == ["put_object"]


async def test_a_check_proves_that_objects_can_be_written_and_leaves_none(make_sink: MakeSink) -> None:
    sink, store = make_sink()
    await sink.check()
    assert store.calls == ["head_bucket", "create_multipart_upload", "abort_multipart_upload"]
    store.before["create_multipart_upload"] = lambda request: refusal("AccessDenied", 403)
    with pytest.raises(AccessDeniedError, match="s3://lake"):
        await sink.check()


async def test_every_request_carries_what_the_bucket_asks_for(make_sink: MakeSink, make_delivery: MakeDelivery) -> None:
    sink, store = make_sink(
        server_side_encryption={"kms_key": "alias/lake"}, acl="bucket-owner-full-control", storage_class="STANDARD_IA"
    )
    delivery = make_delivery(b"abc", content_type="text/plain", content_encoding="gzip", metadata={"name": "value"})
    await sink.deliver(delivery)
    expected = {
        "ServerSideEncryption": "aws:kms",
        "SSEKMSKeyId": "alias/lake",
        "ACL": "bucket-owner-full-control",
        "StorageClass": "STANDARD_IA",
        "ContentType": "text/plain",
        "ContentEncoding": "gzip",
        "Metadata": {"name": "value", "firehose-sha256": delivery.checksum},
    }
    assert expected.items() <= store.requests[0].items()
    await sink.deliver(make_delivery(b"x" * 6 * MIB, "large"))
    begun = store.requests[store.calls.index("create_multipart_upload")]
    assert begun["SSEKMSKeyId"] == "alias/lake"
    assert "ContentEncoding" not in begun


# --- faults ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [100, 12 * MIB])
async def test_a_lost_answer_is_found_to_be_delivered_by_the_retry(
    make_sink: MakeSink, make_delivery: MakeDelivery, size: int
) -> None:
    sink, store = make_sink()
    lost = botocore.ConnectionClosedError(endpoint_url=AWS)
    store.after = {name: lambda request: lost for name in ("put_object", "complete_multipart_upload")}
    delivery = make_delivery(b"x" * size)
    with pytest.raises(UnavailableError):
        await sink.deliver(delivery)
    store.after.clear()
    receipt = await sink.deliver(delivery)
    assert receipt.existed
    assert receipt.delivered == delivery.rows
    assert not store.uploads


async def test_a_write_of_the_key_that_is_under_way_is_waited_for(
    make_sink: MakeSink, make_delivery: MakeDelivery
) -> None:
    sink, store = make_sink()
    store.before["put_object"] = lambda request: refusal("ConditionalRequestConflict", 409)
    with pytest.raises(UnavailableError, match="under way") as raised:
        await sink.deliver(make_delivery())
    assert raised.value.code == "S3.ConditionalRequestConflict"


async def test_a_part_that_fails_ends_the_upload_and_throws_it_away(
    make_sink: MakeSink, make_delivery: MakeDelivery
) -> None:
    sink, store = make_sink()
    store.before["upload_part"] = lambda request: refusal("SlowDown", 503) if request["PartNumber"] == 3 else None
    with pytest.raises(ThrottledError) as raised:
        await sink.deliver(make_delivery(b"x" * 80 * MIB))
    assert isinstance(raised.value.__cause__, botocore.ClientError)
    assert not store.uploads
    assert store.calls.count("upload_part") < 16
    assert "complete_multipart_upload" not in store.calls


async def test_an_upload_that_cannot_be_thrown_away_is_told_by_the_error(
    make_sink: MakeSink, make_delivery: MakeDelivery
) -> None:
    sink, store = make_sink()
    store.before["complete_multipart_upload"] = lambda request: refusal("InternalError", 500)
    store.before["abort_multipart_upload"] = lambda request: refusal("AccessDenied", 403)
    with pytest.raises(UnavailableError) as raised:
        await sink.deliver(make_delivery(b"x" * 6 * MIB))
    _, _, told = str(raised.value).partition("; its upload ")
    assert "was left behind" in told and "AccessDenied" in told


async def test_a_cancelled_delivery_throws_its_upload_away(make_sink: MakeSink, make_delivery: MakeDelivery) -> None:
    sink, store = make_sink()
    sending = asyncio.Event()

    async def never_answered(**request: Any) -> None:
        sending.set()
        await asyncio.Event().wait()

    store.upload_part = never_answered  # type: ignore[attr-defined] - found before __getattr__
    task = asyncio.ensure_future(sink.deliver(make_delivery(b"x" * 6 * MIB)))
    await sending.wait()
    assert store.uploads
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not store.uploads


async def test_parts_in_flight_are_bounded(make_sink: MakeSink, make_delivery: MakeDelivery) -> None:
    sink, store = make_sink()
    flying: list[int] = []
    most = 0

    def begin(request: dict[str, Any]) -> None:
        nonlocal most
        flying.append(request["PartNumber"])
        most = max(most, len(flying))

    real = store._upload_part

    def end(**request: Any) -> dict[str, Any]:
        answer = real(**request)
        flying.remove(request["PartNumber"])
        return answer

    async def call(**request: Any) -> dict[str, Any]:
        begin(request)
        await asyncio.sleep(0)
        return end(**request)

    store.upload_part = call  # type: ignore[attr-defined] - found before __getattr__
    await sink.deliver(make_delivery(b"x" * 50 * MIB))
    assert most == 4
    assert len(store.objects["a/b"]["Body"]) == 50 * MIB


async def test_errors_never_hold_credentials(make_sink: MakeSink, make_delivery: MakeDelivery) -> None:
    sink, store = make_sink()
    store.before["put_object"] = lambda request: refusal("InvalidAccessKeyId", 403)
    with pytest.raises(FirehoseError) as raised:
        await sink.deliver(make_delivery())
    assert "testing" not in f"{raised.value!r} {sink.url} {sink.__dict__}"


# --- configuration ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, "bucket"),
        ({"bucket": "a"}, "bucket"),
        ({"bucket": "s3://lake"}, "bucket"),
        ({"bucket": "lake", "part_size": "1MiB"}, "part_size"),
        ({"bucket": "lake", "multipart_above": "6GiB"}, "multipart_above"),
        ({"bucket": "lake", "endpoint_url": "minio:9000"}, "endpoint_url"),
        ({"bucket": "lake", "role_arn": "firehose"}, "role_arn"),
        ({"bucket": "lake", "server_side_encryption": "aes"}, "server_side_encryption"),
        ({"bucket": "lake", "server_side_encryption": {"kms_key": ""}}, "kms_key"),
        ({"bucket": "lake", "acl": "public-read"}, "acl"),
        ({"bucket": "lake", "conditional": "maybe"}, "conditional"),
        ({"bucket": "lake", "buckets": "x"}, "buckets"),
    ],
)
def test_a_wrong_configuration_names_its_key(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        S3SinkConfig(**options)


def test_sizes_are_written_as_people_write_them() -> None:
    config = S3SinkConfig(bucket="lake", part_size="8MiB", multipart_above="1GiB")
    assert (config.part_bytes, config.multipart_bytes) == (8 * MIB, 1024 * MIB)
    assert (S3SinkConfig(bucket="lake").part_bytes, S3SinkConfig(bucket="lake").multipart_bytes) == (16 * MIB, 64 * MIB)
