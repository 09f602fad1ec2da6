"""What must hold between parts of the configuration, and between it and this machine: each breach is a finding.

Findings name a path of the configuration, not a file: streams made through the API are checked by the same rules.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from firehose.components import ConvertConfig, ObjectSinkConfig
from firehose.config.document import KeyPath
from firehose.config.models import Configuration, ServerConfig, StreamConfig
from firehose.errors import ConfigError
from firehose.keys import Prefix, zone
from firehose.partitioning import PartitionKernel

#: Nobody means objects of fewer bytes: a unit was forgotten.
SMALL_BUFFER_BYTES = 1024

#: Nobody means to lose what a destination refuses for less: the longest buffer interval alone is 15 minutes.
SHORT_RETENTION_MS = 15 * 60_000


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule that is broken. Whoever shows `message` sees to the secrets of `path` and `also`."""

    path: KeyPath
    message: str
    allowed: str | None = None
    #: Another path that the rule looks at: where something is missing, or what the message speaks of.
    also: KeyPath | None = None


def findings(configuration: Configuration) -> Iterator[Finding]:
    """Yield every broken rule that can be seen without calling anybody. Paths must be absolute already."""
    yield from server_findings(configuration.server)
    for name, function in configuration.functions.items():
        yield from _readable(function.path, ("functions", name, "path"))
    for name, stream in configuration.streams.items():
        yield from stream_findings(stream, ("streams", name), configuration)
        yield from _mixing_findings(stream, ("streams", name))


def doubts(configuration: Configuration) -> Iterator[Finding]:
    """Yield what is allowed, but likely means something else than whoever wrote it thought."""
    for name, stream in configuration.streams.items():
        path = ("streams", name)
        if stream.sink:
            yield from _prefix_doubts(stream.sink.prefix, (*path, "sink", "prefix"), error_output=False)
            yield from _nesting_doubts(stream, stream.sink, (*path, "failed", "prefix"))
        for sink, where in ((stream.sink, ("sink",)), (stream.failed.sink, ("failed", "sink"))):
            if sink:
                yield from _folder_doubts(sink, (*path, *where, "path"), configuration.server.data_dir)
        yield from _prefix_doubts(stream.failed.prefix, (*path, "failed", "prefix"), error_output=True)
        retention_ms = getattr(stream.source, "retention_ms", None)
        if retention_ms is not None and retention_ms < SHORT_RETENTION_MS:
            message = "a destination that is away for longer costs records: they expire; was a unit meant, like 7d?"
            yield Finding((*path, "source", "retention"), message)
        for buffer, where in ((stream.buffer, ("buffer",)), (stream.failed.buffer, ("failed", "buffer"))):
            if buffer and buffer.max_bytes is not None and buffer.max_bytes < SMALL_BUFFER_BYTES:
                message = f"an object for every {buffer.max_bytes} bytes; was a unit meant, like 64MiB?"
                yield Finding((*path, *where, "size"), message)


def server_findings(server: ServerConfig) -> Iterator[Finding]:
    """Yield the broken rules of the server alone: command line options may have changed it after loading."""
    if not server.credentials and not _is_loopback(server.host):
        yield Finding(
            ("server", "host"),
            "who can reach this address could put and read records: give `server.credentials`, or listen on loopback",
            allowed="127.0.0.1, ::1, localhost",
            also=("server", "credentials"),
        )


def stream_findings(stream: StreamConfig, path: KeyPath, configuration: Configuration) -> Iterator[Finding]:
    """Yield the broken rules of one stream at `path`, beside the functions and catalogs of `configuration`.

    A stream whose `sink` is not right yet comes without one, so that the rest of it is checked.
    """
    for index, transform in enumerate(stream.transforms):
        name = getattr(transform, "function", None)
        if name is not None and name not in configuration.functions:
            yield _undefined("function", name, (*path, "transforms", index, "function"), configuration.functions)
        complaint = getattr(transform, "complaint", None)
        if complaint is not None and (told := complaint()) is not None:
            yield Finding((*path, "transforms", index, "path"), told)
    if stream.convert:
        yield from _convert_findings(stream, stream.convert, path, configuration)
    if stream.encryption and isinstance(key_file := getattr(stream.encryption, "key_file", None), Path):
        yield from _key_findings(key_file, (*path, "encryption", "key_file"))
    for sink, where in ((stream.sink, ("sink",)), (stream.failed.sink, ("failed", "sink"))):
        if sink:
            yield from _sink_findings(sink, (*path, *where))
    if stream.sink:
        yield from _partition_findings(stream, stream.sink, path)
    failed_sink = stream.failed.sink or stream.sink
    time_zone = failed_sink.time_zone if failed_sink else "UTC"
    yield from _prefix_findings(stream.failed.prefix, (*path, "failed", "prefix"), time_zone, error_output=True)


def _convert_findings(
    stream: StreamConfig, convert: ConvertConfig, path: KeyPath, configuration: Configuration
) -> Iterator[Finding]:
    names = configuration.catalogs
    if convert.catalog is not None and convert.catalog not in names:
        yield _undefined("catalog", convert.catalog, (*path, "convert", "catalog"), names)
    elif convert.catalog is None and convert.glue is None and len(names) != 1:
        why = "there are several catalogs, say which" if names else "the table needs a catalog, and none is defined"
        yield Finding((*path, "convert", "catalog"), why, allowed=", ".join(names) or None, also=("catalogs",))
    if stream.compression.type != "none":
        yield Finding(
            (*path, "compression"),
            f"{convert.format} compresses inside, and readers expect no other compression around it: "
            "leave this out, and choose the compression under `convert`",
            allowed="none",
        )


