"""What a stream's worker is made of, built once from its configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from firehose.components import StreamIdentity
from firehose.delivery.buffer import Hints
from firehose.delivery.conversion import Conversion
from firehose.delivery.partitioning import Partitioning
from firehose.keys import Prefix, object_key, object_uuid
from firehose.partitioning import SEPARATOR
from firehose.protocols import Cipher, Compressor, Encoder, Sink, Source, Stage, Transform
from firehose.records import RowSet

#: The outlet of what goes where the user wants it, and of what could not.
DESTINATION = "destination"
FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Outlet:
    """One way out of a stream, with its own buffer, intents and progress."""

    name: str
    sink: Sink
    prefix: Prefix
    hints: Hints
    compressor: Compressor
    cipher: Cipher | None
    #: The key's ending, with its dot, or "".
    extension: str
    content_type: str

    def key(self, identity: StreamIdentity, version: int, rows: RowSet, *, oldest_ms: int, group: str) -> str:
        """Return the key of the object that holds `rows`: the same rows give the same key, whoever seals them."""
        return object_key(
            self.prefix,
            stream=identity.name,
            version=version,
            oldest_ms=oldest_ms,
            identity=object_uuid(stream_uid=identity.uid, outlet=self.name, rows=rows.to_bytes()),
            extension=self.extension,
            error_output_type=group if self.name == FAILED else None,
            values=group.split(SEPARATOR) if self.prefix.partition_keys else (),
        )


@dataclass(frozen=True, slots=True)
class Deduplication:
    """Where the records of a stream have their id, and for how long, and in how much space, it is known."""

    path: tuple[str, ...]
    window_ms: int
    max_bytes: int


@dataclass(frozen=True, slots=True)
class StreamPlan:
    """Everything a worker needs to know of its stream."""

    identity: StreamIdentity
    version: int
    source: Source
    transforms: tuple[Transform, ...]
    conversion: Conversion | None
    encoder: Encoder
    destination: Outlet
    failed: Outlet
    #: How long undelivered records are kept, None: for ever.
    retention_ms: int | None
    #: Which records are duplicates of others, None: none.
    deduplication: Deduplication | None
    #: Which objects each record goes to, None: all to the same.
    partitioning: Partitioning | None
    #: Members that every error entry of a stage carries.
    stage_facts: Mapping[Stage, Mapping[str, Any]]

    def outlet(self, name: str) -> Outlet:
        """Return an outlet by its name."""
        return {DESTINATION: self.destination, FAILED: self.failed}[name]
