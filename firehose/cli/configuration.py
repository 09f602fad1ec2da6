"""`firehose validate`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from firehose.config.loader import load
from firehose.errors import ConfigError, Problem


def validate(paths: Sequence[Path]) -> tuple[list[dict[str, Any]], str]:
    """Return every problem in the files, and what is in them where there is none."""
    try:
        loaded = load(paths, environment=os.environ)
        problems = asyncio.run(loaded.table_problems())
    except ConfigError as error:
        return [_shown(problem) for problem in error.problems], ""
    found = loaded.configuration
    counts = (("stream", found.streams), ("function", found.functions), ("catalog", found.catalogs))
    named = ", ".join(f"{len(each)} {word}{'s' * (len(each) != 1)}" for word, each in counts)
    return [_shown(problem) for problem in problems], f"valid: {named}"


def _shown(problem: Problem) -> dict[str, Any]:
    return {"text": str(problem), **asdict(problem)}
