"""Functions and table files as wrong as can be: what they fail is told and repaired, and the service goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import Daemon, until

pytestmark = pytest.mark.integration

OK = "{'records': [dict(each, result='Ok') for each in event['records']]}"
EVERYWHERE = """
import os, struct
def handler(event, context):
    for descriptor in range(3, 32):
        try:
            os.write(descriptor, TEXT)
        except OSError:
            pass
    raise ValueError("x")
"""
#: Functions of which no record gets through.
BAD = {
    "deep": "def handler(event, context):\n    x = []\n    for _ in range(400): x = [x]\n    return {'records': x}",
    "replaced": "import json\njson.dumps = lambda *a, **k: '[]'\ndef handler(event, context): raise ValueError('x')",
    "garbage": EVERYWHERE.replace("TEXT", "b'x' * 64"),
    "promise": EVERYWHERE.replace("TEXT", "struct.pack('!QQB', 2, 3_000_000_000, 0) + b'x' * 64"),
    "halves": "def handler(event, context): raise ValueError('\\ud800')",
    "signal": "import os\ndef handler(event, context): os.kill(os.getpid(), 40)",
    "closing": "import os\ndef handler(event, context): os.closerange(0, 256)",
}
#: And some that must go on as if nothing was.
GOOD = {"forks": f"import os\ndef handler(event, context):\n    os.fork()\n    return {OK}"}

#: More than the service needs for the promise of 3 GB that one function makes.
ROOM_KB = 400_000


def stream(name: str, more: str) -> str:
    settings = f"buffer: {{interval: 0s}}, sink: {{type: file, path: lake, prefix: {name}/}}"
    return f"  {name}: {{{more}, {settings}, failed: {{prefix: {name}-failed/}}}}\n"


def events(daemon: Daemon, name: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in daemon.told().splitlines() if line.startswith("{")]
    return [each for each in found if each["event"] == name]


def peak_kb(daemon: Daemon) -> int:
    assert daemon.process is not None
    lines = Path(f"/proc/{daemon.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


@pytest.fixture
def closing() -> Iterator[list[Daemon]]:
    daemons: list[Daemon] = []
    yield daemons
    for each in daemons:
        each.close()


def test_whatever_functions_do_their_records_fail_and_nothing_else(tmp_path: Path, closing: list[Daemon]) -> None:
    config = "functions:\n"
    for name, code in (BAD | GOOD).items():
        (tmp_path / f"{name}.py").write_text(code)
        config += f"  {name}: {{path: {name}.py, timeout: 60s}}\n"
    config += "streams:\n"
    for name in BAD | GOOD:
        config += stream(name, f"transforms: [{{type: lambda, function: {name}, retries: 1}}]")
    daemon = Daemon(tmp_path, config)
    closing.append(daemon)
    daemon.start()
    before = peak_kb(daemon)
    for name in BAD | GOOD:
        daemon.put(b"1\n", b"2\n", stream=name)
    daemon.delivered()
    assert peak_kb(daemon) - before < ROOM_KB
    for name in BAD:
        assert daemon.total(name) == {"accepted": 2, "failed": 2}
        assert daemon.failures(name) == {b"1\n": 1, b"2\n": 1}
    for name in GOOD:
        assert daemon.total(name) == {"accepted": 2, "delivered": 2}
    assert not events(daemon, "unexpected_error")


TABLES = [
    "columns: {n: bigint, day: 2026-13-45}\n",
    "columns: {n: !!int abc}\n",
    "columns: " + "{n: " * 3_000 + "}" * 3_000,
    "columns: {<<: 3}\n",
    "columns: !!omap [n: int]\n",
    'columns: {n: "\\UFFFFFFFF"}\n',
]


def test_whatever_a_table_file_says_records_wait_until_it_is_repaired(tmp_path: Path, closing: list[Daemon]) -> None:
    config, tables = "catalogs: {lake: {type: file, path: tables}}\nstreams:\n", tmp_path / "tables" / "web"
    tables.mkdir(parents=True)
    files = {f"t{number}": text for number, text in enumerate(TABLES)}
    for name in files:
        (tables / f"{name}.yaml").write_text("columns: {n: bigint}\n")
        config += stream(name, f"convert: {{format: parquet, table: web.{name}}}")
    daemon = Daemon(tmp_path, config)
    closing.append(daemon)
    daemon.start()
    for name, text in files.items():
        (tables / f"{name}.yaml").write_text(text)
        daemon.put(b'{"n":1}', stream=name)

    def complaints() -> dict[str, str]:
        return {each["name"]: str(each["last_error"]) for each in daemon.ask("status")["streams"]}

    until(lambda: all(f"{name}.yaml:" in said for name, said in complaints().items()), "a complaint about each file")
    for name in files:
        (tables / f"{name}.yaml").write_text("columns: {n: bigint}\n# repaired\n")
    daemon.delivered()
    for name in files:
        assert daemon.total(name) == {"accepted": 1, "delivered": 1}
    assert not events(daemon, "unexpected_error")
