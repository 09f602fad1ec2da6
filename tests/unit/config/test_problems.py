"""What people read when their configuration is wrong: place, key, value, what is allowed."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from firehose.clock import SystemClock
from firehose.config.loader import Loaded, examine
from firehose.errors import ConfigError, Problem
from firehose.processes import ChildStarted
from firehose.testing import RecordingTelemetry
from tests.unit.config.conftest import Load, Problems, Write, marked

SINK = "sink: {type: file, path: out}"
CATALOG = "catalogs: {c: {type: file, path: c}}\n"


def stream(text: str) -> str:
    return f"streams: {{s: {{{SINK}, {text}}}}}"


@pytest.mark.parametrize(
    ("text", "key", "said"),
    [
        # keys
        ("§sever: {}", "sever", "unknown key; did you mean `server`?; allowed: server, functions"),
        ("server: {§prot: 1}", "server.prot", "unknown key; did you mean `port`?"),
        ("server: {§zzz: 1}", "server.zzz", "unknown key; allowed: host, port"),
        (
            stream("buffer: {§max_age_ms: 60s}"),
            "streams.s.buffer.max_age_ms",
            "unknown key; did you mean `interval`?; allowed: size, interval",
        ),
        (
            stream("compression: {type: gzip, §levle: 3}"),
            "streams.s.compression.levle",
            "unknown key; did you mean `level`?",
        ),
        (stream("§retention: 7d"), "streams.s.retention", "unknown key; it stands under `source`; allowed: source"),
        (stream("§size: 1MiB"), "streams.s.size", "unknown key; it stands under `buffer`; allowed"),
        (stream("§prefix: a/"), "streams.s.prefix", "unknown key; it stands under `sink` or `failed`; allowed"),
        (stream("§table: a.b"), "streams.s.table", "unknown key; it stands under `convert`; allowed"),
        ("§port: 1", "port", "unknown key; it stands under `server`; allowed"),
        ("streams:\n  §s: {}", "streams.s.sink", "is missing; allowed: file, s3"),
        ("streams:\n  s:\n    §sink: {type: file}", "streams.s.sink.path", "is missing"),
        ("functions:\n  §f: {}", "functions.f.path", "is missing"),
        ("streams: {}\n§streams: {}", "streams", "this key stands already in line 1"),
        # numbers, sizes, durations, words, texts
        ("server: {port: §x}", "server.port", "expected a whole number (got x); allowed: 0 to 65535"),
        ("server: {port: §1.5}", "server.port", "expected a whole number (got 1.5)"),
        ("server: {port: §65536}", "server.port", "is too large (got 65536); allowed: 0 to 65535"),
        ("server: {port: §-1}", "server.port", "is too small (got -1); allowed: 0 to 65535"),
        ("server: {port: §[1]}", "server.port", "expected a whole number (got a list)"),
        ('server: {port: §"\\t"}', "server.port", "expected a whole number (got '\\t')"),
        ("server:\n  §port:\n  region: x", "server.port", "is empty; allowed: 0 to 65535"),
        ("server: {memory: §1MiB}", "server.memory", "is too small (got 1MiB); allowed: at least 16MiB"),
        ("server: {memory: §64MO}", "server.memory", "expected a unit of B, KB, MB"),
        ("server: {memory: §lots}", "server.memory", "expected a number and a unit, like 64MiB (got lots)"),
        ("server: {manifest_retention: §7}", "server.manifest_retention", "did you mean `7h` or `7d`? (got 7)"),
        (
            stream("source: {type: direct_put, retention: §7}"),
            "streams.s.source.retention",
            "did you mean `7h` or `7d`?",
        ),
        ("server: {log_level: §loud}", "server.log_level", "(got loud); allowed: debug, info, warning, error"),
        ("server: {account: §12}", "server.account", "(got 12); allowed: 12 digits"),
        ("server: {region: §[x]}", "server.region", "expected text (got a list)"),
        ("server: {data_dir: §{}}", "server.data_dir", "expected a path (got keys and values)"),
        ("server: {credentials: §{}}", "server.credentials", "expected a list (got keys and values)"),
        ("server: §5", "server", "expected keys and values (got 5)"),
        ("streams: {s: §[1]}", "streams.s", "expected keys and values (got a list)"),
        ("streams:\n  §s:\n", "streams.s", "is empty"),
        (
            stream("buffer: {interval: §60}"),
            "streams.s.buffer.interval",
            "expected a unit of ms, s, m, h, d, w, like 300s; did you mean `60s`? (got 60); allowed: 0ms to 15m",
        ),
        (
            stream("buffer: {interval: §16m}"),
            "streams.s.buffer.interval",
            "is too large (got 16m); allowed: 0ms to 15m",
        ),
        (f"streams: {{§a b: {{{SINK}}}}}", "streams.a b", "does not have the form it needs (got a b)"),
        (stream("tags: {a: §[1]}"), "streams.s.tags.a", "expected text (got a list)"),
        # components
        (
            "streams: {s: {sink: {type: §fiel, path: out}}}",
            "streams.s.sink.type",
            "unknown type; did you mean `file`? (got fiel); allowed: file, s3",
        ),
        ("streams: {s: {§sink: {path: out}}}", "streams.s.sink.type", "is missing; allowed: file, s3"),
        ("streams: {s: {sink: §[file]}}", "streams.s.sink", "expected one type (got a list); allowed: file, s3"),
        ("streams: {s: {sink: {type: §[x]}}}", "streams.s.sink.type", "expected one type (got a list)"),
        ("streams: {s: {sink: {§type: }}}", "streams.s.sink.type", "is empty; allowed: file, s3"),
        ("streams: {s: {§sink: file}}", "streams.s.sink.path", "is missing"),
        ("streams:\n  s:\n    §sink:\n", "streams.s.sink", "is empty; allowed: file, s3"),
        (
            stream("compression: §gzop"),
            "streams.s.compression",
            "unknown type; did you mean `gzip`? (got gzop); allowed: gzip, none, zstd",
        ),
        (
            CATALOG + stream("convert: {format: §parqet, table: a.b}"),
            "streams.s.convert.format",
            "unknown format; did you mean `parquet`? (got parqet); allowed: parquet",
        ),
        (stream("encryption: §client_side"), "streams.s.encryption", "key_file"),
        (
            "streams: {s: {sink: {type: s3, bucket: abc, server_side_encryption: §s4}}}",
            "streams.s.sink.server_side_encryption",
            "is none of the words allowed (got s4); allowed: s3 or keys kms_key",
        ),
        (
            "streams: {s: {sink: {type: s3, bucket: abc, §server_side_encryption: {}}}}",
            "streams.s.sink.server_side_encryption.kms_key",
            "is missing",
        ),
        (
            "streams: {s: {sink: {type: s3, bucket: §'s3://lake/events/'}}}",
            "streams.s.sink.bucket",
            "does not have the form it needs; a bucket's name stands alone, did you mean `lake`? (got s3://lake/events/)",
        ),
        (
            "streams: {s: {sink: {type: s3, bucket: §'arn:aws:s3:::lake'}}}",
            "streams.s.sink.bucket",
            "did you mean `lake`? (got arn:aws:s3:::lake); allowed: letters, digits, `_`, `.` and `-`",
        ),
        (
            CATALOG + stream("convert: {format: parquet, table: §events}"),
            "streams.s.convert.table",
            "does not have the form it needs (got events); allowed: DATABASE.TABLE, like web.events",
        ),
        # variables
        ("server: {port: §'${PORT}'}", "server.port", "environment variable PORT is not set"),
        ("server: {port: §'${PORT'}", "server.port", "${ begins no expression"),
    ],
)
def test_says_what_is_wrong_and_where(problems: Problems, text: str, key: str, said: str) -> None:
    text, line, column = marked(text)
    found = problems(text)
    assert [(each.line, each.column, each.key) for each in found] == [(line, column, key)]
    assert said in str(found[0])


@pytest.mark.parametrize(
    ("text", "key", "said"),
    [
        (
            stream("transforms: [{type: lambda, function: §nope}]"),
            "streams.s.transforms[0].function",
            "no function of this name is defined (got nope); allowed: none is defined under `functions`",
        ),
        (
            stream("§convert: {format: parquet, table: a.b}"),
            "streams.s.convert.catalog",
            "the table needs a catalog, and none is defined",
        ),
        (
            "catalogs: {c: {type: file, path: c}, d: {type: file, path: d}}\n"
            + stream("§convert: {format: parquet, table: a.b}"),
            "streams.s.convert.catalog",
            "there are several catalogs, say which; allowed: c, d",
        ),
        (
            CATALOG + stream("convert: {format: parquet, catalog: §d, table: a.b}"),
            "streams.s.convert.catalog",
            "no catalog of this name is defined (got d); allowed: c",
        ),
        (
            CATALOG + stream("compression: §gzip, convert: {format: parquet, table: a.b}"),
            "streams.s.compression",
            "parquet compresses inside",
        ),
        (
            stream("encryption: {type: client_side, key_file: §missing.key}"),
            "streams.s.encryption.key_file",
            "no file stands there",
        ),
        ("functions: {f: {path: §missing.py}}", "functions.f.path", "no file stands there"),
        (
            "streams: {s: {sink: {type: file, path: o, prefix: events/}, failed: {prefix: §events/}}}",
            "streams.s.failed.prefix",
            "failed records would lie among the good ones",
        ),
        (
            "streams: {s: {sink: {type: s3, bucket: abc, prefix: e/}, "
            "failed: {sink: {type: s3, bucket: abc}, prefix: §e/}}}",
            "streams.s.failed.prefix",
            "failed records would lie among the good ones",
        ),
        (
            'streams: {s: {sink: {type: s3, bucket: abc, prefix: §"!{timestamp:yyyy"}}}',
            "streams.s.sink.prefix",
            "must begin an expression like !{timestamp:yyyy}",
        ),
        (
            'streams: {s: {sink: {type: s3, bucket: abc, prefix: §"!{firehose:error-output-type}/"}}}',
            "streams.s.sink.prefix",
            "belongs to the error output prefix",
        ),
        (
            stream('failed: {prefix: §"!{timestamp:yyyy}/"}'),
            "streams.s.failed.prefix",
            "must hold !{firehose:error-output-type}",
        ),
        (
            stream("failed: {sink: {type: s3, bucket: abc, time_zone: §Mars/Olympus}}"),
            "streams.s.failed.sink.time_zone",
            "no such time zone (got Mars/Olympus); allowed: UTC, or an IANA name",
        ),
        ("server: {host: §0.0.0.0}", "server.host", "give `server.credentials`, or listen on loopback"),
        ("server: {host: §example.org}", "server.host", "give `server.credentials`"),
    ],
)
def test_says_what_does_not_fit_together(problems: Problems, text: str, key: str, said: str) -> None:
    text, line, column = marked(text)
    found = problems(text)
    assert [(each.line, each.column, each.key) for each in found] == [(line, column, key)]
    assert said in str(found[0])


@pytest.mark.parametrize(
    "text",
    [
        "server: {host: localhost}",
        "server: {host: '::1'}",
        "server: {host: 0.0.0.0, credentials: [{access_key_id: a, secret_access_key: b}]}",
        CATALOG + stream("compression: none, convert: {format: parquet, table: a.b}"),
        stream("failed: {prefix: failed/}"),
        stream("buffer: {size: 1B, interval: 0s}"),
        stream("convert: "),
        "streams: {s: {sink: {type: file, path: o, prefix: e/}, "
        "failed: {sink: {type: file, path: p, prefix: e/}, prefix: e/}}}",
    ],
)
def test_has_nothing_to_say_about_what_is_right(loaded: Load, text: str) -> None:
    loaded(text)


def test_says_that_a_file_cannot_be_read(
    loaded: Load, problems: Problems, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("def handler(event, context): ...\n", "f.py")
    loaded("functions: {f: {path: f.py}}")
    # root may read every file, so that only the answer can be changed
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert "cannot be read by this user" in problems("functions: {f: {path: f.py}}")[0].message


@pytest.mark.parametrize(
    ("mode", "content", "said"),
    [
        (0o600, b"k" * 31, "the file holds no key of 32 bytes"),
        (0o644, bytes(range(32)), "everybody on this machine may open the file; close it with: chmod 600 FILE"),
    ],
)
def test_says_what_is_wrong_with_a_key_file(
    problems: Problems, write: Write, mode: int, content: bytes, said: str
) -> None:
    key = write("", "key")
    key.write_bytes(content)
    key.chmod(mode)
    text, line, column = marked(stream("encryption: {type: client_side, key_file: §'${KEY}'}"))
    (found,) = problems(text, {"KEY": str(key)})
    assert (found.line, found.column, found.key) == (line, column, "streams.s.encryption.key_file")
    assert said in found.message and str(key) not in str(found)


# --- warnings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prefix", "said"),
    [
        ("!{timestamp:YYYY/MM/dd}/", ["Y is the year of the week"]),
        ("!{timestamp:yyyy-mm-dd}/", ["m is the minute; for the month write MM"]),
        ("!{timestamp:yyyy}/!{timestamp:mm}/!{timestamp:dd}/!{timestamp:HH}/", ["m is the minute"]),
        ("!{timestamp:yyyy-MM-DD}/", ["D is the day of the year; for the day of the month write dd"]),
        ("!{timestamp:YYYY-mm-DD}/", ["Y is", "m is", "D is"]),
        ("!{timestamp:yyyy/MM/dd/hh}/", ["h and K count to 12 only"]),
        ("a/{timestamp:yyyy}/", ["{timestamp:yyyy} is plain text; expressions begin with an exclamation mark"]),
        ("a/{firehose:random-string}/", ["{firehose:random-string} is plain text"]),
        # what is meant as it is
        ("!{timestamp:yyyy/MM/dd/HH/mm}/", []),
        ("!{timestamp:yyyy/DDD/HH-mm}/", []),
        ("!{timestamp:YYYY-'W'ww}/", []),
        ("!{timestamp:'Y m D h'yyyy}/", []),
        ("!{timestamp:hha}/", []),
        ("{a}/", []),
    ],
)
def test_warns_of_prefixes_that_mean_something_else(loaded: Load, prefix: str, said: list[str]) -> None:
    text, line, column = marked(f'streams: {{s: {{sink: {{type: s3, bucket: abc, prefix: §"{prefix}"}}}}}}')
    found = loaded(text).warnings()
    assert len(found) == len(said)
    for warning, words in zip(found, said, strict=True):
        assert words in warning.message
        assert (warning.line, warning.column, warning.key) == (line, column, "streams.s.sink.prefix")


def test_warns_of_error_output_prefixes_and_of_sizes_without_a_unit(loaded: Load) -> None:
    found = loaded(stream('failed: {prefix: "!{firehose:error-output-type}/!{timestamp:YYYY}/"}, buffer: {size: 64}'))
    assert [(each.key, each.message[:20]) for each in found.warnings()] == [
        ("streams.s.failed.prefix", "Y is the year of the"),
        ("streams.s.buffer.size", "an object for every "),
    ]


def test_warns_of_a_retention_that_loses_what_an_outage_delays(loaded: Load) -> None:
    for retention, said in (("7s", 1), ("14m", 1), ("15m", 0), ("7d", 0), ("forever", 0)):
        found = loaded(stream(f"source: {{type: direct_put, retention: {retention}}}")).warnings()
        assert [each.key for each in found] == ["streams.s.source.retention"] * said


def test_warns_of_a_folder_above_that_is_missing(loaded: Load, write: Write) -> None:
    write("", "there/x")
    for sink, said in (("there/o", []), ("o", []), ("away/o", ["streams.s.sink.path"])):
        found = loaded(f"streams: {{s: {{sink: {{type: file, path: {sink}}}}}}}").warnings()
        assert [each.key for each in found] == said
        assert all("away does not exist, so nothing is delivered; make it" in each.message for each in found)
    (found,) = loaded(stream("failed: {sink: {type: file, path: away/o}}")).warnings()
    assert found.key == "streams.s.failed.sink.path"
    assert not loaded("server: {data_dir: away/data}\nstreams: {s: {sink: {type: file, path: away/o}}}").warnings()


@pytest.mark.parametrize(
    ("prefix", "failed", "is_told"),
    [
        ("clicks/", "clicks/failed/", True),
        ("clicks/", "clicks/!{firehose:error-output-type}/", True),
        ("lake/clicks-", "lake/failed/", True),
        ("clicks/!{timestamp:yyyy}/", "clicks/failed/", True),
        ("clicks/", "failed/clicks/", False),
        ("clicks/", "clicks-failed/", False),
        ("", "failed/", False),
        ("clicks-", "clicks-failed/", False),
    ],
)
def test_warns_of_failed_records_in_a_folder_of_good_ones(
    loaded: Load, prefix: str, failed: str, is_told: bool
) -> None:
    places = f'sink: {{type: s3, bucket: abc, prefix: "{prefix}"}}, failed: {{prefix: "{failed}"'
    found = loaded(f"streams: {{s: {{{places}}}}}}}").warnings()
    assert [each.key for each in found] == ["streams.s.failed.prefix"] * is_told
    assert not loaded(f"streams: {{s: {{{places}, sink: {{type: s3, bucket: other}}}}}}}}").warnings()


def test_warnings_are_not_hidden_behind_errors(write: Write) -> None:
    prefix = 'prefix: "!{timestamp:YYYY}/"'
    found = examine(
        [write(f"server: {{prot: 1}}\nstreams: {{s: {{sink: {{type: file, path: o, {prefix}}}}}}}")], environment={}
    )
    assert [each.key for each in found.problems] == ["server.prot"]
    assert [each.key for each in found.warnings()] == ["streams.s.sink.prefix"]


# --- what is looked up -----------------------------------------------------------------------------------------------


async def looked_up(loaded: Loaded) -> list[Problem]:
    broken, doubted = await loaded.looked_up(SystemClock(), RecordingTelemetry())
    assert not doubted
    return broken


async def test_asks_file_catalogs_for_the_tables(loaded: Load, write: Write) -> None:
    write("columns: {id: bigint}\n", "tables/web/hits.yaml")
    catalogs = "catalogs: {one: {type: file, path: tables}}\n"
    configuration = loaded(catalogs + stream("convert: {format: parquet, table: web.hits}"))
    assert await looked_up(configuration) == []

    text, line, column = marked(catalogs + stream("convert: {format: parquet, table: §web.clicks}"))
    (found,) = await looked_up(loaded(text))
    assert (found.line, found.column, found.key) == (line, column, "streams.s.convert.table")
    assert "there is web.hits" in found.message


async def test_warns_of_a_column_that_stands_in_the_keys_too(loaded: Load, write: Write) -> None:
    write("columns: {id: bigint, Year: int, month: int, day: int}\n", "tables/web/hits.yaml")
    text, line, column = marked(
        "catalogs: {one: {type: file, path: tables}}\n"
        "streams: {s: {convert: {format: parquet, table: web.hits}, sink: {type: file, path: o, prefix: §"
        '"id=/year=!{timestamp:yyyy}/month=9/x!{timestamp:dd}/day="}}}'
    )
    broken, doubted = await loaded(text).looked_up(SystemClock(), RecordingTelemetry())
    assert not broken
    assert [(each.line, each.column, each.key) for each in doubted] == [(line, column, "streams.s.sink.prefix")] * 2
    assert [each.message.partition(" ")[0] for each in doubted] == ["Year", "month"]


async def test_says_that_the_folder_of_a_catalog_is_missing(loaded: Load) -> None:
    text, line, column = marked("catalogs: {one: {type: file, path: §tables}}\n")
    text += stream("convert: {format: parquet, table: web.hits}")
    (found,) = await looked_up(loaded(text))
    assert (found.line, found.column, found.key) == (line, column, "catalogs.one.path")
    assert "no folder stands there" in found.message


async def test_tables_and_functions_are_looked_up_beside_other_errors(write: Write) -> None:
    write("columns: {id: bigint}\n", "tables/web/hits.yaml")
    write("nonsense(", "f.py")
    text = """
