"""Tables in YAML files, one for each table: FOLDER/DATABASE/TABLE.yaml.

    columns:                                versions:
      id: bigint                              1:
      at: timestamp                             id: bigint
      items: array<struct<sku:string>>        2:
                                                id: bigint
                                                at: timestamp

`columns` stands for one version, `"1"`. Of `versions`, LATEST is the highest. A file that changes is read again, so
that LATEST follows it. Types are those of Hive, see `firehose.hive_types`. Partition keys are no columns.

Columns are added as a new version, so that a stream that asked for an older one goes on with that: `columns` becomes
version 1 of `versions` then. What people wrote stays, comments included.
"""

from __future__ import annotations

import errno
import fcntl
import io
import os
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from ruamel.yaml import YAML, nodes
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.composer import MaxDepthExceededError
from ruamel.yaml.error import MarkedYAMLError, StreamMark, YAMLError
from ruamel.yaml.reader import ReaderError

from firehose.catalogs import LATEST, NO_TABLE, NO_VERSION
from firehose.catalogs.adding import Columns, missing
from firehose.catalogs.cache import Recent
from firehose.components import ComponentConfig, Environment
from firehose.errors import AccessDeniedError, InvalidError, NotFoundError, Problem, UnavailableError
from firehose.executors import Executor, InlineExecutor
from firehose.filesystem import OsFileSystem
from firehose.hive_types import INVALID_SCHEMA, parse_columns, parse_type
from firehose.protocols import Catalog, TableSchema

#: What may be part of a path: no separator, no leading dot.
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")

#: How deep a file may be nested: versions, number, columns and type are 4.
MAX_DEPTH = 8

_MAP, _TEXT, _MERGE = (f"tag:yaml.org,2002:{kind}" for kind in ("map", "str", "merge"))

#: A key and its value.
_Entry = tuple[nodes.ScalarNode, nodes.Node]


class _Place(NamedTuple):
    """Where something stands in a file, counted from 0 as the parser does."""

    line: int
    column: int

    @classmethod
    def behind(cls, text: str) -> _Place:
        return cls(text.count("\n"), len(text) - (text.rfind("\n") + 1))


class FileCatalogConfig(ComponentConfig):
    """Tables described by YAML files in a folder."""

    type: Literal["file"] = "file"
    path: Path
    """The folder; a table is DATABASE/TABLE.yaml in it. Relative to the configuration file."""

    def build(self, environment: Environment) -> Catalog:
        """Return the catalog; files are read when they are asked for."""
        return FileCatalog(self.path, environment.executor)


@dataclass(frozen=True, slots=True)
class _Known:
    """What a file held when it had this time and size."""

    seen: tuple[int, int]
    versions: dict[int, Columns]


class FileCatalog:
    """Reads tables from a folder. Files are small, so they are read where they are asked for, on the event loop.

    They are written by `executor`: that waits for the disk, and for others who write.
    """

    def __init__(self, folder: Path, executor: Executor | None = None) -> None:
        self._folder = folder
        self._executor = executor or InlineExecutor()
        self._known: Recent[Path, _Known] = Recent()

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
                code=NO_VERSION,
            )
        return TableSchema(database, table, str(number), versions[number])

    async def add_columns(self, database: str, table: str, columns: Sequence[tuple[str, str]]) -> TableSchema:
        """Add those of `columns` (name, Hive type) that the table does not have, at its end, and return the table.

        Errors: ConflictError where a column is there with another type; AccessDeniedError, UnavailableError where the
        file cannot be written; as `table_schema`'s.
        """
        with _file_errors(self._folder):
            path = self._path(database, table)
        with _file_errors(self._folder, "written"):
            await self._executor.run(lambda: _add_columns(path, columns))
        return await self.table_schema(database, table)

    def _path(self, database: str, table: str) -> Path:
        path = self._folder / database / f"{table}.yaml"
        if _NAME.fullmatch(database) and _NAME.fullmatch(table) and path.is_file():
            return path
        if not self._folder.is_dir():
            message = f"the catalog's folder {self._folder} does not exist; make it, or correct its `path`"
            raise NotFoundError(message, code=NO_TABLE)
        tables = sorted(f"{each.parent.name}.{each.stem}" for each in self._folder.glob("*/*.yaml"))
        there = f"there is {', '.join(tables)}" if tables else "there are no tables"
        raise NotFoundError(
            f"no table {database}.{table} in {self._folder}: {there}; a table is a file DATABASE/TABLE.yaml",
            code=NO_TABLE,
        )

    def _versions(self, path: Path) -> dict[int, Columns]:
        status = path.stat()
        seen = (status.st_mtime_ns, status.st_size)
        known = self._known.get(path)
        if known is None or known.seen != seen:
            known = _Known(seen, _versions_in(path, path.read_bytes()))
            self._known.put(path, known)
        return known.versions


