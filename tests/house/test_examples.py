"""Every file in configs/ is a configuration that loads, and one that editors can check while it is written."""

from __future__ import annotations

from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

from firehose.config.loader import load
from firehose.config.reference import reference_text
from firehose.config.schema import json_schema, json_schema_text

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "configuration.md"
SCHEMA = ROOT / "docs" / "firehose.schema.json"
EXAMPLES = sorted((ROOT / "configs").glob("*.yaml"))

#: What the examples that name variables without a default are loaded with.
ENVIRONMENT: dict[str, dict[str, str]] = {
    "s3.yaml": {"BUCKET": "example-bucket"},
    "glue.yaml": {"BUCKET": "example-bucket"},
    "encrypted.yaml": {"KEY_FILE": "{folder}/master.key"},
}


def test_there_are_examples() -> None:
    assert EXAMPLES, "configs/ holds no *.yaml"
    assert ENVIRONMENT.keys() <= {example.name for example in EXAMPLES}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_loads(example: Path, tmp_path: Path) -> None:
    key = tmp_path / "master.key"
    key.touch(0o600)
    key.write_bytes(bytes(range(32)))
    given = {name: value.format(folder=tmp_path) for name, value in ENVIRONMENT.get(example.name, {}).items()}
    loaded = load([example], environment=given)
    assert loaded.configuration.streams
    assert loaded.warnings() == []


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_fits_the_schema(example: Path) -> None:
    written = YAML(typ="safe", pure=True).load(example)
    errors = [
        f"{error.json_path}: {error.message}" for error in Draft202012Validator(json_schema()).iter_errors(written)
    ]
    assert errors == []


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_tells_editors_its_schema(example: Path) -> None:
    first_line = example.read_text(encoding="utf-8").partition("\n")[0]
    assert first_line == "# yaml-language-server: $schema=../docs/firehose.schema.json"


def test_the_schema_in_docs_is_current() -> None:
    hint = "write it anew: .venv/bin/firehose schema > docs/firehose.schema.json"
    assert SCHEMA.read_text(encoding="utf-8") == json_schema_text(), hint


def test_the_reference_in_docs_is_current_and_names_every_key() -> None:
    hint = "write it anew: .venv/bin/firehose schema --markdown > docs/configuration.md"
    text = REFERENCE.read_text(encoding="utf-8")
    assert text == reference_text(), hint
    keys = {key for model in json_schema()["$defs"].values() for key in model.get("properties", ())}
    told = {line.split("`")[1] for line in text.splitlines() if line.startswith("| `")}
    assert keys <= told
