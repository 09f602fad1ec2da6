"""docs/guarantees.md names every bound there is, each with the number that is in the code."""

from __future__ import annotations

import ast
import asyncio
import dataclasses
import importlib
import inspect
import os
import pkgutil
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import click
import pytest

import firehose
from firehose import aws
from firehose.cli import main
from firehose.config.models import Configuration, ServerConfig
from firehose.config.reference import reference_text
from firehose.config.shape import Shape
from firehose.datadir import DataDirectory
from firehose.service.resources import Resources, open_resources
from firehose.testing import FakeClock, RecordingTelemetry
from firehose.units import MILLISECONDS, parse_bytes, parse_duration_ms

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "guarantees.md"

#: Names of constants that bound something, or look as if they did.
BOUND = re.compile(
    r"(_MS|_S|_NS|_BYTES|_PUTS|_RECORDS|_OBJECTS|_STREAMS|_CONNECTIONS|_THREADS|_FLIGHT|_AT_ONCE)$|^_?MAX_"
)

#: Constants with such names that nobody meets as a bound, by why that is so.
EXEMPT = {
    "a format has it, or a type": """
        ciphers/envelope.py DATA_KEY_BYTES MESSAGE_ID_BYTES COMMITMENT_BYTES; ciphers/gcm.py IV_BYTES TAG_BYTES;
        clock.py HOUR_MS; converters/times.py _MAX_MICROS _MAX_DIGITS; datadir.py _OWNER_BYTES;
        deduplication/entries.py KEY_BYTES ENTRY_BYTES; delivery/buffer.py CELL_OVERHEAD_BYTES;
        hive_types.py MAX_PRECISION; log/frame.py HEAD_BYTES ROW_BYTES; log/receipts.py KEY_BYTES; log/segment.py
        HEADER_BYTES PREAMBLE_BYTES; timestamps.py MAX_DIGITS; transforms/contract.py _HEAD_BYTES _RECORD_BYTES;
        compressors/snappy.py _BLOCK_BYTES; compressors/hadoop_snappy.py _BLOCK_BYTES;
        partitioning/kernel.py _KNOWN_GROUPS""",
    "the size of a step or a piece: what is larger takes several": """
        api/bodies.py _STEP_BYTES; api/ingest.py _INLINE_BYTES; api/server.py _READ_BYTES; ciphers/gcm.py
        _PIECE_BYTES; cli/flush.py STEP_MS; cli/put.py REQUEST_BYTES REQUEST_RECORDS; compressors/streams.py PIECE_BYTES
        _SLICE_BYTES; delivery/spill.py _CHUNK_BYTES;
        compressors/zstd.py _WRITE_BYTES _READ_BYTES; deduplication/run.py _READ_BYTES;
        converters/records.py CHUNK_BYTES; delivery/reading.py
        CHUNK_BYTES; encoders/records.py PIECE_BYTES; log/access.py _GAP_BYTES _READ_BYTES; log/compaction.py
        _COPY_BYTES; log/frame.py _KEPT_BYTES; log/reader.py _FETCH_BYTES; log/receipts.py PAGE_PUTS PAGE_BYTES;
        log/scan.py _READ_BYTES; log/sidecar.py _FIRST_READ_BYTES; log/writer.py _FRAME_BYTES _GROUP_BYTES;
        operations/objects.py CALL_MS; operations/replay.py PUT_BYTES; processes/process.py PIPE_BYTES SOCKET_BYTES;
        service/backlog.py READ_BYTES; sinks/body.py CHUNK_BYTES; transforms/remote.py _CHUNK_BYTES""",
    "the pace of something that goes on": """
        api/door.py _RETRY_S; api/plain.py RETRY_AFTER_S; aws.py RENEWED_AFTER_S RETIRED_S; delivery/intake.py
        IDLE_MS; log/receipts.py SAVE_EVERY_MS;
        service/housekeeping.py MEASURING_MS SPILL_MS""",
    "what is written by hand is refused with its place, by `firehose validate` or the API": """
        api/processing.py _MAX_PROCESSORS; catalogs/file.py MAX_DEPTH; ciphers/client_side.py _MAX_CONTEXT_BYTES;
        config/checks.py SMALL_BUFFER_BYTES SHORT_RETENTION_MS; config/document.py MAX_NODES MAX_DEPTH;
        hive_types.py MAX_TYPE_DEPTH""",
    "the length of what is shown or remembered of a text": """
        api/complaints.py _MAX_REASON; child.py DESCRIPTION_BYTES; config/explain.py MAX_SHOWN_CHARACTERS;
        converters/failures.py MAX_QUOTED; converters/containers.py _MAX_SPELLINGS _MAX_SPELLING_LENGTH""",
    "another bound comes first": """
        api/admin.py MAX_BODY_BYTES; api/partitioning.py MIN_BUFFER_S _RETRY_S; compressors/snappy_blocks.py
        _MAX_BLOCK_BYTES; api/destination.py BUFFER_S; ciphers/gcm.py MAX_PLAINTEXT_BYTES; cli/put.py
        RECORD_BYTES LINE_BYTES; compressors/zstd.py _MAX_WINDOW_BYTES""",
}

