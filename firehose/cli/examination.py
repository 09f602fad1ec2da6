"""What `firehose run` says of its configuration once it has started: what is doubtful, and what will fail records.

A function that does not load, or a table that is missing, is no reason not to start: producers are served, and what was
accepted is kept. Only an error in the files themselves is.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import ClassVar

from firehose.clock import Clock
from firehose.config.loader import Loaded
from firehose.telemetry import Emitter, Event


@dataclass(frozen=True, slots=True)
class ConfigurationDoubted(Event):
    """Something in the configuration is allowed, but likely a mistake."""

    level: ClassVar[int] = logging.WARNING
    problem: str


@dataclass(frozen=True, slots=True)
class ConfigurationBroken(Event):
    """A function does not load or a table cannot be used: records of the streams with it fail, or wait."""

    level: ClassVar[int] = logging.ERROR
    problem: str


async def tell_problems(loaded: Loaded, clock: Clock, telemetry: Emitter) -> None:
    """Emit what `firehose validate` would say of files that could be loaded."""
    broken, doubted = await loaded.looked_up(clock, telemetry)
    for problem in (*loaded.warnings(), *doubted):
        telemetry.emit(ConfigurationDoubted(str(problem)))
    for problem in broken:
        telemetry.emit(ConfigurationBroken(str(problem)))
