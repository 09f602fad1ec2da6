from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firehose.config.interpolation import interpolate

ENVIRONMENT = {"NAME": "value", "EMPTY": "", "B": "b", "DOLLAR": "${NAME}"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("${NAME}", "value"),
        ("a-${NAME}-${B}", "a-value-b"),
        ("${EMPTY}", ""),
        ("${EMPTY:-default}", "default"),
        ("${MISSING:-4573}", "4573"),
        ("${MISSING:-}", ""),
        ("${NAME:-default}", "value"),
        ("${MISSING:-a:-b}", "a:-b"),
        ("${MISSING:-${B}}", "b"),
        ("${MISSING:-${ALSO:-${B}}}", "b"),
        ("${MISSING:-logs/!{timestamp:yyyy}/}x", "logs/!{timestamp:yyyy}/x"),
        ("$${NAME}", "${NAME}"),
        ("$$${NAME}", "$${NAME}"),
        ("$NAME costs $5", "$NAME costs $5"),
        ("!{timestamp:yyyy}/!{firehose:random-string}", "!{timestamp:yyyy}/!{firehose:random-string}"),
    ],
)
def test_puts_values_of_the_environment_into_text(text: str, expected: str) -> None:
    result = interpolate(text, ENVIRONMENT)
    assert (result.text, result.problems) == (expected, ())


def test_reads_values_of_the_environment_as_text_not_as_expressions() -> None:
    assert interpolate("${DOLLAR}", ENVIRONMENT).text == "${NAME}"


def test_names_every_variable_that_is_missing() -> None:
    result = interpolate("${ONE}/${TWO}", ENVIRONMENT)
    assert len(result.problems) == 2
    assert "ONE is not set" in result.problems[0]
    assert "${TWO:-default}" in result.problems[1]


def test_names_a_variable_that_is_missing_in_a_default() -> None:
    assert "INNER" in interpolate("${OUTER:-${INNER}}", ENVIRONMENT).problems[0]


@pytest.mark.parametrize("text", ["${", "${}", "${1A}", "${NAME", "${NAME-default}", "${na me}", "${NAME:-{}"])
def test_refuses_what_begins_like_an_expression_and_is_none(text: str) -> None:
    assert "$${ for a literal ${" in interpolate(text, ENVIRONMENT).problems[0]


def test_knows_what_came_from_the_environment_and_what_from_the_file() -> None:
    assert interpolate("${NAME}${MISSING:-default}", ENVIRONMENT).secrets == {"NAME": "value"}


@given(st.text())
def test_gives_any_value_as_it_is(value: str) -> None:
    assert interpolate("<${X}>", {"X": value}).text == f"<{value}>"


@given(st.text().filter(lambda text: "${" not in text))
def test_leaves_any_other_text_as_it_is(text: str) -> None:
    assert interpolate(text, ENVIRONMENT).text == text
