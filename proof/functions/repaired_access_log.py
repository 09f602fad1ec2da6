"""The access log's function after the repair: undoes what was found in the error output, then does as before."""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import sys
from typing import Any

sys.path.insert(0, os.path.join(os.environ["LAMBDA_TASK_ROOT"], "..", "..", "transforms"))

import access_log

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Answer Firehose's event."""
    for record in event["records"]:
        line = repaired(base64.b64decode(record["data"]))
        record["data"] = base64.b64encode(line).decode()
    answer: dict[str, Any] = access_log.handler(event, context)
    return answer


def repaired(line: bytes) -> bytes:
    """Return the line as the web server wrote it."""
    if b"\0" in line:
        line = line.decode("utf-16-le").encode("latin-1")
    if b" " not in line:
        try:
            line = base64.b64decode(line, validate=True)
        except binascii.Error:
            return line  # something else: let it fail again
    if line.startswith(b'{"log":'):
        line = json.loads(line)["log"].encode("latin-1")
    line = line.replace("”".encode(), b'"')
    line = re.sub(
        rb"\[(\d\d)/(\d\d)/", lambda found: b"[%s/%s/" % (found[1], _MONTHS[int(found[2]) - 1].encode()), line
    )
    return re.sub(rb'(" \d{3} [1-9]\d*?)0{20} ', rb"\1 ", line, count=1)
