"""What every catalog must do."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import boto3
import pytest
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.schema import Schema
from pyiceberg.types import (
    DecimalType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    NestedField,
    StringType,
    StructType,
    TimestampType,
    TimeType,
)

from firehose.catalogs.cache import BELIEVED_MS
from firehose.catalogs.file import FileCatalogConfig
from firehose.catalogs.first_of import FirstOf
from firehose.catalogs.glue import GlueCatalogConfig
from firehose.catalogs.iceberg import IcebergCatalogConfig
from firehose.components import BuildContext
from firehose.errors import ConflictError, InvalidError, NotFoundError
from firehose.protocols import TableSchema
from tests.services.fault_proxy import FaultProxy
from tests.services.glue import Strict

MOTO = pytest.param("glue", marks=[pytest.mark.integration, pytest.mark.xdist_group("moto")])
ICEBERG = pytest.param("iceberg", marks=[pytest.mark.integration, pytest.mark.xdist_group("iceberg")])

Columns = Mapping[str, str]

ITEMS = "array<struct<sku:string,price:decimal(10,2)>>"


class Catalog(Protocol):
    """A catalog with columns that can be added."""

    async def table_schema(self, database: str, table: str, version: str = "LATEST") -> TableSchema: ...

    async def add_columns(self, database: str, table: str, columns: Sequence[tuple[str, str]]) -> TableSchema: ...


class Tables:
    """A catalog, and the way to put tables into it."""

    #: A database that is there.
    web = "web"
    #: The number of a table's first version.
    first = 1
    #: A type that a column can have there, and not here.
    no_type = "set<int>"

    def __init__(self, context: BuildContext) -> None:
        self.environment = context.environment
        self.catalog = self.another()

    def another(self) -> Catalog:
        """Return the catalog as another process has it."""
        raise NotImplementedError

    def publish(self, table: str, *versions: Columns) -> None:
        """Let the table have these versions; those that it has already are repeated."""
        raise NotImplementedError

    def wait(self) -> None:
        """Let so much time pass that answers are not believed any more."""
        clock: Any = self.environment.clock
        clock._now_ms += BELIEVED_MS

    def version(self, number: int) -> str:
        """Return what a version is called; they are counted from 1."""
        return str(self.first + number - 1)


class Files(Tables):
    """Tables published as files."""

    def __init__(self, folder: Path, context: BuildContext) -> None:
        self._folder = folder
        self._edits = 0
        super().__init__(context)

    def another(self) -> Catalog:
        found: Any = FileCatalogConfig(path=self._folder).build(self.environment)
        return found

    def publish(self, table: str, *versions: Columns) -> None:
        path = self._folder / self.web / f"{table}.yaml"
        path.parent.mkdir(exist_ok=True)
        lines = ["versions:"]
        for number, columns in enumerate(versions, 1):
            lines += [f"  {number}:", *(f"    {name}: {hive_type}" for name, hive_type in columns.items())]
        path.write_text("\n".join(lines))
        self._edits += 1
        os.utime(path, ns=(self._edits, self._edits))


class FilesBetween(Files):
    """Tables published as files in the second of three folders."""

    def __init__(self, folder: Path, context: BuildContext) -> None:
        self._empty = folder / "empty"
        self._empty.mkdir()
        super().__init__(folder, context)

    def another(self) -> Catalog:
        empty: Any = FileCatalogConfig(path=self._empty).build(self.environment)
        full: Any = super().another()
        return FirstOf([empty, full, empty])


class Glue(Tables):
    """Tables published in AWS Glue."""

    def __init__(self, endpoint: str, proxy: FaultProxy, context: BuildContext) -> None:
        self.web = f"web_{secrets.token_hex(4)}"
        proxy.fault = Strict(endpoint=endpoint)
        self._endpoint = proxy.endpoint
        self._glue: Any = boto3.Session().client("glue", endpoint_url=endpoint)
        self._glue.create_database(DatabaseInput={"Name": self.web})
        self._published: dict[str, int] = {}
        super().__init__(context)

    def another(self) -> Catalog:
        found: Any = GlueCatalogConfig(endpoint_url=self._endpoint).build(self.environment)
        return found

    def publish(self, table: str, *versions: Columns) -> None:
        for columns in versions[self._published.get(table, 0) :]:
            described = [{"Name": name, "Type": hive_type} for name, hive_type in columns.items()]
            keys = [{"Name": "day", "Type": "string"}]
            given = {"Name": table, "StorageDescriptor": {"Columns": described}, "PartitionKeys": keys}
            change = self._glue.update_table if table in self._published else self._glue.create_table
            change(DatabaseName=self.web, TableInput=given)
            self._published[table] = self._published.get(table, 0) + 1


class Iceberg(Tables):
    """Tables published in an Iceberg catalog."""

    first = 0
    no_type = "time"
    _types: Mapping[str, IcebergType] = {
        "int": IntegerType(),
        "bigint": LongType(),
        "string": StringType(),
        "time": TimeType(),
        "timestamp": TimestampType(),
        ITEMS: ListType(
            90,
            StructType(NestedField(91, "sku", StringType()), NestedField(92, "price", DecimalType(10, 2))),
            element_required=True,
        ),
    }

    def __init__(self, uri: str, context: BuildContext) -> None:
        self.web = f"web_{secrets.token_hex(4)}"
        self._uri = uri
        self._rest = RestCatalog("tests", uri=uri, auth={"type": "noop"})
        self._rest.create_namespace(self.web)
        super().__init__(context)

    def another(self) -> Catalog:
        found: Any = IcebergCatalogConfig(uri=self._uri).build(self.environment)
        return found

    def publish(self, table: str, *versions: Columns) -> None:
        if not self._rest.table_exists((self.web, table)):
            fields = [
                NestedField(at, name, self._types[each]) for at, (name, each) in enumerate(versions[0].items(), 1)
            ]
            self._rest.create_table((self.web, table), Schema(*fields))
        found = self._rest.load_table((self.web, table))
        for columns in versions[len(found.schemas()) :]:
            with found.update_schema(allow_incompatible_changes=True) as update:
                for each in found.schema().fields:
                    update.delete_column(each.name)
                for name, hive_type in columns.items():
                    update.add_column(name, self._types[hive_type])


@pytest.fixture(params=["files", "first of", MOTO, ICEBERG])
def tables(request: pytest.FixtureRequest, tmp_path: Path, build_context: BuildContext) -> Iterator[Tables]:
    match request.param:
        case "files":
            yield Files(tmp_path, build_context)
        case "first of":
            yield FilesBetween(tmp_path, build_context)
        case "iceberg":
            yield Iceberg(request.getfixturevalue("iceberg"), build_context)
        case "glue":
            moto = request.getfixturevalue("moto")
            with FaultProxy(moto).running() as proxy:
                yield Glue(moto, proxy, build_context)


# --- looking up ------------------------------------------------------------------------------------------------------


async def test_columns_come_in_order_with_their_types_and_without_partition_keys(tables: Tables) -> None:
    columns = {"id": "bigint", "at": "timestamp", "items": ITEMS}
    tables.publish("clicks", columns)
    found = await tables.catalog.table_schema(tables.web, "clicks")
    assert found == TableSchema(tables.web, "clicks", tables.version(1), tuple(columns.items()))


async def test_latest_is_the_last_version_and_older_ones_stay(tables: Tables) -> None:
    tables.publish("clicks", *({f"c{number}": "int"} for number in range(1, 12)))
    assert (await tables.catalog.table_schema(tables.web, "clicks", "LATEST")).version == tables.version(11)
    found = await tables.catalog.table_schema(tables.web, "clicks", tables.version(9))
    assert (found.version, found.columns) == (tables.version(9), (("c9", "int"),))


async def test_latest_follows_the_table(tables: Tables) -> None:
    tables.publish("clicks", {"a": "int"})
    before = await tables.catalog.table_schema(tables.web, "clicks")
    tables.publish("clicks", {"a": "int"}, {"b": "int"})
    tables.wait()
    after = await tables.catalog.table_schema(tables.web, "clicks")
    assert (before.version, after.version) == (tables.version(1), tables.version(2))
    assert after.columns == (("b", "int"),)


@pytest.mark.parametrize(("database", "table"), [(None, "orders"), ("shop", "clicks"), ("", ""), ("..", "web")])
async def test_a_table_that_is_not_there_is_not_found(tables: Tables, database: str | None, table: str) -> None:
    tables.publish("clicks", {"a": "int"})
    where = tables.web if database is None else database
    for version in ("LATEST", "1"):
        with pytest.raises(NotFoundError) as caught:
            await tables.catalog.table_schema(where, table, version)
        assert caught.value.code == "DataFormatConversion.EntityNotFound"
    with pytest.raises(NotFoundError) as caught:
        await tables.catalog.add_columns(where, table, [("a", "int")])
    assert caught.value.code == "DataFormatConversion.EntityNotFound"


@pytest.mark.parametrize("version", [2, 0, "-1", "", "one", "1.0", "²", "9" * 5000])
async def test_a_version_that_is_not_there_is_not_found(tables: Tables, version: int | str) -> None:
    tables.publish("clicks", {"a": "int"})
    asked = tables.version(version) if isinstance(version, int) else version
    with pytest.raises(NotFoundError) as caught:
        await tables.catalog.table_schema(tables.web, "clicks", asked)
    assert caught.value.code == "DataFormatConversion.InvalidVersionId"


async def test_a_table_without_columns_is_invalid(tables: Tables) -> None:
    tables.publish("clicks", {})
    with pytest.raises(InvalidError) as caught:
        await tables.catalog.table_schema(tables.web, "clicks")
    assert caught.value.code == "DataFormatConversion.InvalidSchema"


async def test_a_type_that_is_none_is_invalid(tables: Tables) -> None:
    tables.publish("clicks", {"a": tables.no_type})
    with pytest.raises(InvalidError, match=f"column 'a'.*{tables.no_type}") as caught:
        await tables.catalog.table_schema(tables.web, "clicks")
    assert caught.value.code == "DataFormatConversion.InvalidTypeFormat"


# --- adding columns --------------------------------------------------------------------------------------------------


async def test_columns_are_added_at_the_end_as_a_new_version_that_is_seen_at_once(tables: Tables) -> None:
    tables.publish("clicks", {"a": "int"})
    before = await tables.catalog.table_schema(tables.web, "clicks")
    added = await tables.catalog.add_columns(tables.web, "clicks", [("z", "decimal( 10, 2 )"), ("b", ITEMS)])
    columns = (("a", "int"), ("z", "decimal(10,2)"), ("b", ITEMS))
    assert added == TableSchema(tables.web, "clicks", tables.version(2), columns)
    assert await tables.catalog.table_schema(tables.web, "clicks") == added
    assert await tables.another().table_schema(tables.web, "clicks") == added
    assert await tables.catalog.table_schema(tables.web, "clicks", before.version) == before


async def test_what_is_there_is_not_added_again(tables: Tables) -> None:
    tables.publish("clicks", {"a": "int", "items": ITEMS})
    before = await tables.catalog.table_schema(tables.web, "clicks")
    again = [("A", "INT"), ("Items", "array<struct<SKU:string, price:decimal(10,2)>>")]
    assert await tables.catalog.add_columns(tables.web, "clicks", again) == before
    assert await tables.catalog.add_columns(tables.web, "clicks", []) == before
    tables.wait()
    assert await tables.catalog.table_schema(tables.web, "clicks") == before


async def test_a_column_that_is_there_with_another_type_is_a_conflict_and_nothing_is_added(tables: Tables) -> None:
    tables.publish("clicks", {"a": "int", "b": "string"})
    before = await tables.catalog.table_schema(tables.web, "clicks")
    with pytest.raises(ConflictError, match=r"column '[Bb]' is string, so it cannot be bigint") as caught:
        await tables.catalog.add_columns(tables.web, "clicks", [("new", "int"), ("B", "bigint")])
    assert caught.value.code == "DataFormatConversion.ColumnConflict"
    tables.wait()
    assert await tables.catalog.table_schema(tables.web, "clicks") == before


@pytest.mark.parametrize(
    "columns", [[("b", "text")], [("b", "set<int>")], [("", "int")], [("b", "int"), ("B", "int")], [("b", "")]]
)
async def test_a_column_that_is_none_is_not_added(tables: Tables, columns: list[tuple[str, str]]) -> None:
    tables.publish("clicks", {"a": "int"})
    with pytest.raises(InvalidError, match=r"columns to add to .*clicks"):
        await tables.catalog.add_columns(tables.web, "clicks", columns)
    assert (await tables.another().table_schema(tables.web, "clicks")).columns == (("a", "int"),)


async def test_who_adds_at_the_same_time_loses_nothing(tables: Tables) -> None:
    tables.publish("clicks", {"a": "int"})
    many = [tables.another() for _ in range(5)]
    added = await asyncio.gather(
        *(
            each.add_columns(tables.web, "clicks", [("common", "string"), (f"c{at}", "int")])
            for at, each in enumerate(many)
        )
    )
    for at, schema in enumerate(added):
        assert {("common", "string"), (f"c{at}", "int")} < set(schema.columns)
    tables.wait()
    found = await tables.catalog.table_schema(tables.web, "clicks")
    assert found.columns[0] == ("a", "int") and found.version == tables.version(6)
    assert sorted(name for name, _ in found.columns) == ["a", "c0", "c1", "c2", "c3", "c4", "common"]
