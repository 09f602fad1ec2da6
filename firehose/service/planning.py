"""From a stream's configuration to what its worker is made of."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from io import BytesIO
from typing import Any

from firehose.catalogs.cache import Recent
from firehose.catalogs.first_of import FirstOf
from firehose.catalogs.glue import GlueCatalog
from firehose.components import (
    BuildContext,
    ConvertConfig,
    Environment,
    FunctionConfig,
    GlueConfig,
    ObjectSinkConfig,
    StreamIdentity,
)
from firehose.compressors.none import NoneConfig
from firehose.config.models import BufferConfig, DeduplicateConfig, PartitionConfig, StreamConfig
from firehose.delivery.buffer import Hints
from firehose.delivery.conversion import Conversion
from firehose.delivery.partitioning import Partitioning
from firehose.delivery.plan import DESTINATION, FAILED, Deduplication, Outlet, StreamPlan
from firehose.encoders.records import RecordsEncoder
from firehose.errors import FirehoseError, InvalidError, RetryableError
from firehose.executors import Executor
from firehose.kernels import Kernels
from firehose.keys import Prefix
from firehose.partitioning import PartitionKernel
from firehose.processes import ChildDiedError, ChildError, ChildTimeoutError
from firehose.protocols import Catalog, Encoder, Stage

#: Firehose's defaults: an object of raw records is closed at 5 MiB, a columnar one at 128 MiB.
RAW_BYTES = 5 * 2**20
COLUMNAR_BYTES = 128 * 2**20

#: What every object is sent as, whatever it holds: dashboards and loaders written for Firehose expect it.
CONTENT_TYPE = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Shared:
    """What the streams of one service share."""

    environment: Environment
    #: Where sinks send what blocks.
    sinks: Executor
    functions: Mapping[str, FunctionConfig]
    catalogs: Mapping[str, Catalog]
    kernels: Kernels
    #: AWS Glue as streams name it: those that name the same share what it said.
    glue: Recent[GlueConfig, Catalog] = field(default_factory=Recent)


def build_outlets(config: StreamConfig, context: BuildContext, sinks: Executor) -> tuple[Outlet, Outlet]:
    """Return where a stream's objects go, and its failed records; sinks block in `sinks`.

    Errors: InvalidError for what cannot be built, and those of the parts.
    """
    encoder = _encoder(config)
    outside = replace(context, environment=replace(context.environment, executor=sinks))
    sink = config.sink.build(outside)
    cipher = config.encryption.build(context) if config.encryption else None
    compressor = config.compression.build(context)
    failed_sink = config.failed.sink or config.sink
    try:
        prefix = Prefix.parse(config.sink.prefix, time_zone=config.sink.time_zone)
        prefix.for_partitions(config.partition is not None)
        failed_prefix = Prefix.parse(config.failed.prefix, error_output=True, time_zone=failed_sink.time_zone)
    except ValueError as error:
        raise InvalidError(str(error)) from error
    destination = Outlet(
        name=DESTINATION,
        sink=sink,
        prefix=prefix,
        hints=_hints(config.buffer, COLUMNAR_BYTES if config.convert else RAW_BYTES),
        compressor=compressor,
        cipher=cipher,
        extension=config.sink.file_extension or encoder.extension + compressor.extension,
        content_type=CONTENT_TYPE,
    )
    failed = Outlet(
        name=FAILED,
        sink=failed_sink.build(outside) if config.failed.sink else sink,
        prefix=failed_prefix,
        hints=_hints(config.failed.buffer or config.buffer, RAW_BYTES),
        compressor=NoneConfig(type="none").build(context),
        cipher=cipher,
        extension="",
        content_type=CONTENT_TYPE,
    )
    return destination, failed


def build_plan(config: StreamConfig, identity: StreamIdentity, version: int, shared: Shared) -> StreamPlan:
    """Return what a stream's worker is made of. Errors: those of its components, when they are built."""
    context = BuildContext(shared.environment, identity, shared.functions, shared.catalogs, shared.kernels)
    destination, failed = build_outlets(config, context, shared.sinks)
    return StreamPlan(
        identity=identity,
        version=version,
        source=config.source.build(context),
        transforms=tuple(each.build(context) for each in config.transforms),
        conversion=_conversion(config.convert, shared),
        encoder=_encoder(config),
        destination=destination,
        failed=failed,
        retention_ms=getattr(config.source, "retention_ms", None),
        deduplication=_deduplication(config.deduplicate),
        partitioning=_partitioning(config, shared),
        stage_facts=_stage_facts(config, identity),
    )


