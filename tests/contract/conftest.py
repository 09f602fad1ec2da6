"""The state stores that the contract's tests run over."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from firehose.executors import InlineExecutor
from firehose.stores.sqlite import SqliteStateStore
from tests.contract.states import Open


@pytest.fixture(params=["sqlite"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Return what opens the state once more: another writer of the same state."""
    assert request.param == "sqlite"
    return lambda: SqliteStateStore.open(tmp_path / "state.db", InlineExecutor())


@pytest.fixture
async def store(open_store: Open) -> AsyncIterator[SqliteStateStore]:
    found = await open_store()
    yield found
    await found.close()
