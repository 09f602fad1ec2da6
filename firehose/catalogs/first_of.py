"""Several catalogs as one: each is asked in turn until one has the table."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from copy import copy

from firehose.catalogs import LATEST, NO_TABLE
from firehose.errors import FirehoseError, NotFoundError
from firehose.protocols import Catalog, TableSchema


class FirstOf:
    """Asks catalogs in turn."""

    def __init__(self, catalogs: Sequence[Catalog]) -> None:
        self._catalogs = catalogs

    async def table_schema(self, database: str, table: str, version: str = LATEST) -> TableSchema:
        """Return the table from the first catalog that has it.

        Errors: that of the first catalog that has the table, or that cannot tell; it says what those before said.
        """
        return await self._first(lambda catalog: catalog.table_schema(database, table, version))

    async def add_columns(self, database: str, table: str, columns: Sequence[tuple[str, str]]) -> TableSchema:
        """Add columns to the table in the first catalog that has it, and return it. Errors: as `table_schema`'s."""
        return await self._first(lambda catalog: catalog.add_columns(database, table, columns))

    async def _first(self, ask: Callable[[Catalog], Awaitable[TableSchema]]) -> TableSchema:
        said: list[str] = []
        for catalog in self._catalogs:
            try:
                return await ask(catalog)
            except NotFoundError as error:
                if error.code != NO_TABLE:  # the table is there, the version is not
                    raise
                said.append(str(error))
            except FirehoseError as error:
                told = copy(error)
                told.args = ("; ".join((*said, str(error))),)
                raise told from error
        raise NotFoundError("; ".join(said), code=NO_TABLE)
