"""Options that several commands share."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from firehose.protocols import Stage
from firehose.units import parse_duration_ms

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_DATA_DIR = Path(".firehose")

MOMENT = "this time: 2026-11-21T14:00, which is UTC unless an offset like +01:00 follows, or Unix milliseconds"


def data_dir_option(command: F) -> F:
    """Add `--data-dir`."""
    return click.option(
        "--data-dir",
        type=click.Path(path_type=Path, file_okay=False),
        envvar="FIREHOSE_DATA_DIR",
        default=DEFAULT_DATA_DIR,
        show_default=True,
        help="Where everything durable lies.",
    )(command)


def json_option(command: F) -> F:
    """Add `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


class Moment(click.ParamType[int]):
    """A time as ISO 8601 (UTC unless it says otherwise) or as Unix milliseconds."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        if str(value).isdigit():
            return int(value)
        try:
            found = datetime.datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(f"{value!r} is no time; write 2026-11-21T14:00 or Unix milliseconds", param, ctx)
        if found.tzinfo is None:
            found = found.replace(tzinfo=datetime.UTC)
        return int(found.timestamp() * 1_000)


class Duration(click.ParamType[int]):
    """A duration with its unit, as milliseconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return parse_duration_ms(value)
        except ValueError as error:
            self.fail(f"{value!r}: {error}", param, ctx)


def filter_options(command: F) -> F:
    """Add the filters of failed records."""
    for option in reversed(
        [
            click.option("--stream", help="Only this stream's."),
            click.option("--stage", help=f"Only those that failed at this stage: {', '.join(Stage)}."),
            click.option("--code", help="Only those with this error code, as `failed stats` shows it."),
            click.option("--since", "since_ms", type=Moment(), help=f"Only those that arrived at or after {MOMENT}."),
            click.option("--until", "until_ms", type=Moment(), help=f"Only those that arrived before {MOMENT}."),
            click.option("--key", help="Only those in the error object with this key."),
        ]
    ):
        command = option(command)
    return command


def given(**parameters: Any) -> dict[str, Any]:
    """Return the parameters that were given."""
    return {name: value for name, value in parameters.items() if value is not None and value is not False}
