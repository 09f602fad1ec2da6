"""Loads the configuration: files and folders of YAML in, one checked model out, or every problem at once."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError, create_model

from firehose.clock import Clock
from firehose.config.checks import Finding, doubts, findings
from firehose.config.document import (
    Entry,
    Items,
    KeyPath,
    Node,
    Place,
    Scalar,
    Section,
    plain,
    problem_at,
    read_document,
    section,
)
from firehose.config.explain import Spot, explain, locate, show, without_secrets
from firehose.config.lookups import function_findings, query_findings, table_findings
from firehose.config.models import Configuration, SinkConfig, StreamConfig, StreamName
from firehose.config.shape import Shape
from firehose.errors import ConfigError, Problem
from firehose.telemetry import Emitter

_SECTIONS = ", ".join(Configuration.model_fields)

if TYPE_CHECKING:
    _Draft = Configuration
else:
    #: A configuration whose streams may lack what they must have, so that the rest of them can be checked as well.
    _DraftStream = create_model("_DraftStream", __base__=StreamConfig, sink=(SinkConfig | None, None))
    _Draft = create_model("_Draft", __base__=Configuration, streams=(dict[StreamName, _DraftStream], {}))


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration, the files it came from, and where everything stands in them."""

    #: As far as it holds: what is wrong was left out, and is among the problems.
    configuration: Configuration
    files: tuple[Path, ...]
    root: Section
    #: What is wrong, in the order of the files.
    problems: tuple[Problem, ...] = ()
    left_out: frozenset[KeyPath] = frozenset()

    def problem(self, finding: Finding) -> Problem:
        """Return the finding with its place and the value that stands there."""
        return _problem(finding, self.root)

    def warnings(self) -> list[Problem]:
        """Return what is allowed, but likely means something else than whoever wrote it thought."""
        return self._told(doubts(self.configuration))

    async def looked_up(self, clock: Clock, telemetry: Emitter) -> tuple[list[Problem], list[Problem]]:
        """Return what shows only to who looks at tables, and at functions, which are loaded once.

        First what is wrong, then what is allowed, but likely means something else than whoever wrote it thought.
        """
        tables, doubted = await table_findings(self.configuration)
        functions = await function_findings(self.configuration, clock, telemetry)
        queries = await query_findings(self.configuration, clock, telemetry)
        return self._told((*tables, *functions, *queries)), self._told(doubted)

    def _told(self, found: Iterable[Finding]) -> list[Problem]:
        return in_order((self.problem(each) for each in found if not _is_echo(each, self.left_out)), self.files)


def load(paths: Sequence[Path], *, environment: Mapping[str, str]) -> Loaded:
    """Return what the files, and the `*.yaml` and `*.yml` of the folders, say together. Their paths become absolute.

    Errors: ConfigError with every problem found, in the order of the files.
    """
    loaded = examine(paths, environment=environment)
    if loaded.problems:
        raise ConfigError(loaded.problems)
    return loaded


def examine(paths: Sequence[Path], *, environment: Mapping[str, str]) -> Loaded:
    """Return what holds of the files, and the problems of all else: `load` for those who want to see everything."""
    files, problems = _files(paths)
    documents = []
    for file in files:
        document, found = read_document(file, environment)
        problems += found
        if isinstance(document, Section):
            documents.append(document)
        elif document is not None and not (isinstance(document, Scalar) and document.text is None):
            problems.append(problem_at(document.place, "expected keys and values", allowed=_SECTIONS))
    root, found = _merge(documents, files)
    problems += found
    configuration, left_out, found = _validate(root)
    problems += found
    assert problems or not left_out, "the model refuses what no problem explains"
    return Loaded(configuration, files, root, tuple(in_order(problems, files)), left_out)


def in_order(problems: Iterable[Problem], files: Sequence[Path]) -> list[Problem]:
    """Return the problems in the order of the files."""
    order = {str(file): index for index, file in enumerate(files)}
    return sorted(problems, key=lambda each: (order.get(each.file, -1), each.line, each.column))


def _files(paths: Iterable[Path]) -> tuple[tuple[Path, ...], list[Problem]]:
    files: dict[Path, Path] = {}
    problems: list[Problem] = []
    for path in paths:
        try:
            found = _yaml_in(path) if path.is_dir() else [path]
        except OSError as error:
            problems.append(problem_at(Place(path), f"cannot be read: {error.strerror}"))
            continue
        if not found:
            problems.append(problem_at(Place(path), "this folder holds no *.yaml or *.yml"))
        for file in found:
            files.setdefault(file.absolute(), file)
    return tuple(files.values()), problems


def _yaml_in(folder: Path) -> list[Path]:
    # editors and configuration managers keep their own files beside, with a dot in front
    return sorted(each for each in folder.iterdir() if each.suffix in (".yaml", ".yml") and each.name[0] != ".")


