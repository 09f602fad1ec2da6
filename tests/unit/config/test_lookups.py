"""What shows only to who looks: tables that are missing or do not fit, and functions that do not load."""

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


async def test_says_which_query_jq_cannot_read(loaded: Load) -> None:
    def partitioned(query: str) -> str:
        sink = 'sink: {type: file, path: out, prefix: "!{partitionKeyFromQuery:c}/"}'
        return f"streams: {{s: {{{sink}, partition: {{query: §'{query}'}}}}}}"

    for query, wrong in (
        ("{c: .c}", ""),
        ("{c: .c | tostring}", ""),
        ("{c: .c | tostrin}", "tostrin/0 is not defined"),
    ):
        text, line, column = marked(partitioned(query))
        found = await looked_up(loaded(text))
        assert [(each.line, each.column, each.key) for each in found] == [
            (line, column, "streams.s.partition.query")
        ] * bool(wrong)
        assert all(wrong in each.message for each in found)
