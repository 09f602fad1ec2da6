"""docs/operations.md names every metric, event and command there is, and none that is not."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
import re
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import pytest
from prometheus_client import Counter, Gauge, Histogram

import firehose
from firehose.cli import main
from firehose.telemetry import Event, Metrics, _words

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "operations.md"
TEXT = DOCUMENT.read_text(encoding="utf-8")

#: A metric's full name, its type and its labels.
Shape = tuple[str, str, frozenset[str]]

KINDS = {Counter: "counter", Gauge: "gauge", Histogram: "histogram"}


class SeenMetrics(Metrics):
    """Notes the shape of every metric that is moved."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: set[Shape] = set()

    def _metric(self, kind: Any, name: str, help_text: str, labels: dict[str, str]) -> Any:
        self.shapes.add((f"firehose_{name}", KINDS[kind], frozenset(labels)))
        return super()._metric(kind, name, help_text, labels)


def event_classes() -> list[type[Event]]:
    """Return every event class of the package."""
    for module in pkgutil.walk_packages(firehose.__path__, "firehose."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    # a class with slots is a copy of the one that was written; only the copy is found under its name
    found = {each for each in _below(Event) if getattr(importlib.import_module(each.__module__), each.__name__) is each}
    return sorted((each for each in found if each.__module__.startswith("firehose.")), key=lambda each: each.__name__)


def _below(base: type[Event]) -> Iterator[type[Event]]:
    for each in base.__subclasses__():
        yield each
        yield from _below(each)


def example(annotation: Any) -> Any:
    """Return a value of a field's type, one that moves metrics: not empty, not 0, not False."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return example(next(each for each in arguments if each is not types.NoneType))
    if origin is Mapping:
        return {example(arguments[0]): example(arguments[1])}
    return {str: "word", int: 1, float: 1.0, bool: True}[annotation]


def shapes_of(event_class: type[Event]) -> set[Shape]:
    """Return the metrics that an event moves."""
    hints = typing.get_type_hints(event_class)
    assert dataclasses.is_dataclass(event_class)
    fields = {field.name: example(hints[field.name]) for field in dataclasses.fields(event_class)}
    metrics = SeenMetrics()
    event_class(**fields).measure(metrics)
    return metrics.shapes


def documented() -> set[Shape]:
    """Return the rows of the table of metrics."""
    rows = re.findall(r"^\| `(firehose_\w+)` \| (\w+) \|([^|]*)\| \S.* \|$", TEXT, re.MULTILINE)
    assert len({name for name, _, _ in rows}) == len(rows), "a metric stands there twice"
    return {(name, kind, frozenset(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}


def test_every_metric_is_documented_with_its_labels() -> None:
    moved = set().union(*(shapes_of(each) for each in event_classes()))
    assert len(moved) > 20, "the events were not found"
    assert moved - documented() == set(), "missing in docs/operations.md"
    assert documented() - moved == set(), "no event moves these"


@pytest.mark.parametrize("document", [DOCUMENT, ROOT / "deploy" / "README.md"], ids=lambda path: path.parent.name)
def test_every_metric_that_is_named_exists(document: Path) -> None:
    named = set(re.findall(r"\bfirehose_[a-z_]+\b", document.read_text(encoding="utf-8")))
    assert named <= {name for name, _, _ in documented()}


def test_every_event_that_is_named_exists() -> None:
    events = {_words(each.__name__) for each in event_classes()}
    named = set(re.findall(r"`(\w+_(?:failed|delivered|expired|started|stopped))`", TEXT))
    assert named
    assert named <= events


def test_every_command_is_documented_and_exists() -> None:
    known = {"": main.commands}
    known |= {name: command.commands for name, command in main.commands.items() if isinstance(command, click.Group)}
    words = {f"{group} {name}".strip() for group, commands in known.items() for name in commands} - set(known)
    missing = {each for each in words if f"firehose {each}" not in TEXT}
    assert missing <= {"schema"}, "missing in docs/operations.md"
    named = re.findall(r"(?:^|`)firehose ([a-z]+)(?: (?=[a-z]+[ `])([a-z]+))?", TEXT, re.MULTILINE)
    assert {" ".join(filter(None, each)) for each in named} <= words
