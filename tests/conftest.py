"""What tests of all kinds share: real servers, started once a session and only when a test asks for them, and a world
for the components that need one."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from firehose.aws import AwsClients
from firehose.components import BuildContext, Environment, StreamIdentity
from firehose.executors import ThreadExecutor
from firehose.filesystem import OsFileSystem
from firehose.protocols import Delivery
from firehose.records import RowSet
from firehose.testing import FakeClock, RecordingTelemetry

# tests import their helpers as `tests.services...`; with importlib mode nothing else puts the checkout on the path
sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.services.iceberg import iceberg_server
from tests.services.moto import moto_server
from tests.services.s3proxy import S3Proxy, s3proxy_server
from tests.services.server import LOGS, tail


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the ends of the servers' logs beside a failure."""
    report = yield
    if report.failed:
        report.sections += [(str(log), tail(log)) for log in LOGS]
    return report


@pytest.fixture(autouse=True)
def aws_env(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep every test away from the AWS accounts of whoever runs it: known keys, no profile, no machine role."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/dev/null")


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The endpoint of a moto server. It is shared: give buckets and streams names of their own."""
    with moto_server(tmp_path_factory.mktemp("moto")) as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def s3proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Proxy]:
    """An S3Proxy. It is shared: give buckets names of their own."""
    with s3proxy_server(tmp_path_factory.mktemp("s3proxy")) as server:
        yield server


@pytest.fixture(scope="session")
def iceberg(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an Iceberg REST catalog. It is shared: give databases names of their own."""
    with iceberg_server(tmp_path_factory.mktemp("iceberg")) as uri:
        yield uri


@pytest.fixture
async def build_context(tmp_path: Path) -> AsyncIterator[BuildContext]:
    """What a component is built with: a clock that stands still, real threads, real files and real AWS clients."""
    executor, aws = ThreadExecutor(threads=2, name="test"), AwsClients()
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    log: Any = None  # no component that is built with this has business with the log
    environment = Environment(FakeClock(), RecordingTelemetry(), executor, OsFileSystem(), data_dir, aws, log)
    yield BuildContext(environment, StreamIdentity("uid", "clicks"), {}, {})
    await aws.close()
    executor.close()


@pytest.fixture
def make_delivery(tmp_path: Path) -> Callable[..., Delivery]:
    """Return what makes deliveries: their bytes lie somewhere within a file, as in the outbox."""
    numbers = count()

    def make(body: bytes = b"abc", key: str = "a/b", **more: Any) -> Delivery:
        path = tmp_path / f"outbox-{next(numbers)}"
        path.write_bytes(b"before" + body + b"after")
        rows = RowSet.of_range("shard", 0, 9)
        return Delivery(key, path, len(b"before"), len(body), hashlib.sha256(body).hexdigest(), rows, **more)

    return make


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name long bytes by their length: they may hold the time of day, and every worker must find the same names."""
    return f"{argname}-of-{len(val)}-bytes" if isinstance(val, bytes) and len(val) > 12 else None
