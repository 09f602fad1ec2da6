"""Objects in S3, or in a store that speaks its protocol.

An object is created with `If-None-Match: *`, so that of two writers one wins and a retry meets its own object. Stores
other than AWS are probed once for whether they keep to it, in a put and at the end of a multipart upload: `conditional`
if they do, else `overwrite`. There the key is looked up before it is written, which is as much as can be done: of two
writers at the same instant both may write, and the later one stands.

Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Literal
from uuid import uuid4

from pydantic import Field

from firehose.aws import AwsClients, is_aws
from firehose.components import BuildContext, ByteSize, Config, ObjectSinkConfig
from firehose.errors import (
    AccessDeniedError,
    ConflictError,
    FirehoseError,
    InvalidError,
    NotFoundError,
    UnavailableError,
)
from firehose.executors import Executor
from firehose.protocols import Delivery, ObjectInfo, Receipt
from firehose.sinks.body import Body, md5_of_parts
from firehose.sinks.bucket import CHECKSUM, Bucket, Upload

#: How many parts of one object are sent at once. They are read from disk while they are sent, so they cost no memory.
PARTS_IN_FLIGHT = 4

#: What a store makes of two writers of one key.
Guarantee = Literal["conditional", "overwrite"]


class KmsKeyConfig(Config):
    """Encryption by the store with a key of AWS KMS (SSE-KMS)."""

    kms_key: str = Field(min_length=1)
    """The key, by its ARN, id or alias."""


class S3SinkConfig(ObjectSinkConfig):
    """Objects in an S3 bucket, or in a store that speaks the S3 protocol."""

    type: Literal["s3"] = "s3"
    """An S3 bucket."""
    bucket: str = Field(min_length=3, max_length=255, pattern=r"^[\w.-]+$")
    """The bucket's name."""
    region: str | None = None
    """The bucket's region; default: AWS_REGION, the profile's, the server's."""
    endpoint_url: str | None = Field(None, pattern=r"^https?://")
    """Another store's address, like `http://minio:9000`; default: AWS_ENDPOINT_URL_S3, or AWS itself."""
    path_style: bool | None = None
    """Put the bucket's name into the path instead of the host name; default: wherever the endpoint is not AWS."""
    role_arn: str | None = Field(None, pattern=r"^arn:[^:]+:iam::\d{12}:role/.+$")
    """A role to assume for this bucket; default: the credentials found are used as they are."""
    external_id: str | None = None
    """The external id the role asks for."""
    part_bytes: ByteSize = Field(16 * 2**20, alias="part_size", ge=5 * 2**20, le=5 * 2**30)
    """The size of the parts of a multipart upload."""
    multipart_bytes: ByteSize = Field(64 * 2**20, alias="multipart_above", ge=5 * 2**20, le=5 * 2**30)
    """Objects larger than this are uploaded in parts."""
    server_side_encryption: Literal["s3"] | KmsKeyConfig | None = None
    """Encryption by the store: `s3` for its own keys, or `kms_key: ARN`; default: what the bucket does by itself."""
    acl: Literal["bucket-owner-full-control"] | None = None
    """Hand objects to the bucket's owner, for buckets of other accounts that still use ACLs."""
    storage_class: str | None = Field(None, pattern=r"^[A-Z_]+$")
    """The storage class, like `STANDARD_IA`, `INTELLIGENT_TIERING`, `GLACIER_IR`; default: the store's."""
    conditional: Literal["auto", "always", "never"] = "auto"
    """Create objects with `If-None-Match`. `auto`: stores other than AWS are probed with a small object that is deleted
    again; `always`: the store is known to honour it; `never`: for stores that refuse it."""

    def build(self, context: BuildContext) -> S3Sink:
        """Return the sink. The bucket is first asked for by `check` or `deliver`."""
        return S3Sink(self, context.environment.aws, context.environment.executor)


