"""Takes the messages out of the compressed envelopes that CloudWatch Logs subscriptions send.

An AWS Lambda function for Firehose: runs here (`functions: {logs: {path: transforms/cloudwatch_logs.py}}`) and,
unchanged, on AWS Lambda with the handler `cloudwatch_logs.handler`. The gzip of

    {"messageType":"DATA_MESSAGE","owner":"123456789012","logGroup":"/app","logStream":"i-1",
     "subscriptionFilters":["f"],"logEvents":[{"id":"1","timestamp":1767225600000,"message":"one"},
     {"id":"2","timestamp":1767225600001,"message":"two"}]}

becomes two lines, `one` and `two`. A CONTROL_MESSAGE, with which CloudWatch checks that the stream is there, is
dropped. Anything else fails, and so does what would make the answer larger than the 6 MB that Lambda lets through:
the messages of one event may be many times larger than their envelopes.
"""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from typing import Any

#: Bytes of data in one answer, after base64: Lambda's limit is 6 MB for all of its JSON.
ANSWER_BYTES = 5_500_000
#: Bytes of an envelope, decompressed: what one record can hold at most is far below it, unless it is made to harm.
ENVELOPE_BYTES = 64 * 2**20

_GZIP = 16 + zlib.MAX_WBITS


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Answer Firehose's event."""
    answers = []
    left_bytes = ANSWER_BYTES
    for record in event["records"]:
        try:
            messages = extract(base64.b64decode(record["data"]))
        except (ValueError, binascii.Error):
            answers.append({"recordId": record["recordId"], "result": "ProcessingFailed"})
            continue
        if messages is None:
            answers.append({"recordId": record["recordId"], "result": "Dropped"})
            continue
        data = base64.b64encode("\n".join(messages).encode()).decode()
        if len(data) > left_bytes:
            answers.append({"recordId": record["recordId"], "result": "ProcessingFailed"})
            continue
        left_bytes -= len(data)
        answers.append({"recordId": record["recordId"], "result": "Ok", "data": data})
    return {"records": answers}


def extract(body: bytes) -> list[str] | None:
    """Return the messages in an envelope, None for a control message. Errors: ValueError."""
    envelope = json.loads(_decompressed(body))
    kind = envelope.get("messageType") if isinstance(envelope, dict) else None
    if kind == "CONTROL_MESSAGE":
        return None
    if kind != "DATA_MESSAGE":
        raise ValueError(f"not an envelope of CloudWatch Logs: messageType {kind}")
    events = envelope.get("logEvents")
    if not isinstance(events, list):
        raise ValueError("an envelope without logEvents")
    return [_message(each) for each in events]


def _message(event: Any) -> str:
    message = event.get("message") if isinstance(event, dict) else None
    if not isinstance(message, str):
        raise ValueError("a log event without a message")
    return message


def _decompressed(body: bytes) -> bytes:
    stream = zlib.decompressobj(_GZIP)
    try:
        envelope = stream.decompress(body, ENVELOPE_BYTES)
    except zlib.error as error:
        raise ValueError(f"not gzip: {error}") from error
    if not stream.eof or stream.unused_data:
        raise ValueError("cut off, too large, or followed by something else")
    return envelope
