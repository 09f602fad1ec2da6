"""From a model's complaint to a problem a person can repair: the place, the key, the value, what is allowed.

Values that came from the environment, and those of secret fields, are never shown: `***` stands for them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import SequenceMatcher, get_close_matches

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from firehose.config.document import Items, KeyPath, Node, Place, Scalar, Section, problem_at, scalars
from firehose.config.shape import Shape
from firehose.errors import Problem

#: Longer values are cut where they are shown.
MAX_SHOWN_CHARACTERS = 80

#: A text that has as many characters in a row in common with a secret is not shown. Four can be chance.
_LEAK_CHARACTERS = 5

#: Values from the environment that are shorter are no secrets: `1`, `no`, `eu`.
_SECRET_CHARACTERS = 4

_MESSAGES = {
    "missing": "is missing",
    "int_type": "expected a whole number",
    "int_parsing": "expected a whole number",
    "int_from_float": "expected a whole number",
    "float_type": "expected a number",
    "float_parsing": "expected a number",
    "bool_type": "expected true or false",
    "bool_parsing": "expected true or false",
    "string_type": "expected text",
    "path_type": "expected a path",
    "dict_type": "expected keys and values",
    "model_type": "expected keys and values",
    "list_type": "expected a list",
    "tuple_type": "expected a list",
    "literal_error": "is none of the words allowed",
    "greater_than": "is too small",
    "greater_than_equal": "is too small",
    "less_than": "is too large",
    "less_than_equal": "is too large",
    "string_pattern_mismatch": "does not have the form it needs",
    "string_too_long": "is too long",
    "string_too_short": "is too short",
    "too_short": "has too few entries",
    "too_long": "has too many entries",
}


@dataclass(frozen=True, slots=True)
class Spot:
    """What is known of one path: the node that is written there, and what the model allows."""

    path: KeyPath
    #: Where its key stands; a list's entry stands at its own value. Of the nearest thing above that is written.
    key: Place
    #: None where nothing is written.
    node: Node | None
    #: None where the model knows no such key.
    shape: Shape | None
    #: The shapes above, that of the whole configuration first.
    above: tuple[Shape | None, ...]
    #: True for a complaint about another kind of value than the one that is written, where several kinds may stand.
    is_beside: bool = False


def locate(path: Iterable[str | int], root: Section, shape: Shape | None = None) -> Spot:
    """Return what is known of `path`. With `shape`, that of the root, `path` is pydantic's and names components too."""
    found: list[str | int] = []
    above: list[Shape | None] = []
    node: Node | None = root
    key = root.place
    is_beside = False
    for element in path:
        if element == "[key]":
            return Spot(tuple(found), key, Scalar(key, str(found[-1])), above[-1] and above[-1].names, tuple(above))
        if shape is not None and element in shape.components:
            shape = shape.components[str(element)]
            continue
        if shape is not None and shape.alternatives:
            shape, is_beside = _alternative(shape, str(element), node)
            continue
        found.append(element)
        above.append(shape)
        shape = shape and shape.below(element)
        if isinstance(node, Section) and element in node.entries:
            key, node = node.entries[str(element)].key, node.entries[str(element)].node
        elif isinstance(node, Items) and isinstance(element, int):
            node = node.items[element]
            key = node.place
        else:
            node = None
    return Spot(tuple(found), key, node, shape, tuple(above), is_beside)


def _alternative(shape: Shape, label: str, node: Node | None) -> tuple[Shape, bool]:
    """Return the shape that pydantic's `label` means, and whether what is written is of another kind."""
    models = [each for each in shape.alternatives if each.fields]
    chosen = next((each for each in models if each.annotation.__name__ in label), shape)
    is_section = isinstance(node, Section)
    has_kind = bool(models) if is_section else len(models) < len(shape.alternatives)
    return chosen, has_kind and is_section != (chosen is not shape)


def show(node: Node | None, *, is_secret: bool = False) -> str | None:
    """Return the value for a message, `***` for what must not be seen, None where nothing is written."""
    if node is None:
        return None
    if isinstance(node, Items):
        return "a list"
    if isinstance(node, Section):
        return "keys and values"
    if node.secrets:
        return f"*** from {', '.join(f'${{{name}}}' for name in node.secrets)}"
    if is_secret:
        return "***"
    if node.text is None:
        return "nothing"
    text = node.text if len(node.text) <= MAX_SHOWN_CHARACTERS else f"{node.text[:MAX_SHOWN_CHARACTERS]}…"
    return text if text.isprintable() and text.strip() else repr(text)


def suggest(word: str, allowed: Iterable[str]) -> str:
    """Return "; did you mean ...?" where one of the allowed words is close."""
    by_lower = {each.lower(): each for each in allowed}
    close = get_close_matches(word.lower(), by_lower, n=1)
    return f"; did you mean `{by_lower[close[0]]}`?" if close else ""


