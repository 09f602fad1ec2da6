"""What all exchangeable parts have in common: a config class that builds them, and where those classes are found.

A component is one module: its config class (a pydantic model whose docstrings are the user's documentation) and its
implementation beside it. The config class is registered as an entry point of the group of its kind, so that a plugin in
another package is found the same way; importing the module must stay cheap, heavy libraries are imported by `build`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Union

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, PlainSerializer, Tag, WithJsonSchema

from firehose.clock import Clock
from firehose.errors import ConfigError
from firehose.executors import Executor
from firehose.filesystem import FileSystem
from firehose.kernels import Kernels
from firehose.telemetry import Emitter
from firehose.units import parse_bytes, parse_duration_ms

if TYPE_CHECKING:
    from firehose.aws import AwsClients
    from firehose.log import IngestLog
    from firehose.protocols import Catalog, Converter, TableSchema

#: A size in bytes; people write "64MiB".
ByteSize = Annotated[
    int,
    BeforeValidator(parse_bytes),
    WithJsonSchema({"type": ["string", "integer"], "description": 'a size like "64MiB"', "examples": ["64MiB"]}),
]

#: A duration in milliseconds; people write "300s".
DurationMs = Annotated[
    int,
    BeforeValidator(parse_duration_ms),
    PlainSerializer(lambda value_ms: f"{value_ms}ms", str, when_used="json"),
    WithJsonSchema({"type": "string", "description": 'a duration like "300s"', "examples": ["300s", "24h"]}),
]


class Config(BaseModel):
    """Base of every part of the configuration: unknown keys are errors, values never change, YAML keys are the aliases.

    An attribute carries its unit (`timeout_ms`), its YAML key does not need to (`timeout: 60s`).
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, use_attribute_docstrings=True)


class ComponentConfig(Config):
    """Base of the config classes of exchangeable parts; each fixes `type` to its own word."""

    type: str

    def error_facts(self, stream: StreamIdentity) -> dict[str, Any]:
        """Return members that the error output's entries of this component carry. Default: none."""
        return {}


#: The kinds of components and the entry-point group of each.
KINDS = ("sources", "transforms", "converters", "encoders", "compressors", "ciphers", "sinks", "catalogs")


@cache
def config_classes(kind: str) -> dict[str, type[Any]]:
    """Return the config classes of one kind, by the word that selects them (`type`, or `format` for encoders).

    Errors: ConfigError where two packages register the same word.
    """
    assert kind in KINDS
    found: dict[str, type[Any]] = {}
    for entry in entry_points(group=f"firehose.{kind}"):
        if entry.name in found:
            raise ConfigError(f"two packages register {kind} {entry.name!r}; uninstall one of them")
        found[entry.name] = entry.load()
    return dict(sorted(found.items()))


def one_of(kind: str, selector: str = "type") -> Any:
    """Return the type "any registered component of this kind", told apart by its word under `selector`.

    A bare word stands for a component without options: `compression: gzip` is `compression: {type: gzip}`.
    """

    def select(value: Any) -> Any:
        return value.get(selector) if isinstance(value, Mapping) else getattr(value, selector, value)

    def spell_out(value: Any) -> Any:
        return {selector: value} if isinstance(value, str) else value

    members = tuple(Annotated[each, Tag(name)] for name, each in config_classes(kind).items())
    return Annotated[Union[members], Discriminator(select), BeforeValidator(spell_out)]  # noqa: UP007 - built at run time


if TYPE_CHECKING:

    class DeserializerConfig(ComponentConfig):
        def build(self, schema: TableSchema) -> Converter: ...

else:
    DeserializerConfig = one_of("converters")


class GlueConfig(Config):
    """Which AWS Glue is asked, and as whom."""

    region: str | None = None
    """The region. Default: that of the environment or the server."""
    catalog_id: str | None = Field(None, min_length=1, max_length=255)
    """The id of the catalog: an account's. Default: the account of the credentials."""
    role_arn: str | None = None
    """The role to assume for Glue. Default: the credentials of this service."""
    external_id: str | None = None
    """The external id that the role asks for."""
    endpoint_url: str | None = None
    """The address of Glue, where it is not AWS's own; default: AWS_ENDPOINT_URL_GLUE."""


