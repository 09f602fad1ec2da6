"""What is particular to files: names, modes, order on disk, and the ways a disk fails."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import gc
import os
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from firehose.components import BuildContext
from firehose.errors import (
    AccessDeniedError,
    ConflictError,
    FirehoseError,
    InvalidError,
    NotFoundError,
    ThrottledError,
    UnavailableError,
)
from firehose.executors import ThreadExecutor
from firehose.filesystem import OsFileSystem
from firehose.protocols import Delivery
from firehose.sinks.file import FileSink, FileSinkConfig

MakeDelivery = Callable[..., Delivery]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "objects"
    made.mkdir()
    return made


@pytest.fixture
async def sink(folder: Path, build_context: BuildContext) -> AsyncIterator[FileSink]:
    yield FileSinkConfig(path=folder).build(build_context)


def visible(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.glob("*/**/*") if ".firehose-sink" not in path.parts)


def unfinished(folder: Path) -> list[str]:
    return os.listdir(folder / ".firehose-sink" / "unfinished")


async def test_globs_see_objects_and_nothing_else(sink: FileSink, folder: Path, make_delivery: MakeDelivery) -> None:
    await sink.deliver(make_delivery(key="2026/07/clicks"))
    assert [path.name for path in folder.glob("[!.]*")] == ["2026"]
    assert (folder / "2026/07/clicks").read_bytes() == b"abc"
    assert unfinished(folder) == []


async def test_files_have_the_mode_that_the_umask_gives(
    sink: FileSink, folder: Path, make_delivery: MakeDelivery
) -> None:
    before = os.umask(0o027)
    try:
        await sink.deliver(make_delivery(key="a/b"))
    finally:
        os.umask(before)
    assert (folder / "a/b").stat().st_mode & 0o777 == 0o640
    assert (folder / "a").stat().st_mode & 0o777 == 0o750


@pytest.mark.parametrize(
    "key", ["", "/a", "a//b", "a/", "../a", "a/../../b", ".", "a/./b", "a\0b", ".firehose-sink/lock"]
)
async def test_a_key_that_is_no_path_within_the_folder_is_refused(
    sink: FileSink, folder: Path, make_delivery: MakeDelivery, key: str
) -> None:
    with pytest.raises(InvalidError, match="key"):
        await sink.deliver(make_delivery(key=key))
    with pytest.raises(InvalidError):
        await sink.stat(key)
    with pytest.raises(InvalidError):
        async with sink.open(key):
            pass
    assert visible(folder) == []


@pytest.mark.parametrize("prefix", ["/data/", "a//b/", "../", "a/../", ".firehose-sink/", "a/./"])
def test_a_prefix_that_leads_out_of_the_folder_is_refused_with_the_configuration(prefix: str) -> None:
    with pytest.raises(ValidationError, match="keys would be no paths within the folder"):
        FileSinkConfig(path="objects", prefix=prefix)


async def test_a_name_that_is_too_long_is_invalid(sink: FileSink, make_delivery: MakeDelivery) -> None:
    with pytest.raises(InvalidError, match="shorten the prefix") as refused:
        await sink.deliver(make_delivery(key="x" * 300))
    assert refused.value.code == "File.InvalidName"


async def test_a_file_where_a_folder_is_needed_is_a_conflict(
    sink: FileSink, folder: Path, make_delivery: MakeDelivery
) -> None:
    (folder / "a").write_text("in the way")
    with pytest.raises(ConflictError, match="move"):
        await sink.deliver(make_delivery(key="a/b"))
    assert (folder / "a").read_text() == "in the way"


async def test_a_folder_where_the_file_should_be_is_a_conflict(
    sink: FileSink, folder: Path, make_delivery: MakeDelivery
) -> None:
    (folder / "a/b").mkdir(parents=True)
    with pytest.raises(ConflictError, match="something else stands under a/b"):
        await sink.deliver(make_delivery(key="a/b"))
    with pytest.raises(NotFoundError):
        await sink.stat("a/b")


async def test_a_foreign_file_has_no_checksum_of_ours(sink: FileSink, folder: Path) -> None:
    (folder / "theirs").write_bytes(b"12345")
    found = await sink.stat("theirs")
    assert (found.body_bytes, found.checksum, dict(found.metadata)) == (5, None, {})


async def test_a_foreign_file_with_the_same_bytes_counts_as_delivered(
    sink: FileSink, folder: Path, make_delivery: MakeDelivery
) -> None:
    (folder / "a").mkdir()
    (folder / "a/b").write_bytes(b"abc")
    assert (await sink.deliver(make_delivery(b"abc", "a/b"))).existed


async def test_a_name_is_never_there_without_what_belongs_to_it(
    sink: FileSink, folder: Path, make_delivery: MakeDelivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    link, fsync = os.link, os.fsync

    def logged_fsync(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        steps.append(f"sync {path.relative_to(folder.parent)}")
        fsync(descriptor)

    def logged_link(source: Path, target: Path) -> None:
        assert (folder / ".firehose-sink/metadata/a/b").is_file()
        steps.append(f"link {target.relative_to(folder.parent)}")
        link(source, target)

    monkeypatch.setattr(os, "fsync", logged_fsync)
    monkeypatch.setattr(os, "link", logged_link)
    await sink.deliver(make_delivery(key="a/b"))
    linked = steps.index("link objects/a/b")
    assert sum(step.startswith("sync objects/.firehose-sink/unfinished/") for step in steps[:linked]) == 2
    assert "sync objects/.firehose-sink/metadata/a" in steps[:linked]
    assert "sync objects/.firehose-sink/metadata" in steps[:linked]
    assert steps[linked + 1 :] == ["sync objects/a", "sync objects"]


class Crash(BaseException):
    pass


@pytest.mark.parametrize("step", ["write", "fsync", "link", "sync_folder"])
async def test_a_crash_at_any_step_leaves_all_or_nothing_and_the_redo_is_fine(
    build_context: BuildContext, folder: Path, make_delivery: MakeDelivery, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    class Files(OsFileSystem):
        def sync_folder(self, path: Path) -> None:
            # only the last ones, behind the link: then the file has its name already
            if step == "sync_folder" and (folder / "a/b").exists():
                raise Crash
            super().sync_folder(path)

    def crash(*args: object, **options: object) -> None:
        raise Crash

    environment = replace(build_context.environment, files=Files())
    sink = FileSinkConfig(path=folder).build(replace(build_context, environment=environment))
    delivery = make_delivery(b"abc", "a/b", metadata={"name": "value"})
    with monkeypatch.context() as patch:
        if step != "sync_folder":
            patch.setattr(os, step, crash)
        with pytest.raises(Crash):
            await sink.deliver(delivery)
    assert (folder / "a/b").exists() == (step == "sync_folder")

    restarted = FileSinkConfig(path=folder).build(build_context)
    receipt = await restarted.deliver(delivery)
    assert receipt.existed == (step == "sync_folder")
    assert (folder / "a/b").read_bytes() == b"abc"
    assert (await restarted.stat("a/b")).metadata == {"name": "value"}


async def test_a_redo_syncs_what_a_crash_may_have_left_unsynced(
    build_context: BuildContext, folder: Path, make_delivery: MakeDelivery
) -> None:
    class Files(OsFileSystem):
        synced: list[Path]

        def sync_folder(self, path: Path) -> None:
            self.synced.append(path)

    files = Files()
    sink = FileSinkConfig(path=folder).build(
        replace(build_context, environment=replace(build_context.environment, files=files))
    )
    delivery = make_delivery(key="a/b")
    files.synced = []
    await sink.deliver(delivery)
    files.synced = []
    assert (await sink.deliver(delivery)).existed
    assert files.synced == [folder / "a", folder]


@pytest.mark.parametrize("call", ["deliver", "check"])
async def test_what_crashes_left_is_removed_once_it_is_old(
    sink: FileSink, folder: Path, build_context: BuildContext, make_delivery: MakeDelivery, call: str
) -> None:
    now_s = build_context.environment.clock.now_ms() / 1_000

    def leave() -> None:
        for name, age_s in (("old", 25 * 3600), ("young", 3600)):
            path = folder / ".firehose-sink/unfinished" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"left behind, or being written by another process")
            os.utime(path, (now_s - age_s, now_s - age_s))

    leave()
    await (sink.check() if call == "check" else sink.deliver(make_delivery(key="a/b")))
    assert unfinished(folder) == ["young"]
    leave()
    await sink.deliver(make_delivery(key="a/c"))
    assert sorted(unfinished(folder)) == ["old", "young"], "the folder is not listed for each delivery"


async def test_leftovers_that_cannot_be_removed_are_in_nobodys_way(
    sink: FileSink, folder: Path, make_delivery: MakeDelivery
) -> None:
    (folder / ".firehose-sink/unfinished").mkdir(parents=True)
    (folder / ".firehose-sink/unfinished/of a friend").symlink_to("nowhere")
    assert not (await sink.deliver(make_delivery(key="a/b"))).existed


async def test_a_file_that_is_opened_too_late_is_closed(folder: Path, build_context: BuildContext) -> None:
    executor = ThreadExecutor(threads=1, name="sink")
    environment = replace(build_context.environment, executor=executor)
    sink = FileSinkConfig(path=folder).build(replace(build_context, environment=environment))
    os.mkfifo(folder / "slow")  # opening it waits for who writes to it

    async def read() -> None:
        async with sink.open("slow"):
            raise AssertionError("the disk hangs")

    reading = asyncio.create_task(read())
    await asyncio.wait([reading], timeout=0.05)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    os.close(os.open(folder / "slow", os.O_WRONLY))
    await executor.run(lambda: None)  # behind it
    await asyncio.sleep(0)
    gc.collect()  # a file that was left open is told here, as an error
    executor.close()


@pytest.mark.parametrize(
    ("number", "kind", "code"),
    [
        (errno.ENOSPC, ThrottledError, "File.NoSpaceLeft"),
        (errno.EDQUOT, ThrottledError, "File.NoSpaceLeft"),
        (errno.EACCES, AccessDeniedError, "File.AccessDenied"),
        (errno.EROFS, AccessDeniedError, "File.AccessDenied"),
        (errno.EIO, UnavailableError, "File.Unavailable"),
        (errno.EOPNOTSUPP, InvalidError, "File.NoHardLinks"),
    ],
)
async def test_the_disks_errors_become_ours(
    sink: FileSink,
    folder: Path,
    make_delivery: MakeDelivery,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    kind: type[FirehoseError],
    code: str,
) -> None:
    def fail(*args: object) -> int:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", fail)
        with pytest.raises(kind) as raised:
            await sink.deliver(make_delivery(key="a/b"))
        assert raised.value.code == code
        assert f"{sink.url}/a/b: {os.strerror(number)}" in str(raised.value)
        with pytest.raises(kind):
            await sink.check()
    assert unfinished(folder) == []
    assert not (await sink.deliver(make_delivery(key="a/b"))).existed


async def test_a_disk_that_vanishes_is_not_made_again(
    tmp_path: Path, build_context: BuildContext, make_delivery: MakeDelivery
) -> None:
    # an unmounted disk: what would be written there would be hidden by the next mount
    sink = FileSinkConfig(path=tmp_path / "disk" / "objects").build(build_context)
    with pytest.raises(NotFoundError, match="create it, or mount its disk"):
        await sink.deliver(make_delivery())
    assert not (tmp_path / "disk").exists()


async def test_names_are_given_by_one_process_at_a_time(
    sink: FileSink, folder: Path, make_delivery: MakeDelivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    await sink.check()
    asked, flock = threading.Event(), fcntl.flock

    def asking(*arguments: Any) -> None:
        asked.set()
        flock(*arguments)

    with (folder / ".firehose-sink/lock").open("ab") as other:
        flock(other, fcntl.LOCK_EX)
        monkeypatch.setattr(fcntl, "flock", asking)
        waiting = asyncio.ensure_future(sink.deliver(make_delivery(key="a/b")))
        await asyncio.to_thread(asked.wait)
        assert not (folder / "a/b").exists()
    assert not (await waiting).existed


async def test_a_relative_path_has_an_absolute_url(
    build_context: BuildContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/tmp")
    assert FileSinkConfig(path="with space").build(build_context).url == "file:///tmp/with%20space"
