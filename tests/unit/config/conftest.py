from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from firehose.config.loader import Loaded, load
from firehose.errors import ConfigError, Problem

Write = Callable[..., Path]
Load = Callable[..., Loaded]
Problems = Callable[..., list[Problem]]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a file beneath the test's folder and return its path."""

    def write(text: str, name: str = "firehose.yaml") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def loaded(write: Write) -> Load:
    """Load one text as a configuration file."""

    def loaded(text: str, environment: Mapping[str, str] | None = None) -> Loaded:
        return load([write(text)], environment=environment or {})

    return loaded


@pytest.fixture
def problems(loaded: Load) -> Problems:
    """Load a text that must be refused, and return what is wrong with it."""

    def problems(text: str, environment: Mapping[str, str] | None = None) -> list[Problem]:
        with pytest.raises(ConfigError) as refused:
            loaded(text, environment)
        return refused.value.problems

    return problems


def marked(text: str) -> tuple[str, int, int]:
    """Return the text without its mark, `§`, and the line and column where it stood."""
    before, _, after = text.partition("§")
    return before + after, before.count("\n") + 1, len(before.rpartition("\n")[2]) + 1
