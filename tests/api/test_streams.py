"""Create, describe, list and delete delivery streams with boto3."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.api.destinations import DECOMPRESSION, LAMBDA, ROLE, S3, conversion, processing, processor


async def create(face: Any, **destination: Any) -> Any:
    """Create the stream `made` with an extended S3 destination; return its configuration."""
    body = {"DeliveryStreamName": "made", "ExtendedS3DestinationConfiguration": S3 | destination}
    status, answer, _ = await face.call("CreateDeliveryStream", body)
    assert status == 200, answer
    return face.service.views["made"].config


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


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("GZIP", "gzip"),
        ("ZIP", "zip"),
        ("Snappy", "snappy"),
        ("HADOOP_SNAPPY", "hadoop_snappy"),
        ("UNCOMPRESSED", "none"),
    ],
)
async def test_each_compression_of_the_api_is_one_of_ours(face: Any, theirs: str, ours: str) -> None:
    assert (await create(face, CompressionFormat=theirs)).compression.type == ours
    _, answer, _ = await face.call("DescribeDeliveryStream", {"DeliveryStreamName": "made"})
    (destination,) = answer["DeliveryStreamDescription"]["Destinations"]
    assert destination["S3DestinationDescription"]["CompressionFormat"] == theirs


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


@pytest.mark.parametrize(
    ("extracts", "kinds"), [("True", ["decompress", "cloudwatch_logs"]), ("false", ["decompress"])]
)
async def test_processors_run_in_the_order_of_firehose(face: Any, extracts: str, kinds: list[str]) -> None:
    messages = processor("CloudWatchLogProcessing", DataMessageExtraction=extracts)
    given = processing(processor("Lambda", LambdaArn=LAMBDA), messages, DECOMPRESSION)
    config = await create(face, ProcessingConfiguration=given)
    assert [each.type for each in config.transforms] == [*kinds, "lambda"]
    _, answer, _ = await face.call("DescribeDeliveryStream", {"DeliveryStreamName": "made"})
    described = answer["DeliveryStreamDescription"]["Destinations"][0]["ExtendedS3DestinationDescription"]
    assert described["ProcessingConfiguration"]["Processors"][1:] == [messages, DECOMPRESSION], "as they were given"


async def test_a_lambda_waits_for_others_only_where_that_was_asked_for(face: Any) -> None:
    config = await create(face, ProcessingConfiguration=processing(processor("Lambda", LambdaArn=LAMBDA)))
    assert config.transforms[0].max_age_ms == 0


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
