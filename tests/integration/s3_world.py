"""A service, an S3 server, and the proxy between them.

S3Proxy checks signatures, and its multipart uploads ignore conditions, so the sink takes it for `overwrite`; moto keeps
them, and is `conditional`: the two ways in which an object is created.
"""

from __future__ import annotations

import secrets
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.daemon import Daemon, until
from tests.services.fault_proxy import Fault, FaultProxy

S3PROXY = pytest.param("s3proxy", marks=pytest.mark.xdist_group("s3proxy"))
MOTO = pytest.param("moto", marks=pytest.mark.xdist_group("moto"))

on_both = pytest.mark.parametrize("world", [S3PROXY, MOTO], indirect=True)
on_moto = pytest.mark.parametrize("world", [MOTO], indirect=True)

STREAM = """
streams:
  clicks:
    buffer: {interval: 0s}
    sink: {type: s3, bucket: BUCKET, endpoint_url: "ENDPOINT", prefix: clicks/MORE}
"""

#: An object of 12 records of 1 MB goes in three parts.
MULTIPART = STREAM.replace("interval: 0s", "interval: 1m, size: 11MiB").replace(
    "MORE", ", part_size: 5MiB, multipart_above: 5MiBMORE"
)


class World:
    """A service, an S3 server, and the proxy between them."""

    def __init__(self, folder: Path, endpoint: str, forget_cut_uploads: Callable[[], None] = lambda: None) -> None:
        self._forget_cut_uploads = forget_cut_uploads
        self.s3 = boto3.Session().client("s3", endpoint_url=endpoint)
        self.bucket = f"faults-{secrets.token_hex(4)}"
        self.s3.create_bucket(Bucket=self.bucket)
        self.proxy = FaultProxy(endpoint)
        #: What the service takes for the store.
        self.endpoint = self.proxy.endpoint
        self.daemon = Daemon(folder, None)
        self.sent: list[bytes] = []

    def start(self, config: str = STREAM, **options: str) -> None:
        """Start the service; `options` are more of the sink's."""
        more = "".join(f", {name}: {value}" for name, value in options.items())
        self.daemon.config.write_text(
            config.replace("MORE", more).replace("BUCKET", self.bucket).replace("ENDPOINT", self.endpoint)
        )
        self.daemon.start()

    def start_well(self, config: str = STREAM, **options: str) -> None:
        """Start the service and let it deliver once, so that it has asked the store all it wants to know of it."""
        self.start(config, **options)
        self.put()
        self.flush()

    def flush(self) -> None:
        """Return once all is delivered; what waits for its next attempt is tried at once."""
        flushed = self.daemon.run("flush", "clicks")
        assert flushed.returncode == 0, flushed

    def put(self, count: int = 20, size: int = 100) -> None:
        """Send new records, which must be acknowledged."""
        records = [b"%d-" % (len(self.sent) + each) for each in range(count)]
        records = [each + secrets.token_hex(size // 2).encode()[: size - len(each)] for each in records]
        at_once = max(1, min(count, 3_000_000 // size))
        for start in range(0, count, at_once):
            self.daemon.put(*records[start : start + at_once])
        self.sent += records

    def struck(self, fault: Fault, times: int = 1) -> None:
        """Return once so many requests met the fault."""
        until(lambda: self.proxy.struck(fault) >= times, f"{fault} {times} times")

    def status(self) -> Any:
        """Return what `status` says of the stream."""
        return next(each for each in self.daemon.ask("status")["streams"] if each["name"] == "clicks")

    def shows(self, code: str, patience_s: float = 10) -> None:
        """Return once status and metrics say that deliveries fail with this code."""

        def is_shown() -> bool:
            found = self.status()
            error = found["last_error"]
            return bool(error and error["code"] == code and found["state"] == "failing" and self.failures(code))

        try:
            until(is_shown, code, patience_s)
        except AssertionError as error:
            error.add_note(f"{self.status()}\n{self.metrics()}")
            raise

    def metrics(self, name: str = "delivery_failures_total") -> list[str]:
        """Return the lines of one metric."""
        with urllib.request.urlopen(f"{self.daemon.url}/metrics") as answer:
            lines = answer.read().decode().splitlines()
        return [line for line in lines if line.startswith(f"firehose_{name}{{")]

    def failures(self, code: str) -> bool:
        """Return whether the metrics tell of failed deliveries with this code."""
        return any(f'code="{code}"' in line and 'stream="clicks"' in line for line in self.metrics())

    def count(self, name: str) -> int:
        """Return what one metric has counted since the service started."""
        return sum(int(float(line.rpartition(" ")[2])) for line in self.metrics(name))

    def failed(self) -> int:
        """Return how many deliveries failed since the service started."""
        return self.count("delivery_failures_total")

    def keys(self, prefix: str = "") -> list[str]:
        """Return the keys of all objects."""
        self._forget_cut_uploads()
        listed = self.s3.list_objects_v2(Bucket=self.bucket, Prefix=prefix)
        assert not listed["IsTruncated"]
        return [each["Key"] for each in listed.get("Contents", [])]

    def landed(self, prefix: str = "clicks/") -> Counter[bytes]:
        """Return the records in the bucket."""
        bodies = [self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read() for key in self.keys(prefix)]
        return Counter(line for body in bodies for line in body.splitlines())

    def uploads(self) -> list[Any]:
        """Return the multipart uploads that were begun and never ended."""
        found: list[Any] = self.s3.list_multipart_uploads(Bucket=self.bucket).get("Uploads", [])
        return found

    def drains(self) -> None:
        """Repair the destination: what was acknowledged is there, all of it and once, without a restart."""
        self.proxy.fault = None
        self.flush()
        self.is_whole()

    def is_whole(self) -> None:
        """Compare what was acknowledged with what landed, record by record."""
        assert self.landed() == Counter(self.sent)
        assert self.daemon.total() == {"accepted": len(self.sent), "delivered": len(self.sent)}
        assert all(key.startswith("clicks/2") for key in self.keys()), self.keys()  # no probe was left
        assert self.status()["state"] == "delivering"
        assert self.status()["last_error"] is None
