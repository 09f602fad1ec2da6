"""`firehose validate`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from firehose.cli.output import counted
from firehose.clock import SystemClock
from firehose.config.loader import examine, in_order
from firehose.errors import Problem
from firehose.telemetry import Telemetry


@dataclass(frozen=True, slots=True)
class Report:
    """What is wrong in some files, what is doubtful, and what there is."""

    problems: list[dict[str, Any]]
    warnings: list[dict[str, Any]]
    summary: str


def validate(paths: Sequence[Path]) -> Report:
    """Return everything that can be said of the files. Functions are loaded, each in a process of its own."""
    found = examine(paths, environment=os.environ)
    broken, doubted = asyncio.run(found.looked_up(SystemClock(), Telemetry()))
    held = found.configuration
    counts = (("stream", held.streams), ("function", held.functions), ("catalog", held.catalogs))
    named = ", ".join(counted(len(each), word) for word, each in counts)
    problems = _shown(in_order((*found.problems, *broken), found.files))
    warnings = _shown(in_order((*found.warnings(), *doubted), found.files))
    return Report(problems, warnings, f"valid: {named}")


def _shown(problems: Iterable[Problem]) -> list[dict[str, Any]]:
    return [{"text": str(problem), **asdict(problem)} for problem in problems]
