"""Objects as files in a folder, with the promises of an object store.

A file appears whole or not at all, under a name that was free: its bytes are written and synced in a hidden folder and
then linked to their name. What a file cannot carry (metadata, encoding, our checksum) lies beside it, in a hidden tree
of the same shape, and is on the disk before the name is.

    FOLDER/2026/07/13/14/clicks-1-...                            the object
    FOLDER/.firehose-sink/metadata/2026/07/13/14/clicks-1-...    what belongs to it, as JSON
    FOLDER/.firehose-sink/unfinished/                            files without a name yet
    FOLDER/.firehose-sink/lock                                   held while a name is given

The lock spans processes, so that two writers of one key cannot put one's metadata beside the other's bytes.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import json
import os
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from hashlib import file_digest
from io import FileIO
from pathlib import Path
from typing import Any, Literal, NamedTuple
from uuid import uuid4

from pydantic import field_validator

from firehose.components import BuildContext, Environment, ObjectSinkConfig
from firehose.errors import (
    AccessDeniedError,
    ConflictError,
    FirehoseError,
    InvalidError,
    NotFoundError,
    ThrottledError,
    UnavailableError,
)
from firehose.keys import RESERVED, Prefix, object_key, object_uuid
from firehose.protocols import Delivery, ObjectInfo, Receipt
from firehose.sinks.body import CHUNK_BYTES, verified_chunks

#: The folder of what is not for readers; the dot hides it from globs and from readers of tables. Not `.firehose`: that
#: is what the service's own data directory is called, which may lie in the same folder.
HIDDEN = RESERVED

#: How old an unfinished file must be to count as left behind by a crash: no delivery takes a day.
LEFT_BEHIND_MS = 24 * 3_600_000


class FileSinkConfig(ObjectSinkConfig):
    """Objects as files in a folder."""

    type: Literal["file"] = "file"
    """A folder of files."""
    path: Path
    """The folder. It is made where only it is missing; the one above must exist, so that a lost disk is noticed."""

    @field_validator("prefix")
    @classmethod
    def _gives_file_names(cls, prefix: str) -> str:
        identity = object_uuid(stream_uid="", outlet="", rows=b"")
        parsed = Prefix.parse(prefix)
        values = ["value"] * len(parsed.partition_keys)  # of those that come, unfit ones are refused as they come
        sample = object_key(parsed, stream="stream", version=1, oldest_ms=0, identity=identity, values=values)
        try:
            _parts(sample)
        except InvalidError as error:
            raise ValueError(f"keys would be no paths within the folder: {error}") from None
        return prefix

    def build(self, context: BuildContext) -> FileSink:
        """Return the sink."""
        return FileSink(self.path, context.environment)


class Entry(NamedTuple):
    """The key of a file, or that of a folder, with a slash at its end and nothing found."""

    key: str
    found: os.stat_result | None


class FileSink:
    """Creates files in a folder and reads them back."""

    def __init__(self, folder: Path, environment: Environment) -> None:
        self._folder = folder.absolute()
        self._hidden = self._folder / HIDDEN
        self._unfinished = self._hidden / "unfinished"
        self._clock = environment.clock
        self._is_swept = False
        self._sync_folder = environment.files.sync_folder
        self._run = environment.executor.run
        self.url = self._folder.as_uri()

    async def deliver(self, delivery: Delivery) -> Receipt:
        """Create the file. Errors: ConflictError where another stands under its key."""
        existed = await self._run(partial(self._create, delivery))
        return Receipt(delivery.rows, existed=existed)

    async def check(self) -> None:
        """Return if files can be written in the folder."""
        await self._run(self._check)

    async def close(self) -> None:
        """Do nothing: no file stays open."""

    async def stat(self, key: str) -> ObjectInfo:
        """Return what is known of the file. Errors: NotFoundError."""
        return await self._run(partial(self._stat, key))

    @asynccontextmanager
    async def open(self, key: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """Read the file's bytes, chunk by chunk. Errors: NotFoundError."""
        path = self._path(key)
        with self._errors(key):
            file = await self._opened(path)

        async def chunks() -> AsyncIterator[bytes]:
            with self._errors(key):
                while chunk := await self._run(partial(file.read, CHUNK_BYTES)):
                    yield chunk

        with file:
            yield chunks()

    async def _opened(self, path: Path) -> FileIO:
        opening = asyncio.ensure_future(self._run(partial(FileIO, path)))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close_late)  # the thread goes on
            raise

    async def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        """Yield the files whose keys begin with `prefix`, ascending by key, without their metadata."""
        # A folder's key ends in a slash, so that keys ascend as in an object store: a-b before a/b.
        waiting = [Entry("", None)]
        while waiting:
            key, found = waiting.pop()
            if found is not None:
                yield ObjectInfo(key, found.st_size, _modified_ms(found), None, None, {})
                continue
            for entry in await self._run(partial(self._entries, key)):
                if entry.key.startswith(prefix) or (entry.found is None and prefix.startswith(entry.key)):
                    waiting.append(entry)

    # --- what blocks, away from the event loop -----------------------------------------------------------------------

    def _create(self, delivery: Delivery) -> bool:
        """Create the file, or return true where it stands already."""
        delivery.path.stat()  # raises as it is where the bytes are gone: that is no fault of the folder
        path = self._path(delivery.key)
        with self._errors(delivery.key):
            self._make_unfinished()
            self._sweep()
            existed = path.exists() or not self._give_name(path, delivery)
            if existed:
                self._require_same(path, delivery)
            # also where it existed: whoever made it may have crashed before this
            self._sync_folders(path.parent)
        return existed

    def _give_name(self, path: Path, delivery: Delivery) -> bool:
        """Write the bytes and let them appear as `path`, with what belongs to them; false where it was taken."""
        metadata = self._metadata_path(delivery.key)
        with self._written(verified_chunks(delivery)) as body, self._written([_described(delivery)]) as description:
            metadata.parent.mkdir(parents=True, exist_ok=True)
            path.parent.mkdir(parents=True, exist_ok=True)
            with self._locked():
                if path.exists():
                    return False
                description.replace(metadata)
                self._sync_folders(metadata.parent)
                os.link(body, path)
        return True

    def _require_same(self, path: Path, delivery: Delivery) -> None:
        """Return if the object stands there. Errors: ConflictError where it is something else."""
        if path.is_file():
            with path.open("rb") as file:
                if file_digest(file, "sha256").hexdigest() == delivery.checksum:
                    return
        message = f"{self.url}: something else stands under {delivery.key}; move it away"
        raise ConflictError(message, code="File.Conflict")

    @contextmanager
    def _written(self, chunks: Iterable[bytes]) -> Iterator[Path]:
        """Write and sync a file without a name, which is gone at the end unless it was given one."""
        path = self._unfinished / uuid4().hex
        try:
            with path.open("xb", buffering=0) as file:
                for chunk in chunks:
                    _write(file.fileno(), chunk)
                os.fsync(file.fileno())
            yield path
        finally:
            path.unlink(missing_ok=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self._hidden / "lock").open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _make_unfinished(self) -> None:
        """Make the sink's folder and the hidden ones. Errors: NotFoundError where the folder above is missing."""
        if not self._folder.parent.is_dir():
            message = f"{self.url}: {self._folder.parent} does not exist; create it, or mount its disk"
            raise NotFoundError(message, code="File.NotFound")
        self._folder.mkdir(exist_ok=True)
        self._unfinished.mkdir(parents=True, exist_ok=True)

    def _sweep(self) -> None:
        """Remove, once, what crashes left unfinished; what others write now is too young for that."""
        if self._is_swept:
            return
        self._is_swept = True
        for path in self._unfinished.iterdir():
            # one that another delivery just finished, or that is somebody else's: it is in nobody's way
            with suppress(FileNotFoundError, PermissionError):
                if _modified_ms(path.stat()) < self._clock.now_ms() - LEFT_BEHIND_MS:
                    path.unlink()

    def _sync_folders(self, folder: Path) -> None:
        """Return when all names on the way from the sink's folder to `folder` are on the disk."""
        while folder != self._folder.parent:
            self._sync_folder(folder)
            folder = folder.parent

    def _check(self) -> None:
        with self._errors(""):
            self._make_unfinished()
            self._sweep()
            with self._written([b"can be written"]), self._locked():
                pass

    def _stat(self, key: str) -> ObjectInfo:
        path = self._path(key)
        with self._errors(key):
            if path.is_dir():
                raise FileNotFoundError(errno.ENOENT, "a folder, not an object")
            found = path.stat()
        known: dict[str, Any] = {}
        try:
            known = json.loads(self._metadata_path(key).read_bytes())
        except FileNotFoundError:
            pass  # not made by us: a file like any other
        return ObjectInfo(
            key=key,
            body_bytes=found.st_size,
            modified_ms=_modified_ms(found),
            checksum=known.get("checksum"),
            content_encoding=known.get("content_encoding"),
            metadata=known.get("metadata", {}),
        )

    def _entries(self, key: str) -> Sequence[Entry]:
        """Return the keys in the folder `key`, descending; folders without a stat."""
        with self._errors(key), os.scandir(self._folder / key) as entries:
            found = []
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    found.append(Entry(f"{key}{entry.name}/", None))
                elif entry.is_file():
                    found.append(Entry(f"{key}{entry.name}", entry.stat()))
        return sorted((each for each in found if each.key != f"{HIDDEN}/"), key=lambda each: each.key, reverse=True)

    # --- names and errors --------------------------------------------------------------------------------------------

    def _path(self, key: str) -> Path:
        return self._folder.joinpath(*_parts(key))

    def _metadata_path(self, key: str) -> Path:
        return self._hidden.joinpath("metadata", *_parts(key))

    @contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        """Raise the file system's errors within as ours."""
        try:
            yield
        except OSError as error:
            kind, code, advice = _ERRORS.get(error.errno or 0, (UnavailableError, "Unavailable", "look at the disk"))
            raise kind(
                f"{f'{self.url}/{key}'.rstrip('/')}: {error.strerror or error}; {advice}", code=f"File.{code}"
            ) from error


