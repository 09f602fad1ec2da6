"""The JSON Schema of the configuration, for editors: completion, descriptions and errors while typing.

It accepts what the loader accepts of a file that stands alone, as far as a schema can say it. Names that must be
defined elsewhere, and what lies behind `${NAME}`, are for `firehose validate`.
"""

from __future__ import annotations

import json
import re
import types
from typing import Any, Union, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from firehose.components import ComponentConfig, ConvertConfig
from firehose.config.models import Configuration
from firehose.config.shape import Shape
from firehose.units import MILLISECONDS, format_bytes, format_duration_ms

_VARIABLE = r"\$\{"
_NUMBER = r"^\s*\d+(\.\d+)?\s*"
_SIZE: JsonSchemaValue = {
    "type": ["string", "integer"],
    "pattern": rf"{_NUMBER}(([kKmMgGtT][iI]?)?[bB])?\s*$|{_VARIABLE}",
}
_DURATION = {"type": "string", "pattern": rf"{_NUMBER}({'|'.join(MILLISECONDS)})\s*$|{_VARIABLE}"}
#: The loader takes scalars as they are written: `version: 1.10` is text where text is expected.
_TEXT = {"type": ["string", "number", "boolean"]}
_NULL = {"type": "null"}


def json_schema() -> dict[str, Any]:
    """Return the schema (draft 2020-12) of everything that is installed, in an order that stays the same."""
    schema = Configuration.model_json_schema(schema_generator=_ForEditors)
    _allow_bare_words(schema, schema["$defs"])
    return {"$schema": _ForEditors.schema_dialect, "title": "firehose configuration", **schema}


def json_schema_text() -> str:
    """Return the schema as `firehose schema` prints it."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


class _ForEditors(GenerateJsonSchema):
    """Says what people may write, where pydantic's own words are about Python's types."""

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        model = super().model_schema(schema)
        model.pop("title", None)
        properties = model.get("properties", {})
        shape = Shape(schema["cls"])
        for key, info in shape.fields.items():
            properties[key] = _for_people(properties[key], info)
            if shape.annotation is Configuration:  # a section of which only the comments are written so far
                properties[key] = {"description": info.description, "anyOf": [properties[key], _NULL]}
        if issubclass(schema["cls"], ComponentConfig | ConvertConfig):
            selector = "format" if issubclass(schema["cls"], ConvertConfig) else "type"
            model["required"] = [selector, *(key for key in model.get("required", ()) if key != selector)]
        return model

    def str_schema(self, schema: core_schema.StringSchema) -> JsonSchemaValue:
        text = super().str_schema(schema)
        if pattern := text.get("pattern"):
            # editors read patterns as JavaScript does, which has another spelling for the names of groups
            text["pattern"] = re.sub(r"\(\?P<\w+>", "(?:", f"{pattern}|{_VARIABLE}")
        return text | _TEXT

    def int_schema(self, schema: core_schema.IntSchema) -> JsonSchemaValue:
        return _or_variable(super().int_schema(schema))

    def float_schema(self, schema: core_schema.FloatSchema) -> JsonSchemaValue:
        return _or_variable(super().float_schema(schema))

    def bool_schema(self, schema: core_schema.BoolSchema) -> JsonSchemaValue:
        return _or_variable(super().bool_schema(schema))

    def dict_schema(self, schema: core_schema.DictSchema) -> JsonSchemaValue:
        """Refuse names that do not have the form they need. Variables are for values, not for names."""
        mapping = super().dict_schema(schema)
        if patterns := mapping.get("patternProperties"):
            names = {pattern.removesuffix(f"|{_VARIABLE}"): values for pattern, values in patterns.items()}
            mapping |= {"patternProperties": names, "additionalProperties": False}
        return mapping

    def literal_schema(self, schema: core_schema.LiteralSchema) -> JsonSchemaValue:
        words = super().literal_schema(schema)
        return words if len(schema["expected"]) == 1 else _or_variable(words)

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def _allow_bare_words(schema: Any, models: dict[str, Any]) -> None:
    """Let a bare word stand for a component wherever one that needs no options can be chosen."""
    if isinstance(schema, dict) and "oneOf" in schema:
        members = [models[each["$ref"].rpartition("/")[2]] for each in schema["oneOf"]]
        selectors = [(each, each["required"][0]) for each in members if len(each["required"]) == 1]
        if words := [each["properties"][selector]["const"] for each, selector in selectors]:
            schema["oneOf"].append({"enum": words})
    elif isinstance(schema, dict | list):
        for each in schema.values() if isinstance(schema, dict) else schema:
            _allow_bare_words(each, models)


def _or_variable(schema: JsonSchemaValue) -> JsonSchemaValue:
    return {"anyOf": [schema, {"type": "string", "pattern": _VARIABLE}]}


def _for_people(schema: JsonSchemaValue, info: FieldInfo) -> JsonSchemaValue:
    """Return the schema of one key with sizes and durations as people write them, and defaults only where they help."""
    shape = Shape.of(info.annotation, tuple(info.metadata))
    default = schema.pop("default", None)
    written = _SIZE if shape.is_size else _DURATION if shape.is_duration else _TEXT if shape.is_secret else None
    if written:
        schema = {"anyOf": [written, _NULL]} if _is_optional(info) else dict(written)
        schema |= {"description": info.description} if info.description else {}
    if isinstance(default, int) and shape.is_size:
        default = format_bytes(default)
    if isinstance(default, int) and shape.is_duration:
        default = format_duration_ms(default)
    return schema | ({"default": default} if isinstance(default, str | int | float) else {})


def _is_optional(info: FieldInfo) -> bool:
    is_union = get_origin(info.annotation) in (Union, types.UnionType)
    return is_union and types.NoneType in get_args(info.annotation)
