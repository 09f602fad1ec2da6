"""DataFormatConversionConfiguration: JSON to Parquet, checked in the order of the service, put into our words.

Tables come from the catalogs of our configuration, and from AWS Glue where none of them has the table. RoleARN is kept
for Describe alone: roles are assumed only where our configuration says so.
"""

from __future__ import annotations

from typing import Final

from firehose.api.wire import Members, invalid, unsupported
from firehose.components import ConvertConfig

#: The smallest and the usual buffer of a stream with conversion. Units: MiB.
MIN_BUFFER_MIB: Final = 64
BUFFER_MIB: Final = 128

_COMPRESSIONS: Final = {"UNCOMPRESSED": "none", "GZIP": "gzip", "SNAPPY": "snappy"}
_OPENX: Final = {
    "CaseInsensitive": "case_insensitive",
    "ConvertDotsInJsonKeysToUnderscores": "convert_dots_in_json_keys_to_underscores",
    "ColumnToJsonKeyMappings": "column_to_json_key_mappings",
}
_PARQUET: Final = {
    "BlockSizeBytes": "block_size",
    "PageSizeBytes": "page_size",
    "EnableDictionaryCompression": "dictionary",
}


def is_enabled(conversion: Members | None) -> bool:
    """Return whether records are converted: left out means yes, other than with processors."""
    return conversion is not None and bool(conversion.get("Enabled", True))


def check(destination: Members) -> None:
    """Check a destination with conversion. Disabled, the block is kept as it is. Errors: WireError."""
    conversion = destination.get("DataFormatConversionConfiguration")
    if conversion is None or not is_enabled(conversion):
        return
    if destination.get("CompressionFormat", "UNCOMPRESSED") != "UNCOMPRESSED":
        raise invalid(
            "The S3 destination's compression format must be set to UNCOMPRESSED when data format conversion is "
            "enabled. To enable compression within the converted output format, set the appropriate serialization "
            "option in the output format configuration."
        )
    if destination.get("BufferingHints", {}).get("SizeInMBs", BUFFER_MIB) < MIN_BUFFER_MIB:
        raise invalid("BufferingHints.SizeInMBs must be at least 64 when data format conversion is enabled.")
    for name in ("InputFormatConfiguration", "OutputFormatConfiguration", "SchemaConfiguration"):
        if name not in conversion:
            raise invalid(f"{name} must not be null")
    deserializer = conversion["InputFormatConfiguration"].get("Deserializer")
    serializer = conversion["OutputFormatConfiguration"].get("Serializer")
    for name, chosen in (("Deserializer", deserializer), ("Serializer", serializer)):
        if not chosen:
            raise invalid(f"{name} must not be null")
    for name, chosen in (("deserializer", deserializer), ("serializer", serializer)):
        if len(chosen) > 1:
            raise invalid(f"More than one {name} specified. Only one may be chosen.")
    for member, name in (("RoleARN", "RoleArn"), ("DatabaseName", "DatabaseName"), ("TableName", "TableName")):
        if not conversion["SchemaConfiguration"].get(member):
            raise invalid(f"SchemaConfiguration.{name} must not be null or empty")


def convert(conversion: Members | None) -> Members | None:
    """Return a checked block in the words of the configuration. Errors: WireError for what this version lacks."""
    if conversion is None or not is_enabled(conversion):
        return None
    deserializer = conversion["InputFormatConfiguration"]["Deserializer"]
    serializer = conversion["OutputFormatConfiguration"]["Serializer"]
    if "OpenXJsonSerDe" not in deserializer:
        raise unsupported("HiveJsonSerDe")
    if "ParquetSerDe" not in serializer:
        raise unsupported("OrcSerDe")
    schema = conversion["SchemaConfiguration"]
    return {
        "format": "parquet",
        "table": f"{schema['DatabaseName']}.{schema['TableName']}",
        "version": schema.get("VersionId", "LATEST"),
        "glue": {"region": schema.get("Region"), "catalog_id": schema.get("CatalogId")},
        "deserializer": {"type": "openx", **_openx(deserializer["OpenXJsonSerDe"])},
        **_parquet(serializer["ParquetSerDe"]),
    }


def description(conversion: Members | None) -> Members:
    """Return the block as Describe shows it."""
    return {"Enabled": is_enabled(conversion), **(conversion or {})}


def definition(convert: ConvertConfig, *, role: str, region: str) -> Members:
    """Return the block that comes nearest to a conversion from a file."""
    words = convert.model_dump(mode="json", by_alias=True)
    database, table = convert.table.split(".")
    deserializer = words["deserializer"]
    options = {theirs: deserializer[ours] for theirs, ours in _OPENX.items() if ours in deserializer}
    spoken = {ours: theirs for theirs, ours in _COMPRESSIONS.items()}
    compression = words.get("compression", "none")
    return {
        "SchemaConfiguration": {
            "RoleARN": role,
            "DatabaseName": database,
            "TableName": table,
            "Region": region,
            "VersionId": convert.version,
        },
        "InputFormatConfiguration": {"Deserializer": {"OpenXJsonSerDe": options}},
        "OutputFormatConfiguration": {
            "Serializer": {"ParquetSerDe": {"Compression": spoken.get(compression, compression.upper())}}
        },
        "Enabled": True,
    }


def _openx(options: Members) -> Members:
    return {_OPENX[name]: value for name, value in options.items()}


def _parquet(options: Members) -> Members:
    if options.get("WriterVersion", "V1") != "V1":
        raise unsupported("ParquetSerDe.WriterVersion V2")
    if options.get("MaxPaddingBytes", 0) != 0:
        raise unsupported("ParquetSerDe.MaxPaddingBytes other than 0")
    compression = _COMPRESSIONS[options.get("Compression", "SNAPPY")]
    return {"compression": compression} | {_PARQUET[name]: options[name] for name in _PARQUET if name in options}