#: Keys with a number that bounds nothing.
EXEMPT_KEYS = {
    "bloom_filter_fpp",
    "dictionary_key_threshold",
    "row_index_stride",
    "port",
    "level",  # of a compression
    "page_size",  # of Parquet, within `block_size`
}


class Amount(NamedTuple):
    """A number of milliseconds, of bytes, or of things."""

    value: float
    kind: str = ""


class Row(NamedTuple):
    """A row of one of the tables."""

    line: int
    bound: str
    default: str
    owner: str

    def __str__(self) -> str:
        return f"docs/guarantees.md:{self.line}: {self.bound!r}"


def rows() -> list[Row]:
    """Return the rows of the tables of bounds."""
    found, is_within = [], False
    for number, line in enumerate(DOCUMENT.read_text(encoding="utf-8").splitlines(), 1):
        is_within = line == "## Bounded" or (is_within and not line.startswith("## "))
        cells = [each.strip() for each in line.strip("|").split("|")] if line.startswith("|") else []
        if is_within and cells and cells[0] != "bound" and not line.startswith("|-"):
            assert len(cells) == 4, f"line {number}: bound, default, owner, and what happens then"
            found.append(Row(number, *cells[:3]))
    return found


ROWS = rows()

# --- what the document says ------------------------------------------------------------------------------------------

_SPAN = re.compile(r"\[`([^`]+)`\]\(configuration\.md#([\w-]+)\)|`([^`]+)`")
_AMOUNT = re.compile(r"(\d+(?:,\d{3})*(?:\.\d+)?)(?: (ms|s|min|h|d|bytes|KiB|MiB|GiB)\b)?")
_MEMBER = re.compile(r"([\w.]+)\((\w+)\)")


def amounts(text: str) -> list[Amount]:
    """Return the numbers of a text, but for those in code."""
    return [_amount(*each) for each in _AMOUNT.findall(re.sub(r"`[^`]*`", "", text))]


def _amount(number: str, unit: str) -> Amount:
    digits = number.replace(",", "")
    if not unit:
        return Amount(float(digits))
    if unit in ("bytes", "KiB", "MiB", "GiB"):
        return Amount(parse_bytes(f"{digits}{unit.replace('bytes', 'B')}"), "bytes")
    return Amount(parse_duration_ms(f"{digits}{unit.replace('min', 'm')}"), "ms")


def owners(row: Row) -> Iterator[tuple[str, str]]:
    """Yield module and name of each owner, or anchor and key; a module stands for those behind it, too."""
    module = ""
    for key, anchor, code in _SPAN.findall(row.owner):
        if anchor:
            yield f"#{anchor}", key
            continue
        place, _, name = code.rpartition(" ")
        module = place or module
        yield module, name


# --- what the code says ----------------------------------------------------------------------------------------------


def default_of(module: str, name: str, resources: Resources) -> Amount | None:
    """Return the default of an owner; None where there is none."""
    if module.startswith("#"):
        return default_of_key(module[1:], name)
    if module.startswith("firehose "):
        return _option(module.split()[1:], name)
    if probe := PROBES.get(f"{module} {name}"):
        return probe(resources)
    if found := _MEMBER.fullmatch(name):
        return _of_parameter(_member(module, found[1]), found[2])
    return _with_kind(_member(module, name), name)


def _member(module: str, name: str) -> Any:
    """Return what has this name in a file of the package, or in a module of a library."""
    is_ours = module.endswith(".py")
    value = importlib.import_module(f"firehose.{module[:-3].replace('/', '.')}" if is_ours else module)
    for part in name.split("."):
        value = getattr(value, part)
    return value


def _of_parameter(call: Any, name: str) -> Amount:
    """Return the default of a parameter, or of a field of a dataclass."""
    fields = {each.name: each for each in dataclasses.fields(call)} if dataclasses.is_dataclass(call) else {}
    if name in fields and callable(factory := fields[name].default_factory):
        value = factory()
        assert isinstance(value, asyncio.Semaphore), f"what is {value!r}?"
        return Amount(value._value / _cores())
    return _with_kind(inspect.signature(call).parameters[name].default, name)


