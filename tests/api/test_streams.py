"""Create, describe, list and delete delivery streams with boto3."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

ROLE = "arn:aws:iam::123456789012:role/fh"
LAMBDA = "arn:aws:lambda:eu-central-1:123456789012:function:clean"
S3 = {"RoleARN": ROLE, "BucketARN": "arn:aws:s3:::lake"}


def conversion(**changes: Any) -> dict[str, Any]:
    return {
        "SchemaConfiguration": {"RoleARN": ROLE, "DatabaseName": "db", "TableName": "clicks"},
        "InputFormatConfiguration": {"Deserializer": {"OpenXJsonSerDe": {}}},
        "OutputFormatConfiguration": {"Serializer": {"ParquetSerDe": {}}},
    } | changes


def processor(kind: str, **parameters: str) -> dict[str, Any]:
    listed = [{"ParameterName": name, "ParameterValue": value} for name, value in parameters.items()]
    return {"Type": kind, "Parameters": listed}


def processing(*processors: dict[str, Any], enabled: bool = True) -> dict[str, Any]:
    return {"Enabled": enabled, "Processors": list(processors)}


async def create(face: Any, **destination: Any) -> Any:
    """Create the stream `made` with an extended S3 destination; return its configuration."""
    body = {"DeliveryStreamName": "made", "ExtendedS3DestinationConfiguration": S3 | destination}
    status, answer, _ = await face.call("CreateDeliveryStream", body)
    assert status == 200, answer
    return face.service.views["made"].config


async def refused(face: Any, **destination: Any) -> tuple[str, str]:
    body = {"DeliveryStreamName": "made", "ExtendedS3DestinationConfiguration": S3 | destination}
    found: tuple[str, str] = await face.refused("CreateDeliveryStream", body)
    assert "made" not in face.service.views
    return found


async def test_create_describe_list_delete(face: Any, boto: Any) -> None:
    async with boto(face) as client:
        made = await client.create_delivery_stream(
            DeliveryStreamName="made",
            DeliveryStreamType="DirectPut",
            ExtendedS3DestinationConfiguration=S3 | {"Prefix": "in/"},
            Tags=[{"Key": "team", "Value": "web"}, {"Key": "empty"}],
        )
        arn = "arn:aws:firehose:eu-central-1:123456789012:deliverystream/made"
        assert made["DeliveryStreamARN"] == arn
        described = (await client.describe_delivery_stream(DeliveryStreamName="made"))["DeliveryStreamDescription"]
        shared = {
            **S3,
            "Prefix": "in/",
            "BufferingHints": {"SizeInMBs": 5, "IntervalInSeconds": 300},
            "CompressionFormat": "UNCOMPRESSED",
            "EncryptionConfiguration": {"NoEncryptionConfig": "NoEncryption"},
            "CloudWatchLoggingOptions": {"Enabled": False},
        }
        created = described.pop("CreateTimestamp")
        assert created.timestamp() == 1_783_951_509
        assert described == {
            "DeliveryStreamName": "made",
            "DeliveryStreamARN": arn,
            "DeliveryStreamStatus": "ACTIVE",
            "DeliveryStreamType": "DirectPut",
            "VersionId": "1",
            "DeliveryStreamEncryptionConfiguration": {"Status": "DISABLED"},
            "Destinations": [
                {
                    "DestinationId": "destinationId-000000000001",
                    "S3DestinationDescription": shared,
                    "ExtendedS3DestinationDescription": {
                        **shared,
                        "ProcessingConfiguration": {"Enabled": False, "Processors": []},
                        "S3BackupMode": "Disabled",
                        "DataFormatConversionConfiguration": {"Enabled": False},
                    },
                }
            ],
            "HasMoreDestinations": False,
        }
        tags = await client.list_tags_for_delivery_stream(DeliveryStreamName="made")
        assert tags["Tags"] == [{"Key": "empty", "Value": ""}, {"Key": "team", "Value": "web"}]
        assert (await client.list_delivery_streams())["DeliveryStreamNames"] == ["clicks", "made"]
        await client.delete_delivery_stream(DeliveryStreamName="made")
        assert (await client.list_delivery_streams())["DeliveryStreamNames"] == ["clicks"]


async def test_errors_are_those_of_the_service(face: Any, boto: Any) -> None:
    async with boto(face) as client:
        with pytest.raises(client.exceptions.ResourceInUseException) as found:
            await client.create_delivery_stream(DeliveryStreamName="clicks", S3DestinationConfiguration=S3)
        assert "Firehose clicks under accountId 123456789012 already exists" in str(found.value)
        with pytest.raises(client.exceptions.ResourceNotFoundException) as found:
            await client.describe_delivery_stream(DeliveryStreamName="nobody")
        assert "Firehose nobody under account 123456789012 not found." in str(found.value)
        with pytest.raises(client.exceptions.ResourceNotFoundException):
            await client.delete_delivery_stream(DeliveryStreamName="nobody")
        with pytest.raises(client.exceptions.ResourceInUseException, match="remove it from the file"):
            await client.delete_delivery_stream(DeliveryStreamName="clicks")
        with pytest.raises(ClientError, match="StartDeliveryStreamEncryption is not supported by this version"):
            await client.start_delivery_stream_encryption(DeliveryStreamName="clicks")
        with pytest.raises(ClientError, match="TagDeliveryStream is not supported"):
            await client.tag_delivery_stream(DeliveryStreamName="clicks", Tags=[{"Key": "a"}])


async def test_names_are_listed_in_pages(face: Any, boto: Any) -> None:
    for number in range(12):
        face.service.add(f"s{number:02}")
    async with boto(face) as client:
        first = await client.list_delivery_streams()
        assert (len(first["DeliveryStreamNames"]), first["HasMoreDeliveryStreams"]) == (10, True)
        rest = await client.list_delivery_streams(ExclusiveStartDeliveryStreamName="s08x", Limit=3)
        assert (rest["DeliveryStreamNames"], rest["HasMoreDeliveryStreams"]) == (["s09", "s10", "s11"], False)
        none = await client.list_delivery_streams(DeliveryStreamType="MSKAsSource")
        assert none["DeliveryStreamNames"] == []


async def test_a_destination_becomes_a_configuration(face: Any) -> None:
    key = "arn:aws:kms:eu-central-1:123456789012:key/1"
    config = await create(
        face,
        Prefix="y=!{timestamp:yyyy}/",
        ErrorOutputPrefix="err/!{firehose:error-output-type}/",
        BufferingHints={"SizeInMBs": 7, "IntervalInSeconds": 0},
        CompressionFormat="GZIP",
        EncryptionConfiguration={"KMSEncryptionConfig": {"AWSKMSKeyARN": key}},
        FileExtension=".log",
        CustomTimeZone="Europe/Berlin",
        ProcessingConfiguration=processing(
            processor("Lambda", LambdaArn=LAMBDA, NumberOfRetries="1", BufferSizeInMBs="0.5"),
            processor("AppendDelimiterToRecord"),
        ),
    )
    assert config.sink.model_dump(include={"type", "bucket", "prefix", "file_extension", "time_zone"}) == {
        "type": "s3",
        "bucket": "lake",
        "prefix": "y=!{timestamp:yyyy}/",
        "file_extension": ".log",
        "time_zone": "Europe/Berlin",
    }
    assert config.sink.server_side_encryption.kms_key == key
    assert config.failed.prefix == "err/!{firehose:error-output-type}/"
    assert (config.buffer.max_bytes, config.buffer.max_age_ms) == (7 * 2**20, 0)
    assert (config.compression.type, config.delimiter, config.convert) == ("gzip", "newline", None)
    (transform,) = config.transforms
    assert (transform.arn, transform.retries, transform.max_bytes) == (LAMBDA, 1, 2**19)


async def test_defaults_are_those_of_firehose_and_not_of_our_files(face: Any) -> None:
    config = await create(face, Prefix="legacy")
    assert config.delimiter == "none"
    assert config.failed.prefix == "legacy"
    assert (config.buffer.max_bytes, config.buffer.max_age_ms) == (5 * 2**20, 300_000)


async def test_a_conversion_becomes_a_configuration(face: Any) -> None:
    config = await create(
        face,
        DataFormatConversionConfiguration=conversion(
            InputFormatConfiguration={
                "Deserializer": {
                    "OpenXJsonSerDe": {"CaseInsensitive": False, "ColumnToJsonKeyMappings": {"ts": "timestamp"}}
                }
            },
            OutputFormatConfiguration={
                "Serializer": {"ParquetSerDe": {"Compression": "GZIP", "BlockSizeBytes": 67_108_864}}
            },
        ),
    )
    assert config.buffer.max_bytes == 128 * 2**20
    convert = config.convert
    assert (convert.format, convert.table, convert.version) == ("parquet", "db.clicks", "LATEST")
    assert (convert.compression, convert.block_size_bytes) == ("gzip", 67_108_864)
    assert convert.deserializer.case_insensitive is False
    assert convert.deserializer.column_to_json_key_mappings == {"ts": "timestamp"}


async def test_disabled_blocks_are_kept_and_do_nothing(face: Any) -> None:
    config = await create(
        face,
        ProcessingConfiguration={"Processors": [processor("Decompression")]},
        DataFormatConversionConfiguration={"Enabled": False},
        DynamicPartitioningConfiguration={"Enabled": False},
        S3BackupConfiguration=S3,
    )
    assert (config.transforms, config.convert) == ((), None)
    _, answer, _ = await face.call("DescribeDeliveryStream", {"DeliveryStreamName": "made"})
    described = answer["DeliveryStreamDescription"]["Destinations"][0]["ExtendedS3DestinationDescription"]
    kept = {"Enabled": False, "Processors": [{"Type": "Decompression", "Parameters": []}]}
    assert described["ProcessingConfiguration"] == kept
    assert described["DynamicPartitioningConfiguration"] == {"Enabled": False}
    assert described["S3BackupDescription"]["BucketARN"] == "arn:aws:s3:::lake"


async def test_processors_are_described_with_what_was_left_out(face: Any) -> None:
    await create(
        face,
        ProcessingConfiguration=processing(
            processor("Lambda", LambdaArn=LAMBDA), processor("AppendDelimiterToRecord", Delimiter="\\n")
        ),
    )
    _, answer, _ = await face.call("DescribeDeliveryStream", {"DeliveryStreamName": "made"})
    described = answer["DeliveryStreamDescription"]["Destinations"][0]["ExtendedS3DestinationDescription"]
    assert described["ProcessingConfiguration"]["Processors"] == [
        processor(
            "Lambda",
            LambdaArn=LAMBDA,
            NumberOfRetries="3",
            RoleArn=ROLE,
            BufferSizeInMBs="1",
            BufferIntervalInSeconds="60",
        ),
        processor("AppendDelimiterToRecord"),
    ]


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
        ({"CompressionFormat": "ZIP"}, "InvalidArgumentException", "ZIP is not supported by this version"),
        ({"CompressionFormat": "Snappy"}, "InvalidArgumentException", "Snappy is not supported by this version"),
        ({"S3BackupMode": "Enabled"}, "InvalidArgumentException", "S3BackupMode Enabled is not supported"),
        (
            {"S3BackupConfiguration": {**S3, "BufferingHints": {"SizeInMBs": 5, "IntervalInSeconds": 59}}},
            "InvalidArgumentException",
            "S3 backup buffering interval must be between 60 and 900 seconds.",
        ),
        (
            {"DynamicPartitioningConfiguration": {"Enabled": True}},
            "InvalidArgumentException",
            "Dynamic partitioning is not supported by this version.",
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
            {"ProcessingConfiguration": processing(processor("MetadataExtraction"))},
            "InvalidArgumentException",
            "The MetadataExtraction processor is not supported by this version.",
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
        (
            {"InputFormatConfiguration": {"Deserializer": {"HiveJsonSerDe": {}}}},
            "HiveJsonSerDe is not supported by this version.",
        ),
        (
            {"OutputFormatConfiguration": {"Serializer": {"OrcSerDe": {}}}},
            "OrcSerDe is not supported by this version.",
        ),
        (
            {"OutputFormatConfiguration": {"Serializer": {"ParquetSerDe": {"WriterVersion": "V2"}}}},
            "ParquetSerDe.WriterVersion V2 is not supported by this version.",
        ),
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


async def test_the_older_s3_form_is_described_like_the_newer(face: Any, boto: Any) -> None:
    async with boto(face) as client:
        await client.create_delivery_stream(
            DeliveryStreamName="old",
            DirectPutSourceConfiguration={"ThroughputHintInMBs": 3},
            S3DestinationConfiguration=S3 | {"BufferingHints": {"SizeInMBs": 1, "IntervalInSeconds": 60}},
        )
        answer = await client.describe_delivery_stream(DeliveryStreamName="old")
    described = answer["DeliveryStreamDescription"]
    assert described["Source"] == {"DirectPutSourceDescription": {"ThroughputHintInMBs": 3}}
    destination = described["Destinations"][0]
    assert destination["S3DestinationDescription"]["BufferingHints"]["SizeInMBs"] == 1
    assert destination["ExtendedS3DestinationDescription"]["S3BackupMode"] == "Disabled"


async def test_streams_from_files_are_described_too(face: Any, boto: Any, tmp_path: Any) -> None:
    face.service.add(
        "filed",
        {
            "sink": {"type": "file", "path": str(tmp_path), "time_zone": "Asia/Tokyo"},
            "buffer": {"size": "100KiB", "interval": "1500ms"},
            "compression": "zstd",
            "transforms": [{"type": "lambda", "function": "clean"}],
            "tags": {"team": "web"},
        },
        version=3,
        updated_ms=1_783_951_510_500,
    )
    face.service.add(
        "table",
        {
            "sink": {"type": "s3", "bucket": "lake", "server_side_encryption": {"kms_key": "k"}},
            "convert": {
                "format": "parquet",
                "table": "db.t",
                "deserializer": {"type": "openx", "case_insensitive": False},
            },
        },
    )
    async with boto(face) as client:
        filed = (await client.describe_delivery_stream(DeliveryStreamName="filed"))["DeliveryStreamDescription"]
        table = (await client.describe_delivery_stream(DeliveryStreamName="table"))["DeliveryStreamDescription"]
        tags = (await client.list_tags_for_delivery_stream(DeliveryStreamName="filed"))["Tags"]
    assert filed["VersionId"] == "3"
    assert filed["LastUpdateTimestamp"].timestamp() == 1_783_951_510.5
    destination = filed["Destinations"][0]["ExtendedS3DestinationDescription"]
    assert destination["BucketARN"] == "arn:aws:s3:::file.local"
    assert destination["BufferingHints"] == {"SizeInMBs": 1, "IntervalInSeconds": 2}
    assert (destination["CompressionFormat"], destination["CustomTimeZone"]) == ("ZSTD", "Asia/Tokyo")
    kinds = [each["Type"] for each in destination["ProcessingConfiguration"]["Processors"]]
    assert kinds == ["Lambda", "AppendDelimiterToRecord"]
    destination = table["Destinations"][0]["ExtendedS3DestinationDescription"]
    assert destination["BufferingHints"]["SizeInMBs"] == 128
    assert destination["EncryptionConfiguration"] == {"KMSEncryptionConfig": {"AWSKMSKeyARN": "k"}}
    conversion = destination["DataFormatConversionConfiguration"]
    schema = conversion["SchemaConfiguration"]
    assert (schema["DatabaseName"], schema["TableName"]) == ("db", "t")
    openx = conversion["InputFormatConfiguration"]["Deserializer"]["OpenXJsonSerDe"]
    assert openx["CaseInsensitive"] is False
    assert tags == [{"Key": "firehose:origin", "Value": "config"}, {"Key": "team", "Value": "web"}]
