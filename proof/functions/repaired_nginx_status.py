"""A function for the status snapshots, which had none: makes them JSON of their table again."""

from __future__ import annotations

import ast
import base64
import json
import re
from typing import Any


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Answer Firehose's event."""
    return {"records": [_answer(record) for record in event["records"]]}


def _answer(record: dict[str, Any]) -> dict[str, Any]:
    try:
        text = json.dumps(repaired(base64.b64decode(record["data"]).decode()))
    except (ValueError, SyntaxError, KeyError, TypeError):
        return {"recordId": record["recordId"], "result": "ProcessingFailed", "data": record["data"]}
    return {"recordId": record["recordId"], "result": "Ok", "data": base64.b64encode(text.encode()).decode()}


def repaired(text: str) -> dict[str, Any]:
    """Return the snapshot that was meant. Errors: ValueError, SyntaxError and others where none can be seen."""
    text = re.sub(r",\s*}\s*$", "}", text)
    try:
        found = json.loads(text)  # of a key that stands there twice, the last value counts
    except ValueError:
        found = ast.literal_eval(text)  # what Python's print makes of a snapshot
    if isinstance(found, str):
        found = json.loads(found)
    snapshot: dict[str, Any] = found
    total = snapshot["requests"]["total"]
    if isinstance(total, str):
        snapshot["requests"]["total"] = int(total.removesuffix(" requests"))
    return snapshot
