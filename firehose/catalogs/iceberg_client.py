"""The client of an Iceberg REST catalog: blocking calls, and what pyiceberg's errors mean to us."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import count
from typing import Any

import pydantic
import requests
from pyiceberg import exceptions as theirs
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.schema import Schema
from pyiceberg.table import Table

from firehose.catalogs import LATEST, NO_TABLE, NO_VERSION
from firehose.catalogs.adding import MAX_TRIES, Columns, missing, too_busy
from firehose.catalogs.iceberg_types import from_hive, to_hive
from firehose.errors import AccessDeniedError, InvalidError, NotFoundError, ThrottledError, UnavailableError
from firehose.hive_types import parse_columns, parse_type
from firehose.protocols import TableSchema

#: How long a connection may take.
CONNECT_TIMEOUT_MS = 10_000
#: How long nothing may come of an answer. A catalog reads the table's metadata meanwhile, which can be megabytes.
READ_TIMEOUT_MS = 30_000

#: How much of what a catalog said stands in an error: some answer with a page of HTML.
_SAID_CHARACTERS = 500

_VENDED = "X-Iceberg-Access-Delegation"


class _TimedCatalog(RestCatalog):
    """pyiceberg's client, which waits for ever by itself, and asks for the right to read the table's files."""

    def _config_headers(self, session: Any) -> None:  # the one place that meets each session before it is used
        super()._config_headers(session)
        if f"header.{_VENDED}" not in self.properties:
            session.headers.pop(_VENDED, None)  # we want the description only
        timeouts_s = (CONNECT_TIMEOUT_MS / 1_000, READ_TIMEOUT_MS / 1_000)
        session.request = partial(session.request, timeout=timeouts_s)

    def _load_file_io(self, properties: Any = None, location: str | None = None) -> Any:
        return None  # no file of a table is opened here; else the catalog's answer would say which module does it

    @staticmethod
    def _delete_old_metadata(io: Any, base: Any, metadata: Any) -> None:
        """Leave the table's files to the catalog, also where the table asks writers to clean up."""


class IcebergClient:
    """Talks to a catalog. Every call blocks; one at a time."""

    def __init__(self, uri: str, properties: Mapping[str, str]) -> None:
        self._uri = uri
        # a table's history can be megabytes, and only its schemas are wanted
        self._properties: dict[str, Any] = {"snapshot-loading-mode": "refs", **properties, "uri": uri}
        if not properties.keys() & {"token", "credential"}:
            self._properties["auth"] = {"type": "noop"}  # else it would say that its token is "None"
        self._catalog: RestCatalog | None = None

    def table_schema(self, database: str, table: str, version: str) -> TableSchema:
        """Return the table at a version. Errors: as `IcebergCatalog.table_schema`."""
        what = self._what(database, table)
        with self._errors(what):
            found = self._load(database, table, what)
            schemas = found.schemas()
            schema = found.schema() if version == LATEST else _numbered(schemas, version)
        if schema is None:
            there = ", ".join(map(str, sorted(schemas)))
            raise NotFoundError(f"{what} has no schema {version!r}; there is {there}, and {LATEST}", code=NO_VERSION)
        return TableSchema(database, table, str(schema.schema_id), _columns(schema, what))

    def add_columns(self, database: str, table: str, columns: Sequence[tuple[str, str]]) -> TableSchema:
        """Add columns and return the table. Errors: as `IcebergCatalog.add_columns`."""
        what = self._what(database, table)
        wanted = _as_iceberg_has_them(columns, what)
        for _ in range(MAX_TRIES):
            with self._errors(what):
                found = self._load(database, table, what)
                schema = found.schema()
                described = _columns(schema, what)
                new = missing(described, wanted, what=what)
                if not new:
                    return TableSchema(database, table, str(schema.schema_id), described)
                try:
                    _commit(found, new)
                except theirs.CommitFailedException:
                    pass  # somebody changed the table since it was read: look at it again
        raise too_busy(what)

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        try:
            with _iceberg_errors(what):
                yield
        except (AccessDeniedError, InvalidError):
            # what the catalog said of itself may be outdated, and a token: begin anew the next time
            if self._catalog is not None:
                self._catalog.close()
                self._catalog = None
            raise

    def _what(self, database: str, table: str) -> str:
        return f"table {database}.{table} in the Iceberg catalog at {self._uri}"

    def _load(self, database: str, table: str, what: str) -> Table:
        if {database, table} & {"", ".", ".."}:  # they would lead to another address
            raise NotFoundError(f"no {what}: that is no name of a table", code=NO_TABLE)
        if self._catalog is None:
            self._catalog = _TimedCatalog("firehose", **self._properties)
        found: Table = self._catalog.load_table((database, table))
        return found


