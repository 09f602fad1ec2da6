"""The configuration of the OpenX deserializer, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from firehose import arrow
from firehose.converters import containers
from firehose.converters.openx import OpenXConfig
from firehose.errors import InvalidError
from firehose.protocols import TableSchema


def table(**columns: str) -> TableSchema:
    return TableSchema("web", "clicks", "7", tuple(columns.items()))


def test_options_have_the_defaults_of_firehose() -> None:
    config = OpenXConfig()
    assert config.type == "openx"
    assert config.case_insensitive is True
    assert config.convert_dots_in_json_keys_to_underscores is False
    assert config.column_to_json_key_mappings == {}


@pytest.mark.parametrize(
    ("name", "key"),
    [("", "a"), ("has blank", "a"), ("tab\t", "a"), ("x" * 1025, "a"), ("a", ""), ("a", " \t"), ("a", "x" * 1025)],
)
def test_mappings_are_refused_where_firehose_refuses_them(name: str, key: str) -> None:
    with pytest.raises(ValidationError):
        OpenXConfig(column_to_json_key_mappings={name: key})


@pytest.mark.parametrize(
    ("options", "columns", "message", "code"),
    [
        ({}, {}, "table web.clicks, version 7 has no columns", "DataFormatConversion.InvalidSchema"),
        (
            {},
            {"ids": "set<int>"},
            "table web.clicks, version 7: column 'ids', type 'set<int>', position 1: 'set' is not a Hive type; use",
            "DataFormatConversion.InvalidTypeFormat",
        ),
        (
            {"column_to_json_key_mappings": {"tz": "timezone", "a": "b"}},
            {"a": "struct<x:int>"},
            "column_to_json_key_mappings names tz, but no column or field is called so",
            "DataFormatConversion.InvalidSchema",
        ),
        (
            {"column_to_json_key_mappings": {"ts": "TIMESTAMP"}},
            {"timestamp": "int", "ts": "int"},
            "version 7: the JSON key 'timestamp' feeds both 'timestamp' and 'ts'; map one of them to another key",
            "DataFormatConversion.InvalidSchema",
        ),
    ],
)
def test_tables_that_cannot_be_read_into_are_refused(
    options: dict[str, Any], columns: dict[str, str], message: str, code: str
) -> None:
    with pytest.raises(InvalidError) as caught:
        OpenXConfig.model_validate(options).build(table(**columns))
    assert message in str(caught.value)
    assert caught.value.code == code


def test_the_reference_holds_the_gil() -> None:
    assert OpenXConfig().build(table(a="int")).releases_gil is False


def test_keys_that_never_come_again_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "_MAX_SPELLINGS", 3)
    records = [b'{"k%d":1,"%s":1,"A":%d}' % (number, b"x" * 500, number) for number in range(50)]
    converted = OpenXConfig().build(table(a="int")).convert(arrow.binary_column(records))
    assert converted.columns.column("a").to_pylist() == list(range(50))
    assert converted.remarks == {"unknown_key": 100}
