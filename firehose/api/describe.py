"""DescribeDeliveryStream: a stream in the words of the API, with the defaults that the service fills in.

A stream from a file has no such words; they are made from its configuration, as near as the API can say it. What the
API has no member for (a local function, encryption before upload) is left out or gets a name that looks like one.
"""

from __future__ import annotations

from typing import Final

from firehose.api import conversion, partitioning, processing
from firehose.api.destination import COMPRESSIONS, EXTENDED_S3, buffering, destination_of
from firehose.api.wire import Members
from firehose.components import ComponentConfig
from firehose.config.models import BufferConfig
from firehose.ports import StreamView

DESTINATION_ID: Final = "destinationId-000000000001"
#: A tag that streams from a file carry.
ORIGIN_TAG: Final = "firehose:origin"

_SHARED: Final = ("RoleARN", "BucketARN", "Prefix", "ErrorOutputPrefix")
_SPOKEN_COMPRESSIONS: Final = {ours: theirs for theirs, ours in COMPRESSIONS.items()}
_EXTENDED: Final = ("FileExtension", "CustomTimeZone")


def arn(name: str, *, region: str, account: str) -> str:
    """Return the ARN of a delivery stream."""
    return f"arn:aws:firehose:{region}:{account}:deliverystream/{name}"


def description(view: StreamView, *, region: str, account: str) -> Members:
    """Return the `DeliveryStreamDescription` of a stream."""
    request = view.definition or _definition(view, region=region, account=account)
    destination = destination_of(request)
    described: Members = {
        "DeliveryStreamName": view.name,
        "DeliveryStreamARN": arn(view.name, region=region, account=account),
        "DeliveryStreamStatus": view.status,
        "DeliveryStreamEncryptionConfiguration": {"Status": "DISABLED"},
        "DeliveryStreamType": "DirectPut",
        "VersionId": str(view.version),
        "CreateTimestamp": view.created_ms / 1_000,
        "Destinations": [
            {
                "DestinationId": DESTINATION_ID,
                "S3DestinationDescription": _s3(destination),
                "ExtendedS3DestinationDescription": _extended_s3(destination),
            }
        ],
        "HasMoreDestinations": False,
    }
    if view.updated_ms is not None:
        described["LastUpdateTimestamp"] = view.updated_ms / 1_000
    if "DirectPutSourceConfiguration" in request:
        described["Source"] = {"DirectPutSourceDescription": request["DirectPutSourceConfiguration"]}
    return described


def tags(view: StreamView) -> dict[str, str]:
    """Return the tags of a stream in key order."""
    origin = {ORIGIN_TAG: view.origin} if view.origin == "config" else {}
    return dict(sorted((view.config.tags | origin).items()))


def _s3(destination: Members) -> Members:
    return {
        **{name: destination[name] for name in _SHARED if name in destination},
        "BufferingHints": buffering(destination),
        "CompressionFormat": destination.get("CompressionFormat", "UNCOMPRESSED"),
        "EncryptionConfiguration": destination.get("EncryptionConfiguration") or {"NoEncryptionConfig": "NoEncryption"},
        "CloudWatchLoggingOptions": {"Enabled": False, **destination.get("CloudWatchLoggingOptions", {})},
    }


def _extended_s3(destination: Members) -> Members:
    described = _s3(destination)
    role, given = destination["RoleARN"], destination.get("ProcessingConfiguration")
    described["ProcessingConfiguration"] = processing.description(given, role=role)
    described["S3BackupMode"] = destination.get("S3BackupMode", "Disabled")
    converted = destination.get("DataFormatConversionConfiguration")
    described["DataFormatConversionConfiguration"] = conversion.description(converted)
    described |= partitioning.description(destination)
    described |= {name: destination[name] for name in _EXTENDED if name in destination}
    if "S3BackupConfiguration" in destination:
        described["S3BackupDescription"] = _s3(destination["S3BackupConfiguration"])
    return described


def _definition(view: StreamView, *, region: str, account: str) -> Members:
    """Return the CreateDeliveryStream that comes nearest to a stream from a file."""
    config, sink = view.config, view.config.sink
    role = f"arn:aws:iam::{account}:role/firehose"
    destination: Members = {
        "RoleARN": role,
        "BucketARN": f"arn:aws:s3:::{getattr(sink, 'bucket', None) or f'{sink.type}.local'}",
        "Prefix": sink.prefix,
        "ErrorOutputPrefix": config.failed.prefix,
        "CompressionFormat": _SPOKEN_COMPRESSIONS.get(config.compression.type, config.compression.type.upper()),
    }
    if sink.file_extension:
        destination["FileExtension"] = sink.file_extension
    if sink.time_zone != "UTC":
        destination["CustomTimeZone"] = sink.time_zone
    if key := getattr(getattr(sink, "server_side_encryption", None), "kms_key", None):
        destination["EncryptionConfiguration"] = {"KMSEncryptionConfig": {"AWSKMSKeyARN": key}}
    if config.convert is not None:
        converted = conversion.definition(config.convert, role=role, region=region)
        destination["DataFormatConversionConfiguration"] = converted
    partitioned, extraction = partitioning.definition(config.partition)
    destination |= partitioned
    destination["BufferingHints"] = _hints(config.buffer, usual=buffering(destination))
    processors = [_lambda(each, region, account) for each in config.transforms if each.type == "lambda"]
    processors += extraction
    if config.delimiter == "newline" and config.convert is None:
        processors.append({"Type": "AppendDelimiterToRecord"})
    if processors:
        destination["ProcessingConfiguration"] = {"Enabled": True, "Processors": processors}
    return {"DeliveryStreamName": view.name, EXTENDED_S3: destination}


def _hints(buffer: BufferConfig, *, usual: Members) -> Members:
    """Return what a buffer says, in whole MiB and seconds, rounded up."""
    size_mib = usual["SizeInMBs"] if buffer.max_bytes is None else -(-buffer.max_bytes // 2**20)
    return {"SizeInMBs": size_mib, "IntervalInSeconds": -(-buffer.max_age_ms // 1_000)}


def _lambda(transform: ComponentConfig, region: str, account: str) -> Members:
    words = transform.model_dump(by_alias=True)
    local = f"arn:aws:lambda:{region}:{account}:function:{words['function']}"
    given = {"LambdaArn": words["arn"] or local, "NumberOfRetries": str(words["retries"])}
    return processing.processor("Lambda", given)
