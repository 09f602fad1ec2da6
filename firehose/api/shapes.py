"""Check requests against the service model of the API: types, required members, lengths, ranges, patterns, enums.

The constraints are data, read from the model file that botocore ships; botocore itself is not run. Messages are those
of the service, because clients match on them. Two validators run in sequence at AWS: this is the first, what depends
on meaning is checked where it is known what is meant.

Source: botocore `data/firehose/2015-08-04/service-2.json.gz`
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import Any

import orjson
import pybase64

from firehose.api.wire import SERIALIZATION, VALIDATION, WireError

Shape = dict[str, Any]

#: The service prints some constraints otherwise than its model writes them; clients see the service.
_PRINTED_ENUMS = {"CompressionFormat": ["ZIP", "HADOOP_SNAPPY", "Snappy", "GZIP", "UNCOMPRESSED"]}
_PRINTED_PATTERNS = {"FileExtension": r"^(|\.[0-9a-z!\-_.*'()]+)$"}

#: Unicode classes that `re` does not know. Exact where L, N and `_` stand together, which is so in this model.
_CLASSES = {r"\p{L}": r"\w", r"\p{N}": r"\d", r"\p{Z}": "\u0020\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"}


def check(operation: str, body: Any) -> dict[str, Any]:
    """Return the members of a request that the model knows, NULLs left out.

    Errors: WireError, SerializationException for the first wrong JSON type, ValidationException naming every
    constraint that does not hold.
    """
    problems: list[str] = []
    members: dict[str, Any] = _checked(_operations()[operation]["input"]["shape"], body, "", problems)
    if problems:
        count = "1 validation error" if len(problems) == 1 else f"{len(problems)} validation errors"
        raise WireError(VALIDATION, f"{count} detected: {'; '.join(problems)}")
    return members


def operations() -> frozenset[str]:
    """Return the names of all operations of the API."""
    return frozenset(_operations())


@cache
def _model() -> dict[str, Any]:
    path = files("botocore") / "data" / "firehose" / "2015-08-04" / "service-2.json.gz"
    model: dict[str, Any] = orjson.loads(gzip.decompress(path.read_bytes()))
    return model


def _operations() -> dict[str, Any]:
    found: dict[str, Any] = _model()["operations"]
    return found


def _checked(name: str, value: Any, path: str, problems: list[str]) -> Any:
    shape = _model()["shapes"][name]
    return _KINDS[shape["type"]](name, shape, value, path, problems)


def _structure(_name: str, shape: Shape, value: Any, path: str, problems: list[str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _not_a(value, "a structure")
    given = {member: value[member] for member in shape["members"] if value.get(member) is not None}
    for member in shape.get("required", ()):
        if member not in given:
            problems.append(_problem(_below(path, member), "Member must not be null"))
    return {
        member: _checked(shape["members"][member]["shape"], each, _below(path, member), problems)
        for member, each in given.items()
    }


def _list(_name: str, shape: Shape, value: Any, path: str, problems: list[str]) -> list[Any]:
    if not isinstance(value, list):
        raise _not_a(value, "a list")
    _check_length(shape, len(value), path, problems)
    if len(value) > shape.get("max", len(value)):
        return []  # what is too long is not looked into: the answer stays small
    checked = []
    for number, each in enumerate(value, start=1):
        if each is None:
            problems.append(_problem(f"{path}.{number}.member", "Member must not be null"))
        else:
            checked.append(_checked(shape["member"]["shape"], each, f"{path}.{number}.member", problems))
    return checked


def _map(_name: str, shape: Shape, value: Any, path: str, problems: list[str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _not_a(value, "a map")
    for key in value:
        _checked(shape["key"]["shape"], key, f"{path}.key", problems)
    return {key: _checked(shape["value"]["shape"], each, f"{path}.{key}", problems) for key, each in value.items()}


def _string(name: str, shape: Shape, value: Any, path: str, problems: list[str]) -> str:
    if not isinstance(value, str):
        raise _not_a(value, "a String")
    if "enum" in shape:
        if value not in shape["enum"]:
            printed: list[str] = _PRINTED_ENUMS.get(name) or shape["enum"]
            allowed = ", ".join(printed)
            problems.append(_problem(path, f"Member must satisfy enum value set: [{allowed}]"))
        return value
    _check_length(shape, len(value), path, problems)
    if "pattern" in shape and not _pattern(shape["pattern"]).fullmatch(value):
        pattern = _PRINTED_PATTERNS.get(name, shape["pattern"])
        problems.append(_problem(path, f"Member must satisfy regular expression pattern: {pattern}"))
    return value


def _number(_name: str, shape: Shape, value: Any, path: str, problems: list[str]) -> int | float:
    is_integer = shape["type"] == "integer"
    if isinstance(value, bool) or not isinstance(value, int if is_integer else int | float):
        raise _not_a(value, "an Integer" if is_integer else "a Double")
    if value < shape.get("min", value):
        problems.append(_problem(path, f"Member must have value greater than or equal to {shape['min']}"))
    if value > shape.get("max", value):
        problems.append(_problem(path, f"Member must have value less than or equal to {shape['max']}"))
    return value


def _boolean(_name: str, _shape: Shape, value: Any, _path: str, _problems: list[str]) -> bool:
    if not isinstance(value, bool):
        raise _not_a(value, "a Boolean")
    return value


def _timestamp(_name: str, _shape: Shape, value: Any, _path: str, _problems: list[str]) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _not_a(value, "a Timestamp (a number of seconds)")
    return value


def _blob(_name: str, shape: Shape, value: Any, path: str, problems: list[str]) -> str:
    if not isinstance(value, str):
        raise _not_a(value, "a Blob (base64 in a string)")
    try:
        data = pybase64.b64decode(value, validate=True)
    except ValueError:
        raise WireError(SERIALIZATION, f"'{path}' is not valid base64.") from None
    _check_length(shape, len(data), path, problems)
    return value


_KINDS: dict[str, Callable[[str, Shape, Any, str, list[str]], Any]] = {
    "structure": _structure,
    "list": _list,
    "map": _map,
    "string": _string,
    "integer": _number,
    "double": _number,
    "boolean": _boolean,
    "timestamp": _timestamp,
    "blob": _blob,
}


def _check_length(shape: Shape, length: int, path: str, problems: list[str]) -> None:
    if length < shape.get("min", 0):
        problems.append(_problem(path, f"Member must have length greater than or equal to {shape['min']}"))
    if length > shape.get("max", length):
        problems.append(_problem(path, f"Member must have length less than or equal to {shape['max']}"))


@cache
def _pattern(pattern: str) -> re.Pattern[str]:
    for name, characters in _CLASSES.items():
        pattern = pattern.replace(name, characters)
    return re.compile(pattern)


def _below(path: str, member: str) -> str:
    name = member[:1].lower() + member[1:]
    return f"{path}.{name}" if path else name


def _problem(path: str, constraint: str) -> str:
    return f"Value at '{path}' failed to satisfy constraint: {constraint}"


def _not_a(value: Any, wanted: str) -> WireError:
    kinds = {dict: "STRUCTURE", list: "LIST", str: "STRING_VALUE", bool: "BOOLEAN_VALUE", type(None): "NULL_VALUE"}
    return WireError(SERIALIZATION, f"{kinds.get(type(value), 'NUMBER_VALUE')} can not be converted to {wanted}")
