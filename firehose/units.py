"""Sizes and durations as people write them, parsed once at the edge: "64MiB" and "300s" become whole bytes and ms."""

from __future__ import annotations

import re
from decimal import Decimal

BYTES = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
BYTES |= {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
MILLISECONDS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}

_NUMBER_AND_UNIT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")


def parse_bytes(text: str | int) -> int:
    """Return the bytes meant by `text`: a number (bytes) or a number with B, KB, MB, GB, TB, KiB, MiB, GiB or TiB.

    Errors: ValueError, saying what is allowed.
    """
    return _parse(text, BYTES, is_size=True, example="64MiB", bare=1)


def parse_duration_ms(text: str | int) -> int:
    """Return the milliseconds meant by `text`: a number with ms, s, m, h, d or w. A bare number in a text is refused.

    An int, which only code writes, is milliseconds already. Errors: ValueError, saying what is allowed.
    """
    if isinstance(text, int):
        return text
    return _parse(text, MILLISECONDS, is_size=False, example="300s", bare=None)


def _parse(text: str | int, units: dict[str, int], *, is_size: bool, example: str, bare: int | None) -> int:
    found = _NUMBER_AND_UNIT.fullmatch(str(text))
    if found is None:
        raise ValueError(f"expected a number and a unit, like {example}")
    number, unit = Decimal(found[1]), found[2]
    known = {name.upper(): factor for name, factor in units.items()} if is_size else units
    factor = bare if not unit else known.get(unit.upper() if is_size else unit)
    if factor is None:
        raise ValueError(f"expected a unit of {', '.join(units)}, like {example}")
    value = number * factor
    if value != int(value):
        raise ValueError(f"{text} is not a whole number of {'bytes' if is_size else 'milliseconds'}")
    return int(value)


def format_bytes(value: int) -> str:
    """Return `value` bytes with the largest binary unit that leaves a number of at least 1: "1.5MiB"."""
    for unit, size in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if abs(value) >= size:
            return f"{value / size:.1f}".removesuffix(".0") + unit
    return f"{value}B"


def format_duration_ms(value: int) -> str:
    """Return `value` milliseconds with the largest unit that leaves a number of at least 1: "1.5h"."""
    for unit in ("d", "h", "m", "s"):
        if abs(value) >= MILLISECONDS[unit]:
            return f"{value / MILLISECONDS[unit]:.1f}".removesuffix(".0") + unit
    return f"{value}ms"
