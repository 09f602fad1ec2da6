from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from firehose.config.loader import load
from firehose.config.models import Configuration
from firehose.errors import ConfigError
from tests.unit.config.conftest import Load, Write

STREAM = "sink: {type: file, path: out}"


def test_loads_streams_functions_catalogs_and_the_server(loaded: Load, write: Write) -> None:
    write("def handler(event, context): ...\n", "functions/score.py")
    configuration = loaded(
        """
server: {port: 0, memory: 64MiB, account: 000000000012}
functions:
  score: {path: functions/score.py, timeout: 90s, environment: {DEBUG: 1}}
catalogs:
  tables: {type: file, path: tables}
streams:
  web.events-1:
    transforms: [{type: lambda, function: score}]
    buffer: {size: 64KiB, interval: 0s}
    compression: gzip
    sink: {type: file, path: out, prefix: "web/!{timestamp:yyyy/MM}/"}
"""
    ).configuration
    assert configuration.server.port == 0
    assert configuration.server.memory_bytes == 64 * 2**20
    assert configuration.server.account == "000000000012"
    assert configuration.functions["score"].timeout_ms == 90_000
    assert configuration.functions["score"].environment == {"DEBUG": "1"}
    stream = configuration.streams["web.events-1"]
    assert (stream.buffer.max_bytes, stream.buffer.max_age_ms) == (64 * 2**10, 0)
    assert (stream.source.type, stream.compression.type, stream.sink.type) == ("direct_put", "gzip", "file")


def test_gives_text_to_the_field_that_decides_what_it_means(loaded: Load) -> None:
    text = """
server:
  port: ${PORT}
  region: ${REGION:-eu-west-1}
  credentials: [{access_key_id: a, secret_access_key: "${S}"}]
"""
    server = loaded(text, {"PORT": "4573", "S": "0123"}).configuration.server
    assert (server.port, server.region) == (4573, "eu-west-1")
    assert server.credentials[0].secret_access_key == SecretStr("0123")


def test_takes_nothing_for_a_configuration_without_streams(tmp_path: Path) -> None:
    assert load([], environment={}).configuration.streams == {}


def test_takes_a_section_with_comments_only_for_an_empty_one(loaded: Load) -> None:
    assert loaded("server:\nstreams:\n  # none yet\n").configuration.streams == {}


def test_resolves_every_path_from_the_folder_of_its_own_file(write: Write, tmp_path: Path) -> None:
    write("def handler(event, context): ...\n", "functions/f.py")
    first = write("server: {data_dir: data}\nfunctions: {f: {path: ../functions/f.py}}\n", "one/a.yaml")
    second = write(f"streams: {{s: {{{STREAM}}}, t: {{sink: {{type: file, path: /abs}}}}}}\n", "two/b.yaml")
    configuration = load([first, second], environment={}).configuration
    assert configuration.server.data_dir == tmp_path / "one" / "data"
    assert configuration.functions["f"].path == tmp_path / "functions" / "f.py"
    assert configuration.streams["s"].sink.model_dump()["path"] == tmp_path / "two" / "out"
    assert configuration.streams["t"].sink.model_dump()["path"] == Path("/abs")


def test_resolves_default_paths_from_the_folder_of_the_file(loaded: Load, tmp_path: Path) -> None:
    assert loaded("").configuration.server.data_dir == tmp_path / ".firehose"


def test_resolves_the_path_of_a_relative_file_argument(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("server: {data_dir: data}\n", "conf/a.yaml")
    monkeypatch.chdir(tmp_path)
    assert load([Path("conf")], environment={}).configuration.server.data_dir == tmp_path / "conf" / "data"


def test_merges_the_files_of_a_folder(write: Write, tmp_path: Path) -> None:
    write("server: {port: 1}\nstreams:\n", "conf/a.yaml")
    write(f"server: {{region: eu-west-1}}\nstreams: {{s: {{{STREAM}}}}}\n", "conf/b.yml")
    write(f"streams: {{t: {{{STREAM}}}}}\n", "conf/c.yaml")
    write("not: read\n", "conf/.hidden.yaml")
    write("not: read\n", "conf/notes.txt")
    loaded = load([tmp_path / "conf"], environment={})
    assert [file.name for file in loaded.files] == ["a.yaml", "b.yml", "c.yaml"]
    assert (loaded.configuration.server.port, loaded.configuration.server.region) == (1, "eu-west-1")
    assert list(loaded.configuration.streams) == ["s", "t"]


def test_reads_a_file_once_that_is_named_twice(write: Write, tmp_path: Path) -> None:
    file = write(f"streams: {{s: {{{STREAM}}}}}\n", "conf/a.yaml")
    assert load([tmp_path / "conf", file], environment={}).files == (file,)


def test_refuses_what_two_files_define(write: Write) -> None:
    first = write(f"server: {{port: 1}}\nstreams: {{s: {{{STREAM}}}}}\n", "a.yaml")
    second = write(f"server: {{port: 1}}\nstreams:\n  s: {{{STREAM}}}\n", "b.yaml")
    with pytest.raises(ConfigError) as refused:
        load([first, second], environment={})
    assert [str(problem) for problem in refused.value.problems] == [
        f"{second}:1:10: server.port: stands already at {first}:1:10",
        f"{second}:3:3: streams.s: stands already at {first}:2:11",
    ]


def test_says_that_a_file_is_missing_and_a_folder_empty(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        load([tmp_path / "missing.yaml", tmp_path], environment={})
    messages = sorted(problem.message for problem in refused.value.problems)
    assert messages == ["cannot be read: No such file or directory", "this folder holds no *.yaml or *.yml"]


def test_reports_the_problems_of_all_files_in_order(write: Write) -> None:
    first = write("server: {prot: 1}\n", "b.yaml")
    second = write("streams: {s: [}\n", "a.yaml")
    third = write("- a list\n", "c.yaml")
    with pytest.raises(ConfigError) as refused:
        load([first, second, third], environment={})
    assert [Path(problem.file).name for problem in refused.value.problems] == ["b.yaml", "a.yaml", "c.yaml"]


def test_a_configuration_survives_a_round_trip_as_json(loaded: Load) -> None:
    configuration = loaded(f"streams: {{s: {{{STREAM}, buffer: {{interval: 90s}}}}}}").configuration
    text = configuration.model_dump_json(by_alias=True)
    assert Configuration.model_validate_json(text).streams == configuration.streams
