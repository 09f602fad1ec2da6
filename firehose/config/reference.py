"""The configuration as a page for people: every key with its default, what is allowed, and what it means.

It is written from the models, as the JSON Schema is, so that it says what the installed version does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import WithJsonSchema
from pydantic.fields import FieldInfo

from firehose.config.models import Configuration
from firehose.config.shape import Shape
from firehose.units import format_bytes, format_duration_ms

_HEAD = """\
# Configuration reference

Every key of the files that `firehose run` and `firehose validate` read, as the models in the code declare them. Written
by `firehose schema --markdown`; do not edit.

```yaml
server: {port: 4573, log_style: plain}
streams:
  clicks:
    source: {type: direct_put, retention: 7d}
    buffer: {size: 64MiB, interval: 60s}
    compression: gzip
    sink: {type: file, path: out, prefix: "clicks/day=!{timestamp:yyyy-MM-dd}/"}
```

- Sizes: B, KB, MB, GB, TB and KiB, MiB, GiB, TiB. Durations: ms, s, m, h, d, w.
- `${NAME}` and `${NAME:-default}` stand for environment variables. Relative paths begin at the folder of the file.
- A component is chosen by its `type` (`format` under `convert`). Where it needs no other key, the word may stand alone:
  `compression: gzip`.
- Prefixes hold `!{timestamp:PATTERN}` (yyyy, MM, dd, HH, mm, ss and the other letters of Java's DateTimeFormatter; the
  time is the arrival of the oldest record, in `time_zone`), `!{firehose:random-string}`, and those of failed records
  `!{firehose:error-output-type}`, which says why they failed. A prefix without any expression gets the date behind it,
  `yyyy/MM/dd/HH/`; one that ends in no slash is the beginning of the names.
"""

_KINDS = {int: "a whole number", float: "a number", bool: "`true` or `false`"}

_COLUMNS = "| key | default | what may stand there | meaning |\n|---|---|---|---|\n"


def reference_text() -> str:
    """Return the page, in Markdown."""
    sections = list(_sections("", Shape(Configuration), {}))
    titles = [each.removeprefix("\n## ").partition("\n")[0] for each in sections if each.startswith("\n## ")]
    return f"{_HEAD}\nThe groups of keys: {', '.join(dict.fromkeys(each.partition(' ')[0] for each in titles))}.\n" + (
        "".join(sections)
    )


def _sections(path: str, shape: Shape, seen: dict[Any, str]) -> Iterator[str]:
    """Yield a section for each group of keys beneath `path`, in the order of the models. `seen`: those that were."""
    for key, info in shape.fields.items():
        at, below = _entry(f"{path}.{key}".lstrip("."), Shape.of(info.annotation, tuple(info.metadata)))
        for word, model in _models(below).items():
            title = f"`{at}`" + (f" with `{below.selector}: {word}`" if word else "")
            if model.annotation in seen:
                continue
            seen[model.annotation] = f"`{at}`"
            yield f"\n## {title}\n\n{_told(model.annotation.__doc__)}\n"
            yield f"\n{_COLUMNS}"
            if word:
                yield f"| `{below.selector}` | **required** | `{word}` | Chooses these keys. |\n"
            fields = ((each, field) for each, field in model.fields.items() if each != below.selector or not word)
            yield from (_row(each, field, seen) for each, field in fields)
            yield from _sections(at, model, seen)


def _entry(path: str, shape: Shape) -> tuple[str, Shape]:
    """Return the path and shape of what stands in a list or under chosen names, or both as they are."""
    if get_origin(shape.annotation) is dict:
        return f"{path}.NAME", Shape.of(get_args(shape.annotation)[1])
    if get_origin(shape.annotation) in (list, tuple):
        return f"{path}[]", Shape.of(get_args(shape.annotation)[0])
    return path, shape


def _models(shape: Shape) -> Mapping[str, Shape]:
    """Return the models that may stand here, by the word that chooses them; "" where none does."""
    if shape.components:
        return shape.components
    return next(({"": each} for each in (shape, *shape.alternatives) if each.fields), {})


def _row(key: str, info: FieldInfo, seen: Mapping[Any, str]) -> str:
    shape = Shape.of(info.annotation, tuple(info.metadata))
    cells = (f"`{key}`", _default(info, shape), _allowed(shape, seen), _told(info.description))
    return f"| {' | '.join(each.replace('|', chr(92) + '|') for each in cells)} |\n"


def _default(info: FieldInfo, shape: Shape) -> str:
    if info.is_required():
        return "**required**"
    value = info.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, Mapping) and shape.components:
        value = value[shape.selector]
    if isinstance(value, int) and (shape.is_size or shape.is_duration):
        value = (format_bytes if shape.is_size else format_duration_ms)(value)
    if isinstance(value, bool):
        value = str(value).lower()
    if isinstance(value, Path):
        value = str(value)
    is_plain = isinstance(value, int | float) or (isinstance(value, str) and value)
    return f"`{value}`" if is_plain else ""


def _allowed(shape: Shape, seen: Mapping[Any, str]) -> str:
    for model in _models(shape).values():
        if model.annotation in seen:
            return f"as {seen[model.annotation]}"
    said = (each.json_schema or {} for each in shape.metadata if isinstance(each, WithJsonSchema))
    if forms := next((each for each in said if "anyOf" in each), None):
        return f"{forms['description']}, or a list of text"
    _, below = _entry("", shape)
    of = "" if below is shape else "names with " if get_origin(shape.annotation) is dict else "a list of "
    if below.components:
        return f"{of}one of {', '.join(f'`{word}`' for word in below.components)}"
    if below.fields:
        return f"{of}keys, see below"
    if below.alternatives:
        return " or ".join(_allowed(each, seen) for each in below.alternatives)
    words = below.allowed()
    if get_origin(below.annotation) is not None and words:
        return ", ".join(f"`{word}`" for word in words.split(", "))
    if below.is_size or below.is_duration:
        return f"{of}{words}"
    kind = _KINDS.get(below.annotation, "a path" if "Path" in str(below.annotation) else "text")
    return of + (f"{kind}: {words}" if words and below.annotation is not bool else kind)


def _told(text: str | None) -> str:
    return " ".join((text or "").split())
