"""DataFormatConversionConfiguration: JSON to Parquet or ORC, checked in the order of the service, put into our words.

Tables come from the catalogs of our configuration, and from AWS Glue where none of them has the table. RoleARN is kept
for Describe alone: roles are assumed only where our configuration says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from firehose.api.wire import Members, invalid
from firehose.components import ConvertConfig

#: The smallest and the usual buffer of a stream with conversion. Units: MiB.
MIN_BUFFER_MIB: Final = 64
BUFFER_MIB: Final = 128


@dataclass(frozen=True, slots=True)
class _SerDe:
    """A serializer or deserializer: what it and its options are called there and here.

    An option that is not here (padding, and the HDFS blocks it is for) would change nothing for those who read the
    objects; it is taken, and shown by Describe.
    """

    name: str
    word: str
    options: Mapping[str, str]
    #: By option: what its values are called there and here, where that is not the same.
    values: Mapping[str, Mapping[str, str | int]] = field(default_factory=dict)

    def words(self, options: Members) -> Members:
        """Return options as they came in the words of the configuration."""
        return {
            self.options[name]: self.values[name][value] if name in self.values else value
            for name, value in options.items()
            if name in self.options
        }

    def spoken(self, words: Members) -> Members:
        """Return what the configuration says as options."""
        options = {name: words[ours] for name, ours in self.options.items()}
        for name, values in self.values.items():
            theirs = {ours: their for their, ours in values.items()}
            options[name] = theirs.get(options[name], str(options[name]).upper())
        return options


_DESERIALIZERS: Final = (
    _SerDe(
        "OpenXJsonSerDe",
        "openx",
        {
            "CaseInsensitive": "case_insensitive",
            "ConvertDotsInJsonKeysToUnderscores": "convert_dots_in_json_keys_to_underscores",
            "ColumnToJsonKeyMappings": "column_to_json_key_mappings",
        },
    ),
    _SerDe("HiveJsonSerDe", "hive", {"TimestampFormats": "timestamp_formats"}),
)
_SERIALIZERS: Final = (
    _SerDe(
        "ParquetSerDe",
        "parquet",
        {
            "BlockSizeBytes": "block_size",
            "PageSizeBytes": "page_size",
            "Compression": "compression",
            "EnableDictionaryCompression": "dictionary",
            "WriterVersion": "page_version",
        },
        {
            "Compression": {"UNCOMPRESSED": "none", "GZIP": "gzip", "SNAPPY": "snappy"},
            "WriterVersion": {"V1": 1, "V2": 2},
        },
    ),
    _SerDe(
        "OrcSerDe",
        "orc",
        {
            "StripeSizeBytes": "stripe_size",
            "RowIndexStride": "row_index_stride",
            "Compression": "compression",
            "BloomFilterColumns": "bloom_filter_columns",
            "BloomFilterFalsePositiveProbability": "bloom_filter_fpp",
            "DictionaryKeyThreshold": "dictionary_key_threshold",
            "FormatVersion": "file_version",
        },
        {
            "Compression": {"NONE": "none", "ZLIB": "zlib", "SNAPPY": "snappy"},
            "FormatVersion": {"V0_11": "0.11", "V0_12": "0.12"},
        },
    ),
)


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
    """Return a checked block in the words of the configuration."""
    if conversion is None or not is_enabled(conversion):
        return None
    deserializer = _words(conversion["InputFormatConfiguration"]["Deserializer"], _DESERIALIZERS, "type")
    serializer = _words(conversion["OutputFormatConfiguration"]["Serializer"], _SERIALIZERS, "format")
    schema = conversion["SchemaConfiguration"]
    return {
        "table": f"{schema['DatabaseName']}.{schema['TableName']}",
        "version": schema.get("VersionId", "LATEST"),
        "glue": {"region": schema.get("Region"), "catalog_id": schema.get("CatalogId")},
        "deserializer": deserializer,
        **serializer,
    }


def description(conversion: Members | None) -> Members:
    """Return the block as Describe shows it."""
    return {"Enabled": is_enabled(conversion), **(conversion or {})}


def definition(convert: ConvertConfig, *, role: str, region: str) -> Members:
    """Return the block that comes nearest to a conversion from a file."""
    words = convert.model_dump(mode="json", by_alias=True)
    database, table = convert.table.split(".")
    return {
        "SchemaConfiguration": {
            "RoleARN": role,
            "DatabaseName": database,
            "TableName": table,
            "Region": region,
            "VersionId": convert.version,
        },
        "InputFormatConfiguration": {"Deserializer": _spoken(words["deserializer"], _DESERIALIZERS, "type")},
        "OutputFormatConfiguration": {"Serializer": _spoken(words, _SERIALIZERS, "format")},
        "Enabled": True,
    }


def _words(chosen: Members, known: Sequence[_SerDe], selector: str) -> Members:
    ((name, options),) = chosen.items()
    (serde,) = [each for each in known if each.name == name]
    return {selector: serde.word, **serde.words(options)}


def _spoken(words: Members, known: Sequence[_SerDe], selector: str) -> Members:
    """Return the one that is meant; where only our configuration knows it, there is none."""
    return {each.name: each.spoken(words) for each in known if each.word == words[selector]}