def _with_kind(value: float, name: str) -> Amount:
    """Return a value in the units that its name says."""
    for ending, factor in (("ms", 1.0), ("s", 1_000.0), ("ns", 1e-6)):
        if name.lower().endswith(f"_{ending}"):
            return Amount(value * factor, "ms")
    return Amount(value, "bytes" if name.lower().endswith("_bytes") else "")


def _option(words: list[str], name: str) -> Amount:
    """Return the default of an option of a command."""
    command: click.Command = main
    for word in words:
        assert isinstance(command, click.Group)
        command = command.commands[word]
    (option,) = (each for each in command.params if name in each.opts)
    text = str(option.default)
    return Amount(float(text)) if text.isdecimal() else Amount(parse_duration_ms(text), "ms")


def _attempts_of_the_library(_: Resources) -> Amount:
    wanted = aws._Wanted("s3", "eu-west-1", None, None, None, None, aws.READ_TIMEOUT_MS)
    return Amount(aws._config(wanted).retries["total_max_attempts"])


def _busy_timeout(resources: Resources) -> Amount:
    return Amount(resources.state._connection.execute("PRAGMA busy_timeout").fetchone()[0], "ms")


def _converters(resources: Resources) -> Amount:
    return Amount(resources.converters._turns._value / _cores())


#: What is no constant, and is looked up where it works.
PROBES: dict[str, Callable[[Resources], Amount]] = {
    "aws.py total_max_attempts": _attempts_of_the_library,
    "stores/sqlite.py busy_timeout": _busy_timeout,
    "service/resources.py converters": _converters,
}


def _cores() -> int:
    return os.cpu_count() or 1


# --- keys of the configuration ---------------------------------------------------------------------------------------