def _sink_findings(sink: ObjectSinkConfig, path: KeyPath) -> Iterator[Finding]:
    if not _is_time_zone(sink.time_zone):
        yield Finding((*path, "time_zone"), "no such time zone", allowed="UTC, or an IANA name like Europe/Berlin")
    yield from _prefix_findings(sink.prefix, (*path, "prefix"), sink.time_zone, error_output=False)


def _partition_findings(stream: StreamConfig, sink: ObjectSinkConfig, path: KeyPath) -> Iterator[Finding]:
    try:
        prefix = Prefix.parse(sink.prefix)
    except ValueError:
        return  # told as such
    try:
        prefix.for_partitions(stream.partition is not None)
    except ValueError as error:
        yield Finding((*path, "sink", "prefix"), str(error), also=(*path, "partition"))
        return
    if stream.partition is not None:
        try:
            PartitionKernel(stream.partition.query, sink.prefix)
        except ValueError as error:
            yield Finding((*path, "partition", "query"), str(error), also=(*path, "sink", "prefix"))


def _prefix_findings(text: str, path: KeyPath, time_zone: str, *, error_output: bool) -> Iterator[Finding]:
    if _is_time_zone(time_zone):
        try:
            Prefix.parse(text, error_output=error_output, time_zone=time_zone)
        except ValueError as error:
            yield Finding(path, str(error))


def _prefix_doubts(text: str, path: KeyPath, *, error_output: bool) -> Iterator[Finding]:
    try:
        prefix = Prefix.parse(text, error_output=error_output)
    except ValueError:
        return  # an error, and told as such
    for message in prefix.doubts():
        yield Finding(path, message)


def _folder_doubts(sink: ObjectSinkConfig, path: KeyPath, data_dir: Path) -> Iterator[Finding]:
    above = folder.parent if isinstance(folder := getattr(sink, "path", None), Path) else None
    # the data directory is made at the start, with what is above it
    if above is not None and not data_dir.is_relative_to(above) and not above.is_dir():
        yield Finding(path, f"{above} does not exist, so nothing is delivered; make it: mkdir -p {above}")


def _nesting_doubts(stream: StreamConfig, sink: ObjectSinkConfig, path: KeyPath) -> Iterator[Finding]:
    """Doubt failed records in a folder of the good ones: who reads all of it as a table meets them."""
    try:
        good, failed = Prefix.parse(sink.prefix).head, Prefix.parse(stream.failed.prefix, error_output=True).head
    except ValueError:
        return
    folder = good.rpartition("/")[0]
    # without a folder there is none to read: the date path and the rest lie side by side in the root
    is_beneath = folder and failed.startswith(f"{folder}/") and _place_of(stream.failed.sink or sink) == _place_of(sink)
    if is_beneath and stream.failed.prefix != sink.prefix:
        message = f"failed records would lie in {folder}/, where readers of the good ones meet them; put them beside it"
        yield Finding(path, message)


def _mixing_findings(stream: StreamConfig, path: KeyPath) -> Iterator[Finding]:
    """Refuse failed records among the good ones. Streams made through the API may: that is Firehose's default."""
    sink, failed = stream.sink, stream.failed
    if sink and failed.prefix == sink.prefix and _place_of(failed.sink or sink) == _place_of(sink):
        message = "failed records would lie among the good ones, whose prefix this is; give them one of their own"
        yield Finding((*path, "failed", "prefix"), message, also=(*path, "sink"))


def _place_of(sink: ObjectSinkConfig) -> dict[str, object]:
    """Return what says where a sink's objects go, apart from what they are called."""
    return sink.model_dump(include={"type", "path", "bucket", "endpoint_url"})


def _key_findings(file: Path, path: KeyPath) -> Iterator[Finding]:
    broken = list(_readable(file, path))
    yield from broken
    if not broken:
        from firehose.ciphers.keyrings import read_key_file  # its libraries are for those who encrypt

        try:
            read_key_file(file)
        except ConfigError as error:
            # the value is shown beside it, or hidden where it came from the environment
            message, mark, command = str(error).removeprefix("key_file: ").partition(" with: ")
            yield Finding(path, f"{message.replace(str(file), 'the file')}{mark}{command.replace(str(file), 'FILE')}")


def _readable(file: Path, path: KeyPath) -> Iterator[Finding]:
    if not file.is_file():
        yield Finding(path, "no file stands there; relative paths begin at the folder of the configuration file")
    elif not os.access(file, os.R_OK):
        yield Finding(path, "the file cannot be read by this user")


def _undefined(kind: str, name: str, path: KeyPath, defined: Mapping[str, object]) -> Finding:
    names = ", ".join(defined) or f"none is defined under `{kind}s`"
    return Finding(path, f"no {kind} of this name is defined", allowed=names, also=(f"{kind}s", name))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_time_zone(name: str) -> bool:
    try:
        zone(name)
    except ValueError:
        return False
    return True
