"""The bodies of destinations, as boto3 sends them."""

from __future__ import annotations

from typing import Any

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


DECOMPRESSION = processor("Decompression", CompressionFormat="GZIP")
