"""YAML files as trees that know where every key and value stands.

A scalar stays the text that was written, and the model's field decides what it means: so `account: 000000000000`,
`version: 1.10` and `region: no` need no quotes to keep their meaning, and `port: ${PORT}` becomes a number.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from ruamel.yaml import YAML, nodes
from ruamel.yaml.composer import MaxDepthExceededError
from ruamel.yaml.error import MarkedYAMLError, StringMark, YAMLError
from ruamel.yaml.reader import ReaderError

from firehose.config.interpolation import interpolate
from firehose.errors import Problem

#: Where something stands in the configuration: ("streams", "web", "transforms", 0, "function").
KeyPath: TypeAlias = tuple[str | int, ...]

#: Nodes of one file after aliases are followed. 200 streams have about 8,000; aliases of aliases could make billions.
MAX_NODES = 1_000_000

#: How deep values may lie within each other; a configuration needs eight.
MAX_DEPTH = 64

_NO_TEXT = re.compile("[\0\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a key or value begins. Lines and columns count from 1; 0 is the file as a whole."""

    file: Path
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Scalar:
    """One value. `secrets`: what in it came from the environment, by variable. `is_broken`: reported already."""

    place: Place
    text: str | None
    secrets: Mapping[str, str] = field(default_factory=dict)
    is_broken: bool = False
    node_count: int = 1


@dataclass(frozen=True, slots=True)
class Items:
    """A list of values."""

    place: Place
    items: tuple[Node, ...]
    node_count: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A key's place and its value."""

    key: Place
    node: Node


@dataclass(frozen=True, slots=True)
class Section:
    """Keys with their values."""

    place: Place
    entries: Mapping[str, Entry]
    node_count: int


Node: TypeAlias = Scalar | Items | Section


def section(place: Place, entries: Mapping[str, Entry]) -> Section:
    return Section(place, entries, 1 + sum(entry.node.node_count for entry in entries.values()))


def key_text(path: KeyPath) -> str:
    """Return the path as people write it: `streams.web.transforms[0].function`."""
    return "".join(f"[{each}]" if isinstance(each, int) else f".{each}" for each in path).removeprefix(".")


def problem_at(place: Place, message: str, path: KeyPath = (), **more: str | None) -> Problem:
    return Problem(message, key_text(path), str(place.file), place.line, place.column, **more)


def scalars(node: Node) -> Iterator[Scalar]:
    """Yield every value in and beneath the node."""
    if isinstance(node, Scalar):
        yield node
    else:
        below = node.items if isinstance(node, Items) else (entry.node for entry in node.entries.values())
        for each in below:
            yield from scalars(each)


def plain(node: Node, *, without: frozenset[KeyPath] = frozenset(), path: KeyPath = ()) -> Any:
    """Return the tree as dicts, lists, texts and None, leaving out the keys at `without`."""
    if isinstance(node, Scalar):
        return node.text
    if isinstance(node, Items):
        return [plain(each, without=without, path=(*path, index)) for index, each in enumerate(node.items)]
    kept = ((key, entry) for key, entry in node.entries.items() if (*path, key) not in without)
    return {key: plain(entry.node, without=without, path=(*path, key)) for key, entry in kept}


def read_document(file: Path, environment: Mapping[str, str]) -> tuple[Node | None, list[Problem]]:
    """Return the tree of one YAML file, None where it is empty or unreadable, and what is wrong with it."""
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        return None, [problem_at(Place(file), f"cannot be read: {error.strerror}")]
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        return None, [problem_at(Place(file, line, 1), "is not UTF-8 text")]
    yaml = YAML(typ="safe", pure=True)
    yaml.max_depth = MAX_DEPTH
    yaml.composer.warn_double_anchors = False  # YAML allows them; the last one counts
    try:
        root = yaml.compose(text)
        if root is None:
            return None, []
        reader = _Reader(file, environment)
        return reader.read(root, ()), reader.problems
    except (YAMLError, ValueError, OverflowError) as error:  # of numbers too large for a character, or a version
        return None, [_syntax_problem(error, file, text)]


