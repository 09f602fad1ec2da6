"""Serializers and deserializers: what AWS calls their options, what we do, and the way back."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.destinations import S3, conversion

KINDS = {"Deserializer": "InputFormatConfiguration", "Serializer": "OutputFormatConfiguration"}

ALL_OF_PARQUET = {
    "BlockSizeBytes": 67_108_864,
    "PageSizeBytes": 65_536,
    "Compression": "GZIP",
    "EnableDictionaryCompression": False,
    "WriterVersion": "V2",
}
ALL_OF_ORC = {
    "StripeSizeBytes": 8_388_608,
    "RowIndexStride": 1000,
    "Compression": "ZLIB",
    "BloomFilterColumns": ["id", "user.name"],
    "BloomFilterFalsePositiveProbability": 0.01,
    "DictionaryKeyThreshold": 0.8,
    "FormatVersion": "V0_11",
}


def chosen(kind: str, name: str, options: dict[str, Any]) -> dict[str, Any]:
    return {KINDS[kind]: {kind: {name: options}}}


async def create(face: Any, **changes: Any) -> tuple[Any, dict[str, Any]]:
    """Create a stream with a conversion; return its configuration, and the conversion as Describe shows it."""
    destination = S3 | {"DataFormatConversionConfiguration": conversion(**changes)}
    body = {"DeliveryStreamName": "made", "ExtendedS3DestinationConfiguration": destination}
    status, answer, _ = await face.call("CreateDeliveryStream", body)
    assert status == 200, answer
    return face.service.views["made"].config.convert, await described(face, "made")


async def described(face: Any, stream: str) -> dict[str, Any]:
    _, answer, _ = await face.call("DescribeDeliveryStream", {"DeliveryStreamName": stream})
    (destination,) = answer["DeliveryStreamDescription"]["Destinations"]
    shown: dict[str, Any] = destination["ExtendedS3DestinationDescription"]["DataFormatConversionConfiguration"]
    return shown


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        (
            "ParquetSerDe",
            {},
            {
                "format": "parquet",
                "compression": "snappy",
                "page_version": 1,
                "page_size": 2**20,
                "timestamps": "micros",
            },
        ),
        (
            "ParquetSerDe",
            ALL_OF_PARQUET,
            {
                "format": "parquet",
                "block_size": 67_108_864,
                "page_size": 65_536,
                "compression": "gzip",
                "dictionary": False,
                "page_version": 2,
            },
        ),
        ("ParquetSerDe", {"Compression": "UNCOMPRESSED"}, {"format": "parquet", "compression": "none"}),
        (
            "OrcSerDe",
            {},
            {
                "format": "orc",
                "compression": "snappy",
                "stripe_size": 64 * 2**20,
                "row_index_stride": 10_000,
                "bloom_filter_columns": [],
                "bloom_filter_fpp": 0.05,
                "file_version": "0.12",
            },
        ),
        (
            "OrcSerDe",
            ALL_OF_ORC,
            {
                "format": "orc",
                "stripe_size": 8_388_608,
                "row_index_stride": 1000,
                "compression": "zlib",
                "bloom_filter_columns": ["id", "user.name"],
                "bloom_filter_fpp": 0.01,
                "dictionary_key_threshold": 0.8,
                "file_version": "0.11",
            },
        ),
        (
            "OrcSerDe",
            {"Compression": "NONE", "FormatVersion": "V0_12"},
            {"format": "orc", "compression": "none", "file_version": "0.12"},
        ),
    ],
)
async def test_serializers(face: Any, name: str, options: dict[str, Any], words: dict[str, Any]) -> None:
    convert, shown = await create(face, **chosen("Serializer", name, options))
    found = convert.model_dump(mode="json", by_alias=True)
    assert {word: found[word] for word in words} == words
    assert shown["OutputFormatConfiguration"] == {"Serializer": {name: options}}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ParquetSerDe", {"MaxPaddingBytes": 8_388_608}),
        ("OrcSerDe", {"EnablePadding": True, "PaddingTolerance": 0.1, "BlockSizeBytes": 268_435_456}),
    ],
)
async def test_padding_is_taken_and_shown_and_does_nothing(face: Any, name: str, options: dict[str, Any]) -> None:
    padded, shown = await create(face, **chosen("Serializer", name, options))
    assert shown["OutputFormatConfiguration"] == {"Serializer": {name: options}}
    del face.service.views["made"]
    assert (await create(face, **chosen("Serializer", name, {})))[0] == padded


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("OpenXJsonSerDe", {}, {"type": "openx", "case_insensitive": True}),
        (
            "OpenXJsonSerDe",
            {
                "CaseInsensitive": False,
                "ConvertDotsInJsonKeysToUnderscores": True,
                "ColumnToJsonKeyMappings": {"ts": "timestamp"},
            },
            {
                "type": "openx",
                "case_insensitive": False,
                "convert_dots_in_json_keys_to_underscores": True,
                "column_to_json_key_mappings": {"ts": "timestamp"},
            },
        ),
        ("HiveJsonSerDe", {}, {"type": "hive", "timestamp_formats": []}),
        (
            "HiveJsonSerDe",
            {"TimestampFormats": ["yyyy-MM-dd HH:mm:ss", "millis"]},
            {"type": "hive", "timestamp_formats": ["yyyy-MM-dd HH:mm:ss", "millis"]},
        ),
    ],
)
async def test_deserializers(face: Any, name: str, options: dict[str, Any], words: dict[str, Any]) -> None:
    convert, shown = await create(face, **chosen("Deserializer", name, options))
    assert convert.deserializer.model_dump(mode="json", by_alias=True).items() >= words.items()
    assert shown["InputFormatConfiguration"] == {"Deserializer": {name: options}}


@pytest.mark.parametrize(("name", "options"), [("ParquetSerDe", ALL_OF_PARQUET), ("OrcSerDe", ALL_OF_ORC)])
async def test_what_comes_from_a_file_is_described_alike(face: Any, name: str, options: dict[str, Any]) -> None:
    convert, _ = await create(face, **chosen("Serializer", name, options))
    words = {"sink": {"type": "s3", "bucket": "lake"}, "convert": convert.model_dump(mode="json", by_alias=True)}
    face.service.add("filed", words)
    shown = await described(face, "filed")
    assert shown["OutputFormatConfiguration"] == {"Serializer": {name: options}}
    assert list(shown["InputFormatConfiguration"]["Deserializer"]) == ["OpenXJsonSerDe"]


async def test_what_only_files_can_say_is_described_as_near_as_can_be(face: Any) -> None:
    for number, (convert, serializer, compression) in enumerate(
        [
            ({"format": "parquet", "compression": "zstd"}, "ParquetSerDe", "ZSTD"),
            ({"format": "orc", "compression": "lz4"}, "OrcSerDe", "LZ4"),
        ]
    ):
        words = {"sink": {"type": "s3", "bucket": "lake"}, "convert": {"table": "db.t", **convert}}
        face.service.add(f"filed-{number}", words)
        shown = await described(face, f"filed-{number}")
        assert shown["OutputFormatConfiguration"]["Serializer"][serializer]["Compression"] == compression


@pytest.mark.parametrize(
    ("name", "options", "code", "message"),
    [
        ("ParquetSerDe", {"BlockSizeBytes": 67_108_863}, "ValidationException", "greater than or equal to 67108864"),
        ("ParquetSerDe", {"BlockSizeBytes": 2**31}, "InvalidArgumentException", "2147483647"),
        ("ParquetSerDe", {"PageSizeBytes": 65_535}, "ValidationException", "greater than or equal to 65536"),
        ("ParquetSerDe", {"MaxPaddingBytes": -1}, "ValidationException", "greater than or equal to 0"),
        ("ParquetSerDe", {"Compression": "ZSTD"}, "ValidationException", "enum value set"),
        ("ParquetSerDe", {"WriterVersion": "V3"}, "ValidationException", "enum value set"),
        ("OrcSerDe", {"StripeSizeBytes": 8_388_607}, "ValidationException", "greater than or equal to 8388608"),
        ("OrcSerDe", {"BlockSizeBytes": 67_108_863}, "ValidationException", "greater than or equal to 67108864"),
        ("OrcSerDe", {"RowIndexStride": 999}, "ValidationException", "greater than or equal to 1000"),
        ("OrcSerDe", {"PaddingTolerance": 1.5}, "ValidationException", "less than or equal to 1"),
        ("OrcSerDe", {"DictionaryKeyThreshold": -1}, "ValidationException", "greater than or equal to 0"),
        ("OrcSerDe", {"BloomFilterColumns": ["a b"]}, "ValidationException", "bloomFilterColumns"),
        ("OrcSerDe", {"Compression": "ZSTD"}, "ValidationException", "enum value set"),
        ("OrcSerDe", {"FormatVersion": "V0_13"}, "ValidationException", "enum value set"),
        (
            "OrcSerDe",
            {"BloomFilterFalsePositiveProbability": 0},
            "InvalidArgumentException",
            "bloom_filter_fpp: Input should be greater than 0",
        ),
    ],
)
async def test_options_that_cannot_be_are_refused(
    face: Any, name: str, options: dict[str, Any], code: str, message: str
) -> None:
    destination = S3 | {"DataFormatConversionConfiguration": conversion(**chosen("Serializer", name, options))}
    body = {"DeliveryStreamName": "made", "ExtendedS3DestinationConfiguration": destination}
    found, text = await face.refused("CreateDeliveryStream", body)
    assert (found, message in text) == (code, True), text
