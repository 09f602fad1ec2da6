"""The configuration of the hive deserializer, and what it refuses."""

from __future__ import annotations

import re

import pytest
from pydantic import ValidationError

from firehose import arrow
from firehose.components import config_classes
from firehose.converters.hive import HiveConfig
from firehose.errors import InvalidError
from firehose.protocols import TableSchema


def table(**columns: str) -> TableSchema:
    return TableSchema("web", "clicks", "7", tuple(columns.items()))


def test_it_is_found_by_its_word_and_has_no_formats_of_its_own() -> None:
    assert config_classes("converters")["hive"] is HiveConfig
    assert (HiveConfig().type, HiveConfig().timestamp_formats) == ("hive", [])


def test_it_is_built_again_in_another_process_from_its_words() -> None:
    config = HiveConfig(timestamp_formats=["dd/MM/yyyy", "Millis"])
    again = HiveConfig.model_validate(config.model_dump(mode="json", by_alias=True))
    data = arrow.binary_column([b'{"t":"2/1/2026"}', b'{"t":0}'])
    found, expected = (each.build(table(t="timestamp")).convert(data) for each in (again, config))
    assert found.columns.equals(expected.columns)
    assert found.columns.num_rows == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "String should match pattern"),
        ("  ", "String should match pattern"),
        ("y" * 1025, "String should have at most 1024 characters"),
        (
            "yyyy-MM-ddTHH:mm",
            "timestamp format 'yyyy-MM-ddTHH:mm': 'T' is no letter of Joda-Time; put it in single quotes",
        ),
    ],
)
def test_formats_that_cannot_be_followed_are_refused_with_their_place(text: str, message: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(message)) as caught:
        HiveConfig(timestamp_formats=["millis", text])
    assert caught.value.errors()[0]["loc"] == ("timestamp_formats", 1)


@pytest.mark.parametrize(
    ("columns", "message", "code"),
    [
        (
            {"a.b": "int"},
            "web.clicks, version 7: the hive deserializer cannot fill column 'a.b', for the dot in its name; rename it",
            "DataFormatConversion.InvalidSchema",
        ),
        (
            {"u": "uniontype<int,string>"},
            "column 'u', type 'uniontype<int,string>', position 1: uniontype cannot be filled from JSON; use one of",
            "DataFormatConversion.InvalidSchema",
        ),
        (
            {"u": "set<int>"},
            "column 'u', type 'set<int>', position 1: 'set' is not a Hive type; use array<T>",
            "DataFormatConversion.InvalidTypeFormat",
        ),
        ({"u": ""}, "column 'u' has no type", "DataFormatConversion.ValidationException"),
        ({}, "table web.clicks, version 7 has no columns", "DataFormatConversion.InvalidSchema"),
    ],
)
def test_tables_that_cannot_be_read_into_are_refused(columns: dict[str, str], message: str, code: str) -> None:
    with pytest.raises(InvalidError) as caught:
        HiveConfig().build(table(**columns))
    assert message in str(caught.value)
    assert caught.value.code == code


def test_a_dot_in_a_name_is_fine_for_fields_and_for_keys() -> None:
    data = arrow.binary_column([b'{"a.b":1,"s":{"x.y":2}}'])
    converted = HiveConfig().build(table(s="struct<x.y:int>")).convert(data)
    assert converted.columns.to_pylist() == [{"s": {"x.y": 2}}]