functions: {f: {path: f.py}}
catalogs: {one: {type: file, path: tables}}
streams:
  s: {sink: {type: file}, buffer: {interval: 60}, convert: {format: parquet, table: web.clicks}}
  t: {sink: {type: file, path: o}, encryption: {type: client_side, key_file: []}}
"""
    found = examine([write(text)], environment={})
    assert [each.key for each in found.problems] == [
        "streams.s.sink.path",
        "streams.s.buffer.interval",
        "streams.t.encryption.key_file",
    ]
    assert [each.key for each in await looked_up(found)] == ["functions.f.path", "streams.s.convert.table"]


@pytest.mark.parametrize(
    ("catalogs", "convert", "said"),
    [
        ("", "table: web.hits, glue: {}", []),
        ("catalogs: {a: {type: glue}}\n", "table: web.hits", []),
        ("catalogs: {a: {type: glue}, b: {type: file, path: tables}}\n", "table: web.hits, catalog: a", []),
        ("catalogs: {a: {type: glue}, b: {type: file, path: tables}}\n", "table: web.no, glue: {region: x}", []),
        ("catalogs: {b: {type: file, path: tables}}\n", "table: web.no, glue: {}", []),
        ("catalogs: {b: {type: file, path: tables}}\n", "table: web.bad, glue: {}", ["streams.s.convert.table"]),
        ("catalogs: {b: {type: file, path: tables}}\n", "table: web.no", ["streams.s.convert.table"]),
    ],
)
async def test_tables_that_glue_may_have_are_not_missed(
    loaded: Load, write: Write, catalogs: str, convert: str, said: list[str]
) -> None:
    write("columns: {id: bigint}\n", "tables/web/hits.yaml")
    write("columns: {id: nothing}\n", "tables/web/bad.yaml")
    found = loaded(catalogs + stream(f"convert: {{format: parquet, {convert}}}"))
    assert [each.key for each in await looked_up(found)] == said


@pytest.mark.parametrize("catalogs", ["", "catalogs: {a: {type: file, path: c}, b: {type: file, path: c}}\n"])
async def test_no_table_is_looked_up_where_the_catalog_is_not_known(write: Write, catalogs: str) -> None:
    (write("", "c/x").parent).mkdir(exist_ok=True)
    found = examine([write(catalogs + stream("convert: {format: parquet, table: web.hits}"))], environment={})
    assert [each.key for each in found.problems] == ["streams.s.convert.catalog"]
    assert await looked_up(found) == []


@pytest.mark.parametrize(
    "text",
    [
        CATALOG + stream("convert: {format: parquet, table: '${SECRET}'}"),
        "catalogs: {c: {type: file, path: '${SECRET}'}}\n" + stream("convert: {format: parquet, table: a.b}"),
    ],
)
async def test_shows_no_secret_when_a_table_is_missing(loaded: Load, write: Write, text: str) -> None:
    for folder in ("c", "hunter.two"):
        write("", f"{folder}/x")
    (found,) = await looked_up(loaded(text, {"SECRET": "hunter.two"}))
    assert found.key == "streams.s.convert.table" and "hunter" not in str(found)


@pytest.mark.parametrize(
    ("code", "options", "said"),
    [
        ("x = 1\ndef handler(e, c:\n    pass\n", "", "SyntaxError: '(' was never closed ({file}:2)"),
        ("\nimport no_such_module\n", "", "ModuleNotFoundError: No module named 'no_such_module' ({file}:2)"),
        ("import json\nx = json.loads('{')\n", "", "Expecting property name enclosed in double quotes"),
        ("import json\nx = json.loads('{')\n", "", "({file}:2)"),
        ("import json\ndef main(e, c): ...\n", "", "in {file}; `handler` names one; there is main"),
        ("def handler(e, c): ...\n", ", handler: hander", "no function 'hander' in {file}; `handler` names"),
        ("print('bye')\nraise SystemExit(3)\n", "", "its process exited with status 3; it printed last: bye"),
        ("x = bytearray(1 << 28)\n", ", memory: 64MiB", "out of memory (limit 64MiB)"),
    ],
)
async def test_loads_each_function_once(loaded: Load, write: Write, code: str, options: str, said: str) -> None:
    file = write(code, "f.py")
    text, line, column = marked(f"functions: {{good: {{path: good.py}}, f: {{path: §f.py{options}}}}}")
    write("def handler(event, context): ...\n", "good.py")
    (found,) = await looked_up(loaded(text))
    assert (found.line, found.column, found.key) == (line, column, "functions.f.path")
    assert found.message.startswith("does not load: ")
    assert said.format(file=file) in found.message


async def test_functions_are_loaded_with_what_they_are_given_and_away_from_us(loaded: Load, write: Write) -> None:
    write(
        "import os, sys\nassert os.environ['A'] == 'b' and 'pytest' not in sys.modules\ndef handler(e, c): ...", "f.py"
    )
    telemetry = RecordingTelemetry()
    found = loaded("functions: {f: {path: f.py, environment: {A: b}}}")
    assert await found.looked_up(SystemClock(), telemetry) == ([], [])
    assert len(telemetry.of(ChildStarted)) == 1


async def test_shows_no_secret_that_a_function_tells(loaded: Load, write: Write) -> None:
    write("import os\nraise KeyError(os.environ['TOKEN'])\n", "f.py")
    text = "functions: {f: {path: f.py, environment: {TOKEN: '${TOKEN}', DEBUG: '${DEBUG}'}}}"
    (found,) = await looked_up(loaded(text, {"TOKEN": "hunter2hunter2", "DEBUG": "1"}))
    assert "hunter2" not in str(found) and found.key == "functions.f.path"
    write("1 / 0\n", "f.py")
    (found,) = await looked_up(loaded(text, {"TOKEN": "hunter2hunter2", "DEBUG": "1"}))
    assert "ZeroDivisionError" in found.message, "a value of one character is no secret"


async def test_a_function_of_which_something_is_wrong_already_is_not_complained_about_twice(write: Write) -> None:
    write("def main(e, c): ...\n", "f.py")
    found = examine([write("functions: {f: {path: f.py, handler: [], memory: 1MiB}}")], environment={})
    assert [each.key for each in found.problems] == ["functions.f.handler", "functions.f.memory"]
    assert await looked_up(found) == []


def test_says_everything_at_once(problems: Problems) -> None:
    found = problems(
        """
