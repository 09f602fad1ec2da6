"""Tables in YAML files, one for each table: FOLDER/DATABASE/TABLE.yaml.

    columns:                                versions:
      id: bigint                              1:
      at: timestamp                             id: bigint
      items: array<struct<sku:string>>        2:
                                                id: bigint
                                                at: timestamp

`columns` stands for one version, `"1"`. Of `versions`, LATEST is the highest. A file that changes is read again, so
that LATEST follows it. Types are those of Hive, see `firehose.hive_types`. Partition keys are no columns.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from firehose.components import ComponentConfig, Environment
from firehose.errors import AccessDeniedError, InvalidError, NotFoundError, Problem, UnavailableError
from firehose.hive_types import parse_columns, parse_type
from firehose.protocols import Catalog, TableSchema

LATEST = "LATEST"

_NO_TABLE = "DataFormatConversion.EntityNotFound"
_NO_VERSION = "DataFormatConversion.InvalidVersionId"
_BAD_TABLE = "DataFormatConversion.InvalidSchema"

#: What may be part of a path: no separator, no leading dot.
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")

Columns = tuple[tuple[str, str], ...]


class FileCatalogConfig(ComponentConfig):
    """Tables described by YAML files in a folder."""

    type: Literal["file"] = "file"
    path: Path
    """The folder; a table is DATABASE/TABLE.yaml in it. Relative to the configuration file."""

    def build(self, environment: Environment) -> Catalog:
        """Return the catalog; files are read when they are asked for."""
        return FileCatalog(self.path)


@dataclass(frozen=True, slots=True)
class _Known:
    """What a file held when it had this time and size."""

    seen: tuple[int, int]
    versions: dict[int, Columns]


class FileCatalog:
    """Reads tables from a folder. Files are small, so they are read where they are asked for, on the event loop."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[Path, _Known] = {}

    async def table_schema(self, database: str, table: str, version: str = LATEST) -> TableSchema:
        """Return the table as its file describes it now.

        Errors: NotFoundError naming what there is instead; InvalidError with file, line and key; AccessDeniedError,
        UnavailableError where the file cannot be read.
        """
        with _file_errors(self._folder):
            path = self._path(database, table)
            versions = self._versions(path)
        number = max(versions) if version == LATEST else int(version) if re.fullmatch("[0-9]{1,18}", version) else -1
        if number not in versions:
            there = ", ".join(map(str, sorted(versions)))
            raise NotFoundError(
                f"{path}: table {database}.{table} has no version {version!r}; there is {there}, and {LATEST}",
                code=_NO_VERSION,
            )
        return TableSchema(database, table, str(number), versions[number])

    def _path(self, database: str, table: str) -> Path:
        path = self._folder / database / f"{table}.yaml"
        if _NAME.fullmatch(database) and _NAME.fullmatch(table) and path.is_file():
            return path
        if not self._folder.is_dir():
            message = f"the catalog's folder {self._folder} does not exist; make it, or correct its `path`"
            raise NotFoundError(message, code=_NO_TABLE)
        tables = sorted(f"{each.parent.name}.{each.stem}" for each in self._folder.glob("*/*.yaml"))
        there = f"there is {', '.join(tables)}" if tables else "there are no tables"
        raise NotFoundError(
            f"no table {database}.{table} in {self._folder}: {there}; a table is a file DATABASE/TABLE.yaml",
            code=_NO_TABLE,
        )

    def _versions(self, path: Path) -> dict[int, Columns]:
        status = path.stat()
        seen = (status.st_mtime_ns, status.st_size)
        known = self._known.get(path)
        if known is None or known.seen != seen:
            known = self._known[path] = _Known(seen, _read_table(path))
        return known.versions


def _read_table(path: Path) -> dict[int, Columns]:
    try:
        document = YAML(typ="rt").load(path.read_text("utf-8"))
    except MarkedYAMLError as error:
        mark = error.problem_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        raise _invalid(path, line, column, "", error.problem or "not YAML") from error
    except (YAMLError, UnicodeDecodeError) as error:
        raise _invalid(path, 1, 1, "", f"not YAML in UTF-8: {error}") from error
    if not isinstance(document, CommentedMap) or len(document) != 1 or not {"columns", "versions"} & set(document):
        raise _invalid(path, 1, 1, "", "expected one key, `columns` or `versions`")
    if "columns" in document:
        return {1: _columns(path, document, "columns")}
    return _all_versions(path, document)


def _all_versions(path: Path, document: CommentedMap) -> dict[int, Columns]:
    versions = document["versions"]
    if not isinstance(versions, CommentedMap) or not versions:
        raise _invalid(
            path, *_place(document, "versions"), "versions", "expected version numbers, each with its columns"
        )
    for number in versions:
        if type(number) is not int or number < 0:
            raise _invalid(path, *_place(versions, number), "versions", "a version is a whole number", value=number)
    return {int(number): _columns(path, versions, number) for number in versions}


def _columns(path: Path, parent: CommentedMap, key: Any) -> Columns:
    columns = parent[key]
    if not isinstance(columns, CommentedMap) or not columns:
        raise _invalid(path, *_place(parent, key), str(key), "expected columns as `name: type`, at least one")
    for name, text in columns.items():
        if not isinstance(name, str):
            raise _invalid(path, *_place(columns, name), str(name), "the name of a column is text; put it in quotes")
        if not isinstance(text, str):
            raise _invalid(path, *_place(columns, name), name, "expected a type as text, like bigint", value=text)
        line, column = _place(columns, name)
        parse_type(text, where=f"{path}:{line}:{column}: column {name!r}")
    found = tuple((str(name), str(text)) for name, text in columns.items())
    parse_columns(found, table=str(path))
    return found


def _place(parent: CommentedMap, key: Any) -> tuple[int, int]:
    line, column = parent.lc.key(key)
    return line + 1, column + 1


def _invalid(path: Path, line: int, column: int, key: str, message: str, *, value: object = None) -> InvalidError:
    shown = None if value is None else repr(value)
    return InvalidError(str(Problem(message, key, str(path), line, column, shown)), code=_BAD_TABLE)


@contextmanager
def _file_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        message = f"{error.filename or folder}: not allowed to read it; grant that to the service's user"
        raise AccessDeniedError(message) from error
    except OSError as error:
        raise UnavailableError(f"{error.filename or folder}: cannot be read: {error.strerror}") from error
