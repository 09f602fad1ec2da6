"""CreateDeliveryStream: what the model of the API cannot check, and the stream in the words of the configuration."""

from __future__ import annotations

from typing import Final

from pydantic import ValidationError

from firehose.api import conversion, partitioning, processing
from firehose.api.wire import Members, invalid, unsupported
from firehose.config.models import StreamConfig
from firehose.keys import Prefix
from firehose.partitioning import PartitionKernel

S3: Final = "S3DestinationConfiguration"
EXTENDED_S3: Final = "ExtendedS3DestinationConfiguration"

#: Usual buffering hints of S3. Units: MiB, seconds.
BUFFER_MIB: Final = 5
#: With conversion or partitions.
LARGE_BUFFER_MIB: Final = 128
BUFFER_S: Final = 300

COMPRESSIONS: Final = {
    "UNCOMPRESSED": "none",
    "GZIP": "gzip",
    "ZIP": "zip",
    "Snappy": "snappy",
    "HADOOP_SNAPPY": "hadoop_snappy",
}

_BUCKET_ARN: Final = ":s3:::"


def stream_config(request: Members) -> StreamConfig:
    """Return the configuration a CreateDeliveryStream stands for.

    Errors: WireError, InvalidArgumentException, for contradictions and for what this version lacks.
    """
    destination = _destination(request)
    _check_source(request)
    _check_s3(destination)
    tags = {each["Key"]: each.get("Value", "") for each in request.get("Tags", [])}
    if len(tags) != len(request.get("Tags", [])):
        raise invalid("Tag keys must be unique.")
    try:
        return StreamConfig.model_validate(_words(destination) | {"tags": tags})
    except ValidationError as error:
        problems = (f"{'.'.join(str(part) for part in each['loc'])}: {each['msg']}" for each in error.errors())
        raise invalid(f"The stream cannot be built: {'; '.join(problems)}") from None


def destination_of(request: Members) -> Members:
    """Return the members of the S3 destination of a request that was accepted."""
    found: Members = request.get(EXTENDED_S3) or request[S3]
    return found


def buffering(destination: Members) -> Members:
    """Return the buffering hints of a destination, filled in."""
    is_large = conversion.is_enabled(destination.get("DataFormatConversionConfiguration"))
    is_large = is_large or partitioning.is_enabled(destination)
    usual = {"SizeInMBs": LARGE_BUFFER_MIB if is_large else BUFFER_MIB, "IntervalInSeconds": BUFFER_S}
    hints: Members = destination.get("BufferingHints") or usual
    return hints


def _destination(request: Members) -> Members:
    given = [name for name in request if name.endswith("DestinationConfiguration")]
    if S3 in given and EXTENDED_S3 in given:
        raise invalid(f"Exactly one of {S3} or {EXTENDED_S3} must be specified.")
    if len(given) != 1:
        raise invalid("Exactly one destination configuration is supported for a Firehose")
    if given[0] not in (S3, EXTENDED_S3):
        raise unsupported(given[0])
    found: Members = request[given[0]]
    return found


def _check_source(request: Members) -> None:
    kind = request.get("DeliveryStreamType", "DirectPut")
    if kind != "DirectPut":
        raise unsupported(f"DeliveryStreamType {kind}")
    for name in ("KinesisStreamSourceConfiguration", "MSKSourceConfiguration", "DatabaseSourceConfiguration"):
        if name in request:
            raise invalid(f"{name} does not go with DeliveryStreamType DirectPut.")
    if "DeliveryStreamEncryptionConfigurationInput" in request:
        raise unsupported("DeliveryStreamEncryptionConfigurationInput")


def _check_s3(destination: Members) -> None:
    _check_hints(destination.get("BufferingHints"))
    _check_logging(destination.get("CloudWatchLoggingOptions"))
    encryption = destination.get("EncryptionConfiguration", {})
    if len(encryption) > 1:
        raise invalid("EncryptionConfiguration: specify either NoEncryptionConfig or KMSEncryptionConfig.")
    conversion.check(destination)
    _check_backup(destination)
    processing.check(destination.get("ProcessingConfiguration"))
    partitioning.check(destination)
    _check_prefixes(destination)


def _check_hints(hints: Members | None) -> None:
    if hints is not None and len(hints) != 2:
        raise invalid("BufferingHints: SizeInMBs and IntervalInSeconds must be specified together.")


def _check_logging(options: Members | None) -> None:
    if options and options.get("Enabled") and not (options.get("LogGroupName") and options.get("LogStreamName")):
        raise invalid("LogGroupName and LogStreamName must be specified when CloudWatch logging is enabled.")


def _check_backup(destination: Members) -> None:
    backup = destination.get("S3BackupConfiguration")
    if backup is not None:
        _check_hints(backup.get("BufferingHints"))
        if backup.get("BufferingHints", {}).get("IntervalInSeconds", BUFFER_S) < 60:
            raise invalid("S3 backup buffering interval must be between 60 and 900 seconds.")
    if destination.get("S3BackupMode", "Disabled") != "Disabled":
        raise unsupported("S3BackupMode Enabled")


def _check_prefixes(destination: Members) -> None:
    prefix, error_prefix = destination.get("Prefix", ""), destination.get("ErrorOutputPrefix")
    try:
        parsed = Prefix.parse(prefix, time_zone=destination.get("CustomTimeZone") or "UTC")
        parsed.for_partitions(partitioning.is_enabled(destination))
        Prefix.for_errors(error_prefix or None, parsed)
        if words := partitioning.partition(destination):
            PartitionKernel(words["query"], prefix)
    except ValueError as error:
        raise invalid(str(error)) from None


def _words(destination: Members) -> Members:
    """Return a checked destination as it would stand in YAML."""
    hints = buffering(destination)
    prefix = destination.get("Prefix", "")
    processors = destination.get("ProcessingConfiguration")
    key = destination.get("EncryptionConfiguration", {}).get("KMSEncryptionConfig", {}).get("AWSKMSKeyARN")
    sink = {
        "type": "s3",
        "bucket": destination["BucketARN"].partition(_BUCKET_ARN)[2],
        "prefix": prefix,
        "file_extension": destination.get("FileExtension", ""),
        "time_zone": destination.get("CustomTimeZone") or "UTC",
    }
    return {
        "source": "direct_put",
        "transforms": processing.transforms(processors),
        "partition": partitioning.partition(destination),
        "convert": conversion.convert(destination.get("DataFormatConversionConfiguration")),
        "delimiter": "newline" if processing.appends_delimiter(processors) else "none",
        "buffer": {"size": f"{hints['SizeInMBs']}MiB", "interval": f"{hints['IntervalInSeconds']}s"},
        "compression": COMPRESSIONS[destination.get("CompressionFormat", "UNCOMPRESSED")],
        "sink": sink | ({"server_side_encryption": {"kms_key": key}} if key else {}),
        "failed": {"prefix": destination.get("ErrorOutputPrefix") or prefix},
    }