async def close_plan(plan: StreamPlan) -> None:
    """Close everything a plan holds open, the rest too where one fails."""
    async with AsyncExitStack() as stack:
        stack.push_async_callback(plan.source.close)
        for transform in plan.transforms:
            stack.push_async_callback(transform.close)
        stack.push_async_callback(close_outlets, plan.destination, plan.failed)


async def close_outlets(*outlets: Outlet) -> None:
    """Close their sinks, each once, the rest too where one fails."""
    async with AsyncExitStack() as stack:
        for sink in {id(each.sink): each.sink for each in outlets}.values():
            stack.push_async_callback(sink.close)


def _hints(buffer: BufferConfig, default_bytes: int) -> Hints:
    return Hints(buffer.max_bytes or default_bytes, buffer.max_age_ms)


def _encoder(config: StreamConfig) -> Encoder:
    return config.convert.encoder() if config.convert else RecordsEncoder(config.delimiter)


def _deduplication(config: DeduplicateConfig | None) -> Deduplication | None:
    return Deduplication(config.record_id, config.window_ms, config.max_bytes) if config else None


def _partitioning(config: StreamConfig, shared: Shared) -> Partitioning | None:
    if config.partition is None:
        return None
    kernel = _partition_kernel(config.partition, config.sink)
    clock, max_active = shared.environment.clock, config.partition.max_active
    return Partitioning(kernel, shared.kernels, clock, max_active=max_active)


def _partition_kernel(config: PartitionConfig, sink: ObjectSinkConfig) -> PartitionKernel:
    try:
        return PartitionKernel(config.query, sink.prefix)
    except ValueError as error:
        raise InvalidError(str(error)) from error


def _conversion(convert: ConvertConfig | None, shared: Shared) -> Conversion | None:
    if convert is None:
        return None
    return Conversion(convert, catalog_of(convert, shared), shared.kernels)


def catalog_of(convert: ConvertConfig, shared: Shared) -> Catalog:
    """Return where the table of a conversion is looked up. Errors: InvalidError where nothing says where."""
    found = [shared.catalogs[name] for name in convert.asked(shared.catalogs)]
    if convert.glue is not None:
        glue = shared.glue.get(convert.glue) or GlueCatalog(convert.glue, shared.environment)
        shared.glue.put(convert.glue, glue)
        found.append(glue)
    if not found:
        known = ", ".join(shared.catalogs) or "none"
        raise InvalidError(f"convert: `catalog` must name one of the catalogs; defined: {known}")
    return FirstOf(found)


async def require_query(config: StreamConfig, shared: Shared) -> None:
    """Return where the query of a stream's partitions can be used: a process of its own has read it.

    Errors: InvalidError.
    """
    if config.partition is None or config.partition.query is None:
        return
    try:
        await shared.kernels.run(_partition_kernel(config.partition, config.sink), PartitionKernel.nothing)
    except (ChildError, ChildDiedError, ChildTimeoutError) as error:
        raise InvalidError(f"partition: {error}") from error


async def require_table(config: StreamConfig, shared: Shared) -> None:
    """Return where the table of a stream's conversion can be used, or cannot be looked up for a while.

    Errors: InvalidError, saying what somebody must repair.
    """
    if config.convert is None:
        return
    database, _, table = config.convert.table.partition(".")
    try:
        schema = await catalog_of(config.convert, shared).table_schema(database, table, config.convert.version)
        converter = config.convert.deserializer.build(schema)
        config.convert.encoder().open(BytesIO(), converter.schema)
    except RetryableError:
        pass  # it is asked again for each object
    except FirehoseError as error:
        raise InvalidError(str(error), code=error.code) from error


def _stage_facts(config: StreamConfig, identity: StreamIdentity) -> dict[Stage, dict[str, Any]]:
    facts: dict[Stage, dict[str, Any]] = {}
    for transform in config.transforms:
        facts[Stage.TRANSFORM] = transform.error_facts(identity)
    if config.convert is not None:
        database, _, table = config.convert.table.partition(".")
        glue = config.convert.glue
        facts[Stage.CONVERT] = {
            "dataCatalogTable": {
                "catalogId": (glue and glue.catalog_id) or identity.account,
                "databaseName": database,
                "tableName": table,
                "region": (glue and glue.region) or identity.region,
                "versionId": config.convert.version,
            }
        }
    return facts
