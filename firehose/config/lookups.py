"""What shows only to who looks: the tables that streams convert to, and functions, each loaded once in its own process.

A configuration of which some parts were left out, because they are wrong already, is looked at as far as it goes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping

from firehose.catalogs.file import FileCatalog, FileCatalogConfig
from firehose.catalogs.first_of import FirstOf
from firehose.clock import Clock
from firehose.components import FunctionConfig
from firehose.config.checks import Finding
from firehose.config.models import Configuration, ServerConfig, StreamConfig
from firehose.errors import FirehoseError, NotFoundError
from firehose.executors import InlineExecutor
from firehose.kernels import Kernels
from firehose.keys import Prefix
from firehose.partitioning import PartitionKernel
from firehose.processes import ChildDiedError, ProcessPool
from firehose.protocols import TableSchema
from firehose.telemetry import Emitter
from firehose.transforms.contract import FunctionArn, InvocationError
from firehose.transforms.local import LocalFunction

#: How many functions are loaded at once: each may take all the memory it is granted.
FUNCTIONS_AT_ONCE = 4

#: What reading a query may take: jq computes what is constant in it.
QUERY_MEMORY_BYTES = 2**30


async def table_findings(configuration: Configuration) -> tuple[list[Finding], list[Finding]]:
    """Return what is wrong with file catalogs and the tables in them that streams convert to, and what is doubtful.

    Other catalogs are not asked.
    """
    defined: Mapping[str, object] = configuration.catalogs
    catalogs: dict[str, FileCatalog] = {}
    found: list[Finding] = []
    doubted: list[Finding] = []
    for name, each in defined.items():
        if isinstance(each, FileCatalogConfig) and each.path.is_dir():
            catalogs[name] = FileCatalog(each.path)
        elif isinstance(each, FileCatalogConfig):
            message = "no folder stands there; relative paths begin at the folder of the configuration file"
            found.append(Finding(("catalogs", name, "path"), message))
    for name, stream in configuration.streams.items():
        if not stream.convert:
            continue
        asked = [catalogs[each] for each in stream.convert.asked(defined) if each in catalogs]
        if not asked:
            continue
        database, table = stream.convert.table.split(".")
        try:
            schema = await FirstOf(asked).table_schema(database, table, stream.convert.version)
            stream.convert.deserializer.build(schema)
            doubted += _key_column_doubts(name, stream, schema)
        except FirehoseError as error:
            if stream.convert.glue is None or not isinstance(error, NotFoundError):
                found.append(Finding(("streams", name, "convert", "table"), str(error), also=("catalogs",)))
    return found, doubted


def _key_column_doubts(name: str, stream: StreamConfig, schema: TableSchema) -> Iterator[Finding]:
    """Doubt a column that stands in the keys and in the table: readers refuse it, or believe one of the two."""
    try:
        in_keys = {column.lower() for column in Prefix.parse(stream.sink.prefix).columns()} if stream.sink else set()
    except ValueError:
        return  # an error of its own
    for column in [column for column, _ in schema.columns if column.lower() in in_keys]:
        both = f"{schema.database}.{schema.table} and in the keys"
        message = f"{column} is a column in {both}, of which readers take one; call it otherwise here"
        yield Finding(("streams", name, "sink", "prefix"), message)


async def function_findings(configuration: Configuration, clock: Clock, telemetry: Emitter) -> list[Finding]:
    """Load each function once, as a stream would, and return what keeps them from being loaded."""
    turns = asyncio.Semaphore(FUNCTIONS_AT_ONCE)

    async def look(name: str, config: FunctionConfig) -> Finding | None:
        async with turns:
            function = LocalFunction(
                _arn(name, configuration.server), config, log_stream="validate", clock=clock, telemetry=telemetry
            )
            try:
                await function.load()
            except InvocationError as error:
                return _finding(name, f"does not load: {_reason(error).removeprefix(f'{name}: ')}")
            except FirehoseError as error:
                return _finding(name, f"could not be loaded: {error}")
            finally:
                await function.close()
            return None

    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(look(name, config))
            for name, config in configuration.functions.items()
            if config.path.is_file()
        ]
    return [found for task in tasks if (found := task.result())]


async def query_findings(configuration: Configuration, clock: Clock, telemetry: Emitter) -> list[Finding]:
    """Let jq read each query in a process of its own, and return what is wrong with them."""
    pool = ProcessPool(
        "firehose.kernels:child",
        {},
        processes=1,
        memory_bytes=QUERY_MEMORY_BYTES,
        clock=clock,
        telemetry=telemetry,
        name="validate",
    )
    kernels, found = Kernels(InlineExecutor(), pool), list[Finding]()
    try:
        for name, stream in configuration.streams.items():
            try:
                if stream.partition is not None and stream.sink:
                    kernel = PartitionKernel(stream.partition.query, stream.sink.prefix)
                    await kernels.run(kernel, PartitionKernel.nothing)
            except ValueError:
                continue  # told already: query and prefix do not belong together
            except FirehoseError as error:
                path = ("streams", name, "partition", "query")
                found.append(Finding(path, f"cannot be used: {error}", also=("streams", name, "sink", "prefix")))
    finally:
        await pool.close()
    return found


def _finding(name: str, message: str) -> Finding:
    # the message may tell what the function was given: its whole section is looked at for secrets
    return Finding(("functions", name, "path"), message, also=("functions", name))


def _arn(name: str, server: ServerConfig) -> FunctionArn:
    return FunctionArn(f"arn:aws:lambda:{server.region}:{server.account}:function:{name}", server.region, name)


def _reason(error: InvocationError) -> str:
    """Return why in one line; of a process that ended by itself, also the last that it printed."""
    cause, printed = error.__cause__, error.detail.strip().rpartition("\n")[2]
    has_last_words = isinstance(cause, ChildDiedError) and not cause.out_of_memory and printed
    return f"{error.reason}; it printed last: {printed}" if has_last_words else error.reason
