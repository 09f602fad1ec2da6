"""The generic validator: the same constraints botocore's model gives, in the words of the service."""

from __future__ import annotations

from typing import Any

import pytest

from firehose.api import shapes
from firehose.api.wire import WireError


def refused(operation: str, body: Any) -> tuple[str, str]:
    with pytest.raises(WireError) as found:
        shapes.check(operation, body)
    return found.value.code, found.value.message


def test_all_twelve_operations_are_known() -> None:
    assert len(shapes.operations()) == 12


def test_unknown_members_and_nulls_are_left_out() -> None:
    body = {"DeliveryStreamName": "a", "Limit": None, "Wat": {"deep": [1]}}
    assert shapes.check("DescribeDeliveryStream", body) == {"DeliveryStreamName": "a"}


def test_every_problem_is_counted_and_told() -> None:
    code, message = refused("ListDeliveryStreams", {"Limit": 0, "ExclusiveStartDeliveryStreamName": "a b" * 30})
    assert code == "ValidationException"
    assert message.startswith("3 validation errors detected: ")
    assert "Value at 'limit' failed to satisfy constraint: Member must have value greater than or equal to 1" in message
    assert "Member must have length less than or equal to 64; " in message
    assert message.endswith("Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+")


def test_patterns_hold_for_the_whole_value() -> None:
    for name in ("ok\n", "a/b", "é"):
        assert refused("DescribeDeliveryStream", {"DeliveryStreamName": name})[0] == "ValidationException"


@pytest.mark.parametrize("key", ["team", "größe", "小組", "a b+c-d=e._:/@%", "x\u00a0y", "Ⅷ"])
def test_unicode_classes_of_tags_are_understood(key: str) -> None:
    body = {"DeliveryStreamName": "a", "Tags": [{"Key": key, "Value": key}]}
    assert shapes.check("TagDeliveryStream", body) == body


@pytest.mark.parametrize("key", ["aws:x", "a!b", "tab\t", "a#b"])
def test_characters_that_tags_may_not_have_are_refused(key: str) -> None:
    _, message = refused("TagDeliveryStream", {"DeliveryStreamName": "a", "Tags": [{"Key": key}]})
    assert "Value at 'tags.1.member.key' failed to satisfy constraint" in message


def test_lists_that_are_too_long_are_not_looked_into() -> None:
    body = {"DeliveryStreamName": "a", "Tags": [{"Key": "aws:"}] * 51}
    _, message = refused("TagDeliveryStream", body)
    assert message.startswith("1 validation error detected: Value at 'tags'")


def test_keys_of_maps_are_checked() -> None:
    s3: dict[str, Any] = {"RoleARN": "arn:aws:iam::123456789012:role/r", "BucketARN": "arn:aws:s3:::b"}
    openx = {"ColumnToJsonKeyMappings": {"a b": "c"}}
    s3["DataFormatConversionConfiguration"] = {"InputFormatConfiguration": {"Deserializer": {"OpenXJsonSerDe": openx}}}
    _, message = refused("CreateDeliveryStream", {"DeliveryStreamName": "a", "ExtendedS3DestinationConfiguration": s3})
    assert "columnToJsonKeyMappings.key' failed to satisfy constraint" in message


@pytest.mark.parametrize(
    ("members", "kind"),
    [
        ({"BufferingHints": []}, "LIST can not be converted to a structure"),
        ({"ProcessingConfiguration": {"Enabled": "true"}}, "STRING_VALUE can not be converted to a Boolean"),
        ({"ProcessingConfiguration": {"Processors": {}}}, "STRUCTURE can not be converted to a list"),
        ({"Prefix": 5}, "NUMBER_VALUE can not be converted to a String"),
    ],
)
def test_wrong_types_are_told_before_anything_else(members: dict[str, Any], kind: str) -> None:
    body = {"ExtendedS3DestinationConfiguration": members}
    assert refused("CreateDeliveryStream", body) == ("SerializationException", kind)
