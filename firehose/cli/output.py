"""Showing answers to people, or to programs with `--json`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click

from firehose.units import format_duration_ms


def show_json(value: Any) -> None:
    """Print an answer as JSON."""
    click.echo(json.dumps(value, indent=2))


def show_table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print rows in columns; numbers stand to the right."""
    cells = [[_text(cell) for cell in row] for row in rows]
    widths = [max(len(head), *(len(row[at]) for row in cells)) if cells else len(head) for at, head in enumerate(heads)]
    click.echo("  ".join(head.ljust(width) for head, width in zip(heads, widths, strict=True)).rstrip())
    for row, given in zip(cells, rows, strict=True):
        parts = [
            text.rjust(width) if isinstance(value, int) and not isinstance(value, bool) else text.ljust(width)
            for text, width, value in zip(row, widths, given, strict=True)
        ]
        click.echo("  ".join(parts).rstrip())


def _text(cell: Any) -> str:
    if cell is None:
        return "-"
    return f"{cell:,}" if isinstance(cell, int) and not isinstance(cell, bool) else str(cell)


def counted(number: int, word: str) -> str:
    """Return "1 record" or "2,000 records"."""
    return f"{number:,} {word}{'s' * (number != 1)}"


def remarks(stream: Mapping[str, Any]) -> Iterator[str]:
    """Yield what else `status` has to say of a stream."""
    if stream["failed_quota_is_full"]:
        yield "as many failed records as may (server.failed_quota) wait for the error output, and the stream with them"
    known = stream["deduplicate"]
    if known and known["ids"]:
        yield f"{counted(known['ids'], 'record id')} known, back to {format_duration_ms(known['window_ms'])} ago"
    if known and known["without_id"]:
        without_id = counted(known["without_id"], "record")
        yield f"{without_id} without an id since the start; is `deduplicate.record_id` right?"


def cut(text: str, characters: int) -> str:
    """Return at most so many characters of the text; an ellipsis says that it goes on."""
    return text if len(text) <= characters else text[: characters - 1] + "…"


def moment(time_ms: int) -> str:
    """Return Unix milliseconds as people read them, in UTC."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(time_ms / 1_000))
