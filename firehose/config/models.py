"""The models of the configuration. Attribute docstrings are the user's documentation; YAML keys are the aliases."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SecretStr, StringConstraints, WithJsonSchema

from firehose.components import (
    BuildContext,
    ByteSize,
    ComponentConfig,
    Config,
    ConvertConfig,
    DurationMs,
    Environment,
    FunctionConfig,
    ObjectSinkConfig,
    one_of,
)
from firehose.protocols import Catalog, Cipher, Compressor, Encoder, Sink, Source, Transform

#: What a delivery stream may be called, as in the Firehose API.
STREAM_NAME = re.compile(r"[a-zA-Z0-9_.-]{1,64}")

#: The same, as a type.
StreamName = Annotated[str, StringConstraints(pattern=f"^{STREAM_NAME.pattern}$")]

if TYPE_CHECKING:
    # what the registered classes have in common; the checker cannot see unions that are built at run time
    class SourceConfig(ComponentConfig):
        def build(self, context: BuildContext) -> Source: ...

    class TransformConfig(ComponentConfig):
        def build(self, context: BuildContext) -> Transform: ...

    class CompressorConfig(ComponentConfig):
        def build(self, context: BuildContext) -> Compressor: ...

    class CipherConfig(ComponentConfig):
        def build(self, context: BuildContext) -> Cipher: ...

    class SinkConfig(ObjectSinkConfig):
        def build(self, context: BuildContext) -> Sink: ...

    class CatalogConfig(ComponentConfig):
        def build(self, environment: Environment) -> Catalog: ...

    class AnyConvertConfig(ConvertConfig):
        def encoder(self) -> Encoder: ...

else:
    SourceConfig = one_of("sources")
    TransformConfig = one_of("transforms")
    CompressorConfig = one_of("compressors")
    CipherConfig = one_of("ciphers")
    SinkConfig = one_of("sinks")
    CatalogConfig = one_of("catalogs")
    AnyConvertConfig = one_of("encoders", "format")


def _split_path(value: Any) -> Any:
    """Return the names of a path that is written with dots. Errors: ValueError where it looks like another notation."""
    if not isinstance(value, str):
        return value
    names = value.split(".")
    if not all(_PLAIN_NAME.fullmatch(name) for name in names):
        raise ValueError(
            "write the names of keys with dots between them, like `order.id`: no `$`, no leading dot or slash, no "
            "brackets or blanks; a list of names may hold anything, like `[order, my.id]`"
        )
    return names


#: What a name is in a path that is written with dots: nothing that another notation means by it.
_PLAIN_NAME = re.compile(r"[^.$/\[\]\s]+")

#: Where a record has its id: the names of keys, from the outside in.
RecordIdPath = Annotated[
    tuple[Annotated[str, StringConstraints(min_length=1)], ...],
    Field(min_length=1),
    BeforeValidator(_split_path),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1},
            ],
            "description": "a path like `order.id`",
            "examples": ["order.id"],
        }
    ),
]


class BufferConfig(Config):
    """When buffered rows become an object: whichever comes first."""

    max_bytes: ByteSize | None = Field(None, alias="size", ge=1, le=2**30)
    """The bytes of records, before compression. Default: 5MiB, or 128MiB with `convert`."""
    max_age_ms: DurationMs = Field(300_000, alias="interval", ge=0, le=900_000)
    """How long the first record may wait."""


class FailedConfig(Config):
    """Where records go that could not be delivered, one JSON line each with the reason and the original bytes."""

    prefix: str = Field("failed/!{firehose:error-output-type}/!{timestamp:yyyy/MM/dd}/", max_length=1024)
    """What the keys of failed records begin with; must hold `!{firehose:error-output-type}` if it has expressions."""
    buffer: BufferConfig | None = None
    """Default: the stream's own."""
    sink: SinkConfig | None = None
    """Default: the stream's own."""


class DeduplicateConfig(Config):
    """Which records are the same: those with an id that another one had not long before are acknowledged and dropped.

    Records without an id are delivered, however often they come.
    """

    record_id: RecordIdPath
    """Where a record has its id, as its producer sent it: names of keys with dots between them (`event.id`), or a list
    of names, upper and lower case as in the record. The id is a string that is not empty, or a number."""
    window_ms: DurationMs = Field(24 * 3_600_000, alias="window", ge=1_000, le=30 * 24 * 3_600_000)
    """For how long an id is known, by the arrival of its first record."""
    max_bytes: ByteSize = Field(256 * 2**20, alias="size", ge=16 * 2**20)
    """How much disk ids may take, 36 bytes each: 7 million. With more of them the oldest go before their time."""


