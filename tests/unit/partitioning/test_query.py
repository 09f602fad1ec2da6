"""What a query makes of records: by jq, and by the short cut, which must say the same."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firehose.partitioning.query import Query, QueryError, text_of


def asked(query: str, record: bytes | str) -> dict[str, str | None]:
    """Return the keys as they would stand in a prefix."""
    found = Query(query).ask(record.encode() if isinstance(record, str) else record)
    return {name: text_of(value) for name, value in found.items()}


@pytest.mark.parametrize(
    ("query", "paths"),
    [
        ("{a: .b}", {"a": ("b",)}),
        ("{a}", {"a": ("a",)}),
        (' { a : .b.c , "x y":."q r"["z"] , d } ', {"a": ("b", "c"), "x y": ("q r", "z"), "d": ("d",)}),
        ('{a: .["b"]}', {"a": ("b",)}),
        ("{a: .b|tostring}", None),
        ("{a: .b[0]}", None),
        ("{a: .b?}", None),
        ('{a: ."\\(1)"}', None),
        ("{a: .b} | .", None),
        (".", None),
        ("{}", None),
    ],
)
def test_queries_that_only_follow_names_are_known(query: str, paths: dict[str, tuple[str, ...]] | None) -> None:
    assert Query(query).paths == paths


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("{a: .b}", {"a"}),
        ('{year: .ts|strftime("%Y"), "m n": (.d | {x: 1, y: 2}).x}', {"year", "m n"}),
        ("{a: [.x, .y] | first, b: {c: 1, d: 2} | .c}", {"a", "b"}),
        ('{a: "x, y: {z}"}', {"a"}),
        ("{(.k): 1}", None),
        ('{a: "x\\(.b)"}', None),
        ("{a: .b} + {c: 1}", None),
        (".a", None),
    ],
)
def test_the_keys_of_a_query_are_known_where_they_can_be_seen(query: str, names: set[str] | None) -> None:
    assert Query(query).names == names


@pytest.mark.parametrize("query", ["{a: .b", "{a: }", "frobnicate(.a)", ""])
def test_a_query_that_jq_cannot_read_is_refused(query: str) -> None:
    with pytest.raises(ValueError, match="jq cannot read the query"):
        Query(query).read()


@pytest.mark.parametrize(
    ("query", "record", "found"),
    [
        ("{c: .c}", '{"c": "x"}', {"c": "x"}),
        ("{c: .c}", '{"c": 7}', {"c": "7"}),
        ("{c: .c}", '{"c": 1.0}', {"c": "1"}),
        ("{c: .c}", '{"c": 1.50}', {"c": "1.5"}),
        ("{c: .c}", '{"c": 12345678901234567890}', {"c": "1.2345678901234567e+19"}),
        ("{c: .c}", '{"c": true}', {"c": "true"}),
        ("{c: .c}", '{"c": null}', {"c": None}),
        ("{c: .c}", "{}", {"c": None}),
        ("{c: .c.d.e}", '{"c": null}', {"c": None}),
        ("{c: .c}", '{"c": {"d": 1}}', {"c": None}),
        ("{c: .c}", '{"c": ["d"]}', {"c": None}),
        ('{y: .ts|strftime("%Y/%m")}', '{"ts": 1767225600}', {"y": "2026/01"}),
        ('{c: (.c // "none")}', "{}", {"c": "none"}),
        ("{c: .c}", '{"c": "\\u00e9\\ud83d\\ude00"}', {"c": "é😀"}),
        ("{c: .c}", '{"c": 1, "c": 2}', {"c": "2"}),
    ],
)
def test_what_a_query_finds(query: str, record: str, found: dict[str, str | None]) -> None:
    assert asked(query, record) == found


@pytest.mark.parametrize(
    ("query", "record", "why"),
    [
        ("{c: .c}", b"no json", "Non JSON record provided"),
        ("{c: .c}", b"", "Non JSON record provided"),
        ("{c: .c}", b'{"c": 1} {"c": 2}', "Non JSON record provided"),
        ("{c: .c}", b'{"c": "\xff"}', "Non JSON record provided"),
        ("{c: .c}", b'{"c": "\\ud800"}', "Non JSON record provided"),
        ("{c: .c}", b"[" * 10_000 + b"]" * 10_000, "Non JSON record provided"),
        ("{c: .c}", b"[1]", "jq: Cannot index array"),
        ("{c: .c.d}", b'{"c": "text"}', "jq: Cannot index string"),
        ("{c: .c|fromjson}", b'{"c": "no"}', "jq: "),
        (".c[]", b'{"c": []}', "jq: 0 answers instead of one"),
        ("{c: .c[]}", b'{"c": [1, 2]}', "jq: 2 answers instead of one"),
        (".c", b'{"c": 1}', "jq: the answer is no object of keys"),
    ],
)
def test_what_a_query_cannot_find(query: str, record: bytes, why: str) -> None:
    with pytest.raises(QueryError) as failed:
        Query(query).ask(record)
    assert str(failed.value).startswith(why)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from("abc"), VALUES, max_size=3))
def test_the_short_cut_says_what_jq_says(document: dict[str, Any]) -> None:
    query, record = (
        Query("{x: .a, y: .b.c, a}"),
        json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogatepass"),
    )
    assert query.paths is not None
    found, itself = _or_failed(query.ask, record), _or_failed(query.ask_jq, record)
    if found != "Non JSON record provided":  # jq reads halves of characters as it likes
        assert found == itself


def _or_failed(ask: Any, record: bytes) -> Any:
    try:
        return {name: text_of(value) for name, value in ask(record).items()}
    except (QueryError, UnicodeDecodeError) as error:
        return str(error)
