"""Tables of AWS Glue: GetTable for the latest version, GetTableVersion for an older one.

Partition keys are no columns of the objects, so they are left out. What Glue said is believed for a minute.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

from firehose.aws import aws_errors
from firehose.catalogs import LATEST, NO_TABLE, NO_VERSION, OTHER_COLUMN
from firehose.catalogs.adding import MAX_TRIES, Columns, missing, too_busy
from firehose.catalogs.cache import Believed
from firehose.components import ComponentConfig, Environment, GlueConfig
from firehose.errors import ConflictError, InvalidError, NotFoundError
from firehose.hive_types import parse_columns
from firehose.protocols import Catalog, TableSchema


class GlueCatalogConfig(GlueConfig, ComponentConfig):
    """Tables of AWS Glue, or of a service with its API."""

    type: Literal["glue"] = "glue"

    def build(self, environment: Environment) -> Catalog:
        """Return the catalog; Glue is asked when a table is needed."""
        return GlueCatalog(self, environment)


class GlueCatalog:
    """Asks Glue for tables."""

    def __init__(self, config: GlueConfig, environment: Environment) -> None:
        self._where = {"CatalogId": config.catalog_id} if config.catalog_id else {}
        self._tables = Believed(environment.clock)
        self._client: Callable[[], Any] = partial(
            environment.aws.client,
            "glue",
            region=config.region,
            role_arn=config.role_arn,
            external_id=config.external_id,
            endpoint_url=config.endpoint_url,
        )

    async def table_schema(self, database: str, table: str, version: str = LATEST) -> TableSchema:
        """Return the table as Glue described it in the last minute.

        Errors: NotFoundError for a table or version that is not there; InvalidError for one without columns, or of
        types that are none; those of AWS, translated.
        """
        return await self._tables.get((database, table, version), partial(self._ask, database, table, version))

    async def add_columns(self, database: str, table: str, columns: Sequence[tuple[str, str]]) -> TableSchema:
        """Add those of `columns` (name, Hive type) that the table does not have, at its end, and return the table.

        Names are written in small letters, as Hive and Athena ask for them. What others add at the same time stays:
        each change is made to the version that was read, or not at all.

        Errors: ConflictError where a column is there with another type, or is a partition key; UnavailableError where
        others change the table all the time; as `table_schema`'s.
        """
        what = _what(database, table)
        lowered = [(name.lower(), hive_type) for name, hive_type in columns]
        for _ in range(MAX_TRIES):
            found = await self._latest(database, table)
            schema = _schema(database, table, found)
            new = missing(schema.columns, lowered, what=what)
            if not new:
                self._tables.put((database, table, LATEST), schema)
                return schema
            _refuse(found, new, what)
            try:
                await self._update(database, found, new, what)
            except ConflictError:
                pass  # somebody changed the table since it was read: look at it again
        raise too_busy(what)

    async def _ask(self, database: str, table: str, version: str) -> TableSchema:
        if version == LATEST:
            return _schema(database, table, await self._latest(database, table))
        what = _what(database, table)
        try:
            if not re.fullmatch("[0-9]{1,18}", version):
                raise NotFoundError(f"{what}: versions are numbers, or {LATEST}")
            asked = {"DatabaseName": _named(database, what), "TableName": _named(table, what), "VersionId": version}
            client = await self._client()
            with aws_errors("glue", what):
                answer = await client.get_table_version(**asked, **self._where)
        except NotFoundError as error:
            latest = await self.table_schema(database, table)  # raises where it is the table that is not there
            message = f"{what} has no version {version!r}; the latest is {latest.version}"
            raise NotFoundError(message, code=NO_VERSION) from error
        return TableSchema(database, table, version, _columns(answer["TableVersion"]["Table"], what))

    async def _latest(self, database: str, table: str) -> Mapping[str, Any]:
        what = _what(database, table)
        asked = {"DatabaseName": _named(database, what), "Name": _named(table, what)}
        client = await self._client()
        with aws_errors("glue", what):
            found: Mapping[str, Any] = (await client.get_table(**asked, **self._where))["Table"]
        return found

    async def _update(self, database: str, found: Mapping[str, Any], new: Columns, what: str) -> None:
        """Write the table back with more columns. Errors: ConflictError where it is not what was read any more."""
        client = await self._client()
        # what may be written is less than what is read, and Glue refuses the rest
        writable = client.meta.service_model.shape_for("TableInput").members
        table = {name: value for name, value in found.items() if name in writable}
        described = [{"Name": name, "Type": hive_type} for name, hive_type in new]
        storage = dict(found["StorageDescriptor"])
        table["StorageDescriptor"] = storage | {"Columns": [*storage["Columns"], *described]}
        asked = {"DatabaseName": database, "TableInput": table, "SkipArchive": False}
        if "VersionId" in found:
            asked["VersionId"] = found["VersionId"]
        with aws_errors("glue", what):
            await client.update_table(**asked, **self._where)


def _what(database: str, table: str) -> str:
    return f"table {database}.{table} in AWS Glue"


def _named(name: str, what: str) -> str:
    if not name:
        raise NotFoundError(f"no {what}: a name is missing", code=NO_TABLE)
    return name


def _schema(database: str, table: str, found: Mapping[str, Any]) -> TableSchema:
    return TableSchema(database, table, str(found.get("VersionId", "0")), _columns(found, _what(database, table)))


def _refuse(found: Mapping[str, Any], new: Columns, what: str) -> None:
    """Raise where a table cannot have these columns."""
    if found.get("Parameters", {}).get("table_type", "").upper() == "ICEBERG":
        # its columns stand in its own metadata; Glue's are a copy, and the next commit writes it anew
        message = f"{what} is an Iceberg table; columns are added through a catalog of type iceberg"
        raise InvalidError(message, code="DataFormatConversion.InvalidInput")
    keys = {each["Name"].lower() for each in found.get("PartitionKeys", ())}
    for name, _ in new:
        if name in keys:
            raise ConflictError(f"{what}: {name!r} is a partition key, so it cannot be a column", code=OTHER_COLUMN)


def _columns(table: Mapping[str, Any], what: str) -> Columns:
    """Return names and types. Errors: InvalidError where there are none, or of no such type."""
    described = table.get("StorageDescriptor", {}).get("Columns", ())
    columns = tuple((each["Name"], each.get("Type", "")) for each in described)
    parse_columns(columns, table=what)
    return columns
