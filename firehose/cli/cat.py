"""`firehose cat`."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import ValidationError

from firehose.aws import AwsClients
from firehose.ciphers.client_side import ClientSideConfig
from firehose.clock import SystemClock
from firehose.components import BuildContext, Environment, StreamIdentity, config_classes
from firehose.delivery.reading import is_encrypted, open_object
from firehose.delivery.sealer import ENCODING_METADATA
from firehose.errors import FirehoseError, IntegrityError, InvalidError
from firehose.executors import ThreadExecutor
from firehose.filesystem import OsFileSystem
from firehose.protocols import Cipher, ObjectInfo
from firehose.sinks.file import HIDDEN, FileSink, FileSinkConfig
from firehose.sinks.s3 import S3SinkConfig
from firehose.telemetry import Telemetry

#: Which compression an object's Content-Encoding names.
_COMPRESSIONS = {
    None: "none",
    "": "none",
    "gzip": "gzip",
    "zip": "zip",
    "zstd": "zstd",
    "snappy-java": "snappy",
    "hadoop-snappy": "hadoop_snappy",
}

#: What the name says of objects that are not as a sink made them: copies of its files.
_ENDINGS = {".gz": "gzip", ".zip": "zip", ".zst": "zstd", ".snappy": "snappy"}


def cat(urls: Sequence[str], *, key_file: Path | None, kms_key: str | None) -> None:
    """Write the objects' plain bytes to stdout. Errors: FirehoseError."""
    if key_file is not None and kms_key is not None:
        raise InvalidError("--key-file and --kms-key exclude each other; the object's data key was wrapped with one")
    asyncio.run(_cat(urls, key_file, kms_key))


async def _cat(urls: Sequence[str], key_file: Path | None, kms_key: str | None) -> None:
    with tempfile.TemporaryDirectory(prefix="firehose-") as scratch:
        executor = ThreadExecutor(threads=2, name="cat")
        aws = AwsClients(None)
        environment = Environment(
            clock=SystemClock(),
            telemetry=Telemetry(),
            executor=executor,
            files=OsFileSystem(),
            data_dir=Path(scratch),
            aws=aws,
            log=None,
        )
        context = BuildContext(environment, StreamIdentity(uid="", name=""), {}, {})
        try:
            cipher = _cipher(key_file, kms_key, context)
            for url in urls:
                await _print(url, cipher, context)
            sys.stdout.buffer.flush()
        finally:
            await aws.close()
            executor.close()


async def _print(url: str, cipher: Cipher | None, context: BuildContext) -> None:
    sink, key = _sink_of(url, context)
    info: ObjectInfo | None = None
    try:
        info = await sink.stat(key)
        if cipher is None and is_encrypted(info.metadata):
            raise InvalidError(f"{url} is encrypted; give --key-file or --kms-key")
        if cipher is not None and isinstance(sink, FileSink) and not info.metadata:
            raise InvalidError(
                f"{url} has no metadata, and its data key would be there: a file sink keeps it in {HIDDEN}/metadata in "
                "its folder. Name the object where it was delivered, or copy the whole folder; an object that is not "
                "encrypted needs no key"
            )
        compression = config_classes("compressors")[_compression_of(url, info)]
        async with open_object(
            sink,
            key,
            cipher=cipher,
            compressor=compression().build(context),
            scratch=context.environment.data_dir,
            executor=context.environment.executor,
        ) as chunks:
            async for chunk in chunks:
                sys.stdout.buffer.write(chunk)
    except FirehoseError as error:
        is_bare = isinstance(error, IntegrityError) and info is not None and not info.metadata
        hint = "; or it is encrypted, and was copied without its metadata" if is_bare else ""
        named = str(error) if url in str(error) else f"{url}: {error}"
        raise type(error)(f"{named}{hint}", code=error.code) from error
    finally:
        await sink.close()


def _compression_of(url: str, info: ObjectInfo) -> str:
    encoding = info.metadata.get(ENCODING_METADATA, info.content_encoding)
    if encoding is None and info.checksum is None:
        return next((word for ending, word in _ENDINGS.items() if info.key.endswith(ending)), "none")
    if encoding not in _COMPRESSIONS:
        raise InvalidError(f"{url} has Content-Encoding {encoding!r}, which cat does not read")
    return _COMPRESSIONS[encoding]


def _cipher(key_file: Path | None, kms_key: str | None, context: BuildContext) -> Cipher | None:
    if key_file is None and kms_key is None:
        return None
    return ClientSideConfig(key_file=key_file, kms_key=kms_key).build(context)


def _sink_of(url: str, context: BuildContext) -> tuple[Any, str]:
    """Return the sink that holds the object, and its key there. Errors: InvalidError."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return _file(Path(url), context)
    if scheme == "file":
        if urlsplit(url).netloc not in ("", "localhost"):
            raise InvalidError(f"{url}: files have three slashes, like file:///srv/lake/OBJECT; or give the path alone")
        return _file(Path(unquote(urlsplit(url).path)), context)
    bucket, _, key = rest.partition("/")
    if scheme != "s3" or not key:
        raise InvalidError(f"{url}: expected s3://BUCKET/KEY, file:///PATH or a path")
    try:
        return S3SinkConfig(bucket=bucket).build(context), key
    except ValidationError as error:
        raise InvalidError(f"{url}: {bucket!r} is no bucket") from error


def _file(path: Path, context: BuildContext) -> tuple[Any, str]:
    path = path.resolve()
    if path.is_dir():
        found = f"$(find {path} -type f -not -path '*/{HIDDEN}/*')"
        raise InvalidError(f"{path} is a folder; give the objects in it, for example: {found}")
    root = next((each for each in path.parents if (each / HIDDEN).is_dir()), path.parent)
    return FileSinkConfig(path=root).build(context), str(path.relative_to(root))
