"""Several catalogs as one: each is asked in turn until one has the table."""

from __future__ import annotations

from collections.abc import Sequence

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
        said: list[str] = []
        for catalog in self._catalogs:
            try:
                return await catalog.table_schema(database, table, version)
            except NotFoundError as error:
                if error.code != NO_TABLE:  # the table is there, the version is not
                    raise
                said.append(str(error))
            except FirehoseError as error:
                raise type(error)("; ".join((*said, str(error))), code=error.code) from error
        raise NotFoundError("; ".join(said), code=NO_TABLE)