class S3Sink:
    """Creates objects in a bucket and reads them back."""

    def __init__(self, config: S3SinkConfig, clients: AwsClients, executor: Executor) -> None:
        self.url = f"s3://{config.bucket}"
        self._config = config
        self._clients = clients
        self._executor = executor
        self._attributes = _attributes(config)
        self._asks_if_absent = config.conditional != "never"
        self._guarantee: Guarantee | None = None
        self._probing = asyncio.Lock()

    async def deliver(self, delivery: Delivery) -> Receipt:
        """Create the object. Errors: ConflictError where another stands under its key."""
        bucket = await self._bucket()
        if await self.guarantee() == "overwrite" and await self._seems_to_stand(bucket, delivery):
            return Receipt(delivery.rows, existed=True)
        try:
            if delivery.body_bytes > self._config.multipart_bytes:
                await self._upload(bucket, delivery)
            else:
                await self._put(bucket, delivery)
        except ConflictError as error:
            if not await self._stands(bucket, delivery):
                message = f"{self.url}/{delivery.key}: another write of this key is under way"
                raise UnavailableError(message, code="S3.ConditionalRequestConflict") from error
            return Receipt(delivery.rows, existed=True)
        return Receipt(delivery.rows)

    async def check(self) -> None:
        """Return if the bucket exists and objects can be written to it, leaving none behind."""
        bucket = await self._bucket()
        await bucket.check()
        upload = await bucket.begin_upload(self._probe_key(), self._attributes)
        await upload.abort()
        await self.guarantee()

    async def guarantee(self) -> Guarantee:
        """Return what the store makes of two writers of one key; the first call may probe it."""
        async with self._probing:
            if self._guarantee is None:
                bucket = await self._bucket()
                if self._config.conditional == "never":
                    self._guarantee = "overwrite"
                elif self._config.conditional == "always" or is_aws(bucket.client.meta.endpoint_url):
                    self._guarantee = "conditional"
                else:
                    self._guarantee = await self._probe(bucket)
            return self._guarantee

    async def stat(self, key: str) -> ObjectInfo:
        """Return what the store says of the object. Errors: NotFoundError."""
        return await (await self._bucket()).stat(key)

    @asynccontextmanager
    async def open(self, key: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """Read the object's bytes as they are stored, chunk by chunk. Errors: NotFoundError."""
        async with (await self._bucket()).open(key) as chunks:
            yield chunks

    async def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        """Yield the objects whose keys begin with `prefix`, ascending by key, without their metadata."""
        async for found in (await self._bucket()).list(prefix):
            yield found

    async def close(self) -> None:
        """Do nothing: the client belongs to the environment."""

    async def _bucket(self) -> Bucket:
        config = self._config
        client = await self._clients.client(
            "s3",
            region=config.region,
            role_arn=config.role_arn,
            external_id=config.external_id,
            endpoint_url=config.endpoint_url,
            path_style=config.path_style,
        )
        return Bucket(client, config.bucket)

    async def _seems_to_stand(self, bucket: Bucket, delivery: Delivery) -> bool:
        try:
            return await self._stands(bucket, delivery)
        except InvalidError:
            return False  # an answer to HEAD has no body: the put's says what is wrong

    async def _stands(self, bucket: Bucket, delivery: Delivery) -> bool:
        """Return whether the object stands there. Errors: ConflictError where it is another one."""
        try:
            found = await bucket.stat(delivery.key)
        except NotFoundError:
            return False
        if found.checksum != delivery.checksum:
            raise ConflictError(
                f"{self.url}: another object stands under {delivery.key} ({found.body_bytes} bytes); move it away",
                code="S3.PreconditionFailed",
            )
        return True

    async def _put(self, bucket: Bucket, delivery: Delivery) -> None:
        [md5] = await self._executor.run(partial(md5_of_parts, delivery, self._config.multipart_bytes))
        attributes = self._attributes | _attributes_of(delivery)
        with Body(delivery) as body:
            await bucket.put(delivery.key, body, attributes, md5=md5, if_absent=self._asks_if_absent)

    async def _upload(self, bucket: Bucket, delivery: Delivery) -> None:
        md5s = await self._executor.run(partial(md5_of_parts, delivery, self._config.part_bytes))
        upload = await bucket.begin_upload(delivery.key, self._attributes | _attributes_of(delivery))
        try:
            await self._send_parts(upload, delivery, md5s)
            await upload.complete(if_absent=self._asks_if_absent)
        except BaseException as error:
            await upload.abort(because=error)
            raise

    async def _send_parts(self, upload: Upload, delivery: Delivery, md5s: Sequence[str]) -> None:
        size = self._config.part_bytes
        waiting = iter(enumerate(md5s))

        failures: list[FirehoseError] = []

        async def send() -> None:
            for index, md5 in waiting:
                try:
                    with Body(delivery, index * size, size) as body:
                        await upload.send(index + 1, body, md5=md5)
                except FirehoseError as error:
                    failures.append(error)
                # parts under way end before the upload is aborted: one that ends later may outlive it in the store
                if failures:
                    return

        async with asyncio.TaskGroup() as lanes:
            for _ in range(min(PARTS_IN_FLIGHT, len(md5s))):
                lanes.create_task(send())
        if failures:
            raise failures[0]

    def _probe_key(self) -> str:
        # beneath the prefix, where objects may be written; the dot hides it from readers of tables
        return f"{self._config.prefix.partition('!{')[0]}.firehose-probe-{uuid4().hex}"

    async def _probe(self, bucket: Bucket) -> Guarantee:
        """Return what the store makes of `If-None-Match: *` where an object stands."""
        key = self._probe_key()
        await bucket.put(key, b"", {}, if_absent=False)
        try:
            is_kept = await _is_put_refused(bucket, key) and await _is_upload_refused(bucket, key)
        except InvalidError:
            # the store does not know the header, and would refuse every object for it
            self._asks_if_absent = is_kept = False
        finally:
            await _forget(bucket, key)
        return "conditional" if is_kept else "overwrite"


async def _is_put_refused(bucket: Bucket, key: str) -> bool:
    try:
        await bucket.put(key, b"", {}, if_absent=True)
    except ConflictError:
        return True
    return False


async def _is_upload_refused(bucket: Bucket, key: str) -> bool:
    upload = await bucket.begin_upload(key, {})
    try:
        await upload.send(1, b"probe")
        await upload.complete(if_absent=True)
    except ConflictError:
        return True
    finally:
        await upload.abort()
    return False


async def _forget(bucket: Bucket, key: str) -> None:
    """Delete a probe."""
    try:
        await bucket.delete(key)
    except AccessDeniedError:
        pass  # delivery needs no right to delete: the probe stays, a few bytes under a hidden name


def _attributes(config: S3SinkConfig) -> dict[str, Any]:
    """Return what every object of the sink is created with."""
    attributes: dict[str, Any] = {"ACL": config.acl, "StorageClass": config.storage_class}
    match config.server_side_encryption:
        case "s3":
            attributes |= {"ServerSideEncryption": "AES256"}
        case KmsKeyConfig(kms_key=key):
            attributes |= {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": key}
    return {name: value for name, value in attributes.items() if value is not None}


def _attributes_of(delivery: Delivery) -> dict[str, Any]:
    """Return what this object is created with."""
    encoding = {"ContentEncoding": delivery.content_encoding} if delivery.content_encoding else {}
    metadata = {**delivery.metadata, CHECKSUM: delivery.checksum}
    return {"ContentType": delivery.content_type, "Metadata": metadata, **encoding}
