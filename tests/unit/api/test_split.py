"""Splitting bodies into records."""

from __future__ import annotations

import json
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firehose.api import split
from firehose.api.wire import WireError

split_lines = partial(split.split_lines, max_records=1_000)
split_lines(b"what the first call of all loads belongs to no example")
split_json = partial(split.split_json, max_records=1_000)


@given(st.lists(st.sampled_from([b"a", b"bc", b"\n", b"\r\n", b"\r", b" ", b"\t", b"\x00", b"\xff"]), max_size=40))
def test_lines_are_those_python_finds(pieces: list[bytes]) -> None:
    body = b"".join(pieces)
    expected = [line.removesuffix(b"\r") for line in body.split(b"\n") if line.strip(b" \t\r\n")]
    assert split_lines(body).to_pylist() == expected


def test_a_line_keeps_its_blanks_and_its_inner_returns() -> None:
    assert split_lines(b" a \r\r\n").to_pylist() == [b" a \r"]


SPACE = st.sampled_from(["", " ", "\n", "\t\r\n"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
TEXTS = st.builds(lambda value, ascii_: json.dumps(value, ensure_ascii=ascii_), VALUES, st.booleans())


@given(st.lists(st.tuples(SPACE, TEXTS, SPACE), max_size=6), SPACE)
def test_elements_of_an_array_are_cut_out_as_they_are(elements: list[tuple[str, str, str]], space: str) -> None:
    body = space + "[" + ",".join("".join(element) for element in elements) + (space if not elements else "") + "]"
    assert split_json(body.encode(errors="surrogatepass")).to_pylist() == [text.encode() for _, text, _ in elements]


@given(st.lists(st.tuples(VALUES.filter(lambda value: isinstance(value, dict)), SPACE), min_size=1, max_size=4))
def test_values_may_follow_one_another(values: list[tuple[object, str]]) -> None:
    texts = [json.dumps(value) for value, _ in values]
    body = "".join(text + space for text, (_, space) in zip(texts, values, strict=True))
    assert split_json(body.encode()).to_pylist() == [text.encode() for text in texts]


def test_numbers_keep_every_digit() -> None:
    digits = b"9" * 5_000
    assert split_json(b"[1.000, -0, 1E+2," + digits + b"]").to_pylist() == [b"1.000", b"-0", b"1E+2", digits]


@pytest.mark.parametrize(
    "body", [b"[,]", b"[1,]", b"[1", b"[", b"[1;2]", b"{", b"[Infinity]", b"nul", b"\xef\xbb\xbf[]"]
)
def test_what_is_not_json_is_refused(body: bytes) -> None:
    with pytest.raises(WireError, match="The body is not JSON") as found:
        split_json(body)
    assert found.value.status == 400


def test_no_more_than_so_many_are_split() -> None:
    assert len(split.split_lines(b"1\n2\n3", max_records=3)) == 3
    assert len(split.split_json(b"[1,2,3]", max_records=3)) == 3
    for body in (b"[1,2,3,4", b"1 2 3 4 x"):
        with pytest.raises(WireError) as found:
            split.split_json(body, max_records=3)
        assert found.value.status == 413
    with pytest.raises(WireError) as found:
        split.split_lines(b"1\n" * 4, max_records=3)
    assert found.value.status == 413
