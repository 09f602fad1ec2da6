"""The `cloudwatch_logs` transform: the log lines of CloudWatch Logs subscriptions, out of their envelopes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

import orjson

from firehose.components import BuildContext, ComponentConfig
from firehose.protocols import Stage
from firehose.transforms.kernel_step import KernelStep, RecordKernel

#: What we say of a record that is no envelope; Firehose's word for it is not known.
FAILED: Final = "Message extraction failed."


class CloudWatchLogsConfig(ComponentConfig):
    """Takes the messages out of the envelopes that CloudWatch Logs subscriptions send, after `decompress`.

    A record becomes its messages, a line each; owner, group and stream of the log are lost, as in Firehose. What is no
    envelope goes to the error output as `decompression-failed`.
    """

    type: Literal["cloudwatch_logs"] = "cloudwatch_logs"
    control_messages: Literal["drop", "empty"] = "drop"
    """What becomes of control messages, which say that a subscription works: `drop` them, or make `empty` records of
    them, as Firehose does."""

    def build(self, context: BuildContext) -> KernelStep:
        """Return the transform."""
        kernel = CloudWatchLogsKernel(drops_control=self.control_messages == "drop")
        return KernelStep.of(kernel, context, Stage.DECOMPRESS)


class CloudWatchLogsKernel(RecordKernel):
    """Makes the messages of each envelope one record."""

    code = FAILED

    def __init__(self, drops_control: bool) -> None:
        self.words: Mapping[str, Any] = {"drops_control": drops_control}
        self._of_control = None if drops_control else b""

    def make(self, record: bytes) -> bytes | None:
        try:
            envelope = orjson.loads(record)
        except (orjson.JSONDecodeError, RecursionError) as error:
            raise ValueError(f"the record is no JSON: {error}") from error
        kind = envelope.get("messageType") if isinstance(envelope, dict) else None
        if kind == "CONTROL_MESSAGE":
            return self._of_control
        events = envelope.get("logEvents") if kind == "DATA_MESSAGE" else None
        if not isinstance(events, list):
            raise ValueError("the record is no envelope of CloudWatch Logs: messageType, or logEvents, is missing")
        lines = [event.get("message") if isinstance(event, dict) else None for event in events]
        if not all(isinstance(line, str) for line in lines):
            raise ValueError("the record is no envelope of CloudWatch Logs: an event has no message")
        return "".join(f"{line}\n" for line in lines).encode()
