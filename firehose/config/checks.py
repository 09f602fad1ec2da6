"""What must hold between parts of the configuration, and between it and this machine: each breach is a finding.

Findings name a path of the configuration, not a file: streams made through the API are checked by the same rules.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from firehose.catalogs.file import FileCatalog, FileCatalogConfig
from firehose.components import ConvertConfig, ObjectSinkConfig
from firehose.config.document import KeyPath
from firehose.config.models import Configuration, ServerConfig, StreamConfig
from firehose.errors import FirehoseError
from firehose.keys import Prefix, zone


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
    if stream.convert:
        yield from _convert_findings(stream, stream.convert, path, configuration)
    if stream.encryption and isinstance(key_file := getattr(stream.encryption, "key_file", None), Path):
        yield from _readable(key_file, (*path, "encryption", "key_file"))
    for sink, where in ((stream.sink, ("sink",)), (stream.failed.sink, ("failed", "sink"))):
        if sink:
            yield from _sink_findings(sink, (*path, *where))
    failed_sink = stream.failed.sink or stream.sink
    time_zone = failed_sink.time_zone if failed_sink else "UTC"
    yield from _prefix_findings(stream.failed.prefix, (*path, "failed", "prefix"), time_zone, error_output=True)


def _convert_findings(
    stream: StreamConfig, convert: ConvertConfig, path: KeyPath, configuration: Configuration
) -> Iterator[Finding]:
    names = configuration.catalogs
    if convert.catalog is not None and convert.catalog not in names:
        yield _undefined("catalog", convert.catalog, (*path, "convert", "catalog"), names)
    elif convert.catalog is None and len(names) != 1:
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


def _prefix_findings(text: str, path: KeyPath, time_zone: str, *, error_output: bool) -> Iterator[Finding]:
    if _is_time_zone(time_zone):
        try:
            Prefix.parse(text, error_output=error_output, time_zone=time_zone)
        except ValueError as error:
            yield Finding(path, str(error))


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


async def table_findings(configuration: Configuration) -> list[Finding]:
    """Return what is wrong with the tables of file catalogs that streams convert to; other catalogs are not asked."""
    defined: Mapping[str, object] = configuration.catalogs
    catalogs = {name: FileCatalog(each.path) for name, each in defined.items() if isinstance(each, FileCatalogConfig)}
    found: list[Finding] = []
    for name, stream in configuration.streams.items():
        if not stream.convert:
            continue
        catalog = stream.convert.catalog or next(iter(configuration.catalogs))
        database, table = stream.convert.table.split(".")
        try:
            if catalog in catalogs:
                schema = await catalogs[catalog].table_schema(database, table, stream.convert.version)
                stream.convert.deserializer.build(schema)
        except FirehoseError as error:
            found.append(Finding(("streams", name, "convert", "table"), str(error), also=("catalogs", catalog)))
    return found
