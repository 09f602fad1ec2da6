"""Reading the parameters of verbs."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from firehose.errors import InvalidError, NotFoundError
from firehose.service import Service
from firehose.service.runner import StreamRunner


def chosen(service: Service, parameters: dict[str, Any]) -> list[StreamRunner]:
    """Return the stream that `stream` names, or all. Errors: NotFoundError, listing what exists."""
    name = parameters.get("stream")
    if name is None:
        return [runner for _, runner in sorted(service.runners.items())]
    if name not in service.runners:
        raise unknown_stream(name, service.runners)
    return [service.runners[name]]


def unknown_stream(name: str, known: Collection[str]) -> NotFoundError:
    """Return the error for a name that no stream has."""
    return NotFoundError(f"no delivery stream {name!r}; there are: {', '.join(sorted(known)) or 'none'}")


def number(parameters: dict[str, Any], name: str, default: int) -> int:
    """Return a whole number that is not negative. Errors: InvalidError."""
    value = parameters.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise InvalidError(f"{name} must be a whole number of at least 0, not {value!r}")
    return value
