"""Keys: prefixes, their expressions, and names."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firehose.keys import DATE_PATH, MAX_EVALUATED, Prefix, object_key, object_uuid, zone
from firehose.records import RowSet

#: 2026-07-13T14:05:09Z, and some milliseconds.
ARRIVAL_MS = 1_783_951_509_123
IDENTITY = UUID("a9fa96af-e4e4-509f-bac3-1f804714faaa")


def evaluated(text: str, *, time_zone: str = "UTC", oldest_ms: int = ARRIVAL_MS) -> str:
    return Prefix.parse(text, time_zone=time_zone).evaluate(oldest_ms, identity=IDENTITY)


def evaluated_for_errors(text: str | None, *, prefix: str = "") -> str:
    found = Prefix.for_errors(text, Prefix.parse(prefix))
    return found.evaluate(ARRIVAL_MS, identity=IDENTITY, error_output_type="processing-failed")


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("", "2026/07/13/14/"),
        ("legacy", "legacy2026/07/13/14/"),
        ("legacy/", "legacy/2026/07/13/14/"),
        ("a/!{timestamp:yyyy}/", "a/2026/"),
        ("a/!{timestamp:yyyy}", "a/2026"),
        ("!{timestamp:'year='yyyy'/month='MM}/", "year=2026/month=07/"),
        ("!{timestamp:yyyy}-!{timestamp:MM}-!{timestamp:yyyy}/", "2026-07-2026/"),
        ("!{timestamp:'}'dd}/", "}13/"),
        ("price!/{x}/", "price!/{x}/2026/07/13/14/"),
    ],
)
def test_the_date_path_is_appended_to_prefixes_without_expressions(prefix: str, expected: str) -> None:
    assert evaluated(prefix) == expected


@pytest.mark.parametrize(
    ("error_prefix", "prefix", "expected"),
    [
        (None, "", "processing-failed/2026/07/13/14/"),
        (None, "myFirehosePrefix/", "myFirehosePrefix/processing-failed/2026/07/13/14/"),
        ("errors/", "a/", "errors/processing-failed/2026/07/13/14/"),
        ("errors/!{firehose:error-output-type}/", "a/!{timestamp:yyyy}/", "errors/processing-failed/"),
        ("!{firehose:error-output-type}/!{timestamp:yyyy/MM/dd}/", "", "processing-failed/2026/07/13/"),
        ("!{firehose:error-output-type}/!{firehose:error-output-type}/", "", "processing-failed/processing-failed/"),
    ],
)
def test_an_error_output_prefix_says_why_records_failed(error_prefix: str | None, prefix: str, expected: str) -> None:
    assert evaluated_for_errors(error_prefix, prefix=prefix) == expected


@pytest.mark.parametrize(
    ("prefix", "reason"),
    [
        ("!{", "must begin an expression"),
        ("!{}", "must begin an expression"),
        ("!{timestamp}", "must begin an expression"),
        ("!{timestamp:yyyy", "must begin an expression"),
        ("a!{b", "character 2"),
        ("!{timestamp:}", "is not known"),
        ("!{Timestamp:yyyy}", "is not known"),
        ("!{firehose:random}", "is not known"),
        ("!{nowhere:yyyy}", "!{nowhere:yyyy} is not known"),
        ("!{timestamp:yyyy-bb}", "'b' is not a letter"),
        ("!{timestamp:'yyyy}", "must begin an expression"),
        ("!{partitionKeyFromQuery:}", "is not known"),
        ("!{firehose:error-output-type}/", "belongs to the error output prefix"),
    ],
)
def test_a_wrong_prefix_is_refused_with_its_reason(prefix: str, reason: str) -> None:
    with pytest.raises(ValueError) as refused:
        Prefix.parse(prefix)
    assert reason in str(refused.value)


def test_an_error_output_prefix_with_expressions_must_hold_the_type() -> None:
    with pytest.raises(ValueError, match="must hold"):
        Prefix.parse("errors/!{timestamp:yyyy}/", error_output=True)


def test_an_error_output_prefix_is_needed_where_the_prefix_has_expressions() -> None:
    with pytest.raises(ValueError, match="is needed"):
        Prefix.for_errors(None, Prefix.parse("!{timestamp:yyyy}/"))


def test_a_prefix_may_be_512_characters_once_evaluated_without_the_date_path() -> None:
    assert len(evaluated("x" * MAX_EVALUATED)) == MAX_EVALUATED + len("2026/07/13/14/")
    assert len(evaluated("x" * (MAX_EVALUATED - 4) + "!{timestamp:yyyy}")) == MAX_EVALUATED
    with pytest.raises(ValueError, match="513 characters"):
        Prefix.parse("x" * (MAX_EVALUATED + 1))
    with pytest.raises(ValueError, match="517 characters"):
        # in July it would fit; in September it would not
        Prefix.parse("x" * (MAX_EVALUATED - 4) + "!{timestamp:MMMM}")


def test_random_strings_differ_within_a_key_and_come_back_with_the_same_rows() -> None:
    one, two = evaluated("!{firehose:random-string}/!{firehose:random-string}").split("/")
    assert len(one) == len(two) == 11
    assert one != two
    assert evaluated("!{firehose:random-string}/!{firehose:random-string}") == f"{one}/{two}"
    other = Prefix.parse("!{firehose:random-string}").evaluate(ARRIVAL_MS, identity=UUID(int=1))
    assert other != one


@pytest.mark.parametrize(
    ("moment", "time_zone", "expected"),
    [
        ("2026-03-29T00:59:59", "Europe/Berlin", "2026/03/29/01/"),
        ("2026-03-29T01:00:00", "Europe/Berlin", "2026/03/29/03/"),
        ("2026-10-25T00:30:00", "Europe/Berlin", "2026/10/25/02/"),
        ("2026-10-25T01:30:00", "Europe/Berlin", "2026/10/25/02/"),
        ("2026-10-25T02:30:00", "Europe/Berlin", "2026/10/25/03/"),
        ("2026-01-01T03:00:00", "America/New_York", "2025/12/31/22/"),
        ("2026-01-01T03:00:00", "Asia/Kathmandu", "2026/01/01/08/"),
        ("2026-01-01T03:00:00", "UTC", "2026/01/01/03/"),
    ],
)
def test_times_are_of_the_zone_across_daylight_saving(moment: str, time_zone: str, expected: str) -> None:
    oldest_ms = int(datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp()) * 1_000
    assert evaluated("", time_zone=time_zone, oldest_ms=oldest_ms) == expected


@pytest.mark.parametrize("name", ["EST", "JST", "Mars/Olympus", "", "/etc/passwd", "../UTC", "Europe/", "europe"])
def test_only_utc_and_iana_names_are_time_zones(name: str) -> None:
    with pytest.raises(ValueError, match="is not known; use UTC or an IANA name"):
        zone(name)


def test_a_key_is_prefix_stream_version_time_identity_and_extension() -> None:
    key = object_key(
        Prefix.parse("legacy"), stream="clicks", version=1, oldest_ms=ARRIVAL_MS, identity=IDENTITY, extension=".gz"
    )
    assert key == f"legacy2026/07/13/14/clicks-1-2026-07-13-14-05-09-{IDENTITY}.gz"


def test_prefix_and_name_are_in_the_same_time_zone() -> None:
    prefix = Prefix.parse("!{timestamp:HH}/", time_zone="Asia/Tokyo")
    key = object_key(prefix, stream="clicks", version=12, oldest_ms=ARRIVAL_MS, identity=IDENTITY)
    assert key == f"23/clicks-12-2026-07-13-23-05-09-{IDENTITY}"


def test_the_identity_of_an_object_comes_from_its_rows_and_outlet() -> None:
    def of(rows: RowSet, outlet: str = "sink", stream: str = "uid") -> UUID:
        return object_uuid(stream_uid=stream, outlet=outlet, rows=rows.to_bytes())

    rows = RowSet.of_range("shard", 0, 9)
    assert of(rows) == of(RowSet.of_whole("shard", range(10)))
    assert of(rows).version == 5
    others = [of(RowSet.of_range("shard", 0, 8)), of(rows, outlet="backup"), of(rows, stream="uid2")]
    assert len({of(rows), *others}) == 4


@given(st.text(max_size=60), st.integers(min_value=0, max_value=253_000_000_000_000))
def test_every_prefix_is_refused_or_gives_a_key_for_any_time(text: str, oldest_ms: int) -> None:
    try:
        prefix = Prefix.parse(text)
    except ValueError:
        return
    key = prefix.evaluate(oldest_ms, identity=IDENTITY)
    if "!{" not in text:
        assert key.startswith(text)
        assert key.removeprefix(text) == DATE_PATH.render(datetime.fromtimestamp(oldest_ms // 1_000, UTC))


# --- partition keys --------------------------------------------------------------------------------------------------

PARTITIONED = Prefix.parse("c=!{partitionKeyFromQuery:customer}/!{timestamp:yyyy}/!{partitionKeyFromLambda:kind}/")


def test_partition_keys_stand_where_they_are_named() -> None:
    assert [str(key) for key in PARTITIONED.partition_keys] == [
        "!{partitionKeyFromQuery:customer}",
        "!{partitionKeyFromLambda:kind}",
    ]
    assert PARTITIONED.evaluate(ARRIVAL_MS, identity=IDENTITY, values=["42", "click"]) == "c=42/2026/click/"


def test_a_key_that_stands_twice_is_one_value() -> None:
    prefix = Prefix.parse("!{partitionKeyFromQuery:a}/!{partitionKeyFromQuery:a}-!{partitionKeyFromLambda:a}/")
    assert prefix.evaluate(ARRIVAL_MS, identity=IDENTITY, values=["q", "l"]) == "q/q-l/"


def test_partition_keys_and_partitioning_belong_together() -> None:
    for namespace in ("partitionKeyFromQuery", "partitionKeyFromLambda"):
        with pytest.raises(ValueError, match="can only be part of a prefix expression when Dynamic Partitioning is"):
            Prefix.parse(f"!{{{namespace}:id}}/").for_partitions(False)
    with pytest.raises(ValueError, match="with partitioning it must hold"):
        Prefix.parse("a/!{timestamp:yyyy}/").for_partitions(True)
    with pytest.raises(ValueError, match="failed records have no partition keys"):
        Prefix.parse("!{firehose:error-output-type}/!{partitionKeyFromQuery:id}/", error_output=True)
    assert PARTITIONED.for_partitions(True) is PARTITIONED


@pytest.mark.parametrize("value", ["42", "a b", "ä/ö", "2026/07", "...", "..x", "50%", "a=b", "x" * 200])
def test_values_that_are_fit_for_a_key(value: str) -> None:
    assert PARTITIONED.complaint([value, "k"]) is None


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ("", "'kind' is empty"),
        ("a\nb", "holds the character U+000A"),
        ("\x00", "holds the character U+0000"),
        ("\x85", "holds the character U+0085"),
        ("\ud800", "holds the character U+D800"),
        ("/a", "makes a folder without a name: '/a'"),
        ("a/", "makes a folder without a name"),
        ("a//b", "makes a folder without a name"),
        ("..", "make a folder '.' or '..'"),
        ("a/./b", "make a folder '.' or '..'"),
        ("a/../../b", "make a folder '.' or '..'"),
        ("ä" * 128, "make the name of a folder or an object longer than 255 bytes"),
        ("語/" * 230 + "a", "the key is longer than 1024 bytes"),
        ("ab/" * 200 + "c", "the prefix has 611 characters with these partition keys, more than 512"),
    ],
)
def test_values_that_are_not_fit_for_a_key(value: str, complaint: str) -> None:
    found = PARTITIONED.complaint(["c", value])
    assert found is not None and complaint in found


def test_room_is_left_for_the_name_behind_the_last_piece() -> None:
    prefix = Prefix.parse("a/!{partitionKeyFromQuery:k}-")
    assert prefix.complaint(["x" * 94]) is None
    found = prefix.complaint(["x" * 95])
    assert found is not None and "the name of a folder or an object longer than 255 bytes" in found


def test_the_folder_that_sinks_keep_for_themselves_is_no_partition() -> None:
    prefix = Prefix.parse("!{partitionKeyFromQuery:k}/")
    found = prefix.complaint([".firehose-sink/0"])
    assert found is not None and "which sinks keep for themselves" in found
    assert prefix.complaint([".firehose"]) is None
