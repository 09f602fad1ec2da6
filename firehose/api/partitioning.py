"""DynamicPartitioningConfiguration: checked with the processor and the prefixes it needs, and put into our words."""

from __future__ import annotations

from typing import Final

from firehose.api import processing
from firehose.api.wire import Members, invalid
from firehose.config.models import PartitionConfig

#: The smallest and the usual buffer of a stream with partitions. Units: MiB, seconds.
MIN_BUFFER_MIB: Final = 64
BUFFER_MIB: Final = 128
MIN_BUFFER_S: Final = 60

#: For how long the service fills in that it tries again. Delivery to S3 is tried until retention ends, here as there.
_RETRY_S: Final = 300


def is_enabled(destination: Members) -> bool:
    """Return whether records choose their objects: left out means no."""
    return bool(destination.get("DynamicPartitioningConfiguration", {}).get("Enabled", False))


def check(destination: Members) -> None:
    """Check a destination with partitions, but for its prefixes. Errors: WireError."""
    if not is_enabled(destination):
        if processing.query(destination.get("ProcessingConfiguration")) is not None:
            raise invalid("The MetadataExtraction processor can only be used when Dynamic Partitioning is enabled.")
        return
    hints = destination.get("BufferingHints", {})
    if hints.get("SizeInMBs", BUFFER_MIB) < MIN_BUFFER_MIB:
        raise invalid("BufferingHints.SizeInMBs must be at least 64 when Dynamic Partitioning is enabled.")
    if hints.get("IntervalInSeconds", MIN_BUFFER_S) < MIN_BUFFER_S:
        raise invalid(
            "BufferingHints.IntervalInSeconds must be at least 60 seconds when Dynamic Partitioning is enabled."
        )
    for name in ("Prefix", "ErrorOutputPrefix"):
        if not destination.get(name):
            raise invalid(f"{name} must be specified when Dynamic Partitioning is enabled.")


def partition(destination: Members) -> Members | None:
    """Return a checked destination's partitioning in the words of the configuration."""
    if not is_enabled(destination):
        return None
    return {"query": processing.query(destination.get("ProcessingConfiguration"))}


def description(destination: Members) -> Members:
    """Return the block as Describe shows it, if there is one."""
    given = destination.get("DynamicPartitioningConfiguration")
    if given is None:
        return {}
    retry = {"RetryOptions": {"DurationInSeconds": _RETRY_S}} if is_enabled(destination) else {}
    return {"DynamicPartitioningConfiguration": {**retry, **given}}


def definition(config: PartitionConfig | None) -> tuple[Members, list[Members]]:
    """Return the members of a destination, and the processors, that come nearest to a stream from a file."""
    if config is None:
        return {}, []
    processors = [] if config.query is None else [processing.extraction(config.query)]
    return {"DynamicPartitioningConfiguration": {"Enabled": True}}, processors
