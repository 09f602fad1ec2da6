"""A service as a process of its own, alone or with an S3 server that fails as it is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon import Daemon
from tests.integration.outside import Outside
from tests.integration.s3_world import S3PROXY, World


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    found = Daemon(tmp_path)
    yield found
    found.close()


@pytest.fixture(params=[S3PROXY])
def world(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    endpoint, more = request.getfixturevalue(request.param), ()
    if request.param == "s3proxy":
        more = (endpoint.forget_cut_uploads,)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", endpoint.access_key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", endpoint.secret_key)
        endpoint = endpoint.endpoint
    found = World(tmp_path, endpoint, *more)
    with found.proxy.running():
        yield found
        found.daemon.close()


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Outside:
    """Time and names for every process that the test starts."""
    found = Outside(tmp_path / "outside")
    for name, value in found.environment.items():
        monkeypatch.setenv(name, value)
    return found
