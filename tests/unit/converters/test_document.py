"""docs/conversion.md says what the converters do."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path

import pytest

from firehose import arrow
from firehose.converters import failures, json_text
from firehose.converters.hive import HiveConfig
from firehose.converters.joda import FIRST_OF_TWO_DIGITS, JodaFormat
from firehose.converters.openx import OpenXConfig
from firehose.hive_types import INVALID_SCHEMA, INVALID_TYPE, VALIDATION
from firehose.protocols import TableSchema

TEXT = (Path(__file__).parents[3] / "docs" / "conversion.md").read_text(encoding="utf-8")
CONFIGS: dict[str, OpenXConfig | HiveConfig] = {
    "openx": OpenXConfig(),
    "hive": HiveConfig(timestamp_formats=["yyyyMMdd"]),
}

#: The types of a line, by the first of its words.
TYPES = {
    "boolean": ["boolean"],
    "tinyint": ["tinyint", "smallint", "int", "bigint"],
    "float": ["float", "double"],
    "decimal(p,s)": ["decimal(10,2)"],
    "string": ["string"],
    "char(n)": ["char(20)", "varchar(20)"],
    "binary": ["binary"],
    "timestamp": ["timestamp", "date"],
    "array<T>": ["array<{}>"],
    "map<K,V>": ["map<string,{}>"],
    "struct<...>": ["struct<a:{}>"],
}


def lines(deserializer: str) -> list[list[str]]:
    """Return the cells of the table of a deserializer."""
    section = TEXT.partition(f"## With `{deserializer}`")[2].partition("\n## ")[0]
    found = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:2] == "| "]
    assert found[0] == ["column type", "object", "array", "string", "number", "true, false"]
    return found[1:]


#: What fits a kind of value best, and strings that fit other columns than those of numbers and text.
VALUES = {"object": '{"a":"x"}', "array": '["x"]', "string": '"3"', "number": "3", "true, false": "true"}
STRINGS = {"boolean": '"true"', "binary": '"aGk="', "timestamp": '"2026-01-02 03:04:05"', "date": '"2026-01-02"'}
#: In the format of the configuration above.
NUMBERS = {("hive", "timestamp"): "20260102", ("hive", "date"): "20260102"}


CELLS = [
    (deserializer, hive_type, kind, cell)
    for deserializer in CONFIGS
    for words, *cells in lines(deserializer)
    for hive_type in TYPES[re.findall(r"`([^`]+)`", words)[0]]
    for kind, cell in zip(("object", "array", "string", "number", "true, false"), cells, strict=True)
]


@pytest.mark.parametrize(("deserializer", "hive_type", "kind", "cell"), CELLS)
def test_what_the_tables_say_fails_does_and_all_else_does_not(
    deserializer: str, hive_type: str, kind: str, cell: str
) -> None:
    value = STRINGS.get(hive_type, VALUES[kind]) if kind == "string" else VALUES[kind]
    value = NUMBERS.get((deserializer, hive_type), value) if kind == "number" else value
    schema = TableSchema("db", "t", "1", (("v", hive_type.format("string")),))
    converted = CONFIGS[deserializer].build(schema).convert(arrow.binary_column([f'{{"v":{value}}}'.encode()]))
    assert (len(converted.failed) == 1) == (cell.strip("*") == "fails"), list(converted.messages)


def test_bold_is_what_the_two_do_otherwise() -> None:
    for ours, theirs in zip(lines("hive"), lines("openx"), strict=True):
        assert ours[0] == theirs[0]
        for cell, other in zip(ours[1:], theirs[1:], strict=True):
            is_other = (cell.strip("*") == "fails") != (other == "fails") or "UTF-8" in cell or "formats" in cell
            assert cell.startswith("**") == is_other, (ours[0], cell, other)


def test_the_formats_of_the_examples_read_them() -> None:
    section = TEXT.partition("## Formats of `hive`")[2].partition("\n## ")[0]
    examples = re.findall(r"^\| `([^`]+)` \| `([^`]+)` \|$", section, re.MULTILINE)
    assert len(examples) == 4
    noon = (datetime(2026, 7, 13, 12, 5, 9) - datetime(1970, 1, 1)).total_seconds()
    for text, text_format in examples:
        found = JodaFormat.parse(text_format).read(text)
        assert found is not None
        assert found[0] // 1_000_000 - noon in (0, 7200), "12:05:09 UTC, or 14:05:09 where it says no zone"
    for letters in re.findall(r"^\| ((?:`[A-Za-z]+` ?)+) \|", section, re.MULTILINE):
        for letter in letters.replace("`", "").split():
            JodaFormat.parse(letter)
    assert f"`yy` is {FIRST_OF_TWO_DIGITS} to {FIRST_OF_TWO_DIGITS + 99}" in section


def test_every_code_is_told() -> None:
    section = TEXT.partition("## When a record fails")[2].partition("\n## ")[0]
    codes = [
        failures.PARSE_ERROR,
        failures.MALFORMED_DATA,
        failures.INVALID_RECORD,
        INVALID_SCHEMA,
        INVALID_TYPE,
        VALIDATION,
    ]
    for code in codes:
        assert f"`{code.removeprefix('DataFormatConversion.')}`" in section
    assert f"more than {json_text.MAX_DEPTH} deep" in section
    assert f"more than {json_text.MAX_KEY_LENGTH:,} characters" in section
