"""What every catalog must do."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import boto3
import pytest

from firehose.catalogs.file import FileCatalogConfig
from firehose.catalogs.first_of import FirstOf
from firehose.catalogs.glue import BELIEVED_MS, GlueCatalogConfig
from firehose.components import BuildContext
from firehose.errors import InvalidError, NotFoundError
from firehose.protocols import Catalog, TableSchema

MOTO = pytest.param("glue", marks=[pytest.mark.integration, pytest.mark.xdist_group("moto")])

Columns = Mapping[str, str]


class Tables(Protocol):
    """A catalog, and the way to put tables into it."""

    catalog: Catalog
    #: A database that is there.
    web: str

    def publish(self, table: str, *versions: Columns) -> None:
        """Let the table have these versions, from 1 on; those that it has already are repeated."""
        ...


class Files:
    """Tables published as files."""

    web = "web"

    def __init__(self, folder: Path, context: BuildContext) -> None:
        self._folder = folder
        self._edits = 0
        self.catalog: Catalog = FileCatalogConfig(path=folder).build(context.environment)

    def publish(self, table: str, *versions: Columns) -> None:
        path = self._folder / self.web / f"{table}.yaml"
        path.parent.mkdir(exist_ok=True)
        lines = ["versions:"]
        for number, columns in enumerate(versions, 1):
            lines += [f"  {number}:", *(f"    {name}: {hive_type}" for name, hive_type in columns.items())]
        path.write_text("\n".join(lines))
        self._edits += 1
        os.utime(path, ns=(self._edits, self._edits))


class Glue:
    """Tables published in AWS Glue."""

    def __init__(self, endpoint: str, context: BuildContext) -> None:
        self.web = f"web_{secrets.token_hex(4)}"
        self._glue: Any = boto3.Session().client("glue", endpoint_url=endpoint)
        self._glue.create_database(DatabaseInput={"Name": self.web})
        self._published: dict[str, int] = {}
        self._clock: Any = context.environment.clock
        self.catalog: Catalog = GlueCatalogConfig(endpoint_url=endpoint).build(context.environment)

    def publish(self, table: str, *versions: Columns) -> None:
        for columns in versions[self._published.get(table, 0) :]:
            described = [{"Name": name, "Type": hive_type} for name, hive_type in columns.items()]
            keys = [{"Name": "day", "Type": "string"}]
            given = {"Name": table, "StorageDescriptor": {"Columns": described}, "PartitionKeys": keys}
            change = self._glue.update_table if table in self._published else self._glue.create_table
            change(DatabaseName=self.web, TableInput=given)
            self._published[table] = self._published.get(table, 0) + 1
        self._clock._now_ms += BELIEVED_MS


@pytest.fixture(params=["files", "first of", MOTO])
def tables(request: pytest.FixtureRequest, tmp_path: Path, build_context: BuildContext) -> Tables:
    if request.param == "glue":
        return Glue(request.getfixturevalue("moto"), build_context)
    files = Files(tmp_path, build_context)
    if request.param == "first of":
        (tmp_path / "empty").mkdir()
        empty = FileCatalogConfig(path=tmp_path / "empty").build(build_context.environment)
        files.catalog = FirstOf([empty, files.catalog, empty])
    return files


async def test_columns_come_in_order_with_their_types_and_without_partition_keys(tables: Tables) -> None:
    columns = {"id": "bigint", "at": "timestamp", "items": "array<struct<sku:string,price:decimal(10,2)>>"}
    tables.publish("clicks", columns)
    found = await tables.catalog.table_schema(tables.web, "clicks")
    assert found == TableSchema(tables.web, "clicks", "1", tuple(columns.items()))


async def test_latest_is_the_last_version_and_older_ones_stay(tables: Tables) -> None:
    tables.publish("clicks", *({f"c{number}": "int"} for number in range(1, 12)))
    assert (await tables.catalog.table_schema(tables.web, "clicks", "LATEST")).version == "11"
    found = await tables.catalog.table_schema(tables.web, "clicks", "9")
    assert (found.version, found.columns) == ("9", (("c9", "int"),))


async def test_latest_follows_the_table(tables: Tables) -> None:
    tables.publish("clicks", {"a": "int"})
    before = await tables.catalog.table_schema(tables.web, "clicks")
    tables.publish("clicks", {"a": "int"}, {"b": "int"})
    after = await tables.catalog.table_schema(tables.web, "clicks")
    assert (before.version, after.version, after.columns) == ("1", "2", (("b", "int"),))


@pytest.mark.parametrize(("database", "table"), [(None, "orders"), ("shop", "clicks"), ("", ""), ("..", "web")])
async def test_a_table_that_is_not_there_is_not_found(tables: Tables, database: str | None, table: str) -> None:
    tables.publish("clicks", {"a": "int"})
    for version in ("LATEST", "1"):
        with pytest.raises(NotFoundError) as caught:
            await tables.catalog.table_schema(tables.web if database is None else database, table, version)
        assert caught.value.code == "DataFormatConversion.EntityNotFound"


@pytest.mark.parametrize("version", ["2", "0", "-1", "", "one", "1.0", "²", "9" * 5000])
async def test_a_version_that_is_not_there_is_not_found(tables: Tables, version: str) -> None:
    tables.publish("clicks", {"a": "int"})
    with pytest.raises(NotFoundError) as caught:
        await tables.catalog.table_schema(tables.web, "clicks", version)
    assert caught.value.code == "DataFormatConversion.InvalidVersionId"


async def test_a_table_without_columns_is_invalid(tables: Tables) -> None:
    tables.publish("clicks", {})
    with pytest.raises(InvalidError) as caught:
        await tables.catalog.table_schema(tables.web, "clicks")
    assert caught.value.code == "DataFormatConversion.InvalidSchema"


async def test_a_type_that_is_none_is_invalid(tables: Tables) -> None:
    tables.publish("clicks", {"a": "set<int>"})
    with pytest.raises(InvalidError, match="set<int>") as caught:
        await tables.catalog.table_schema(tables.web, "clicks")
    assert caught.value.code == "DataFormatConversion.InvalidTypeFormat"
