from __future__ import annotations

import io
import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

from firehose.components import KINDS, config_classes
from firehose.config.schema import json_schema, json_schema_text
from tests.unit.config.conftest import Problems

SINK = "sink: {type: file, path: out}"


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    schema = json_schema()
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def as_editors_read(text: str) -> Any:
    return YAML(typ="safe", pure=True).load(io.StringIO(text)) or {}


GOOD = [
    "",
    "server:\nstreams:\n",
    "server: {port: 0, memory: 64MiB, log_quota: 1048576, log_level: debug}",
    "server: {port: '${PORT:-4573}', memory: '${MEMORY}', log_level: '${LEVEL:-info}', account: '${ACCOUNT}'}",
    "server: {account: 123456789012, credentials: [{access_key_id: a, secret_access_key: 1234}]}",
    "functions: {f: {path: f.py, timeout: 1.5m, memory: 64mib, environment: {DEBUG: 1, TRACE: true}, concurrency: 2}}",
    "catalogs: {c: {type: file, path: tables}}",
    f"streams: {{s: {{{SINK}}}}}",
    f"streams: {{s: {{{SINK}, source: direct_put, compression: gzip}}}}",
    f"streams: {{s: {{{SINK}, compression: {{type: gzip, level: '${{LEVEL}}'}}}}}}",
    f"streams: {{s: {{{SINK}, transforms: [{{type: lambda, function: f, buffer_interval: 10s}}]}}}}",
    f"streams: {{s: {{{SINK}, convert: {{format: parquet, table: a.b, version: 1.10, deserializer: openx}}}}}}",
    f"streams: {{s: {{{SINK}, convert: , encryption: , buffer: {{size: 64KiB, interval: 0s}}}}}}",
    "streams: {s: {sink: {type: s3, bucket: '${B}', prefix: '!{timestamp:yyyy}/', server_side_encryption: s3}}}",
    f"streams: {{s: {{{SINK}, failed: {{prefix: failed/, sink: {{type: file, path: failed}}}}}}}}",
    f"streams: {{s: &s {{{SINK}}}, t: *s}}",
]

BAD = [
    "sever: {}",
    "server: []",
    "server: {prot: 1}",
    "server: {port: x}",
    "server: {port: 65536}",
    "server: {memory: 64MO}",
    "server: {log_level: loud}",
    "server: {account: '12'}",
    "functions: {f: {}}",
    "functions: {f: {path: f.py, timeout: 60}}",
    "functions: {f: {path: f.py, timeout: 60 seconds}}",
    "streams: {s: {}}",
    "streams: {s: }",
    f"streams: {{'a b': {{{SINK}}}}}",
    f"streams: {{s: {{{SINK}, buffer: {{max_age_ms: 60s}}}}}}",
    f"streams: {{s: {{{SINK}, compression: gzop}}}}",
    f"streams: {{s: {{{SINK}, compression: {{type: gzip, level: 10}}}}}}",
    "streams: {s: {sink: file}}",
    "streams: {s: {sink: {path: out}}}",
    "streams: {s: {sink: {type: file, path: out, bucket: b}}}",
    f"streams: {{s: {{{SINK}, convert: {{format: parquet, table: ab}}}}}}",
    f"streams: {{s: {{{SINK}, transforms: lambda}}}}",
]


@pytest.mark.parametrize("text", GOOD)
def test_accepts_what_is_right(validator: Draft202012Validator, text: str) -> None:
    assert [error.message for error in validator.iter_errors(as_editors_read(text))] == []


@pytest.mark.parametrize("text", BAD)
def test_refuses_what_the_loader_refuses(validator: Draft202012Validator, problems: Problems, text: str) -> None:
    assert not validator.is_valid(as_editors_read(text))
    assert problems(text)


def test_describes_every_registered_component() -> None:
    names = set(json_schema()["$defs"])
    assert names >= {each.__name__ for kind in KINDS for each in config_classes(kind).values()}


def test_describes_every_key() -> None:
    """What an editor shows beside a key; `type` and `format` speak for themselves."""
    assert [
        f"{name}.{key}"
        for name, model in json_schema()["$defs"].items()
        for key, value in model.get("properties", {}).items()
        if not value.get("description") and "const" not in value
    ] == []


def test_shows_defaults_as_people_write_them() -> None:
    schema = json_schema()["$defs"]
    assert schema["BufferConfig"]["properties"]["interval"]["default"] == "5m"
    assert schema["ServerConfig"]["properties"]["memory"]["default"] == "256MiB"
    assert schema["ServerConfig"]["properties"]["port"]["default"] == 4573


def test_has_patterns_that_editors_can_read() -> None:
    """Editors read patterns as JavaScript does, which does not know (?P<name>...)."""
    assert "(?P<" not in json_schema_text()


def test_is_the_same_text_every_time() -> None:
    assert json_schema_text() == json_schema_text()
    assert json.loads(json_schema_text())["$schema"] == "https://json-schema.org/draft/2020-12/schema"
