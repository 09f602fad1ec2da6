"""Twins of everything outside, for our tests and for those of plugin authors: time, a source, a sink."""

from firehose.testing.clock import FakeClock
from firehose.testing.sink import MemorySink
from firehose.testing.source import MemorySource
from firehose.testing.telemetry import RecordingTelemetry

__all__ = ["FakeClock", "MemorySink", "MemorySource", "RecordingTelemetry"]
