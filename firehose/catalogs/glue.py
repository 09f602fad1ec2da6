"""Tables of AWS Glue: GetTable for the latest version, GetTableVersion for an older one.

Partition keys are no columns of the objects, so they are left out. What Glue said is believed for a minute: a table is
looked up for each object, and Glue counts calls for a whole account.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, NamedTuple

from firehose.aws import aws_errors
from firehose.catalogs import LATEST, NO_TABLE, NO_VERSION
from firehose.clock import Clock
from firehose.components import ComponentConfig, Environment, GlueConfig
from firehose.errors import NotFoundError
from firehose.hive_types import parse_columns
from firehose.protocols import Catalog, TableSchema

#: How long an answer of Glue is believed: so much later at most is a new version of a table seen.
BELIEVED_MS = 60_000

#: How many tables are remembered; the one asked for first goes first.
MAX_KNOWN = 1_000


class GlueCatalogConfig(GlueConfig, ComponentConfig):
    """Tables of AWS Glue, or of a service with its API."""

    type: Literal["glue"] = "glue"

    def build(self, environment: Environment) -> Catalog:
        """Return the catalog; Glue is asked when a table is needed."""
        return GlueCatalog(self, environment)


class _Known(NamedTuple):
    seen_ms: int
    schema: TableSchema


class GlueCatalog:
    """Asks Glue for tables."""

    def __init__(self, config: GlueConfig, environment: Environment) -> None:
        self._clock: Clock = environment.clock
        self._where = {"CatalogId": config.catalog_id} if config.catalog_id else {}
        self._known: dict[tuple[str, str, str], _Known] = {}
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
        name, now_ms = (database, table, version), self._clock.monotonic_ms()
        known = self._known.get(name)
        if known is not None and now_ms < known.seen_ms + BELIEVED_MS:
            return known.schema
        found, number = await self._table(database, table, version)
        schema = TableSchema(database, table, number, _columns(found, f"table {database}.{table} in AWS Glue"))
        while len(self._known) >= MAX_KNOWN:
            del self._known[next(iter(self._known))]
        self._known[name] = _Known(now_ms, schema)
        return schema

    async def _table(self, database: str, table: str, version: str) -> tuple[Mapping[str, Any], str]:
        """Return the table and its version, as Glue answers."""
        what = f"table {database}.{table} in AWS Glue"
        if not (database and table):
            raise NotFoundError(f"no {what}: a name is missing", code=NO_TABLE)
        client = await self._client()
        if version == LATEST:
            with aws_errors("glue", what):
                found = (await client.get_table(DatabaseName=database, Name=table, **self._where))["Table"]
            return found, str(found.get("VersionId", "0"))
        try:
            if not re.fullmatch("[0-9]{1,18}", version):
                raise NotFoundError(f"{what}: versions are numbers, or {LATEST}")
            asked = {"DatabaseName": database, "TableName": table, "VersionId": version}
            with aws_errors("glue", what):
                answer = await client.get_table_version(**asked, **self._where)
        except NotFoundError as error:
            latest = await self.table_schema(database, table)  # raises where it is the table that is not there
            message = f"{what} has no version {version!r}; the latest is {latest.version}"
            raise NotFoundError(message, code=NO_VERSION) from error
        return answer["TableVersion"]["Table"], version


def _columns(table: Mapping[str, Any], what: str) -> tuple[tuple[str, str], ...]:
    """Return names and types. Errors: InvalidError where there are none, or of no such type."""
    described = table.get("StorageDescriptor", {}).get("Columns", ())
    columns = tuple((each["Name"], each.get("Type", "")) for each in described)
    parse_columns(columns, table=what)
    return columns
