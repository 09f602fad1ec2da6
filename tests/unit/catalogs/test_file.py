"""Tables in files: what people may write, and what they are told when it is wrong."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firehose.catalogs.file import FileCatalog
from firehose.errors import AccessDeniedError, InvalidError, NotFoundError, UnavailableError
from firehose.hive_types import arrow_schema, parse_columns


def write(folder: Path, text: str | bytes, *, name: str = "web/clicks.yaml") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


async def test_columns_alone_are_version_one(tmp_path: Path) -> None:
    write(
        tmp_path, "# a comment\ncolumns:\n  id: bigint # another\n  m: map<string,int>\n  s: struct<a:int,b:string>\n"
    )
    found = await FileCatalog(tmp_path).table_schema("web", "clicks")
    assert found.version == "1"
    assert found.columns == (("id", "bigint"), ("m", "map<string,int>"), ("s", "struct<a:int,b:string>"))


async def test_words_of_yaml_are_names_like_any_other(tmp_path: Path) -> None:
    write(tmp_path, "columns:\n  on: int\n  no: date\n  y: string\n  '200': int\n")
    found = await FileCatalog(tmp_path).table_schema("web", "clicks")
    assert [name for name, _ in found.columns] == ["on", "no", "y", "200"]


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("", "1:1", "expected one key, `columns` or `versions`"),
        ("- a", "1:1", "expected one key, `columns` or `versions`"),
        ("fields:\n  a: int", "1:1", "expected one key, `columns` or `versions`"),
        ("columns:\n  a: int\nversions: {}", "1:1", "expected one key, `columns` or `versions`"),
        ("columns:", "1:1", "columns: expected columns as `name: type`, at least one"),
        ("columns: [a, b]", "1:1", "columns: expected columns as `name: type`, at least one"),
        ("columns:\n  a: int\n  b:\n", "3:3", "b: expected a type as text, like bigint"),
        ("columns:\n  a: {type: int}", "2:3", "a: expected a type as text, like bigint"),
        ("columns:\n  a: 5", "2:3", "a: expected a type as text, like bigint (got 5)"),
        ("columns:\n  200: int", "2:3", "200: the name of a column is text; put it in quotes"),
        ("columns:\n  a: int\n  a: string", "3:3", "a: this key stands there twice"),
        ("columns:\n  a: int\n b: int", "3:2", ""),
        ("versions:", "1:1", "versions: expected version numbers, each with its columns"),
        ("versions:\n  one: {a: int}", "2:3", "versions: a version is a whole number (got one)"),
        ("versions:\n  true: {a: int}", "2:3", "versions: a version is a whole number (got true)"),
        ("versions:\n  -1: {a: int}", "2:3", "versions: a version is a whole number (got -1)"),
        ("versions:\n  1: {a: int}\n  2: int", "3:3", "2: expected columns as `name: type`, at least one"),
        (b"columns:\n  \xc3\xa4: \xff", "2:6", "not UTF-8 text"),
        ("columns:\n  ä: \x00", "2:6", "a character stands here that YAML does not allow"),
        ("columns: &a\n  b: *c", "2:6", "found undefined alias 'c'"),
        ("columns: &a\n  b: *a", "2:3", "b: expected a type as text, like bigint"),
        # what no constructor of YAML's values would take
        ("columns:\n  a: int\n  b: 2026-13-45", "3:3", "b: expected a type as text, like bigint (got 2026-13-45)"),
        ("columns:\n  a: 2026-02-31T10:00:00Z", "2:3", "expected a type as text, like bigint (got 2026-02-31T10"),
        ("columns:\n  2026-13-45: int", "2:3", "2026-13-45: the name of a column is text; put it in quotes"),
        ("columns:\n  a: !!int abc", "2:3", "a: expected a type as text, like bigint (got abc)"),
        ("columns:\n  a: !!float abc", "2:3", "a: expected a type as text, like bigint (got abc)"),
        ("columns:\n  a: !!timestamp int", "2:3", "a: expected a type as text"),
        ("columns:\n  a: !!binary '==='", "2:3", "a: expected a type as text"),
        ("columns:\n  a: !type int", "2:3", "a: expected a type as text"),
        ("columns: !!omap [a: int]", "1:1", "columns: expected columns as `name: type`"),
        ("columns: !!set {a, b}", "1:1", "columns: expected columns as `name: type`"),
        ("columns: !mine {a: int}", "1:1", "columns: expected columns as `name: type`"),
        ("columns:\n  <<: 3", "2:3", "columns: << is no key here; write out what it would bring"),
        ("versions:\n  1: &a {a: int}\n  2:\n    <<: *a", "4:5", "2: << is no key here; write out what it would bring"),
        ("columns:\n  [a, b]: int", "2:3", "columns: a key is plain text here"),
        ("columns:\n  ? {a: b}\n  : int", "2:5", "columns: a key is plain text here"),
        ("? [columns]\n: {a: int}", "1:3", "a key is plain text here"),
        ("versions:\n  [1]: {a: int}", "2:3", "versions: a key is plain text here"),
        ("versions:\n  0x1: {a: int}", "2:3", "versions: a version is a whole number (got 0x1)"),
        (f"versions:\n  ? {'9' * 5_000}\n  : {{a: int}}", "2:5", "versions: a version is a whole number (got 999"),
        ("columns: " + "{a: " * 3_000 + "}" * 3_000, "1:35", "is nested too deeply"),
        ("[" * 5_000, "1:9", "is nested too deeply"),
        ("- " * 3_000, "1:17", "is nested too deeply"),
        ('columns: {a: "\\UFFFFFFFF"}', " not", "not YAML: "),
        ('columns: {a: "\\U7FFFFFFF"}', " not", "not YAML: "),
        ('columns: {"\\ud800": int}', "1:11", "\\ud800: half of a character stands here"),
        ('columns: {a: "\\ud800"}', "1:11", "a: half of a character stands here (got \\ud800)"),
        ('versions: {"\\ud800": {}}', "1:12", "versions: a version is a whole number (got \\ud800)"),
        ("%YAML 9.9\n---\ncolumns: {a: int}", "1:1", "version"),
    ],
)
async def test_what_is_wrong_is_told_with_its_place(
    tmp_path: Path, text: str | bytes, place: str, message: str
) -> None:
    path = write(tmp_path, text)
    with pytest.raises(InvalidError) as caught:
        await FileCatalog(tmp_path).table_schema("web", "clicks")
    assert str(caught.value).startswith(f"{path}:{place}")
    assert message in str(caught.value)
    assert caught.value.code == "DataFormatConversion.InvalidSchema"


async def test_names_of_values_and_a_mark_of_its_encoding_do_no_harm(tmp_path: Path) -> None:
    write(tmp_path, "\ufeffversions:\n  1: &a {a: &b int}\n  2: &a {a: *b}\n  3: *a\n")
    found = await FileCatalog(tmp_path).table_schema("web", "clicks")
    assert (found.version, found.columns) == ("3", (("a", "int"),))


WORDS = ["columns", "versions", "1", "int", "array<int>", "2026-13-45", "1e999", "0x_", ".nan", "~", "true", "FFFFFFFF"]
MARKS = [
    ": ",
    ":",
    "- ",
    "? ",
    ", ",
    "{",
    "}",
    "[",
    "]",
    "|",
    ">",
    "|9",
    "'",
    '"',
    "#",
    "%",
    "---",
    "...",
    "<<",
    "=",
    "`",
]
NAMES = ["&a ", "*a", "! ", "!!int ", "!!float ", "!!omap ", "!!set ", "!!str ", "!mine ", "%YAML ", "1.2", "%TAG "]
BLANKS = [" ", "\n", "\n  ", "\n    ", "\t", "\0", "\u2028", "\\", "\\U", "\\x", "\\ud800"]
TEXTS = st.lists(st.sampled_from([*WORDS, *MARKS, *NAMES, *BLANKS])).map(lambda pieces: "".join(pieces).encode())
BEGINNINGS = st.sampled_from([b"", b"columns: ", b"columns:\n  a: ", b"versions:\n  1: "])


@settings(max_examples=400, deadline=None, derandomize=True)
@given(BEGINNINGS, TEXTS | st.binary(max_size=20))
def test_any_file_is_a_table_or_an_error_that_names_it(beginning: bytes, text: bytes) -> None:
    with TemporaryDirectory() as folder:
        path = write(Path(folder), beginning + text)
        try:
            found = asyncio.run(FileCatalog(Path(folder)).table_schema("web", "clicks"))
        except InvalidError as error:
            assert str(error).encode().startswith(str(path).encode())
        else:
            assert arrow_schema(parse_columns(found.columns, table="web.clicks")).names


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "columns:\n  a: int\n  ids: set<int>\n",
            "3:3: column 'ids', type 'set<int>', position 1: 'set' is not a Hive type; use",
        ),
        (
            "versions:\n  1: {a: int}\n  2:\n    b: array<int",
            "4:5: column 'b', type 'array<int', position 10: expected '>'",
        ),
        (
            "columns: {a: decimal(10,2)}",
            "1:11: column 'a', type 'decimal(10', position 11: expected ')', found the end",
        ),
        ("columns:\n  a: int\n  A: int\n", " column 'A' stands there twice"),
    ],
)
async def test_a_bad_type_is_told_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(InvalidError) as caught:
        await FileCatalog(tmp_path).table_schema("web", "clicks")
    assert str(caught.value).startswith(f"{path}:{message}")


async def test_a_missing_table_is_told_with_those_that_are_there(tmp_path: Path) -> None:
    catalog = FileCatalog(tmp_path)
    with pytest.raises(
        NotFoundError, match=r"no table web\.clicks in .*: there are no tables; a table is a file DATABASE"
    ):
        await catalog.table_schema("web", "clicks")
    write(tmp_path, "columns: {a: int}", name="web/orders.yaml")
    write(tmp_path, "columns: {a: int}", name="shop/items.yaml")
    with pytest.raises(NotFoundError, match=r"there is shop\.items, web\.orders; a table is a file"):
        await catalog.table_schema("web", "clicks")


async def test_a_missing_folder_is_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"the catalog's folder .*/nowhere does not exist; make it") as caught:
        await FileCatalog(tmp_path / "nowhere").table_schema("web", "clicks")
    assert caught.value.code == "DataFormatConversion.EntityNotFound"


@pytest.mark.parametrize(
    ("database", "table"), [("..", "secret"), ("web", "../../secret"), ("web/..", "secret"), (".", "x")]
)
async def test_names_do_not_lead_out_of_the_folder(tmp_path: Path, database: str, table: str) -> None:
    write(tmp_path, "columns: {a: int}", name="secret.yaml")
    write(tmp_path, "columns: {a: int}", name="tables/web/clicks.yaml")
    with pytest.raises(NotFoundError):
        await FileCatalog(tmp_path / "tables").table_schema(database, table)


async def test_a_missing_version_is_told_with_those_that_are_there(tmp_path: Path) -> None:
    write(tmp_path, "versions:\n  2: {a: int}\n  1: {a: int}\n")
    with pytest.raises(NotFoundError, match="has no version '3'; there is 1, 2, and LATEST"):
        await FileCatalog(tmp_path).table_schema("web", "clicks", "3")


async def test_an_unchanged_file_is_read_once(tmp_path: Path) -> None:
    path, catalog = write(tmp_path, "columns: {a: int}"), FileCatalog(tmp_path)
    os.utime(path, ns=(5, 5))
    first = await catalog.table_schema("web", "clicks")
    path.write_text("columns: {b: int}")  # as large, and then as old
    os.utime(path, ns=(5, 5))
    assert await catalog.table_schema("web", "clicks") == first
    os.utime(path, ns=(6, 6))
    assert (await catalog.table_schema("web", "clicks")).columns == (("b", "int"),)


async def test_a_file_that_is_repaired_is_read_again(tmp_path: Path) -> None:
    path, catalog = write(tmp_path, "columns:"), FileCatalog(tmp_path)
    with pytest.raises(InvalidError):
        await catalog.table_schema("web", "clicks")
    path.write_text("columns: {a: int}")
    assert (await catalog.table_schema("web", "clicks")).columns == (("a", "int"),)


async def test_a_file_that_cannot_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, "columns: {a: int}")

    def read(error: OSError) -> None:
        def read_bytes(self: Path) -> bytes:
            raise error

        monkeypatch.setattr(Path, "read_bytes", read_bytes)

    read(PermissionError(13, "Permission denied", str(path)))
    with pytest.raises(AccessDeniedError, match=r"clicks\.yaml: not allowed to read it; grant"):
        await FileCatalog(tmp_path).table_schema("web", "clicks")
    read(OSError(5, "Input/output error", str(path)))
    with pytest.raises(UnavailableError, match=r"clicks\.yaml: cannot be read: Input/output error"):
        await FileCatalog(tmp_path).table_schema("web", "clicks")
