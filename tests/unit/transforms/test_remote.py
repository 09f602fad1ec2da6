"""What a function behind the Lambda API says of its own failure, whatever that is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firehose.transforms.remote import _function_error

ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
FAILURES = st.fixed_dictionaries({}, optional=dict.fromkeys(("errorType", "errorMessage", "stackTrace"), ANY))


@settings(max_examples=200, deadline=None, derandomize=True)
@given((FAILURES | ANY).map(lambda told: json.dumps(told).encode()) | st.binary(max_size=40))
def test_any_failure_is_told_in_text_of_bounded_size(body: bytes) -> None:
    error = _function_error(body)
    assert error.code == "Lambda.FunctionError"
    assert len(error.reason.encode()) < 5_000
    assert len(error.detail.encode()) < 5_000


@pytest.mark.parametrize("key", ["errorType", "errorMessage", "stackTrace"])
@pytest.mark.parametrize("value", ["x" * 1_000_000, "[" * 900 + "]" * 900, 5, ["x" * 1_000_000] * 4])
def test_much_is_cut(key: str, value: Any) -> None:
    text = value if isinstance(value, str) and value.startswith("[") else json.dumps(value)
    error = _function_error(f'{{"{key}": {text}}}'.encode())
    assert len(error.reason) < 5_000
    assert len(error.detail) <= 8_192