_ERRORS: dict[int, tuple[type[FirehoseError], str, str]] = {
    errno.ENOSPC: (ThrottledError, "NoSpaceLeft", "make room on the disk"),
    errno.EDQUOT: (ThrottledError, "NoSpaceLeft", "make room, or raise the quota"),
    errno.EACCES: (AccessDeniedError, "AccessDenied", "let the user of this service write there"),
    errno.EPERM: (AccessDeniedError, "AccessDenied", "the file system must allow hard links"),
    errno.EROFS: (AccessDeniedError, "AccessDenied", "mount it for writing"),
    errno.ENOENT: (NotFoundError, "NotFound", "look at its name"),
    errno.EEXIST: (ConflictError, "Conflict", "move what stands there away"),
    errno.ENOTDIR: (ConflictError, "Conflict", "a file stands where a folder is needed; move it away"),
    errno.ENAMETOOLONG: (InvalidError, "InvalidName", "shorten the prefix"),
    errno.EOPNOTSUPP: (InvalidError, "NoHardLinks", "use a file system that has hard links"),
}


def _parts(key: str) -> list[str]:
    """Return the parts of a path within the folder. Errors: InvalidError where `key` would be none."""
    parts = key.split("/")
    if "\0" in key or any(part in ("", ".", "..") for part in parts) or parts[0] == HIDDEN:
        raise InvalidError(
            f"key {key!r}: a file's key has no empty part, no '.' or '..', and does not begin with {HIDDEN}",
            code="File.InvalidName",
        )
    return parts


def _close_late(opening: asyncio.Future[FileIO]) -> None:
    """Close a file that was opened for somebody who is gone."""
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


def _modified_ms(found: os.stat_result) -> int:
    return found.st_mtime_ns // 10**6


def _described(delivery: Delivery) -> bytes:
    """Return what belongs to the object besides its bytes."""
    return json.dumps(
        {
            "checksum": delivery.checksum,
            "content_type": delivery.content_type,
            "content_encoding": delivery.content_encoding,
            "metadata": dict(delivery.metadata),
        }
    ).encode()


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
