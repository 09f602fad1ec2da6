"""Several catalogs as one: who is asked, and what is told of those before."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from firehose.catalogs import NO_TABLE, NO_VERSION
from firehose.catalogs.first_of import FirstOf
from firehose.errors import ConflictError, FirehoseError, NotFoundError, ThrottledError
from firehose.protocols import TableSchema

FOUND = TableSchema("web", "clicks", "1", (("a", "int"),))


class Says:
    """A catalog that answers one thing, whatever it is asked."""

    def __init__(self, answer: TableSchema | FirehoseError) -> None:
        self.answer = answer
        self.added: list[Sequence[tuple[str, str]]] = []

    async def table_schema(self, database: str, table: str, version: str = "LATEST") -> TableSchema:
        if isinstance(self.answer, FirehoseError):
            raise self.answer
        return self.answer

    async def add_columns(self, database: str, table: str, columns: Sequence[tuple[str, str]]) -> TableSchema:
        found = await self.table_schema(database, table)
        self.added.append(columns)
        return found


def absent(name: str) -> Says:
    return Says(NotFoundError(f"not in {name}", code=NO_TABLE))


async def test_the_first_that_has_the_table_is_asked_and_changed() -> None:
    first, second, third = absent("a"), Says(FOUND), Says(FOUND)
    catalog = FirstOf([first, second, third])
    assert await catalog.table_schema("web", "clicks") is FOUND
    assert await catalog.add_columns("web", "clicks", [("b", "int")]) is FOUND
    assert (first.added, second.added, third.added) == ([], [[("b", "int")]], [])


async def test_one_that_has_another_version_ends_the_search() -> None:
    with pytest.raises(NotFoundError, match="no version"):
        await FirstOf([Says(NotFoundError("no version", code=NO_VERSION)), Says(FOUND)]).table_schema("a", "b", "7")


async def test_where_nobody_has_the_table_everybody_is_heard() -> None:
    with pytest.raises(NotFoundError, match=r"^not in a; not in b$") as caught:
        await FirstOf([absent("a"), absent("b")]).table_schema("web", "clicks")
    assert caught.value.code == NO_TABLE


async def test_one_that_cannot_tell_ends_the_search_and_its_error_stays_what_it_is() -> None:
    theirs = ThrottledError("slow down", code="DataFormatConversion.ThrottledByGlue", retry_after_ms=5_000)
    with pytest.raises(ThrottledError, match=r"^not in a; slow down$") as caught:
        await FirstOf([absent("a"), Says(theirs), Says(FOUND)]).table_schema("web", "clicks")
    assert (caught.value.code, caught.value.retry_after_ms) == (theirs.code, 5_000)
    assert str(theirs) == "slow down", "the catalog's own error is left alone: others may get it, too"


async def test_a_column_that_cannot_be_added_ends_the_search() -> None:
    with pytest.raises(ConflictError, match="is int"):
        await FirstOf([Says(ConflictError("is int")), Says(FOUND)]).add_columns("web", "clicks", [("a", "string")])