@cache
def sections() -> dict[str, Shape]:
    """Return the groups of keys of docs/configuration.md, by the anchor that their title gives."""
    titles = re.findall(r"^## (.+)$", reference_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-"): _model(title) for title in titles}


def _model(title: str) -> Shape:
    """Return the model of a title like "`streams.NAME.sink` with `type: s3`"."""
    path, *word = re.findall(r"`([^`]+)`", title)
    shape = Shape(Configuration)
    for part in path.replace("[]", ".0").split("."):
        models = (shape, *shape.components.values(), *shape.alternatives)
        shape = next(below for each in models if (below := each.below(int(part) if part == "0" else part)))
    if word:
        return shape.components[word[0].rpartition(" ")[2]]
    return next(each for each in (shape, *shape.alternatives) if each.fields)


def default_of_key(anchor: str, key: str) -> Amount | None:
    """Return the default of a key; None where there is none."""
    assert anchor in sections(), f"docs/configuration.md has no title that gives #{anchor}"
    name = key.rpartition(".")[2]
    info = sections()[anchor].fields[name]
    shape = Shape.of(info.annotation, tuple(info.metadata))
    value = info.get_default(call_default_factory=True)
    kind = "bytes" if shape.is_size else "ms" if shape.is_duration else ""
    return None if value is None else Amount(value, kind)


# --- the tests -------------------------------------------------------------------------------------------------------


@pytest.fixture
async def resources(tmp_path: Path) -> Any:
    directory = DataDirectory(tmp_path / "data")
    directory.take()
    opened = await open_resources(ServerConfig(), directory, FakeClock(), RecordingTelemetry())
    yield opened
    await opened.close()
    directory.release()


def test_there_are_tables() -> None:
    assert len(ROWS) > 60
    assert len({row.bound for row in ROWS}) == len(ROWS), "a bound stands there twice"


async def test_the_defaults_are_those_of_the_code(resources: Resources) -> None:
    problems = [f"{row}: {problem}" for row in ROWS for problem in _problems(row, resources)]
    assert not problems, "\n" + "\n".join(problems)


def _problems(row: Row, resources: Resources) -> Iterator[str]:
    """Yield what is wrong with a row."""
    found: list[tuple[str, Amount]] = []
    named = list(owners(row))
    for module, name in named:
        try:
            default = default_of(module, name, resources)
        except (ImportError, AttributeError, LookupError, ValueError, AssertionError) as error:
            yield f"owner {module} {name} is not there: {type(error).__name__}: {error}"
            return
        if default is not None:
            found.append((f"{module} {name}", default))
    said = amounts(row.default)
    if not named:
        yield "nobody owns it"
    elif len(said) != len(found) or (not found and row.default != "none"):
        yield f"it says {row.default!r}, {len(said)} numbers, and its owners have {[value for _, value in found]}"
    for (owner, value), told in zip(found, said, strict=False):
        is_same_kind = told.kind == value.kind or (told.kind == "bytes" and not value.kind)
        if not is_same_kind or abs(told.value - value.value) > 1e-6:
            yield f"it says {told}, but {owner} is {value}"


def constants() -> dict[str, float]:
    """Return the numbers that modules of the package define, by file and name."""
    found = {}
    for info in pkgutil.walk_packages(firehose.__path__, "firehose."):
        if info.name.startswith("firehose.testing") or info.name.endswith("__main__"):
            continue
        module = importlib.import_module(info.name)
        path = Path(str(module.__file__))
        for name in _assigned(path):
            value = getattr(module, name)
            if isinstance(value, int | float) and not isinstance(value, bool):
                found[f"{path.relative_to(Path(firehose.__file__).parent).as_posix()} {name}"] = value
    return found


def _assigned(path: Path) -> Iterator[str]:
    """Yield the constants that a module defines, and does not only import."""
    for statement in ast.parse(path.read_text(encoding="utf-8")).body:
        targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
        names = [node.id for target in targets if target for node in ast.walk(target) if isinstance(node, ast.Name)]
        yield from (name for name in names if name.isupper())


def test_every_constant_that_bounds_something_is_told() -> None:
    told = {f"{module} {name}" for row in ROWS for module, name in owners(row)}
    listed = [each.split() for text in EXEMPT.values() for each in text.split(";")]
    exempt = {f"{module} {name}" for module, *names in listed for name in names}
    known = constants()
    bounds = {each for each in known if BOUND.search(each.partition(" ")[2])}
    hint = "put them into a table of docs/guarantees.md, or say in EXEMPT why nobody meets them"
    missing = sorted(f"{each} = {known[each]}" for each in bounds - told - exempt)
    assert not missing, f"{hint}:\n" + "\n".join(missing)
    assert not exempt - known.keys(), "no such constants, take them out of EXEMPT"
    assert not exempt & told, "these are told, take them out of EXEMPT"


def test_every_key_that_bounds_something_is_told() -> None:
    told = {(module[1:], name.rpartition(".")[2]) for row in ROWS for module, name in owners(row)}
    numbers = {
        (anchor, key)
        for anchor, model in sections().items()
        for key, info in model.fields.items()
        if key not in EXEMPT_KEYS and _is_number(Shape.of(info.annotation, tuple(info.metadata)))
    }
    assert len(numbers) > 15, "the keys were not found"
    missing = sorted(f"{key} of #{anchor}" for anchor, key in numbers - told)
    hint = "put them into a table of docs/guarantees.md, or say in EXEMPT_KEYS why they bound nothing"
    assert not missing, f"{hint}: {', '.join(missing)}"


def _is_number(shape: Shape) -> bool:
    return shape.is_size or shape.is_duration or shape.annotation in (int, float)


# --- a table that is wrong is noticed --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("default", "owner", "problem"),
    [
        ("17 a stream", "`delivery/outflow.py OPEN_OBJECTS`", "it says"),
        ("16 s", "`delivery/outflow.py OPEN_OBJECTS`", "it says"),
        ("4", "`log/writer.py _WAITING_BYTES`", "it says"),
        ("16", "`delivery/outflow.py OPEN_OBJECT`", "is not there"),
        ("16", "`delivery/outlow.py OPEN_OBJECTS`", "is not there"),
        ("16", "the worker", "nobody owns it"),
        ("16, 64", "`delivery/outflow.py OPEN_OBJECTS`", "2 numbers"),
        ("some", "[`source.quota`](configuration.md#streamsnamesource-with-type-direct_put)", "0 numbers"),
        ("1 GiB", "[`server.memory`](configuration.md#server)", "it says"),
        ("256 MiB", "[`server.memory`](configuration.md#service)", "is not there"),
        ("60 min", "`firehose flush --timeout`", "it says"),
        ("2 a core", "`components.py Environment(encoding)`", "it says"),
    ],
)
async def test_a_wrong_row_would_be_noticed(default: str, owner: str, problem: str, resources: Resources) -> None:
    (found,) = _problems(Row(1, "a bound", default, owner), resources)
    assert problem in found


def test_units_are_those_of_the_configuration() -> None:
    assert amounts("0.2 s, doubling to 10 min; 1,000 of 4 MiB, `8 s`, or 90 d") == [
        *(Amount(200, "ms"), Amount(600_000, "ms"), Amount(1_000), Amount(4 * 2**20, "bytes")),
        Amount(90 * MILLISECONDS["d"], "ms"),
    ]
