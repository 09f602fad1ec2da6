from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

Fate = tuple[str, bytes, str | None]


def masked(module: Any, *records: bytes) -> list[Fate]:
    """Send records through the function; return each one's result, data and message."""
    count = len(records)
    rows = pa.record_batch(
        {
            "row": pa.array(range(count), pa.int32()),
            "data": pa.array(records, pa.large_binary()),
            "arrival_ms": pa.array([0] * count, pa.int64()),
        }
    )
    answer = module.transform_batch(rows).to_pydict()
    assert answer["row"] == list(range(count))
    return list(zip(answer["result"], answer["data"], answer["message"], strict=True))


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (b"", b""),
        (b"nothing here, @mention, a@b, 1.2.3", b"nothing here, @mention, a@b, 1.2.3"),
        (b"mail Ann.B+news@sub.example.co.uk, please", b"mail [masked], please"),
        (b"<ann@example.com>;bob@example.org", b"<[masked]>;[masked]"),
        ("jürgen@büro.de".encode(), b"[masked]"),
        (b"\xff ann@example.com \xe9", b"\xff [masked] \xe9"),
        (b"from 203.0.113.7:8080.", b"from [masked]:8080."),
        (b"999.1.1.1 1.1.1.256", b"999.1.1.1 1.1.1.256"),
        (
            b'{"user":"Ann@example.com","text":"hello from 203.0.113.7","n":9.90}',
            b'{"user":"[masked]","text":"hello from [masked]","n":9.90}',
        ),
    ],
)
def test_addresses_are_masked_and_the_rest_stays(load: Any, record: bytes, expected: bytes) -> None:
    assert masked(load("mask_text_batch"), record, b"x") == [("Ok", expected, None), ("Ok", b"x", None)]


def test_what_is_no_text_fails(load: Any) -> None:
    (result, _, message), after = masked(load("mask_text_batch"), b"a\0b", b"ab")
    assert (result, message) == ("ProcessingFailed", "it holds a zero byte, so it is no text")
    assert after == ("Ok", b"ab", None)


def test_patterns_can_be_chosen(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASK_PATTERN", r"id=\d+")
    monkeypatch.setenv("DROP_PATTERN", "GET /healthz ")
    found = masked(load("mask_text_batch"), b"GET /healthz id=7", b"GET / id=7 a@b.example", b"GET /healthz \0")
    assert [result for result, _, _ in found] == ["Dropped", "Ok", "ProcessingFailed"]
    assert found[1][1] == b"GET / [masked] a@b.example"


def test_an_empty_batch_stays_empty(load: Any) -> None:
    assert masked(load("mask_text_batch")) == []