# --- reading ---------------------------------------------------------------------------------------------------------


def _versions_in(path: Path, raw: bytes) -> dict[int, Columns]:
    """Return what a file says, given its bytes. Errors: InvalidError."""
    table = _entries(path, _compose(path, raw), "")
    if table is None or len(table) != 1 or not table.keys() <= {"columns", "versions"}:
        raise _invalid(path, _Place(0, 0), "", "expected one key, `columns` or `versions`")
    if "columns" in table:
        return {1: _columns(path, "columns", *table["columns"])}
    return _all_versions(path, *table["versions"])


def _compose(path: Path, raw: bytes) -> nodes.Node | None:
    """Return the tree of a file, in which a scalar stays the text that was written: a day that is none is no error."""
    try:
        text = raw.decode("utf-8-sig")
        yaml = YAML(typ="safe", pure=True)
        yaml.max_depth = MAX_DEPTH
        yaml.composer.warn_double_anchors = False  # a name given twice is no error
        root: nodes.Node | None = yaml.compose(text)
        return root
    except MaxDepthExceededError as error:
        raise _invalid(path, error.problem_mark, "", "is nested too deeply") from error
    except MarkedYAMLError as error:
        raise _invalid(path, error.problem_mark, "", error.problem or "not YAML") from error
    except ReaderError as error:
        place = _Place.behind(text[: error.position])
        raise _invalid(path, place, "", "a character stands here that YAML does not allow") from error
    except UnicodeDecodeError as error:
        raise _invalid(path, _Place.behind(raw[: error.start].decode()), "", "not UTF-8 text") from error
    except (YAMLError, ValueError, OverflowError) as error:  # of an escape like \UFFFFFFFF the parser says no more
        raise _invalid(path, None, "", f"not YAML: {error}") from error


def _entries(path: Path, node: nodes.Node | None, key: str) -> dict[str, _Entry] | None:
    """Return keys and values of a mapping, None where it is something else. Errors: InvalidError."""
    if not isinstance(node, nodes.MappingNode) or node.tag != _MAP:
        return None
    found: dict[str, _Entry] = {}
    for name, value in node.value:
        if name.tag == _MERGE:
            raise _invalid(path, name.start_mark, key, "<< is no key here; write out what it would bring")
        if not isinstance(name, nodes.ScalarNode):
            raise _invalid(path, name.start_mark, key, "a key is plain text here")
        if name.value in found:
            raise _invalid(path, name.start_mark, name.value, "this key stands there twice")
        found[name.value] = name, value
    return found


def _all_versions(path: Path, key: nodes.ScalarNode, node: nodes.Node) -> dict[int, Columns]:
    versions = _entries(path, node, "versions")
    if not versions:
        raise _invalid(path, key.start_mark, "versions", "expected version numbers, each with its columns")
    for text, (number, _) in versions.items():
        if not re.fullmatch("0|[1-9][0-9]{0,17}", text):
            raise _invalid(path, number.start_mark, "versions", "a version is a whole number", value=text)
    return {int(text): _columns(path, text, *entry) for text, entry in versions.items()}