class _Reader:
    """Turns the nodes of one file into ours. A node met again by an alias is read once."""

    def __init__(self, file: Path, environment: Mapping[str, str]) -> None:
        self.problems: list[Problem] = []
        self._file = file
        self._environment = environment
        self._known: dict[int, Node] = {}
        self._open: set[int] = set()

    def read(self, raw: nodes.Node, path: KeyPath) -> Node:
        if id(raw) in self._known:
            return self._known[id(raw)]
        if id(raw) in self._open:
            return self._broken(raw, path, "an alias stands inside the value it repeats")
        self._open.add(id(raw))
        node = self._read(raw, path)
        if node.node_count > MAX_NODES:
            node = self._broken(raw, path, f"aliases make more than {MAX_NODES:,} values of this")
        self._open.remove(id(raw))
        self._known[id(raw)] = node
        return node

    def _read(self, raw: nodes.Node, path: KeyPath) -> Node:
        if not _is_plain_tag(raw):
            return self._broken(raw, path, "YAML tags have no meaning here; a value that begins with ! needs quotes")
        if isinstance(raw, nodes.MappingNode):
            return self._section(raw, path)
        if isinstance(raw, nodes.SequenceNode):
            items = tuple(self.read(each, (*path, index)) for index, each in enumerate(raw.value))
            return Items(self._place(raw), items, 1 + sum(each.node_count for each in items))
        if raw.tag == "tag:yaml.org,2002:null":
            return Scalar(self._place(raw), None)
        if _NO_TEXT.search(raw.value):
            return self._broken(raw, path, "holds a character that no text has (NUL, or half of a pair)")
        result = interpolate(raw.value, self._environment)
        for message in result.problems:
            self.problems.append(problem_at(self._place(raw), message, path))
        return Scalar(self._place(raw), result.text, result.secrets, is_broken=bool(result.problems))

    def _section(self, raw: nodes.MappingNode, path: KeyPath) -> Section:
        entries: dict[str, Entry] = {}
        merges: list[nodes.Node] = []
        for raw_key, raw_value in raw.value:
            place = self._place(raw_key)
            if raw_key.tag == "tag:yaml.org,2002:merge":
                merges.append(raw_value)
            elif not isinstance(raw_key, nodes.ScalarNode) or not raw_key.value or not _is_plain_tag(raw_key):
                self.problems.append(problem_at(place, "a key must be plain text", path))
            elif raw_key.value in entries:
                first = entries[raw_key.value].key
                self.problems.append(
                    problem_at(place, f"this key stands already in line {first.line}", (*path, raw_key.value))
                )
            elif _is_nothing(raw_value):
                # the parser puts it where the next thing begins, often a line further down
                entries[raw_key.value] = Entry(place, Scalar(place, None))
            else:
                entries[raw_key.value] = Entry(place, self.read(raw_value, (*path, raw_key.value)))
        for merge in merges:
            self._merge(merge, entries, path)
        return section(self._place(raw), entries)

    def _merge(self, raw: nodes.Node, entries: dict[str, Entry], path: KeyPath) -> None:
        """Add what `<<` brings; keys that are written out, or brought by an earlier one, win."""
        brought = self.read(raw, (*path, "<<"))
        for each in brought.items if isinstance(brought, Items) else (brought,):
            if isinstance(each, Section):
                for key, entry in each.entries.items():
                    entries.setdefault(key, entry)
            elif not (isinstance(each, Scalar) and each.is_broken):
                self.problems.append(problem_at(each.place, "<< takes keys and values, by an alias", (*path, "<<")))

    def _broken(self, raw: nodes.Node, path: KeyPath, message: str) -> Scalar:
        self.problems.append(problem_at(self._place(raw), message, path))
        return Scalar(self._place(raw), "", is_broken=True)

    def _place(self, raw: nodes.Node) -> Place:
        return Place(self._file, raw.start_mark.line + 1, raw.start_mark.column + 1)


def _is_nothing(raw: nodes.Node) -> bool:
    return isinstance(raw, nodes.ScalarNode) and raw.tag == "tag:yaml.org,2002:null" and not raw.value


def _is_plain_tag(raw: nodes.Node) -> bool:
    kinds = ("str", "int", "float", "bool", "null", "timestamp", "merge", "value", "map", "seq")
    return str(raw.tag) in {f"tag:yaml.org,2002:{kind}" for kind in kinds}


def _syntax_problem(error: YAMLError | ValueError | OverflowError, file: Path, text: str) -> Problem:
    if isinstance(error, ReaderError):
        line = text.count("\n", 0, error.position) + 1
        column = error.position - (text.rfind("\n", 0, error.position) + 1) + 1
        return problem_at(Place(file, line, column), "a character stands here that YAML does not allow")
    mark: StringMark | None = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    if isinstance(error, MaxDepthExceededError):
        return problem_at(_place_of(mark, file), f"is nested more than {MAX_DEPTH} deep")
    if not isinstance(error, MarkedYAMLError) or mark is None:
        return problem_at(_place_of(mark, file), f"is not valid YAML: {error}")
    if error.context in ("while scanning a quoted scalar", "while parsing an tag"):
        mark = error.context_mark or mark  # where the value begins, not where the parser gave up
    lines = [*text.splitlines(), ""]
    message = _explain_syntax(error.problem or "", lines[min(mark.line, len(lines) - 1)], mark.column)
    return problem_at(Place(file, mark.line + 1, mark.column + 1), message)


def _place_of(mark: StringMark | None, file: Path) -> Place:
    return Place(file) if mark is None else Place(file, mark.line + 1, mark.column + 1)


def _explain_syntax(what: str, line: str, column: int) -> str:
    """Return the parser's words, or better ones where we know what the person meant."""
    if line.startswith("!{", column):
        return "a value that begins with !{ needs quotes, or YAML takes it for a tag"
    if column and line.startswith("${", column - 1):
        return "a value with ${...} inside braces or brackets needs quotes"
    if "unexpected end of stream" in what:
        return "these quotes are never closed"
    if "found character '\\t'" in what:
        return "a tab stands here; YAML is indented with spaces"
    if cannot := re.match(r"found character '(.)' that cannot start", what):
        return f"a value that begins with {cannot[1]} needs quotes"
    if what == "mapping values are not allowed here":
        return "a colon stands here where no key can; check the indentation, or put the value in quotes"
    if what == "but found another document":
        return "a second YAML document begins here; a file holds one"
    return f"is not valid YAML: {what}"
