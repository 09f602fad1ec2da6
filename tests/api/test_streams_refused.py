"""Delivery streams that are not created: each refusal has the code and the words of Firehose."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.destinations import DECOMPRESSION, LAMBDA, ROLE, S3, conversion, processing, processor


async def refused(face: Any, **destination: Any) -> tuple[str, str]:
    body = {"DeliveryStreamName": "made", "ExtendedS3DestinationConfiguration": S3 | destination}
    found: tuple[str, str] = await face.refused("CreateDeliveryStream", body)
    assert "made" not in face.service.views
    return found


@pytest.mark.parametrize(
    ("destination", "code", "message"),
    [
        (
            {"CompressionFormat": "SNAPPY"},
            "ValidationException",
            "1 validation error detected: Value at 'extendedS3DestinationConfiguration.compressionFormat' failed to "
            "satisfy constraint: Member must satisfy enum value set: [ZIP, HADOOP_SNAPPY, Snappy, GZIP, UNCOMPRESSED]",
        ),
        (
            {"FileExtension": "LOG"},
            "ValidationException",
            r"Member must satisfy regular expression pattern: ^(|\.[0-9a-z!\-_.*'()]+)$",
        ),
        ({"FileExtension": "." + "a" * 128}, "ValidationException", "length less than or equal to 128"),
        ({"RoleARN": "role"}, "ValidationException", "'extendedS3DestinationConfiguration.roleARN'"),
        ({"RoleARN": None}, "ValidationException", "roleARN' failed to satisfy constraint: Member must not be null"),
        (
            {"BufferingHints": {"SizeInMBs": 129, "IntervalInSeconds": -1}},
            "ValidationException",
            "2 validation errors detected: Value at 'extendedS3DestinationConfiguration.bufferingHints.sizeInMBs' "
            "failed to satisfy constraint: Member must have value less than or equal to 128; Value at "
            "'extendedS3DestinationConfiguration.bufferingHints.intervalInSeconds' failed to satisfy constraint: "
            "Member must have value greater than or equal to 0",
        ),
        ({"BufferingHints": {"SizeInMBs": "5"}}, "SerializationException", "STRING_VALUE"),
        ({"BufferingHints": {"SizeInMBs": 5.5}}, "SerializationException", "NUMBER_VALUE"),
        ({"BufferingHints": {"SizeInMBs": True}}, "SerializationException", "BOOLEAN_VALUE"),
        ({"BufferingHints": {"SizeInMBs": 5}}, "InvalidArgumentException", "must be specified together"),
        ({"S3BackupMode": "Enabled"}, "InvalidArgumentException", "S3BackupMode Enabled is not supported"),
        (
            {"S3BackupConfiguration": {**S3, "BufferingHints": {"SizeInMBs": 5, "IntervalInSeconds": 59}}},
            "InvalidArgumentException",
            "S3 backup buffering interval must be between 60 and 900 seconds.",
        ),
        (
            {"Prefix": "c=!{partitionKeyFromQuery:c}/", "ErrorOutputPrefix": "e/!{firehose:error-output-type}/"},
            "InvalidArgumentException",
            "Dynamic Partitioning Namespaces can only be part of a prefix expression when Dynamic Partitioning is "
            "enabled.",
        ),
        ({"Prefix": "!{timestamp:yyyy}/"}, "InvalidArgumentException", "error output prefix is needed"),
        ({"Prefix": "!{nope:x}/", "ErrorOutputPrefix": "e/"}, "InvalidArgumentException", "!{nope:x} is not known"),
        ({"ErrorOutputPrefix": "!{timestamp:yyyy}/"}, "InvalidArgumentException", "error-output-type"),
        ({"CustomTimeZone": "EST"}, "InvalidArgumentException", "EST"),
        (
            {"EncryptionConfiguration": {"NoEncryptionConfig": "NoEncryption", "KMSEncryptionConfig": {}}},
            "ValidationException",
            "'extendedS3DestinationConfiguration.encryptionConfiguration.kMSEncryptionConfig.aWSKMSKeyARN'",
        ),
        (
            {"CloudWatchLoggingOptions": {"Enabled": True, "LogGroupName": "g"}},
            "InvalidArgumentException",
            "LogGroupName and LogStreamName must be specified",
        ),
        (
            {"ProcessingConfiguration": {"Enabled": True}},
            "InvalidArgumentException",
            "A maximum of 5 and a minimum of 1 processor needs to be supplied when processing is enabled.",
        ),
        (
            {"ProcessingConfiguration": processing(*[processor("Lambda", LambdaArn=LAMBDA)] * 2)},
            "InvalidArgumentException",
            "Cannot have more than 1 Lambda processor",
        ),
        (
            {"ProcessingConfiguration": processing(processor("Decompression", CompressionFormat="ZIP"))},
            "InvalidArgumentException",
            "CompressionFormat has to be GZIP",
        ),
        (
            {"ProcessingConfiguration": processing(processor("CloudWatchLogProcessing", DataMessageExtraction="true"))},
            "InvalidArgumentException",
            "CloudWatchLogProcessingProcessor can only be enabled with DecompressionProcessor",
        ),
        (
            {"ProcessingConfiguration": processing(DECOMPRESSION, processor("CloudWatchLogProcessing"))},
            "InvalidArgumentException",
            "Invalid parameter value for DataMessageExtraction. Allowed values are True and False.",
        ),
        (
            {"ProcessingConfiguration": processing(processor("RecordDeAggregation"))},
            "InvalidArgumentException",
            "The RecordDeAggregation processor is not supported by this version.",
        ),
        (
            {"ProcessingConfiguration": processing(processor("Lambda"))},
            "InvalidArgumentException",
            "LambdaArn must be specified",
        ),
        (
            {"ProcessingConfiguration": processing(processor("Lambda", LambdaArn="not an arn"))},
            "InvalidArgumentException",
            "LambdaArn 'not an arn' is not the ARN of a Lambda function: arn:aws:lambda:REGION:ACCOUNT:function:NAME",
        ),
        (
            {"ProcessingConfiguration": processing(processor("Lambda", LambdaArn=LAMBDA, Delimiter="x"))},
            "InvalidArgumentException",
            "not Delimiter",
        ),
        *[
            (
                {"ProcessingConfiguration": processing(processor("Lambda", LambdaArn=LAMBDA, **{name: value}))},
                "InvalidArgumentException",
                f"{name} must be a",
            )
            for name, value in [
                ("NumberOfRetries", "301"),
                ("NumberOfRetries", "1.5"),
                ("NumberOfRetries", "NaN"),
                ("BufferSizeInMBs", "0.1"),
                ("BufferSizeInMBs", "4"),
                ("BufferIntervalInSeconds", "901"),
                ("BufferIntervalInSeconds", "soon"),
            ]
        ],
    ],
)
async def test_what_is_wrong_is_refused(face: Any, destination: dict[str, Any], code: str, message: str) -> None:
    found, text = await refused(face, **destination)
    assert (found, message in text) == (code, True), text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"InputFormatConfiguration": None}, "InputFormatConfiguration must not be null"),
        ({"OutputFormatConfiguration": None}, "OutputFormatConfiguration must not be null"),
        ({"SchemaConfiguration": None}, "SchemaConfiguration must not be null"),
        ({"InputFormatConfiguration": {}}, "Deserializer must not be null"),
        ({"OutputFormatConfiguration": {"Serializer": {}}}, "Serializer must not be null"),
        (
            {"InputFormatConfiguration": {"Deserializer": {"OpenXJsonSerDe": {}, "HiveJsonSerDe": {}}}},
            "More than one deserializer specified. Only one may be chosen.",
        ),
        (
            {"OutputFormatConfiguration": {"Serializer": {"ParquetSerDe": {}, "OrcSerDe": {}}}},
            "More than one serializer specified. Only one may be chosen.",
        ),
        (
            {"SchemaConfiguration": {"DatabaseName": "d", "TableName": "t"}},
            "SchemaConfiguration.RoleArn must not be null or empty",
        ),
        ({"SchemaConfiguration": {"RoleARN": ROLE}}, "SchemaConfiguration.DatabaseName must not be null or empty"),
        ({"SchemaConfiguration": {"RoleARN": ROLE, "DatabaseName": "a.b", "TableName": "t"}}, "convert.parquet.table"),
    ],
)
async def test_conversions_are_checked_in_order(face: Any, changes: dict[str, Any], message: str) -> None:
    found, text = await refused(face, DataFormatConversionConfiguration=conversion(**changes))
    assert (found, message in text) == ("InvalidArgumentException", True), text


async def test_compression_and_size_are_checked_before_the_conversion_itself(face: Any) -> None:
    empty: dict[str, Any] = {"DataFormatConversionConfiguration": {}}
    _, text = await refused(
        face, CompressionFormat="GZIP", BufferingHints={"SizeInMBs": 5, "IntervalInSeconds": 60}, **empty
    )
    assert text.startswith("The S3 destination's compression format must be set to UNCOMPRESSED")
    _, text = await refused(face, BufferingHints={"SizeInMBs": 63, "IntervalInSeconds": 60}, **empty)
    assert text == "BufferingHints.SizeInMBs must be at least 64 when data format conversion is enabled."


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({}, "Exactly one destination configuration is supported for a Firehose"),
        (
            {"S3DestinationConfiguration": S3, "ExtendedS3DestinationConfiguration": S3},
            "Exactly one of S3DestinationConfiguration or ExtendedS3DestinationConfiguration must be specified.",
        ),
        (
            {
                "SplunkDestinationConfiguration": {
                    "HECEndpoint": "https://x:8088",
                    "HECEndpointType": "Raw",
                    "S3Configuration": S3,
                }
            },
            "SplunkDestinationConfiguration is not supported by this version.",
        ),
        (
            {"S3DestinationConfiguration": S3, "DeliveryStreamType": "KinesisStreamAsSource"},
            "DeliveryStreamType KinesisStreamAsSource is not supported by this version.",
        ),
        (
            {
                "S3DestinationConfiguration": S3,
                "DeliveryStreamEncryptionConfigurationInput": {"KeyType": "AWS_OWNED_CMK"},
            },
            "DeliveryStreamEncryptionConfigurationInput is not supported by this version.",
        ),
        ({"S3DestinationConfiguration": S3, "Tags": [{"Key": "a"}, {"Key": "a"}]}, "Tag keys must be unique."),
    ],
)
async def test_what_this_version_lacks_is_refused_by_name(face: Any, members: dict[str, Any], message: str) -> None:
    body = {"DeliveryStreamName": "made", **members}
    assert await face.refused("CreateDeliveryStream", body) == ("InvalidArgumentException", message)