def _columns(path: Path, title: str, key: nodes.ScalarNode, node: nodes.Node) -> Columns:
    columns = _entries(path, node, title)
    if not columns:
        raise _invalid(path, key.start_mark, title, "expected columns as `name: type`, at least one")
    found = tuple((name, _type(path, *entry)) for name, entry in columns.items())
    parse_columns(found, table=str(path))
    return found


def _type(path: Path, name: nodes.ScalarNode, node: nodes.Node) -> str:
    """Return the type of a column as it was written, once it is known to be one."""
    place, title = name.start_mark, name.value
    if name.tag != _TEXT:
        raise _invalid(path, place, title, "the name of a column is text; put it in quotes")
    if not isinstance(node, nodes.ScalarNode) or node.tag != _TEXT:
        written = node.value if isinstance(node, nodes.ScalarNode) and node.value else None
        raise _invalid(path, place, title, "expected a type as text, like bigint", value=written)
    text: str = node.value
    if any("\ud800" <= character <= "\udfff" for character in f"{title}{text}"):
        raise _invalid(path, place, title, "half of a character stands here", value=text)
    parse_type(text, where=f"{path}:{place.line + 1}:{place.column + 1}: column {title!r}")
    return text


def _invalid(
    path: Path, place: _Place | StreamMark | None, key: str, message: str, *, value: str | None = None
) -> InvalidError:
    line, column = (place.line + 1, place.column + 1) if place else (0, 0)
    text = str(Problem(message, key, str(path), line, column, value))
    return InvalidError(text.encode(errors="backslashreplace").decode(), code=INVALID_SCHEMA)


# --- writing ---------------------------------------------------------------------------------------------------------


def _add_columns(path: Path, columns: Sequence[tuple[str, str]]) -> None:
    """Give the table a version with more columns, where it does not have them all. Blocks."""
    path = path.resolve()  # a link stays, what it leads to is replaced
    with _locked(path.parent):
        raw = path.read_bytes()
        versions = _versions_in(path, raw)
        latest = max(versions)
        new = missing(versions[latest], columns, what=str(path))
        if not new:
            return
        wanted = versions | {latest + 1: versions[latest] + new}
        text = _with_version(raw, latest + 1, wanted[latest + 1])
        if _versions_in(path, text) != wanted:  # tags and merged keys have shapes that we do not know
            raise InvalidError(f"{path}: cannot be written anew as it is; add the columns by hand", code=INVALID_SCHEMA)
        _replace(path, text)


def _with_version(raw: bytes, number: int, columns: Columns) -> bytes:
    """Return a file of a table with one more version; the rest as people wrote it."""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = sys.maxsize  # a long type stays on its line
    yaml.composer.warn_double_anchors = False
    table = yaml.load(raw.decode("utf-8-sig"))
    if "columns" in table:
        table.insert(0, "versions", CommentedMap({1: table.pop("columns")}))
    table["versions"][number] = CommentedMap(columns)
    out = io.BytesIO()
    yaml.dump(table, out)
    return out.getvalue()


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let nobody else write in the folder, in this process or in another. Blocks. The folder itself is the lock."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _replace(path: Path, text: bytes) -> None:
    """Put a new file in the place of an old one: at every moment there is one of the two, and it is whole."""
    new = path.with_name(f".{path.name}.new")  # the folder is locked: nobody else writes it
    with new.open("wb") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    shutil.copymode(path, new)
    OsFileSystem().rename(new, path)


# --- errors ----------------------------------------------------------------------------------------------------------


@contextmanager
def _file_errors(folder: Path, done: str = "read") -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = error.filename or folder
        if isinstance(error, PermissionError) or error.errno == errno.EROFS:
            verb = "read" if done == "read" else "write"
            message = f"{where}: not allowed to {verb} it; grant that to the service's user"
            raise AccessDeniedError(message) from error
        raise UnavailableError(f"{where}: cannot be {done}: {error.strerror}") from error
