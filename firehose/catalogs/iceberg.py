"""Tables of an Iceberg catalog with the REST protocol: Polaris, Lakekeeper, Nessie, Gravitino, Unity and others.

A version is the id of a schema; LATEST is the one that the table has now. Iceberg's partitions are made of columns, so
all columns of a table are columns of its files. What the catalog said is believed for a minute.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal

from pydantic import Field, SecretStr

from firehose.catalogs import LATEST
from firehose.catalogs.cache import Believed
from firehose.components import ComponentConfig, Environment
from firehose.protocols import Catalog, TableSchema

if TYPE_CHECKING:
    from firehose.catalogs.iceberg_client import IcebergClient


class IcebergCatalogConfig(ComponentConfig):
    """Tables of an Iceberg catalog with the REST protocol. Databases are its namespaces of one level."""

    type: Literal["iceberg"] = "iceberg"
    uri: str = Field(pattern=r"^https?://[^\s@?#/]+(/[^\s?#]*)?$")
    """The address of the catalog; what stands before `/v1/config`."""
    warehouse: str | None = None
    """The warehouse, where the catalog has several."""
    credential: SecretStr | None = None
    """`CLIENT_ID:CLIENT_SECRET`, with which a token is fetched (OAuth2), and again when it has ended."""
    token: SecretStr | None = None
    """A token, where none is fetched."""
    oauth2_server_uri: str | None = Field(None, pattern=r"^https?://[^\s@]+$")
    """Where tokens are fetched. Default: from the catalog itself, at `/v1/oauth/tokens`."""
    scope: str | None = None
    """The scope that is asked for with a token. Default: `catalog`."""
    properties: dict[str, str] = Field(default_factory=dict)
    """More properties of pyiceberg's REST catalog, like `header.X-Tenant` or `prefix`; they win over those above."""

    def build(self, environment: Environment) -> Catalog:
        """Return the catalog; it is asked when a table is needed."""
        from firehose.catalogs.iceberg_client import IcebergClient

        return IcebergCatalog(IcebergClient(self.uri, self._client_properties()), environment)

    def _client_properties(self) -> Mapping[str, str]:
        found = {
            "warehouse": self.warehouse,
            "credential": self.credential and self.credential.get_secret_value(),
            "token": self.token and self.token.get_secret_value(),
            "oauth2-server-uri": self.oauth2_server_uri or f"{self.uri.rstrip('/')}/v1/oauth/tokens",
            "scope": self.scope,
        }
        return {name: value for name, value in found.items() if value} | self.properties


class IcebergCatalog:
    """Asks an Iceberg catalog for tables.

    Its client blocks, so it runs in the executor, one call at a time: a catalog that hangs takes one thread, not all.
    """

    def __init__(self, client: IcebergClient, environment: Environment) -> None:
        self._client = client
        self._tables = Believed(environment.clock)
        self._executor = environment.executor
        self._turn = asyncio.Lock()

    async def table_schema(self, database: str, table: str, version: str = LATEST) -> TableSchema:
        """Return the table as the catalog described it in the last minute.

        Errors: NotFoundError for a table or version that is not there; InvalidError for one without columns, with a
        column that has no Hive type, or where the answer is none of an Iceberg catalog; AccessDeniedError;
        ThrottledError; UnavailableError.
        """
        ask = partial(self._client.table_schema, database, table, version)
        return await self._tables.get((database, table, version), partial(self._run, ask))

    async def add_columns(self, database: str, table: str, columns: Sequence[tuple[str, str]]) -> TableSchema:
        """Add those of `columns` (name, Hive type) that the table does not have, at its end, and return the table.

        Iceberg has fewer types than Hive: `tinyint` and `smallint` become int there, `char` and `varchar` string.

        Errors: ConflictError where a column is there with another type; UnavailableError where others change the table
        all the time; as `table_schema`'s.
        """
        schema = await self._run(partial(self._client.add_columns, database, table, columns))
        self._tables.put((database, table, LATEST), schema)
        return schema

    async def _run(self, call: Callable[[], TableSchema]) -> TableSchema:
        async with self._turn:
            return await self._executor.run(call)
