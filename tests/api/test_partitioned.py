"""Dynamic partitioning in the words of the API."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.destinations import S3, processing, processor

QUERY = "{customer_id: .customer_id}"
EXTRACTION = {"MetadataExtractionQuery": QUERY, "JsonParsingEngine": "JQ-1.6"}
PARTITIONED: dict[str, Any] = {
    "Prefix": "c=!{partitionKeyFromQuery:customer_id}/y=!{timestamp:yyyy}/",
    "ErrorOutputPrefix": "errors/!{firehose:error-output-type}/!{timestamp:yyyy/MM/dd}/",
    "DynamicPartitioningConfiguration": {"Enabled": True},
    "ProcessingConfiguration": processing(
        processor("MetadataExtraction", **EXTRACTION), processor("AppendDelimiterToRecord")
    ),
}


async def test_a_partitioned_stream_is_made_and_described(face: Any) -> None:
    body = {"DeliveryStreamName": "made", "ExtendedS3DestinationConfiguration": S3 | PARTITIONED}
    await face.call("CreateDeliveryStream", body)
    config = face.service.views["made"].config
    assert (config.partition.query, config.partition.max_active) == (QUERY, 500)
    assert config.sink.prefix == PARTITIONED["Prefix"]
    assert (config.buffer.max_bytes, config.buffer.max_age_ms) == (128 * 2**20, 300_000)
    _, answer, _ = await face.call("DescribeDeliveryStream", {"DeliveryStreamName": "made"})
    described = answer["DeliveryStreamDescription"]["Destinations"][0]["ExtendedS3DestinationDescription"]
    assert described["DynamicPartitioningConfiguration"] == {
        "Enabled": True,
        "RetryOptions": {"DurationInSeconds": 300},
    }
    assert described["BufferingHints"] == {"SizeInMBs": 128, "IntervalInSeconds": 300}
    assert described["ProcessingConfiguration"]["Processors"][0] == processor("MetadataExtraction", **EXTRACTION)


async def test_keys_of_a_function_need_no_query(face: Any) -> None:
    destination = PARTITIONED | {"Prefix": "!{partitionKeyFromLambda:c}/"}
    del destination["ProcessingConfiguration"]
    body = {"DeliveryStreamName": "made", "ExtendedS3DestinationConfiguration": S3 | destination}
    await face.call("CreateDeliveryStream", body)
    assert face.service.views["made"].config.partition.query is None


async def test_a_partitioned_stream_from_a_file_is_described_too(face: Any, tmp_path: Any) -> None:
    face.service.add(
        "filed",
        {
            "sink": {"type": "file", "path": str(tmp_path), "prefix": "!{partitionKeyFromQuery:a}/"},
            "partition": {"query": "{a: .a}"},
        },
    )
    _, answer, _ = await face.call("DescribeDeliveryStream", {"DeliveryStreamName": "filed"})
    described = answer["DeliveryStreamDescription"]["Destinations"][0]["ExtendedS3DestinationDescription"]
    assert described["DynamicPartitioningConfiguration"]["Enabled"] is True
    kinds = {each["Type"]: each["Parameters"] for each in described["ProcessingConfiguration"]["Processors"]}
    assert {"ParameterName": "MetadataExtractionQuery", "ParameterValue": "{a: .a}"} in kinds["MetadataExtraction"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"BufferingHints": {"SizeInMBs": 63, "IntervalInSeconds": 60}},
            "BufferingHints.SizeInMBs must be at least 64 when Dynamic Partitioning is enabled.",
        ),
        (
            {"BufferingHints": {"SizeInMBs": 64, "IntervalInSeconds": 59}},
            "BufferingHints.IntervalInSeconds must be at least 60 seconds when Dynamic Partitioning is enabled.",
        ),
        ({"ErrorOutputPrefix": ""}, "ErrorOutputPrefix must be specified when Dynamic Partitioning is enabled."),
        ({"Prefix": ""}, "Prefix must be specified when Dynamic Partitioning is enabled."),
        ({"Prefix": "a/!{timestamp:yyyy}/"}, "with partitioning it must hold !{partitionKeyFromQuery:NAME}"),
        ({"Prefix": "!{partitionKeyFromQuery:other}/"}, "the query makes 'customer_id', which the prefix does not"),
        (
            {"ErrorOutputPrefix": "!{firehose:error-output-type}/!{partitionKeyFromQuery:customer_id}/"},
            "failed records have no partition keys",
        ),
        (
            {
                "ProcessingConfiguration": processing(
                    processor("MetadataExtraction", **EXTRACTION | {"JsonParsingEngine": "JQ-1.5"})
                )
            },
            "JsonParsingEngine must be JQ-1.6, not 'JQ-1.5'.",
        ),
        (
            {"ProcessingConfiguration": processing(processor("MetadataExtraction", JsonParsingEngine="JQ-1.6"))},
            "MetadataExtractionQuery must be specified for the MetadataExtraction processor.",
        ),
        (
            {
                "ProcessingConfiguration": processing(
                    processor("MetadataExtraction", **EXTRACTION), processor("MetadataExtraction", **EXTRACTION)
                )
            },
            "Cannot have more than 1 MetadataExtraction processor",
        ),
        (
            {"ProcessingConfiguration": processing(processor("MetadataExtraction", **EXTRACTION, LambdaArn="a"))},
            "Parameters of the MetadataExtraction processor are",
        ),
        (
            {"DynamicPartitioningConfiguration": {"Enabled": False}},
            "The MetadataExtraction processor can only be used when Dynamic Partitioning is enabled.",
        ),
    ],
)
async def test_what_is_wrong_with_partitions_is_refused(face: Any, changes: dict[str, Any], message: str) -> None:
    body = {"DeliveryStreamName": "made", "ExtendedS3DestinationConfiguration": S3 | PARTITIONED | changes}
    code, told = await face.refused("CreateDeliveryStream", body)
    assert code == "InvalidArgumentException" and message in told
