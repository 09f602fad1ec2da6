"""Columns that are added to a table: which of them it does not have yet."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from firehose.catalogs import OTHER_COLUMN
from firehose.errors import ConflictError, UnavailableError
from firehose.hive_types import parse_columns

#: How often a change is tried that somebody else was faster with; each is a change by somebody else, so few suffice.
MAX_TRIES = 10

Columns = tuple[tuple[str, str], ...]


def missing(columns: Iterable[tuple[str, str]], wanted: Sequence[tuple[str, str]], *, what: str) -> Columns:
    """Return those of `wanted` that are not among `columns`, their types as we write them. Case of names is ignored.

    Errors: ConflictError where one is there with another type; InvalidError where a name or a type is none.
    """
    if not wanted:
        return ()
    there = {name.lower(): each for name, each in parse_columns(columns, table=what).fields}
    new: list[tuple[str, str]] = []
    for name, hive_type in parse_columns(wanted, table=f"columns to add to {what}").fields:
        found = there.get(name.lower())
        if found is None:
            new.append((name, str(hive_type)))
        elif str(found).lower() != str(hive_type).lower():
            raise ConflictError(f"{what}: column {name!r} is {found}, so it cannot be {hive_type}", code=OTHER_COLUMN)
    return tuple(new)


def too_busy(what: str) -> UnavailableError:
    """Return the error that says that others changed the table at each of our tries."""
    message = f"{what}: others changed it {MAX_TRIES} times while columns were to be added to it"
    return UnavailableError(message, code="DataFormatConversion.ConcurrentModificationException")
