from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from firehose.config.document import Node, Section, plain, read_document
from firehose.errors import Problem


def read(
    path: Path, text: str | bytes, environment: Mapping[str, str] | None = None
) -> tuple[Node | None, list[Problem]]:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_document(path, environment or {})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "a.yaml"


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n", "\ufeff"])
def test_reads_an_empty_file_as_nothing(file: Path, text: str) -> None:
    node, problems = read(file, text)
    assert problems == []
    assert node is None or plain(node) is None


def test_keeps_scalars_as_they_are_written(file: Path) -> None:
    text = """
account: 000000000000
version: 1.10
region: no
day: 2026-01-01
nothing: ~
empty:
quoted: 'null'
hex: 0x1F
"""
    node, problems = read(file, text)
    assert problems == []
    assert node is not None
    assert plain(node) == {
        "account": "000000000000",
        "version": "1.10",
        "region": "no",
        "day": "2026-01-01",
        "nothing": None,
        "empty": None,
        "quoted": "null",
        "hex": "0x1F",
    }


def test_knows_where_keys_and_values_stand(file: Path) -> None:
    node, _ = read(file, "a:\n  b: [x,\n    y]\n")
    assert isinstance(node, Section)
    inner = node.entries["a"].node
    assert isinstance(inner, Section)
    assert str(inner.entries["b"].key) == f"{file}:2:3"
    assert str(inner.entries["b"].node.place) == f"{file}:2:6"


def test_repeats_values_by_aliases_and_merges_keys(file: Path) -> None:
    text = """
base: &base {size: 1, interval: 2}
more: &more {interval: 3, other: 4}
one: {<<: *base, interval: 9}
two:
  <<: [*base, *more]
three: *base
"""
    node, problems = read(file, text)
    assert problems == []
    assert node is not None
    tree = plain(node)
    assert tree["one"] == {"size": "1", "interval": "9"}
    assert tree["two"] == {"size": "1", "interval": "2", "other": "4"}
    assert tree["three"] == tree["base"]


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, 1, "stands already in line 1"),
        ("a:\n\tb: 1\n", 2, 1, "a tab stands here"),
        ("a: b: c\n", 1, 5, "a colon stands here"),
        ("a: 1\n  b: 2\n", 2, 4, "a colon stands here"),
        ("a: 'x\nb: 1\n", 1, 4, "never closed"),
        ("a: @x\n", 1, 4, "begins with @ needs quotes"),
        ("a: %x\n", 1, 4, "begins with % needs quotes"),
        ("prefix: !{timestamp:yyyy}/\n", 1, 9, "begins with !{ needs quotes"),
        ("a: [x, !{firehose:random-string}]\n", 1, 8, "begins with !{ needs quotes"),
        ("a: {path: ${NAME}}\n", 1, 12, "needs quotes"),
        ("a: !secret x\n", 1, 4, "tags have no meaning here"),
        ("a: !!binary aGk=\n", 1, 4, "tags have no meaning here"),
        ("a: 1\n---\nb: 2\n", 2, 1, "a second YAML document"),
        ("a: *missing\n", 1, 4, "undefined alias"),
        ("a: &x [*x]\n", 1, 4, "an alias stands inside the value it repeats"),
        ("a: {<<: 5}\n", 1, 9, "<< takes keys and values"),
        ("a: [1\n", 2, 1, "is not valid YAML"),
        ("? [a]\n: 1\n", 1, 3, "a key must be plain text"),
        ("a: 1\n: 2\n", 2, 1, "a key must be plain text"),
        ("a: \x01\n", 1, 4, "YAML does not allow"),
        (b"a: 1\nb: \xff\n", 2, 1, "is not UTF-8"),
    ],
)
def test_says_where_a_file_is_wrong(file: Path, text: str | bytes, line: int, column: int, message: str) -> None:
    _, problems = read(file, text)
    assert len(problems) == 1
    assert message in problems[0].message
    assert (problems[0].file, problems[0].line, problems[0].column) == (str(file), line, column)


def test_refuses_aliases_that_grow_without_end(file: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    _, problems = read(file, "\n".join(lines))
    assert problems[0].line == 6
    assert "aliases make more than 1,000,000 values" in problems[0].message


def test_refuses_what_is_nested_too_deeply(file: Path) -> None:
    _, problems = read(file, "a: " + "[" * 5_000)
    assert problems[0].message == "is nested more than 64 deep" and problems[0].line == 1


@pytest.mark.parametrize(
    "text",
    [
        'a: "\\UFFFFFFFF"',
        "%YAML 1." + "9" * 5_000 + "\n---\na: 1",
        'a: "\\0"',
        'a: "\\uD800"',
    ],
)
def test_what_the_parser_stumbles_over_is_a_problem_with_a_place(file: Path, text: str) -> None:
    _, problems = read(file, text)
    assert problems and str(problems[0]).startswith(f"{file}:")


@settings(
    max_examples=400, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.text("a1: -?|>{}[],&*!%@'\"\\#\n\t\x85\u2028U~.<", max_size=40))
def test_whatever_is_written_is_read_or_a_problem(file: Path, text: str) -> None:
    _, problems = read(file, text)
    assert all(str(each).startswith(f"{file}:") for each in problems)


def test_an_anchor_that_is_used_twice_is_no_problem(file: Path, recwarn: pytest.WarningsRecorder) -> None:
    _, problems = read(file, "a: &x 1\nb: &x 2\nc: *x\n")
    assert not problems and not recwarn.list


def test_says_that_a_file_cannot_be_read(tmp_path: Path) -> None:
    _, problems = read_document(tmp_path / "missing.yaml", {})
    assert str(problems[0]) == f"{tmp_path / 'missing.yaml'}: cannot be read: No such file or directory"


def test_reports_a_missing_variable_once_for_a_value_repeated_by_aliases(file: Path) -> None:
    _, problems = read(file, "a: &a ${MISSING}\nb: *a\nc: *a\n")
    assert [(problem.key, problem.line, problem.column) for problem in problems] == [("a", 1, 4)]