def _merge(documents: Iterable[Section], files: Sequence[Path]) -> tuple[Section, list[Problem]]:
    """Put the sections of all files together; what stands in two of them is a problem."""
    problems: list[Problem] = []
    merged: dict[str, Entry] = {}
    for document in documents:
        for name, entry in document.entries.items():
            known = merged.get(name)
            if isinstance(entry.node, Scalar) and entry.node.text is None:
                continue  # a section of which only the comments are written so far
            if name in Configuration.model_fields and not isinstance(entry.node, Section):
                problems.append(
                    problem_at(entry.node.place, "expected keys and values", (name,), value=show(entry.node))
                )
            elif known is None:
                merged[name] = entry
            elif isinstance(known.node, Section) and isinstance(entry.node, Section):
                problems += _twice(name, known.node, entry.node)
                both = {**known.node.entries, **entry.node.entries}
                merged[name] = Entry(known.key, section(known.node.place, both))
    return section(Place(files[0] if files else Path("firehose.yaml")), merged), problems


def _twice(name: str, first: Section, second: Section) -> list[Problem]:
    return [
        problem_at(second.entries[key].key, f"stands already at {first.entries[key].key}", (name, key))
        for key in second.entries
        if key in first.entries
    ]


def _validate(root: Section) -> tuple[Configuration, frozenset[KeyPath], list[Problem]]:
    """Return the model, what was left out of it because it is refused, and all problems.

    The rest is still checked, so that one run shows everything.
    """
    try:
        configuration = Configuration.model_validate(plain(root))
    except ValidationError as error:
        problems, spots = explain(error, root, Shape.of(_Draft))
        configuration, without = _draft(root, frozenset(_optional(spot) for spot in spots))
    else:
        problems, without = [], frozenset()
    configuration = _absolute(configuration, root)
    return configuration, without, problems + _problems(configuration, root, without)


def _draft(root: Section, without: frozenset[KeyPath]) -> tuple[Configuration, frozenset[KeyPath]]:
    """Return the configuration without what is refused, and what that is in the end.

    A rule between two values, one of which was left out, may refuse more: all it speaks of goes, too.
    """
    while True:
        try:
            return _Draft.model_validate(plain(root, without=without)), without
        except ValidationError as error:
            _, spots = explain(error, root, Shape.of(_Draft))
        more = frozenset(_optional(spot) for spot in spots)
        if more <= without:
            return Configuration(), frozenset({()})  # repairing what was told comes first
        without |= more


def _problems(configuration: Configuration, root: Section, without: frozenset[KeyPath]) -> list[Problem]:
    found = []
    for finding in findings(configuration):
        node = locate(finding.path, root).node
        is_broken = isinstance(node, Scalar) and node.is_broken
        if not is_broken and not _is_echo(finding, without):
            found.append(_problem(finding, root))
    return found


def _is_echo(finding: Finding, left_out: Iterable[KeyPath]) -> bool:
    return any(_touches(finding, path) for path in left_out)


def _optional(spot: Spot) -> KeyPath:
    """Return the nearest key, this one or one above, that can be left out."""
    path = spot.path
    while len(path) > 1:
        parent = spot.above[len(path) - 1]
        if not isinstance(path[-1], int) and (parent is None or not parent.is_required(path[-1])):
            break
        path = path[:-1]
    return path


def _touches(finding: Finding, left_out: KeyPath) -> bool:
    """True where the rule may look broken only because something was left out."""
    looked_at = (finding.path, finding.also or finding.path)
    return any(path[: len(left_out)] == left_out or left_out[: len(path)] == path for path in looked_at)


def _problem(finding: Finding, root: Section) -> Problem:
    spot = locate(finding.path, root)
    place = spot.node.place if spot.node else spot.key
    value = show(spot.node) if isinstance(spot.node, Scalar) else None
    also = locate(finding.also, root).node if finding.also else None
    message = without_secrets(finding.message, spot.node, also)
    return problem_at(place, message, finding.path, value=value, allowed=finding.allowed)


def _absolute(configuration: Configuration, root: Section) -> Configuration:
    """Return the configuration with every path absolute: a relative one begins at the folder of its own file."""
    absolute: Configuration = _with_absolute_paths(configuration, root, root.place.file.absolute().parent)
    return absolute


def _with_absolute_paths(value: Any, node: Node | None, folder: Path) -> Any:
    if node is not None:
        folder = node.place.file.absolute().parent
    if isinstance(value, Path):
        return Path(os.path.normpath(folder / os.path.expanduser(value)))
    if isinstance(value, BaseModel):
        keys = {name: info.alias or name for name, info in type(value).model_fields.items()}
        old = {name: getattr(value, name) for name in keys}
        new = {name: _with_absolute_paths(each, _below(node, keys[name]), folder) for name, each in old.items()}
        return value.model_copy(update={name: new[name] for name in new if new[name] is not old[name]})
    if isinstance(value, tuple):
        return tuple(_with_absolute_paths(each, _below(node, index), folder) for index, each in enumerate(value))
    if isinstance(value, dict):
        return {key: _with_absolute_paths(each, _below(node, key), folder) for key, each in value.items()}
    return value


def _below(node: Node | None, element: str | int) -> Node | None:
    if isinstance(node, Section) and element in node.entries:
        return node.entries[str(element)].node
    if isinstance(node, Items) and isinstance(element, int):
        return node.items[element]
    return None
