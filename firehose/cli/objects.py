"""`firehose audit --deep`: one bounded step after another, with a line that shows how far it is."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from firehose.cli.call import call
from firehose.cli.options import given
from firehose.cli.output import counted
from firehose.units import format_bytes


def audit_objects(data_dir: Path, stream: str | None, *, is_quiet: bool) -> dict[str, Any]:
    """Look at all objects and return the totals. Errors: FirehoseError."""
    totals: dict[str, Any] = {}
    cursor: list[str] | None = None
    is_shown = not is_quiet and sys.stderr.isatty()
    while True:
        step: dict[str, Any] = call(data_dir, "audit_objects", given(stream=stream, cursor=cursor))
        cursor = step.pop("cursor")
        totals = {name: totals[name] + value for name, value in step.items()} if totals else step
        if is_shown:
            read = f"{counted(totals['objects'], 'object')}, {format_bytes(totals['body_bytes'])}"
            click.echo(f"\r{read} read", nl=cursor is None, err=True)
        if cursor is None:
            return totals