def explain(error: ValidationError, root: Section, shape: Shape) -> tuple[list[Problem], list[Spot]]:
    """Return a problem for each complaint that is not the echo of one reported already, and the spots of all."""
    problems: list[Problem] = []
    spots: list[Spot] = []
    for detail in error.errors(include_url=False):
        spot = locate(detail["loc"], root, shape)
        spots.append(spot)
        if problem := _explain(detail, spot):
            problems.append(problem)
    return problems, spots


def _explain(detail: ErrorDetails, spot: Spot) -> Problem | None:
    kind = detail["type"]
    if spot.is_beside:
        return None
    if kind == "extra_forbidden":
        return _unknown_key(spot)
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        return _no_component(spot)
    allowed = spot.shape.allowed() if spot.shape else None
    if spot.node is not None and any(each.is_broken for each in scalars(spot.node)):
        return None
    if spot.node is None:
        return problem_at(spot.key, _MESSAGES["missing"], spot.path, allowed=allowed)
    if isinstance(spot.node, Scalar) and spot.node.text is None:
        return problem_at(spot.node.place, "is empty", spot.path, allowed=allowed)
    is_secret = spot.shape is not None and spot.shape.is_secret
    is_rule = kind not in _MESSAGES and not isinstance(spot.node, Scalar)
    value = None if is_rule else show(spot.node, is_secret=is_secret)
    words = str(detail.get("ctx", {}).get("error", detail["msg"]))
    message = _MESSAGES.get(kind) or without_secrets(words, spot.node, is_secret=is_secret)
    hint = "" if is_secret else _hint(spot)
    return problem_at(spot.node.place, message + hint, spot.path, value=value, allowed=allowed)


#: A bucket as tools and policies name it.
_BUCKET = re.compile(r"(?:s3[an]?://|arn:[^:]*:s3:::)([\w.-]+)(?:/.*)?")


def _hint(spot: Spot) -> str:
    """Return "; did you mean ...?" where what was written says what was meant."""
    if spot.shape is None or not isinstance(spot.node, Scalar) or spot.node.text is None or spot.node.secrets:
        return ""
    text = spot.node.text.strip()
    if spot.shape.is_duration and text.isdigit():
        units = ("s",) if spot.shape.is_short else ("h", "d")
        return f"; did you mean {' or '.join(f'`{text}{unit}`' for unit in units)}?"
    if spot.path[-1] == "bucket" and (bucket := _BUCKET.fullmatch(text)):
        return f"; a bucket's name stands alone, did you mean `{bucket[1]}`?"
    return ""


def _unknown_key(spot: Spot) -> Problem:
    model = spot.above[-1]
    assert model is not None
    key = str(spot.path[-1])
    if alias := model.attributes.get(key):
        hint = f"; did you mean `{alias}`?"
    elif holders := [f"`{name}`" for name in model.fields if (below := model.below(name)) and key in below.inner_keys]:
        hint = f"; it stands under {' or '.join(holders)}"
    else:
        hint = suggest(key, model.fields)
    return problem_at(spot.key, f"unknown key{hint}", spot.path, allowed=", ".join(model.fields))


def _no_component(spot: Spot) -> Problem | None:
    """Say what is wrong with the word that chooses a component: its `type`, or the bare word that stands for it."""
    assert spot.shape is not None
    shape, allowed = spot.shape, spot.shape.allowed()
    node, path = spot.node, spot.path
    if isinstance(node, Section):
        path = (*path, shape.selector)
        if shape.selector not in node.entries:
            return problem_at(spot.key, _MESSAGES["missing"], path, allowed=allowed)
        node = node.entries[shape.selector].node
    place = node.place if node else spot.key
    if not isinstance(node, Scalar):
        return problem_at(place, f"expected one {shape.selector}", path, value=show(node), allowed=allowed)
    if node.is_broken:
        return None
    if node.text is None:
        return problem_at(place, "is empty", path, allowed=allowed)
    hint = "" if node.secrets else suggest(node.text, shape.components)
    return problem_at(place, f"unknown {shape.selector}{hint}", path, value=show(node), allowed=allowed)


def without_secrets(message: str, *nodes: Node | None, is_secret: bool = False) -> str:
    """Return a component's own words about some values, unless a secret of theirs could be read in them."""
    secrets = [secret for node in nodes if node for each in scalars(node) for secret in each.secrets.values()]
    if is_secret or any(_leaks(message, secret) for secret in secrets):
        return "is not valid; why is not said here, since it would show a secret"
    return message


def _leaks(message: str, secret: str) -> bool:
    common = SequenceMatcher(None, message, secret, autojunk=False).find_longest_match().size
    return len(secret) >= _SECRET_CHARACTERS and common >= min(len(secret), _LEAK_CHARACTERS)
