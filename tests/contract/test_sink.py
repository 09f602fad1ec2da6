"""What every sink must do, wherever its objects lie."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import tracemalloc
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import boto3
import pytest

from firehose.components import BuildContext
from firehose.errors import ConflictError, IntegrityError, NotFoundError
from firehose.protocols import Delivery
from firehose.sinks.file import FileSinkConfig
from firehose.sinks.s3 import S3SinkConfig
from firehose.testing import MemorySink

MakeDelivery = Callable[..., Delivery]

MOTO = pytest.param("moto", marks=[pytest.mark.integration, pytest.mark.xdist_group("moto")])
S3PROXY = pytest.param("s3proxy", marks=[pytest.mark.integration, pytest.mark.xdist_group("s3proxy")])

#: Small enough for tests, large enough for S3.
PART = 5 * 2**20


@dataclass
class Place:
    """A sink, and one of its kind whose bucket or folder does not exist."""

    sink: Any
    missing: Any = None

    async def read(self, key: str) -> bytes:
        async with self.sink.open(key) as chunks:
            return b"".join([chunk async for chunk in chunks])

    async def keys(self, prefix: str = "") -> list[str]:
        return [found.key async for found in self.sink.list(prefix)]


async def _place(
    request: pytest.FixtureRequest, tmp_path: Path, build_context: BuildContext, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Place]:
    match request.param:
        case "memory":
            yield Place(MemorySink())
        case "file":
            folder = tmp_path / "objects"
            sink, missing = (
                FileSinkConfig(path=path).build(build_context) for path in (folder, tmp_path / "missing" / "x")
            )
            yield Place(sink, missing)
        case server:
            endpoint = request.getfixturevalue(server)
            if server == "s3proxy":
                monkeypatch.setenv("AWS_ACCESS_KEY_ID", endpoint.access_key)
                monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", endpoint.secret_key)
                endpoint = endpoint.endpoint
            bucket = f"contract-{secrets.token_hex(4)}"
            boto3.Session().client("s3", endpoint_url=endpoint).create_bucket(Bucket=bucket)
            options: dict[str, Any] = {"endpoint_url": endpoint, "part_size": PART, "multipart_above": PART}
            sink, missing = (
                S3SinkConfig(bucket=name, **options).build(build_context) for name in (bucket, f"{bucket}-missing")
            )
            yield Place(sink, missing)


#: Every sink; and those that lie outside this process, where more can go wrong.
place = pytest.fixture(params=["memory", "file", MOTO, S3PROXY], name="place")(_place)
stored = pytest.fixture(params=["file", MOTO, S3PROXY], name="stored")(_place)


async def test_an_object_holds_the_bytes_of_its_delivery(place: Place, make_delivery: MakeDelivery) -> None:
    delivery = make_delivery(b"one\ntwo\n", "2026/07/13/14/clicks-1")
    receipt = await place.sink.deliver(delivery)
    assert receipt.delivered == delivery.rows
    assert not receipt.existed
    assert not receipt.failed
    assert not receipt.retry
    assert await place.read(delivery.key) == b"one\ntwo\n"


async def test_the_same_delivery_again_finds_its_object(place: Place, make_delivery: MakeDelivery) -> None:
    delivery = make_delivery()
    await place.sink.deliver(delivery)
    receipt = await place.sink.deliver(delivery)
    assert receipt.existed
    assert receipt.delivered == delivery.rows
    assert await place.keys() == [delivery.key]


async def test_another_object_under_the_key_is_a_conflict_and_stays(place: Place, make_delivery: MakeDelivery) -> None:
    await place.sink.deliver(make_delivery(b"theirs"))
    before = await place.sink.stat("a/b")
    with pytest.raises(ConflictError, match="a/b"):
        await place.sink.deliver(make_delivery(b"ours", metadata={"owner": "us"}, content_encoding="gzip"))
    assert await place.read("a/b") == b"theirs"
    assert await place.sink.stat("a/b") == before


async def test_an_empty_object_is_an_object(place: Place, make_delivery: MakeDelivery) -> None:
    delivery = make_delivery(b"")
    await place.sink.deliver(delivery)
    assert await place.read(delivery.key) == b""
    assert (await place.sink.deliver(delivery)).existed


@pytest.mark.parametrize("size", [PART - 1, PART, PART + 1, 3 * PART, 3 * PART + 12345])
async def test_large_objects_arrive_whole(place: Place, make_delivery: MakeDelivery, size: int) -> None:
    body = secrets.token_bytes(size)
    delivery = make_delivery(body)
    assert not (await place.sink.deliver(delivery)).existed
    assert hashlib.sha256(await place.read(delivery.key)).hexdigest() == delivery.checksum
    assert (await place.sink.stat(delivery.key)).body_bytes == size
    assert (await place.sink.deliver(delivery)).existed


async def test_a_large_object_does_not_replace_another(stored: Place, make_delivery: MakeDelivery) -> None:
    await stored.sink.deliver(make_delivery(b"theirs"))
    with pytest.raises(ConflictError):
        await stored.sink.deliver(make_delivery(secrets.token_bytes(2 * PART)))
    assert await stored.read("a/b") == b"theirs"


async def test_metadata_encoding_and_checksum_come_back(place: Place, make_delivery: MakeDelivery) -> None:
    metadata = {"x-amz-key-v2": "d3JhcHBlZA==", "x-amz-matdesc": '{"kms_cmk_id":"key"}'}
    delivery = make_delivery(b"packed", metadata=metadata, content_encoding="gzip", content_type="text/plain")
    await place.sink.deliver(delivery)
    found = await place.sink.stat(delivery.key)
    assert found.key == delivery.key
    assert found.body_bytes == len(b"packed")
    assert found.checksum == delivery.checksum
    assert found.content_encoding == "gzip"
    assert found.metadata == metadata


async def test_bytes_are_read_as_they_are_stored(place: Place, make_delivery: MakeDelivery) -> None:
    # no gzip at all: whoever decodes on the way would fail here
    await place.sink.deliver(make_delivery(b"not gzip", content_encoding="gzip"))
    assert await place.read("a/b") == b"not gzip"


async def test_what_was_never_delivered_is_not_found(place: Place) -> None:
    with pytest.raises(NotFoundError):
        await place.sink.stat("never")
    with pytest.raises(NotFoundError):
        async with place.sink.open("never"):
            pass


async def test_objects_are_listed_by_prefix_ascending(place: Place, make_delivery: MakeDelivery) -> None:
    keys = ["a/b/c", "a-b", "a/b-c", "a/bc/d", "a.b", "b", "a/b/a", "é/x", "Z"]
    for key in keys:
        await place.sink.deliver(make_delivery(key.encode(), key))
    assert await place.keys() == sorted(keys)
    assert await place.keys("a/b") == ["a/b-c", "a/b/a", "a/b/c", "a/bc/d"]
    assert await place.keys("a/b/") == ["a/b/a", "a/b/c"]
    assert await place.keys("b") == ["b"]
    assert await place.keys("none/of/them") == []
    [found] = [each async for each in place.sink.list("Z")]
    assert found.body_bytes == 1


async def test_a_read_may_end_early(place: Place, make_delivery: MakeDelivery) -> None:
    await place.sink.deliver(make_delivery(secrets.token_bytes(2**20)))
    async with place.sink.open("a/b") as chunks:
        async for chunk in chunks:
            assert chunk
            break
    assert len(await place.read("a/b")) == 2**20


async def test_two_deliveries_of_the_same_object_at_once_are_both_fine(
    place: Place, make_delivery: MakeDelivery
) -> None:
    delivery = make_delivery(secrets.token_bytes(2**16))
    receipts = await asyncio.gather(*(place.sink.deliver(delivery) for _ in range(4)))
    assert all(receipt.delivered == delivery.rows for receipt in receipts)
    assert await place.keys() == [delivery.key]
    assert hashlib.sha256(await place.read(delivery.key)).hexdigest() == delivery.checksum


async def test_a_check_passes_and_leaves_nothing(place: Place) -> None:
    await place.sink.check()
    assert await place.keys() == []


async def test_a_missing_bucket_or_folder_is_said_so(stored: Place, make_delivery: MakeDelivery) -> None:
    with pytest.raises(NotFoundError, match="does not exist; create it"):
        await stored.missing.check()
    with pytest.raises(NotFoundError):
        await stored.missing.deliver(make_delivery())


@pytest.mark.parametrize("size", [100, 2 * PART])
async def test_bytes_that_changed_on_disk_are_never_delivered(
    stored: Place, make_delivery: MakeDelivery, size: int
) -> None:
    delivery = replace(make_delivery(secrets.token_bytes(size)), checksum="0" * 64)
    with pytest.raises(IntegrityError, match="not those that were finished"):
        await stored.sink.deliver(delivery)
    assert await stored.keys() == []


async def test_a_delivery_whose_file_is_gone_raises_as_it_is(stored: Place, make_delivery: MakeDelivery) -> None:
    delivery = make_delivery()
    delivery.path.unlink()
    with pytest.raises(FileNotFoundError):
        await stored.sink.deliver(delivery)


async def test_the_url_names_the_place(place: Place) -> None:
    assert "://" in place.sink.url


@pytest.mark.slow
async def test_memory_does_not_grow_with_the_object(stored: Place, make_delivery: MakeDelivery) -> None:
    delivery = make_delivery(secrets.token_bytes(200 * 2**20))
    await stored.sink.check()  # clients and models are loaded here
    tracemalloc.start()
    try:
        await stored.sink.deliver(delivery)
        async with stored.sink.open(delivery.key) as chunks:
            size = sum([len(chunk) async for chunk in chunks])
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert size == 200 * 2**20
    assert peak_bytes < 16 * 2**20
