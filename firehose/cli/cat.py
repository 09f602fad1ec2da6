"""`firehose cat`."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from firehose.aws import AwsClients
from firehose.ciphers.client_side import ClientSideConfig
from firehose.clock import SystemClock
from firehose.components import BuildContext, Environment, StreamIdentity, config_classes
from firehose.delivery.reading import open_object
from firehose.delivery.sealer import ENCODING_METADATA
from firehose.errors import InvalidError
from firehose.executors import ThreadExecutor
from firehose.filesystem import OsFileSystem
from firehose.sinks.file import HIDDEN, FileSinkConfig
from firehose.sinks.s3 import S3SinkConfig
from firehose.telemetry import Telemetry

#: Which compression an object's Content-Encoding names.
_COMPRESSIONS = {None: "none", "": "none", "gzip": "gzip", "zstd": "zstd"}


def cat(url: str, *, key_file: Path | None, kms_key: str | None) -> None:
    """Write the object's plain bytes to stdout. Errors: FirehoseError."""
    asyncio.run(_cat(url, key_file, kms_key))


async def _cat(url: str, key_file: Path | None, kms_key: str | None) -> None:
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
        sink, key = _sink_of(url, context)
        try:
            info = await sink.stat(key)
            encoding = info.metadata.get(ENCODING_METADATA, info.content_encoding)
            if encoding not in _COMPRESSIONS:
                raise InvalidError(f"{url} has Content-Encoding {encoding!r}, which cat does not read")
            compression = config_classes("compressors")[_COMPRESSIONS[encoding]]
            async with open_object(
                sink,
                key,
                cipher=_cipher(key_file, kms_key, context),
                compressor=compression().build(context),
                scratch=Path(scratch),
                executor=executor,
            ) as chunks:
                async for chunk in chunks:
                    sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
        finally:
            await sink.close()
            await aws.close()
            executor.close()


def _cipher(key_file: Path | None, kms_key: str | None, context: BuildContext) -> Any:
    if key_file is None and kms_key is None:
        return None
    return ClientSideConfig(key_file=key_file, kms_key=kms_key).build(context)


def _sink_of(url: str, context: BuildContext) -> tuple[Any, str]:
    """Return the sink that holds the object, and its key there."""
    parts = urlsplit(url)
    if parts.scheme == "s3":
        return S3SinkConfig(bucket=parts.netloc).build(context), parts.path.removeprefix("/")
    if parts.scheme not in ("", "file"):
        raise InvalidError(f"{url}: expected s3://BUCKET/KEY, file:///PATH or a path")
    path = Path(parts.path).resolve()
    root = next((each for each in path.parents if (each / HIDDEN).is_dir()), path.parent)
    return FileSinkConfig(path=root).build(context), str(path.relative_to(root))
