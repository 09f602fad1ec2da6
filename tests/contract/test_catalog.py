"""What every catalog must do."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from firehose.catalogs.file import FileCatalogConfig
from firehose.errors import InvalidError, NotFoundError
from firehose.protocols import Catalog, TableSchema

ENVIRONMENT: Any = None  # catalogs of files use nothing of it

#: Versions of a table, each with its columns.
Versions = Mapping[int, Mapping[str, str]]
Publish = Callable[[str, str, Versions], None]


class Files:
    """Tables published as files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._edits = 0
        self.catalog: Catalog = FileCatalogConfig(path=folder).build(ENVIRONMENT)

    def publish(self, database: str, table: str, versions: Versions) -> None:
        path = self._folder / database / f"{table}.yaml"
        path.parent.mkdir(exist_ok=True)
        lines = ["versions:"]
        for number, columns in versions.items():
            lines += [f"  {number}:", *(f"    {name}: {hive_type}" for name, hive_type in columns.items())]
        path.write_text("\n".join(lines))
        self._edits += 1
        os.utime(path, ns=(self._edits, self._edits))


@pytest.fixture(params=[Files])
def tables(request: pytest.FixtureRequest, tmp_path: Path) -> Files:
    made: Files = request.param(tmp_path)
    return made


async def test_columns_come_in_order_with_their_types(tables: Files) -> None:
    columns = {"id": "bigint", "at": "timestamp", "items": "array<struct<sku:string,price:decimal(10,2)>>"}
    tables.publish("web", "clicks", {1: columns})
    found = await tables.catalog.table_schema("web", "clicks")
    assert found == TableSchema("web", "clicks", "1", tuple(columns.items()))


async def test_latest_is_the_highest_version_and_older_ones_stay(tables: Files) -> None:
    tables.publish("web", "clicks", {10: {"b": "int"}, 9: {"a": "int"}})
    assert (await tables.catalog.table_schema("web", "clicks", "LATEST")).version == "10"
    assert (await tables.catalog.table_schema("web", "clicks", "9")).columns == (("a", "int"),)


async def test_latest_follows_the_table(tables: Files) -> None:
    tables.publish("web", "clicks", {1: {"a": "int"}})
    before = await tables.catalog.table_schema("web", "clicks")
    tables.publish("web", "clicks", {1: {"a": "int"}, 2: {"b": "int"}})
    after = await tables.catalog.table_schema("web", "clicks")
    assert (before.version, after.version, after.columns) == ("1", "2", (("b", "int"),))


@pytest.mark.parametrize(("database", "table"), [("web", "orders"), ("shop", "clicks"), ("", ""), ("..", "web")])
async def test_a_table_that_is_not_there_is_not_found(tables: Files, database: str, table: str) -> None:
    tables.publish("web", "clicks", {1: {"a": "int"}})
    with pytest.raises(NotFoundError) as caught:
        await tables.catalog.table_schema(database, table)
    assert caught.value.code == "DataFormatConversion.EntityNotFound"


@pytest.mark.parametrize("version", ["2", "0", "-1", "", "one", "1.0", "²", "9" * 5000])
async def test_a_version_that_is_not_there_is_not_found(tables: Files, version: str) -> None:
    tables.publish("web", "clicks", {1: {"a": "int"}})
    with pytest.raises(NotFoundError) as caught:
        await tables.catalog.table_schema("web", "clicks", version)
    assert caught.value.code == "DataFormatConversion.InvalidVersionId"


async def test_a_table_without_columns_is_invalid(tables: Files) -> None:
    tables.publish("web", "clicks", {1: {}})
    with pytest.raises(InvalidError) as caught:
        await tables.catalog.table_schema("web", "clicks")
    assert caught.value.code == "DataFormatConversion.InvalidSchema"
