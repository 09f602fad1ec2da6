"""What is allowed, but likely means something else than its writer thought, is told with its place."""

from __future__ import annotations

import pytest

from firehose.config.loader import examine
from tests.unit.config.conftest import Load, Write, marked

SINK = "sink: {type: file, path: out}"
CATALOG = "catalogs: {c: {type: file, path: c}}\n"


def stream(text: str) -> str:
    return f"streams: {{s: {{{SINK}, {text}}}}}"


@pytest.mark.parametrize(
    ("prefix", "said"),
    [
        ("!{timestamp:YYYY/MM/dd}/", ["Y is the year of the week"]),
        ("!{timestamp:yyyy-mm-dd}/", ["m is the minute; for the month write MM"]),
        ("!{timestamp:yyyy}/!{timestamp:mm}/!{timestamp:dd}/!{timestamp:HH}/", ["m is the minute"]),
        ("!{timestamp:yyyy-MM-DD}/", ["D is the day of the year; for the day of the month write dd"]),
        ("!{timestamp:YYYY-mm-DD}/", ["Y is", "m is", "D is"]),
        ("!{timestamp:yyyy/MM/dd/hh}/", ["h and K count to 12 only"]),
        ("a/{timestamp:yyyy}/", ["{timestamp:yyyy} is plain text; expressions begin with an exclamation mark"]),
        ("a/{firehose:random-string}/", ["{firehose:random-string} is plain text"]),
        # what is meant as it is
        ("!{timestamp:yyyy/MM/dd/HH/mm}/", []),
        ("!{timestamp:yyyy/DDD/HH-mm}/", []),
        ("!{timestamp:YYYY-'W'ww}/", []),
        ("!{timestamp:'Y m D h'yyyy}/", []),
        ("!{timestamp:hha}/", []),
        ("{a}/", []),
    ],
)
def test_warns_of_prefixes_that_mean_something_else(loaded: Load, prefix: str, said: list[str]) -> None:
    text, line, column = marked(f'streams: {{s: {{sink: {{type: s3, bucket: abc, prefix: §"{prefix}"}}}}}}')
    found = loaded(text).warnings()
    assert len(found) == len(said)
    for warning, words in zip(found, said, strict=True):
        assert words in warning.message
        assert (warning.line, warning.column, warning.key) == (line, column, "streams.s.sink.prefix")


def test_warns_of_error_output_prefixes_and_of_sizes_without_a_unit(loaded: Load) -> None:
    found = loaded(stream('failed: {prefix: "!{firehose:error-output-type}/!{timestamp:YYYY}/"}, buffer: {size: 64}'))
    assert [(each.key, each.message[:20]) for each in found.warnings()] == [
        ("streams.s.failed.prefix", "Y is the year of the"),
        ("streams.s.buffer.size", "an object for every "),
    ]


def test_warns_of_a_retention_that_loses_what_an_outage_delays(loaded: Load) -> None:
    for retention, said in (("7s", 1), ("14m", 1), ("15m", 0), ("7d", 0), ("forever", 0)):
        found = loaded(stream(f"source: {{type: direct_put, retention: {retention}}}")).warnings()
        assert [each.key for each in found] == ["streams.s.source.retention"] * said


def test_warns_of_a_folder_above_that_is_missing(loaded: Load, write: Write) -> None:
    write("", "there/x")
    for sink, said in (("there/o", []), ("o", []), ("away/o", ["streams.s.sink.path"])):
        found = loaded(f"streams: {{s: {{sink: {{type: file, path: {sink}}}}}}}").warnings()
        assert [each.key for each in found] == said
        assert all("away does not exist, so nothing is delivered; make it" in each.message for each in found)
    (found,) = loaded(stream("failed: {sink: {type: file, path: away/o}}")).warnings()
    assert found.key == "streams.s.failed.sink.path"
    assert not loaded("server: {data_dir: away/data}\nstreams: {s: {sink: {type: file, path: away/o}}}").warnings()


@pytest.mark.parametrize(
    ("prefix", "failed", "is_told"),
    [
        ("clicks/", "clicks/failed/", True),
        ("clicks/", "clicks/!{firehose:error-output-type}/", True),
        ("lake/clicks-", "lake/failed/", True),
        ("clicks/!{timestamp:yyyy}/", "clicks/failed/", True),
        ("clicks/", "failed/clicks/", False),
        ("clicks/", "clicks-failed/", False),
        ("", "failed/", False),
        ("clicks-", "clicks-failed/", False),
    ],
)
def test_warns_of_failed_records_in_a_folder_of_good_ones(
    loaded: Load, prefix: str, failed: str, is_told: bool
) -> None:
    places = f'sink: {{type: s3, bucket: abc, prefix: "{prefix}"}}, failed: {{prefix: "{failed}"'
    found = loaded(f"streams: {{s: {{{places}}}}}}}").warnings()
    assert [each.key for each in found] == ["streams.s.failed.prefix"] * is_told
    assert not loaded(f"streams: {{s: {{{places}, sink: {{type: s3, bucket: other}}}}}}}}").warnings()


def test_warnings_are_not_hidden_behind_errors(write: Write) -> None:
    prefix = 'prefix: "!{timestamp:YYYY}/"'
    found = examine(
        [write(f"server: {{prot: 1}}\nstreams: {{s: {{sink: {{type: file, path: o, {prefix}}}}}}}")], environment={}
    )
    assert [each.key for each in found.problems] == ["server.prot"]
    assert [each.key for each in found.warnings()] == ["streams.s.sink.prefix"]
