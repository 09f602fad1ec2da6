"""Columns added to files: what people wrote stays, and at every moment there is a whole file."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firehose.catalogs.cache import MAX_KNOWN
from firehose.catalogs.file import FileCatalog, _versions_in
from firehose.errors import AccessDeniedError, InvalidError, UnavailableError

NEW = [("new", "struct<a:int,`b c`:array<string>>"), ("200", "map<string,decimal(10,2)>")]


def write(folder: Path, text: str | bytes, name: str = "web/clicks.yaml") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


async def test_one_version_becomes_the_first_of_two_and_comments_stay(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "# clicks of the shop\ncolumns:\n  id: bigint    # of the event\n  # in UTC\n  on: timestamp\n",
    )
    added = await FileCatalog(tmp_path).add_columns("web", "clicks", NEW)
    assert added.columns == (("id", "bigint"), ("on", "timestamp"), *NEW) and added.version == "2"
    assert path.read_text() == (
        "# clicks of the shop\n"
        "versions:\n"
        "  1:\n"
        "    id: bigint  # of the event\n"
        "  # in UTC\n"
        "    on: timestamp\n"
        "  2:\n"
        "    id: bigint\n"
        "    on: timestamp\n"
        "    new: struct<a:int,`b c`:array<string>>\n"
        "    '200': map<string,decimal(10,2)>\n"
    )


@pytest.mark.parametrize(
    "text",
    [
        "versions:\n  3: {id: bigint}\n  7:\n    id: bigint\n    # the zone is the shop's\n    at: 'timestamp'\n",
        "{versions: {7: {id: bigint, at: timestamp}, 3: {id: bigint}}}",
        '{"versions": {"7": {"id": "bigint", "at": "timestamp"}, "3": {"id": "bigint"}}}',
        "\ufeffversions:\r\n  3: &a {id: &b bigint}\r\n  7: &a {id: *b, at: timestamp}\r\n",
        "versions:\n  3: &three {id: bigint}\n  7: {id: !!str bigint, !!str at: timestamp}\n",
        "--- !!map\nversions:\n    3: {id: bigint}\n    7:\n      id: >-\n         bigint\n      at: timestamp\n...\n",
        "# no line feed at the end\nversions:\n  3: {id: bigint}\n  7: {id: bigint, at: timestamp}",
    ],
)
async def test_a_version_is_added_to_those_that_are_there_however_they_are_written(tmp_path: Path, text: str) -> None:
    write(tmp_path, text)
    catalog = FileCatalog(tmp_path)
    before = await catalog.table_schema("web", "clicks")
    added = await catalog.add_columns("web", "clicks", NEW)
    assert (added.version, added.columns) == ("8", (("id", "bigint"), ("at", "timestamp"), *NEW))
    assert await FileCatalog(tmp_path).table_schema("web", "clicks", "7") == before
    assert (await FileCatalog(tmp_path).table_schema("web", "clicks", "3")).columns == (("id", "bigint"),)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.lists(
        st.sampled_from(
            ["a: int", "'2': date", "{", "}", "&x ", "*x", "!!str ", "? a", "#", "\n    ", "\n  2: ", ", ", ">-"]
        )
    ),
    st.sampled_from(["columns:\n    ", "versions:\n  1:\n    ", "versions:\n  1: {", "# first\ncolumns: {"]),
)
def test_any_table_gets_the_columns_and_keeps_its_versions_or_stays_as_it_is(pieces: list[str], beginning: str) -> None:
    with TemporaryDirectory() as folder:
        path = write(Path(folder), beginning + "".join(pieces))
        raw = path.read_bytes()
        try:
            before = _versions_in(path, raw)
        except InvalidError:
            return
        try:
            added = asyncio.run(FileCatalog(Path(folder)).add_columns("web", "clicks", [("new", "int")]))
        except InvalidError:
            assert path.read_bytes() == raw
        else:
            latest = before[max(before)]
            assert _versions_in(path, path.read_bytes()) == before | {int(added.version): (*latest, ("new", "int"))}


async def test_a_long_type_stays_on_its_line(tmp_path: Path) -> None:
    write(tmp_path, "columns:\n  id: bigint\n")
    wide = f"struct<{','.join(f'field_{number}:string' for number in range(200))}>"
    added = await FileCatalog(tmp_path).add_columns("web", "clicks", [("wide", wide)])
    assert added.columns[1] == ("wide", wide)
    assert len((tmp_path / "web/clicks.yaml").read_text().splitlines()) == 6


async def test_rights_and_links_stay_and_nothing_else_is_left(tmp_path: Path) -> None:
    real = write(tmp_path / "real", "columns: {id: bigint}", "clicks.yaml")
    real.chmod(0o640)
    (tmp_path / "tables/web").mkdir(parents=True)
    link = tmp_path / "tables/web/clicks.yaml"
    link.symlink_to("../../real/clicks.yaml")
    added = await FileCatalog(tmp_path / "tables").add_columns("web", "clicks", NEW)
    assert len(added.columns) == 3
    assert link.is_symlink() and real.stat().st_mode & 0o777 == 0o640
    assert os.listdir(real.parent) == ["clicks.yaml"]


async def test_a_file_that_needs_no_change_is_not_written(tmp_path: Path) -> None:
    path = write(tmp_path, "columns: {id: bigint}")
    os.utime(path, ns=(5, 5))
    await FileCatalog(tmp_path).add_columns("web", "clicks", [("ID", "BIGINT")])
    assert path.stat().st_mtime_ns == 5 and path.read_text() == "columns: {id: bigint}"


async def test_what_is_left_of_a_write_that_was_cut_off_does_no_harm(tmp_path: Path) -> None:
    write(tmp_path, "columns: {id: bigint}")
    write(tmp_path, "versions:\n  1: {id: bi", "web/.clicks.yaml.new")
    assert len((await FileCatalog(tmp_path).add_columns("web", "clicks", NEW)).columns) == 3
    assert os.listdir(tmp_path / "web") == ["clicks.yaml"]


def failing(errno: int) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno, os.strerror(errno), "/tables/web/clicks.yaml")

    return fail


@pytest.mark.parametrize(
    ("errno", "kind", "message"),
    [
        (13, AccessDeniedError, r"clicks\.yaml: not allowed to write it; grant that"),
        (30, AccessDeniedError, r"clicks\.yaml: not allowed to write it; grant that"),
        (28, UnavailableError, r"clicks\.yaml: cannot be written: No space left on device"),
    ],
)
async def test_a_file_that_cannot_be_written_is_told_and_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, errno: int, kind: type[Exception], message: str
) -> None:
    path = write(tmp_path, "columns: {id: bigint}")
    with monkeypatch.context() as patch, pytest.raises(kind, match=message):
        patch.setattr(shutil, "copymode", failing(errno))
        await FileCatalog(tmp_path).add_columns("web", "clicks", NEW)
    assert path.read_text() == "columns: {id: bigint}"


async def test_so_many_files_are_remembered(tmp_path: Path) -> None:
    catalog = FileCatalog(tmp_path)
    path = write(tmp_path, "columns: {id: bigint}", "web/first.yaml")
    os.utime(path, ns=(5, 5))
    await catalog.table_schema("web", "first")
    path.write_text("columns: {no: bigint}")
    os.utime(path, ns=(5, 5))
    assert (await catalog.table_schema("web", "first")).columns == (("id", "bigint"),)
    for number in range(MAX_KNOWN):
        shutil.copy(path, tmp_path / f"web/{number}.yaml")
        await catalog.table_schema("web", str(number))
    assert (await catalog.table_schema("web", "first")).columns == (("no", "bigint"),), "it was forgotten"