class PartitionConfig(Config):
    """Dynamic partitioning: records say themselves which objects they go to, by values that the sink's prefix holds."""

    query: str | None = None
    """A jq query that makes an object of the keys, like `{customer: .customer.id}`; the prefix takes them as
    `!{partitionKeyFromQuery:customer}`. Not needed for keys that a function returns (`metadata.partitionKeys`), which
    the prefix takes as `!{partitionKeyFromLambda:customer}`."""
    max_active: int = Field(500, ge=1, le=5_000)
    """How many partitions may have rows or objects under way at once. Records of further ones go to the error output,
    as `activePartitionExceeded`."""


class StreamConfig(Config):
    """One delivery stream: what comes in, what is done to it, where it goes."""

    source: SourceConfig = Field(default_factory=lambda: {"type": "direct_put"}, validate_default=True)
    """Where records come from."""
    deduplicate: DeduplicateConfig | None = None
    """Drop records that were sent again, by an id that they hold."""
    transforms: tuple[TransformConfig, ...] = ()
    """What is done to records, in this order."""
    partition: PartitionConfig | None = None
    """Let records choose the objects they go to, by their own values."""
    convert: AnyConvertConfig | None = None
    """Turn JSON records into columns of a table."""
    delimiter: Literal["newline", "none"] = "newline"
    """What stands between records that are not converted: a newline unless the record ends in one, or nothing."""
    buffer: BufferConfig = BufferConfig()
    """When an object is closed."""
    compression: CompressorConfig = Field(default_factory=lambda: "none", validate_default=True)
    """The compression of the whole object; formats made by `convert` compress inside."""
    encryption: CipherConfig | None = None
    """Encryption before the object leaves this machine. What the store does itself is an option of the sink."""
    sink: SinkConfig
    """Where objects go."""
    failed: FailedConfig = FailedConfig()
    """Where failed records go."""
    tags: dict[str, str] = Field(default_factory=dict)
    """Free words about the stream."""


class CredentialConfig(Config):
    """One key that producers sign with."""

    access_key_id: str = Field(min_length=1)
    """The key's name, which requests show."""
    secret_access_key: SecretStr = Field(min_length=1)
    """What requests are signed with; better `${NAME}` than written out."""


class ServerConfig(Config):
    """The service itself. Command line options override these."""

    host: str = "127.0.0.1"
    """The address to listen on. Anything but loopback needs `credentials`."""
    port: int = Field(4573, ge=0, le=65535)
    """The port to listen on; 0 takes a free one."""
    data_dir: Path = Path(".firehose")
    """Where everything durable lies. Relative to the configuration file."""
    region: str = "us-east-1"
    """The region in ARNs, and of AWS calls where nothing else says one."""
    account: str = Field("000000000000", pattern=r"^\d{12}$")
    """The account id in ARNs."""
    credentials: tuple[CredentialConfig, ...] = ()
    """Keys that producers must sign with (SigV4). None: any signature is accepted, on loopback only."""
    memory_bytes: ByteSize = Field(256 * 2**20, alias="memory", ge=16 * 2**20)
    """How many bytes of rows all streams together may hold in memory; beyond it they spill to disk."""
    log_quota_bytes: ByteSize = Field(10 * 2**30, alias="log_quota", ge=2**20)
    """How large the ingest log may grow before producers are throttled. Nothing undelivered is ever deleted for it."""
    manifest_retention_ms: DurationMs = Field(90 * 24 * 3_600_000, alias="manifest_retention", ge=3_600_000)
    """How long it is kept which delivered object holds what. Failed records stay listed until they are replayed."""
    retry_window_ms: DurationMs = Field(15 * 60_000, alias="retry_window", ge=0, le=24 * 3_600_000)
    """How long a put is known by the name that its producer gives it (an SDK's `amz-sdk-invocation-id`, or
    `Idempotency-Key`), so that one that is sent again is stored once; a million puts at most. `0s`: never."""
    failed_quota_bytes: ByteSize = Field(2**30, alias="failed_quota", ge=2**20)
    """How many bytes of failed records may wait on disk for an unreachable error output."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """How much is logged."""
    log_style: Literal["json", "plain"] = "json"
    """`json`: one object a line, for machines; `plain`: for people."""


class Configuration(Config):
    """Everything the files say together."""

    server: ServerConfig = ServerConfig()
    """The service itself."""
    functions: dict[str, FunctionConfig] = Field(default_factory=dict)
    """Local functions, by name."""
    catalogs: dict[str, CatalogConfig] = Field(default_factory=dict)
    """Catalogs of tables, by name."""
    streams: dict[StreamName, StreamConfig] = Field(default_factory=dict)
    """Delivery streams, by name: 1 to 64 letters, digits, `_`, `.` or `-`."""