server: {prot: 1, memory: 1B, host: 0.0.0.0}
functions:
  f: {path: missing.py, timeout: 5}
streams:
  one:
    sink: {type: fiel}
    buffer: {size: 0, intervall: 60s}
    transforms: [{type: lambda, function: nope}]
  two:
    sink: {type: file, path: "${MISSING}", prefix: "!{nope:x}"}
    failed: {prefix: "!{timestamp:yyyy}/"}
"""
    )
    assert [(each.line, each.key) for each in found] == [
        (2, "server.prot"),
        (2, "server.memory"),
        (2, "server.host"),
        (4, "functions.f.path"),
        (4, "functions.f.timeout"),
        (7, "streams.one.sink.type"),
        (8, "streams.one.buffer.size"),
        (8, "streams.one.buffer.intervall"),
        (9, "streams.one.transforms[0].function"),
        (11, "streams.two.sink.path"),
        (11, "streams.two.sink.prefix"),
        (12, "streams.two.failed.prefix"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        # the names and keys are written, only not right yet: nothing else is missing
        "functions: {f: {path: []}}\n" + stream("transforms: [{type: lambda, function: f}]"),
        "server: {host: 0.0.0.0, credentials: [{access_key_id: a}]}",
        "catalogs: {c: {type: file, path: []}}\n" + stream("convert: {format: parquet, table: a.b}"),
        stream("transforms: [{type: lambda, function: '${MISSING}'}]"),
    ],
)
def test_does_not_complain_twice_about_one_mistake(problems: Problems, text: str) -> None:
    assert len(problems(text)) == 1


SECRETS = st.text(alphabet="ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789{}!:/ '", min_size=6, max_size=40)

PLACES = [
    "server: {{port: {0}}}",
    "server: {{memory: {0}}}",
    "server: {{account: {0}}}",
    "server: {{log_level: {0}}}",
    "server: {{host: {0}}}",
    "server: {{credentials: {0}}}",
    "functions: {{f: {{path: {0}}}}}",
    "functions: {{f: {{path: x, timeout: {0}}}}}",
    "streams: {{s: {0}}}",
    "streams: {{s: {{sink: {0}}}}}",
    "streams: {{s: {{sink: {{type: {0}}}}}}}",
    "streams: {{s: {{sink: {{type: file, path: [{0}]}}}}}}",
    "streams: {{s: {{sink: {{type: file, path: x, prefix: {0}, zzz: {0}}}}}}}",
    "streams: {{s: {{sink: {{type: file, path: x, time_zone: {0}}}}}}}",
    "streams: {{s: {{sink: {{type: file, path: x, file_extension: {0}}}}}}}",
    "streams: {{s: {{sink: {{type: file, path: x}}, failed: {{prefix: {0}}}}}}}",
    "streams: {{s: {{sink: {{type: file, path: x}}, encryption: {{type: client_side, key_file: {0}}}}}}}",
    "streams: {{s: {{sink: {{type: file, path: x}}, transforms: [{{type: lambda, function: {0}}}]}}}}",
    "streams: {{s: {{sink: {{type: file, path: x}}, buffer: {{interval: {0}}}}}}}",
    "streams: {{s: {{sink: {{type: file, path: x}}, convert: {{format: parquet, table: {0}, catalog: {0}}}}}}}",
]


@pytest.mark.parametrize("place", PLACES)
@given(secret=SECRETS)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_never_shows_a_value_of_the_environment(loaded: Load, place: str, secret: str) -> None:
    try:
        loaded(place.format('"<${SECRET}>"') + "\nserver_: 1\n", {"SECRET": secret})
    except ConfigError as error:
        for problem in error.problems:
            shown = f"{problem.message} {problem.key} {problem.value} {problem.allowed}"
            assert secret not in shown


def test_says_which_variable_a_bad_value_came_from(problems: Problems) -> None:
    (found,) = problems("server: {port: '${PORT}'}", {"PORT": "hunter2hunter2"})
    assert str(found).endswith("server.port: expected a whole number (got *** from ${PORT}); allowed: 0 to 65535")


def test_shows_the_words_of_a_component_that_hold_no_secret(problems: Problems) -> None:
    (found,) = problems("server: {memory: '${M}'}", {"M": "1GO"})
    assert found.message == "expected a unit of B, KB, MB, GB, TB, KiB, MiB, GiB, TiB, like 64MiB"


def test_never_shows_a_secret_written_in_the_file(problems: Problems) -> None:
    text = "server: {credentials: [{access_key_id: a, secret_access_key: [hunter2]}, hunter2]}"
    for found in problems(text.replace("[hunter2]", "{a: hunter2}")):
        assert "hunter2" not in str(found) or found.key == "server.credentials[1]"


def test_cuts_long_values(problems: Problems) -> None:
    (found,) = problems(f"server: {{port: {'x' * 500}}}")
    assert found.value == "x" * 80 + "…"


def test_shows_where_a_value_repeated_by_an_alias_is_written(problems: Problems) -> None:
    text, line, column = marked(
        f"streams:\n  one: &one {{{SINK}, delimiter: §comma}}\n  two: *one\n  three: {{<<: *one, tags: {{a: b}}}}\n"
    )
    found = problems(text)
    assert [(each.line, each.column) for each in found] == [(line, column)] * 3
    assert [each.key for each in found] == [f"streams.{name}.delimiter" for name in ("one", "two", "three")]
