"""What a model allows at one place of the configuration: its keys, its words, its range, in words for people."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic import BaseModel, BeforeValidator, SecretStr, Tag, WithJsonSchema
from pydantic.fields import FieldInfo

from firehose.components import ByteSize
from firehose.transforms.contract import ARN_PATTERN
from firehose.units import format_bytes, format_duration_ms

T = TypeVar("T")

#: What people read instead of a pattern.
_FORMS = {
    r"^[^.\s]+\.[^.\s]+$": "DATABASE.TABLE, like web.events",
    r"^[\w.-]+$": "letters, digits, `_`, `.` and `-`",
    r"^https?://": "an address like http://minio:9000",
    r"^\d{12}$": "12 digits",
    r"^arn:[^:]+:iam::\d{12}:role/.+$": "a role's ARN like arn:aws:iam::123456789012:role/NAME",
    ARN_PATTERN: "a function's ARN like arn:aws:lambda:eu-west-1:123456789012:function:NAME",
    r"^[a-zA-Z0-9_.-]{1,64}$": "1 to 64 letters, digits, `_`, `.` and `-`",
    r"^[A-Z_]+$": "capital letters and `_`",
    r"^\S+$": "no blanks",
    r"^$|^\.[0-9a-z!\-_.*'()]+$": "an ending like .json.gz, in lower case",
}


@dataclass(frozen=True, slots=True)
class Shape:
    """A type with its constraints, as a model's field declares them."""

    annotation: Any
    metadata: tuple[Any, ...] = ()

    @classmethod
    def of(cls, annotation: Any, metadata: tuple[Any, ...] = ()) -> Shape:
        """Return the shape of an annotation; `None` as another possibility is left out."""
        while True:
            if get_origin(annotation) is Annotated:
                annotation, *more = get_args(annotation)
                metadata = (*metadata, *more)
            elif get_origin(annotation) in (Union, types.UnionType):
                members = [each for each in get_args(annotation) if each is not types.NoneType]
                if len(members) > 1:
                    return cls(Union[tuple(members)], metadata)  # noqa: UP007 - made at run time
                annotation = members[0]
            else:
                return cls(annotation, metadata)

    @property
    def components(self) -> Mapping[str, Shape]:
        """The registered components this place chooses from, by name; none where it is no such place."""
        if tag := self._first(Tag):
            return {tag.tag: Shape(self.annotation)}
        if get_origin(self.annotation) is not Union:
            return {}
        members = [Shape.of(each) for each in get_args(self.annotation)]
        return {tag.tag: Shape(each.annotation) for each in members if (tag := each._first(Tag))}

    @property
    def alternatives(self) -> tuple[Shape, ...]:
        """The kinds of values that may stand here, where there are several and no word tells them apart."""
        is_union = get_origin(self.annotation) is Union and not self.components
        return tuple(Shape.of(each) for each in get_args(self.annotation)) if is_union else ()

    @property
    def selector(self) -> str:
        """The key that chooses a component: the one that each of them fixes to its own word."""
        models = [shape.annotation.model_fields for shape in self.components.values()]
        named = (name for name in ("type", "format") if all(_is_fixed(fields.get(name)) for fields in models))
        return next(named, "type")

    @property
    def fields(self) -> Mapping[str, FieldInfo]:
        """The fields of the model by YAML key; none where this is no model."""
        if not (isinstance(self.annotation, type) and issubclass(self.annotation, BaseModel)):
            return {}
        return {info.alias or name: info for name, info in self.annotation.model_fields.items()}

    @property
    def inner_keys(self) -> set[str]:
        """The YAML keys that may stand in here, whichever component or kind is chosen, but for the choice."""
        models = (self, *self.components.values(), *self.alternatives)
        return {key for model in models for key in model.fields} - {self.selector}

    @property
    def attributes(self) -> Mapping[str, str]:
        """The YAML keys by the names that code has for them: people who read code write `max_age_ms`."""
        names = self.annotation.model_fields if self.fields else {}
        return {name: info.alias or name for name, info in names.items()}

    @property
    def is_secret(self) -> bool:
        return self.annotation is SecretStr

    @property
    def is_size(self) -> bool:
        return _parser(ByteSize) in self.metadata

    @property
    def is_duration(self) -> bool:
        # also where a word may stand instead of one: what editors are told says so
        said = (each.json_schema or {} for each in self.metadata if isinstance(each, WithJsonSchema))
        return any(str(each.get("description", "")).startswith("a duration") for each in said)

    @property
    def is_short(self) -> bool:
        """True of a duration that is a matter of minutes: it has an upper limit, or no lower one."""
        return self._first(Le) is not None or self._first(Ge) is None

    def below(self, element: str | int) -> Shape | None:
        """Return the shape one key or index further down, None where nothing is known of it."""
        if info := self.fields.get(str(element)):
            return Shape.of(info.annotation, tuple(info.metadata))
        arguments = get_args(self.annotation)
        if get_origin(self.annotation) is dict:
            return Shape.of(arguments[1])
        if get_origin(self.annotation) in (list, tuple):
            return Shape.of(arguments[0])
        return None

    @property
    def names(self) -> Shape | None:
        """The shape of the names people choose here, None where keys are fixed."""
        return Shape.of(get_args(self.annotation)[0]) if get_origin(self.annotation) is dict else None

    def is_required(self, key: str) -> bool:
        info = self.fields.get(key)
        return info is not None and info.is_required()

    def allowed(self) -> str | None:
        """Say in words what may stand here, None where there is nothing to say beyond the type."""
        if self.components:
            return ", ".join(self.components)
        if self.alternatives:
            each_allowed = (
                f"keys {', '.join(each.fields)}" if each.fields else each.allowed() for each in self.alternatives
            )
            return " or ".join(filter(None, each_allowed)) or None
        if get_origin(self.annotation) is Literal:
            return ", ".join(str(word) for word in get_args(self.annotation))
        if self.annotation is bool:
            return "true, false"
        if self.annotation in (int, float):
            return self._range()
        return ", ".join(self._text_rules()) or None

    def _range(self) -> str | None:
        if self.is_size:
            return self._limits(format_bytes) or "a size like 64MiB"
        if self.is_duration:
            return self._limits(format_duration_ms) or "a duration like 300s"
        return self._limits(str)

    def _limits(self, write: Callable[[Any], str]) -> str | None:
        low, above = self._first(Ge), self._first(Gt)
        high, below = self._first(Le), self._first(Lt)
        if low and high:
            return f"{write(low.ge)} to {write(high.le)}"
        words: list[tuple[str, Any]] = [("at least", low and low.ge), ("more than", above and above.gt)]
        words += [("at most", high and high.le), ("less than", below and below.lt)]
        return " and ".join(f"{word} {write(limit)}" for word, limit in words if limit is not None) or None

    def _text_rules(self) -> Iterator[str]:
        for each in self.metadata:
            if pattern := getattr(each, "pattern", None):
                yield _FORMS.get(pattern) or f"text that matches {pattern}"
        if shortest := self._first(MinLen):
            yield f"at least {shortest.min_length} character{'s' * (shortest.min_length != 1)}"
        if longest := self._first(MaxLen):
            yield f"at most {longest.max_length} characters"

    def _first(self, kind: type[T]) -> T | None:
        return next((each for each in self.metadata if isinstance(each, kind)), None)


def _is_fixed(info: FieldInfo | None) -> bool:
    return info is not None and get_origin(info.annotation) is Literal and len(get_args(info.annotation)) == 1


def _parser(annotation: Any) -> BeforeValidator:
    return next(each for each in get_args(annotation) if isinstance(each, BeforeValidator))
