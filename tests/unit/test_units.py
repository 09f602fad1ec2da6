from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firehose.units import BYTES, MILLISECONDS, format_bytes, format_duration_ms, parse_bytes, parse_duration_ms


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("1", 1),
        (64, 64),
        ("64MiB", 64 * 2**20),
        ("64mib", 64 * 2**20),
        ("64MB", 64 * 10**6),
        (" 1.5 KiB ", 1536),
        ("0.5KB", 500),
        ("2TiB", 2 * 2**40),
        ("10B", 10),
    ],
)
def test_parses_sizes(text: str | int, expected: int) -> None:
    assert parse_bytes(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0s", 0),
        ("300s", 300_000),
        ("1.5m", 90_000),
        ("24h", 86_400_000),
        ("7d", 604_800_000),
        ("1w", 604_800_000),
        ("250ms", 250),
    ],
)
def test_parses_durations(text: str, expected: int) -> None:
    assert parse_duration_ms(text) == expected


def test_takes_an_int_for_milliseconds_since_only_code_writes_one() -> None:
    assert parse_duration_ms(300_000) == 300_000


@pytest.mark.parametrize("text", ["", "MiB", "-1MiB", "1e3", "1,5MiB", "64 MiB s", "1_000", "½KiB"])
def test_refuses_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="expected a number and a unit, like 64MiB"):
        parse_bytes(text)


@pytest.mark.parametrize("text", ["64M", "64Mb/s", "1 PiB", "64bits"])
def test_names_the_units_of_sizes(text: str) -> None:
    with pytest.raises(ValueError, match="64MiB"):
        parse_bytes(text)


@pytest.mark.parametrize("text", ["60", "1.5", "60S", "60sec", "60M"])
def test_names_the_units_of_durations(text: str) -> None:
    with pytest.raises(ValueError, match="expected a unit of ms, s, m, h, d, w, like 300s"):
        parse_duration_ms(text)


def test_refuses_parts_of_a_byte_and_of_a_millisecond() -> None:
    with pytest.raises(ValueError, match="not a whole number of bytes"):
        parse_bytes("1.5B")
    with pytest.raises(ValueError, match="not a whole number of milliseconds"):
        parse_duration_ms("0.5ms")


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, "0B"), (1023, "1023B"), (1024, "1KiB"), (1536, "1.5KiB"), (64 * 2**20, "64MiB"), (3 * 2**40, "3TiB")],
)
def test_formats_sizes(value: int, expected: str) -> None:
    assert format_bytes(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, "0ms"), (999, "999ms"), (1_000, "1s"), (90_000, "1.5m"), (86_400_000, "1d"), (-5_400_000, "-1.5h")],
)
def test_formats_durations(value: int, expected: str) -> None:
    assert format_duration_ms(value) == expected


@given(st.integers(0, 999), st.sampled_from(sorted(BYTES)))
def test_reads_the_sizes_it_writes_in_whole_units(number: int, unit: str) -> None:
    size = parse_bytes(f"{number}{unit}")
    assert size == number * BYTES[unit]
    if "I" in unit:
        assert parse_bytes(format_bytes(size)) == size


@given(st.integers(0, 10**15), st.sampled_from(sorted(MILLISECONDS)))
def test_durations_are_exact_however_large(number: int, unit: str) -> None:
    assert parse_duration_ms(f"{number}{unit}") == number * MILLISECONDS[unit]
