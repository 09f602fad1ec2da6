from __future__ import annotations

from pathlib import Path

import pytest

from tests.service_world import ServiceWorld


@pytest.fixture
def world(tmp_path: Path) -> ServiceWorld:
    return ServiceWorld(tmp_path)