def _numbered(schemas: Mapping[int, Schema], version: str) -> Schema | None:
    return schemas.get(int(version)) if re.fullmatch("0|[1-9][0-9]{0,17}", version) else None


def _columns(schema: Schema, what: str) -> Columns:
    columns = tuple(
        (each.name, str(to_hive(each.field_type, column=f"{what}: column {each.name!r}"))) for each in schema.fields
    )
    parse_columns(columns, table=what)
    return columns


def _as_iceberg_has_them(columns: Sequence[tuple[str, str]], what: str) -> Columns:
    """Return columns with the types that they will have once Iceberg has them. Errors: InvalidError."""
    return tuple((name, str(to_hive(_type(text, name, what), column=name))) for name, text in columns)


def _type(text: str, name: str, what: str) -> Any:
    return from_hive(parse_type(text, where=f"columns to add to {what}: column {name!r}"), count(1))


def _commit(table: Table, new: Columns) -> None:
    with table.update_schema(case_sensitive=False) as update:
        for name, hive_type in new:
            update.add_column((name,), _type(hive_type, name, table.name()[-1]))


_UNREACHABLE = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
_BROKEN = (theirs.ServiceUnavailableError, theirs.ServerError, theirs.CommitStateUnknownException)
_REFUSED = (theirs.UnauthorizedError, theirs.ForbiddenError, theirs.AuthorizationExpiredError, theirs.OAuthError)
_ABSENT = (theirs.NoSuchTableError, theirs.NoSuchNamespaceError, theirs.NoSuchIdentifierError)


@contextmanager
def _iceberg_errors(what: str) -> Iterator[None]:
    """Raise what pyiceberg raises within as ours; beyond its own errors that is what nonsense in an answer leads to."""
    try:
        yield
    except _ABSENT as error:
        raise NotFoundError(f"no {what}: {_said(error)}", code=NO_TABLE) from error
    except _REFUSED as error:
        message = f"{what}: {_said(error)}; check `credential` or `token`, and what it may read"
        raise AccessDeniedError(message, code="DataFormatConversion.AccessDenied") from error
    except theirs.TooManyRequestsError as error:
        raise ThrottledError(
            f"{what}: {_said(error)}", code="DataFormatConversion.SlowDown", retry_after_ms=_retry_after_ms(error)
        ) from error
    except _UNREACHABLE as error:
        code = "DataFormatConversion.ServiceUnavailable"
        raise UnavailableError(f"{what}: not reachable: {_said(error)}", code=code) from error
    except _BROKEN as error:
        code = "DataFormatConversion.InternalError"
        raise UnavailableError(f"{what}: {_said(error)}", code=code, retry_after_ms=_retry_after_ms(error)) from error
    except (
        theirs.RESTError,
        theirs.ValidationError,
        requests.RequestException,
        ImportError,
        NotImplementedError,
        ValueError,
    ) as error:
        raise InvalidError(f"{what}: {_said(error)}", code="DataFormatConversion.InvalidInput") from error


def _said(error: Exception) -> str:
    if isinstance(error, pydantic.ValidationError):  # without the answer itself: keys to the table's files stand in it
        first = error.errors(include_url=False, include_input=False)[0]
        return f"that is no answer of an Iceberg catalog ({'.'.join(map(str, first['loc']))}: {first['msg']})"
    text = str(error) or type(error).__name__
    return text if len(text) <= _SAID_CHARACTERS else f"{text[:_SAID_CHARACTERS]}..."


def _retry_after_ms(error: Exception) -> int | None:
    answer = getattr(error.__cause__, "response", None)
    seconds = "" if answer is None else answer.headers.get("Retry-After", "")
    return int(seconds) * 1_000 if seconds.isdecimal() and len(seconds) < 10 else None
