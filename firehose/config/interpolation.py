"""Environment variables in YAML values: `${NAME}`, `${NAME:-default}`, and `$${` for a literal `${`.

Firehose's own expressions, `!{timestamp:yyyy}`, begin with another sign and pass untouched.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

#: `$${`, a whole expression, or a `${` that is neither. A default may hold braces in pairs, an expression too.
_EXPRESSION = re.compile(
    r"\$\$\{|\$\{(?:(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<default>:-(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)?\})?"
)


@dataclass(frozen=True, slots=True)
class Interpolated:
    """A text after interpolation. `secrets`: by variable name, what the environment gave; never to be printed."""

    text: str
    secrets: Mapping[str, str]
    problems: tuple[str, ...] = ()


def interpolate(text: str, environment: Mapping[str, str]) -> Interpolated:
    """Put the values of `environment` into `text`. An empty variable counts as not set where there is a default."""
    secrets: dict[str, str] = {}
    problems: list[str] = []

    def value(found: re.Match[str]) -> str:
        name, default = found["name"], found["default"]
        if name is None:
            if found[0] == "${":
                problems.append("${ begins no expression: write ${NAME} or ${NAME:-default}, or $${ for a literal ${")
            return "${"
        given = environment.get(name)
        if given or (given is not None and default is None):
            secrets[name] = given
            return given
        if default is None:
            problems.append(
                f"environment variable {name} is not set: set it, or give a default with ${{{name}:-default}}"
            )
            return ""
        return _EXPRESSION.sub(value, default[2:])

    return Interpolated(_EXPRESSION.sub(value, text), secrets, tuple(problems))