class ConvertConfig(Config):
    """Base of the config classes of columnar formats: JSON records become columns of a table of a catalog."""

    format: str
    """The format of the objects."""
    catalog: str | None = None
    """The catalog, by its name under `catalogs`; may be left out where there is only one, or `glue` is given."""
    glue: GlueConfig | None = None
    """AWS Glue, asked for the table where no catalog (or not the one named) has it: so do streams made by the API."""
    table: str = Field(pattern=r"^[^.\s]+\.[^.\s]+$")
    """The table as `DATABASE.TABLE`."""
    version: str = "LATEST"
    """The version of the table; `LATEST` follows later versions."""
    deserializer: DeserializerConfig = Field(default_factory=lambda: {"type": "openx"}, validate_default=True)
    """How JSON is read."""

    def asked(self, defined: Iterable[str]) -> list[str]:
        """Return which of the catalogs that are defined are asked for the table, in turn; none where nothing says."""
        names = list(defined)
        if self.catalog is not None:
            return [name for name in names if name == self.catalog]
        return names if self.glue is not None or len(names) == 1 else []


class FunctionConfig(Config):
    """A local function with the AWS Lambda contract: `handler(event, context)` in a Python file."""

    path: Path
    """The Python file that holds the handler. Relative to the configuration file."""
    handler: str = "handler"
    """The name of the function in that file."""
    batch: str | None = None
    """Instead of `handler`: the name of a function in that file that takes and returns whole batches, as Arrow."""
    timeout_ms: DurationMs = Field(60_000, alias="timeout")
    """How long one invocation may take before its process is killed and the invocation counts as timed out."""
    memory_bytes: ByteSize = Field(512 * 2**20, alias="memory", ge=64 * 2**20)
    """How much memory one process of the function may take."""
    environment: dict[str, str] = Field(default_factory=dict)
    """Environment variables the function sees, besides PATH, HOME, LANG, TZ and those that Lambda sets."""
    concurrency: int = Field(1, ge=1, le=64)
    """How many processes of the function may run at once for each stream that uses it."""


class ObjectSinkConfig(ComponentConfig):
    """Base of the config classes of sinks that hold objects under keys."""

    prefix: str = Field("", max_length=1024)
    """What keys begin with; `!{timestamp:...}` and `!{firehose:...}` are evaluated; without any, the date follows."""
    file_extension: str = Field("", pattern=r"^$|^\.[0-9a-z!\-_.*'()]+$", max_length=128)
    """What keys end in, instead of the ending of the format and compression."""
    time_zone: str = "UTC"
    """The time zone of timestamp expressions, by its IANA name."""


@dataclass(frozen=True, slots=True)
class StreamIdentity:
    """Which stream a component is built for."""

    uid: str
    name: str
    region: str = "us-east-1"
    account: str = "000000000000"

    @property
    def arn(self) -> str:
        return f"arn:aws:firehose:{self.region}:{self.account}:deliverystream/{self.name}"


@dataclass(frozen=True, slots=True)
class Environment:
    """Everything that touches the world comes in through here."""

    clock: Clock
    telemetry: Emitter
    #: For calls that block or release the GIL.
    executor: Executor
    files: FileSystem
    data_dir: Path
    aws: AwsClients
    #: None for commands that only read objects.
    log: IngestLog | None
    #: For writing objects of columns: each holds a row group in memory (128 MiB by default), so only a few at once.
    encoding: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(os.cpu_count() or 1))
    #: For writing all other objects: each reads back a piece of what was spilled (4 MiB or so). Without it thousands of
    #: streams that come due together would hold all that they had spilled.
    writing: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2 * (os.cpu_count() or 1)))


@dataclass(frozen=True, slots=True)
class BuildContext:
    """What a component of one stream is built with: `config.build(context)`. Catalogs take the environment alone."""

    environment: Environment
    stream: StreamIdentity
    functions: Mapping[str, FunctionConfig]
    catalogs: Mapping[str, Catalog]
    #: None for commands that build no transforms.
    kernels: Kernels | None = None
