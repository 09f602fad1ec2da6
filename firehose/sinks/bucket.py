"""One S3 bucket: the calls we make of it, with their errors translated. What to call when is decided in `s3`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AbstractContextManager, aclosing, asynccontextmanager
from datetime import datetime
from typing import Any

from firehose.aws import READ_TIMEOUT_MS, aws_errors
from firehose.errors import FirehoseError, NotFoundError
from firehose.protocols import ObjectInfo
from firehose.sinks.body import CHUNK_BYTES, Body

#: The name under which an object's metadata carries our SHA-256 of its bytes.
CHECKSUM = "firehose-sha256"

#: How long a store may take nothing of a body: longer than the wait for an answer, whose error says more.
STALLED_S = 1.5 * READ_TIMEOUT_MS / 1_000

Attributes = Mapping[str, Any]


class Bucket:
    """A bucket, seen through a client."""

    def __init__(self, client: Any, name: str) -> None:
        self.client = client
        self.name = name

    async def check(self) -> None:
        """Return if the bucket exists. Errors: NotFoundError."""
        try:
            with self.errors():
                await self.client.head_bucket(Bucket=self.name)
        except NotFoundError as error:
            message = f"s3://{self.name}: the bucket does not exist; create it"
            raise NotFoundError(message, code="S3.NoSuchBucket") from error

    async def put(
        self, key: str, body: Body | bytes, attributes: Attributes, *, md5: str | None = None, if_absent: bool
    ) -> None:
        """Create an object. Errors: ConflictError where one stands and `if_absent` was asked for and is kept."""
        digest = {} if md5 is None else {"ContentMD5": md5}
        with self.errors(key):
            async with _while_it_moves(body):
                await self.client.put_object(
                    Bucket=self.name, Key=key, Body=body, **digest, **attributes, **_condition(if_absent)
                )

    async def begin_upload(self, key: str, attributes: Attributes) -> Upload:
        """Begin an object that is sent in parts."""
        with self.errors(key):
            begun = await self.client.create_multipart_upload(Bucket=self.name, Key=key, **attributes)
        return Upload(self, key, begun["UploadId"])

    async def delete(self, key: str) -> None:
        """Delete an object."""
        with self.errors(key):
            await self.client.delete_object(Bucket=self.name, Key=key)

    async def stat(self, key: str) -> ObjectInfo:
        """Return what the store says of an object. Errors: NotFoundError."""
        with self.errors(key):
            found = await self.client.head_object(Bucket=self.name, Key=key)
        metadata = {name.lower(): value for name, value in found["Metadata"].items()}
        return ObjectInfo(
            key=key,
            body_bytes=found["ContentLength"],
            modified_ms=_unix_ms(found["LastModified"]),
            checksum=metadata.pop(CHECKSUM, None),
            content_encoding=found.get("ContentEncoding") or None,
            metadata=metadata,
        )

    @asynccontextmanager
    async def open(self, key: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """Read an object's bytes as they are stored. Errors: NotFoundError."""
        with self.errors(key):
            found = await self.client.get_object(Bucket=self.name, Key=key)
        async with found["Body"] as body, aclosing(self._chunks(key, body)) as chunks:
            yield chunks

    async def _chunks(self, key: str, body: Any) -> AsyncGenerator[bytes, None]:
        with self.errors(key):
            async for chunk in body.iter_chunks(CHUNK_BYTES):
                yield chunk

    async def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        """Yield the objects whose keys begin with `prefix`, ascending by key, without their metadata."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix)
        with self.errors(prefix):
            async for page in pages:
                for found in page.get("Contents", ()):
                    yield ObjectInfo(found["Key"], found["Size"], _unix_ms(found["LastModified"]), None, None, {})

    def errors(self, key: str = "") -> AbstractContextManager[None]:
        """Raise botocore's errors within as ours."""
        return aws_errors("s3", f"s3://{self.name}/{key}".rstrip("/"))


class Upload:
    """An object on its way in parts. Nothing is seen of it until it is completed."""

    def __init__(self, bucket: Bucket, key: str, upload_id: str) -> None:
        self._bucket = bucket
        self._client = bucket.client
        self._target = {"Bucket": bucket.name, "Key": key, "UploadId": upload_id}
        self._key = key
        self._tags: dict[int, str] = {}

    async def send(self, number: int, body: Body | bytes, *, md5: str | None = None) -> None:
        """Send part `number`, counted from 1; parts may be sent in any order, several at once."""
        digest = {} if md5 is None else {"ContentMD5": md5}
        with self._bucket.errors(self._key):
            async with _while_it_moves(body):
                sent = await self._client.upload_part(**self._target, PartNumber=number, Body=body, **digest)
        self._tags[number] = sent["ETag"]

    async def complete(self, *, if_absent: bool) -> None:
        """Let the object appear. Errors: as `Bucket.put`."""
        parts = [{"PartNumber": number, "ETag": tag} for number, tag in sorted(self._tags.items())]
        with self._bucket.errors(self._key):
            await self._client.complete_multipart_upload(
                **self._target, MultipartUpload={"Parts": parts}, **_condition(if_absent)
            )

    async def abort(self, because: BaseException | None = None) -> None:
        """Throw the parts away. A failure to do so is noted on `because`, or raised where there is none."""
        try:
            with self._bucket.errors(self._key):
                await self._client.abort_multipart_upload(**self._target)
        except NotFoundError:
            pass  # completed or aborted already: nothing is left of it
        except FirehoseError as error:
            if because is None:
                raise
            told = f"its upload {self._target['UploadId']} was left behind with its parts: {error}"
            because.say_more(told) if isinstance(because, FirehoseError) else because.add_note(told)


@asynccontextmanager
async def _while_it_moves(body: Body | bytes) -> AsyncIterator[None]:
    """Let a body be sent. Errors: TimeoutError where the store took nothing of it for `STALLED_S`.

    aiohttp's own timeout begins when all is sent: a store that stops reading, or never says `100 Continue`, would keep
    the request for ever.
    """
    if isinstance(body, bytes):
        yield
        return
    now_s = asyncio.get_running_loop().time
    patience = asyncio.timeout(STALLED_S)

    async def look() -> None:
        seen = body.tell()
        while True:
            await asyncio.sleep(STALLED_S / 8)  # nobody tells when a body was read on
            if body.tell() != seen:
                seen = body.tell()
                patience.reschedule(now_s() + STALLED_S)

    try:
        async with patience:
            looking = asyncio.create_task(look())
            try:
                yield
            finally:
                looking.cancel()
    except TimeoutError as error:
        if not patience.expired():
            raise
        raise TimeoutError(f"the store took nothing more of the body for {STALLED_S:.0f} s") from error


def _condition(if_absent: bool) -> dict[str, str]:
    return {"IfNoneMatch": "*"} if if_absent else {}


def _unix_ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000)
