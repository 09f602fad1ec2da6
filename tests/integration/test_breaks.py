"""Attempts to break the whole service: kills while the log is compacted, damaged files, hanging outsides."""

from __future__ import annotations

import base64
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.integration

COMMAND = Path(sys.executable).with_name("firehose")

FUNCTION = """
import base64, json, os

def handler(event, context):
    answers = []
    for record in event["records"]:
        number = json.loads(base64.b64decode(record["data"]))["number"]
        result = "ProcessingFailed" if number % 5 == 0 and not os.path.exists("repaired") else "Ok"
        answers.append({"recordId": record["recordId"], "result": result, "data": record["data"]})
    return {"records": answers}
"""


class Service:
    """The service as a process, in a folder of its own."""

    def __init__(self, folder: Path, config: str, **files: str) -> None:
        self.folder, self.sink, self.data = folder, folder / "sink", folder / "data"
        self.sink.mkdir()
        for name, text in files.items():
            (folder / f"{name}.py").write_text(text)
        (folder / "config.yaml").write_text(config)
        self.log = (folder / "service.log").open("ab")
        self.process: subprocess.Popen[bytes] | None = None
        self.running: dict[str, Any] = {}

    def start(self) -> None:
        words = [COMMAND, "run", self.folder / "config.yaml", "--port", "0", "--data-dir", self.data]
        environment = os.environ | {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any"}
        self.process = subprocess.Popen(words, stdout=self.log, stderr=self.log, env=environment)
        _until(self._is_announced, lambda: f"not started:\n{self.told()[-4_000:]}")

    def _is_announced(self) -> bool:
        assert self.process is not None and self.process.poll() is None, self.told()[-4_000:]
        try:
            self.running = json.loads((self.data / "service.json").read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return False
        return bool(self.running["pid"] == self.process.pid)

    def end(self, number: signal.Signals = signal.SIGKILL) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(10)

    def post(self, path: str, body: bytes, **headers: str) -> Any:
        request = urllib.request.Request(self.running["url"] + path, body, {"Content-Type": "text/plain"} | headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def put(self, stream: str, records: list[bytes]) -> None:
        assert self.post(f"/streams/{stream}/records", b"\n".join(records))["accepted"] == len(records)

    def verb(self, name: str, **parameters: Any) -> Any:
        headers = {"Authorization": f"Bearer {self.running['token']}", "Content-Type": "application/json"}
        return self.post(f"/-/admin/{name}", json.dumps(parameters).encode(), **headers)

    def is_drained(self) -> bool:
        return not any(stream["backlog_records"] for stream in self.verb("status")["streams"])

    def deliver_everything(self) -> dict[str, dict[str, int]]:
        """Return the totals of each stream once nothing waits."""
        _until(self.is_drained, lambda: f"not delivered: {self.verb('status')}")
        _until(lambda: not any(each["pending"] for each in self._totals().values()), lambda: str(self._totals()))
        assert self.verb("audit")["closes"], self._totals()
        return self._totals()

    def _totals(self) -> dict[str, dict[str, int]]:
        return {each["stream"]: each["total"] for each in self.verb("audit")["streams"]}

    def lines(self, prefix: str) -> Counter[bytes]:
        found = [path for path in (self.sink / prefix).rglob("*") if path.is_file()]
        return Counter(line for path in found for line in path.read_bytes().splitlines())

    def told(self) -> str:
        return (self.folder / "service.log").read_text()


def _until(is_so: Callable[[], bool], otherwise: Callable[[], str], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, otherwise()
        time.sleep(0.05)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    made: list[Service] = []

    def build(config: str, **files: str) -> Service:
        made.append(Service(tmp_path, config, **files))
        return made[-1]

    yield build
    for service in made:
        if service.process is not None and service.process.poll() is None:
            service.end()
        service.log.close()


class Producer(threading.Thread):
    """Puts records without rest and remembers what was acknowledged."""

    def __init__(self, service: Service, stream: str, records: int, size: int) -> None:
        super().__init__(daemon=True)
        self.service, self.stream, self.records, self.size = service, stream, records, size
        self.acknowledged: set[bytes] = set()
        self.stopping = threading.Event()

    def run(self) -> None:
        chance, number = random.Random(self.size), 0
        while not self.stopping.is_set():
            lines = []
            for _ in range(self.records):
                number += 1
                body = base64.b64encode(chance.randbytes(self.size)).decode()
                lines.append(f'{{"number":{number},"body":"{body}"}}'.encode())
            try:
                self.service.put(self.stream, lines)
            except (OSError, ValueError):  # throttled, or killed: try again soon, with other records
                time.sleep(0.02)
            else:
                self.acknowledged.update(lines)
            time.sleep(0.01)


COMPACTED = """
server: {log_quota: 16MiB, memory: 16MiB, failed_quota: 2MiB}
functions: {check: {path: check.py, timeout: 20s}}
streams:
  slow: {buffer: {size: 64KiB, interval: 1s}, sink: {type: file, path: sink, prefix: slow/}}
  fast: {buffer: {size: 512KiB, interval: 1s}, sink: {type: file, path: sink, prefix: fast/}}
  failing:
    transforms: [{type: lambda, function: check}]
    buffer: {size: 256KiB, interval: 1s}
    sink: {type: file, path: sink, prefix: failing/}
    failed: {prefix: bad/, sink: {type: file, path: missing/errors}}
"""


def test_killed_while_the_log_is_compacted_beside_a_broken_error_output(make):
    """A paused stream keeps a little of every segment, so that they are compacted; the quota throttles meanwhile."""
    service, chance = make(COMPACTED, check=FUNCTION), random.Random(4)
    service.start()
    service.verb("pause", stream="slow")
    producers = [
        Producer(service, stream, records, size)
        for stream, records, size in (("slow", 3, 100), ("fast", 200, 1_500), ("failing", 60, 300))
    ]
    for producer in producers:
        producer.start()
    for _ in range(10):
        time.sleep(chance.uniform(0.3, 1.8))  # the moment of the kill, not a wait for something
        service.end()
        service.start()
    for producer in producers:
        producer.stopping.set()
    for producer in producers:
        producer.join(30)
    assert '"segment_compacted"' in service.told()
    (service.folder / "missing").mkdir()
    service.verb("resume", stream="slow")
    for stream in ("slow", "fast", "failing"):
        service.verb("flush", stream=stream)
    service.deliver_everything()
    (service.folder / "repaired").write_text("")
    for round_ in range(1_000):
        if service.verb("replay", limit=200)["done"]:
            break
        if round_ % 3 == 0 and round_ < 12:
            service.end()
            service.start()
    totals = service.deliver_everything()
    for producer in producers:
        landed = service.lines(producer.stream)
        assert not producer.acknowledged - set(landed), "lost"
        assert max(landed.values()) == 1, "twice"
        assert totals[producer.stream]["delivered"] == sum(landed.values())


def _flip_middle(path: Path) -> None:
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 0x55
    path.write_bytes(body)


def _cut_half(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _flip_index(path: Path) -> None:
    _flip_middle(path.with_suffix(".idx"))


def _flip_both(path: Path) -> None:
    path.with_suffix(".idx").unlink()
    _flip_middle(path)


@pytest.mark.parametrize(
    ("damage", "is_lossy"), [(_flip_middle, True), (_cut_half, True), (_flip_index, False), (_flip_both, True)]
)
def test_damage_in_the_log_is_counted_and_everything_around_it_delivered(make, damage, is_lossy):
    service = make(
        """
server: {log_quota: 8MiB}
streams: {clicks: {buffer: {size: 64KiB, interval: 0s}, sink: {type: file, path: sink, prefix: clicks/}}}
"""
    )
    service.start()
    service.verb("pause")
    records = [f"{number:08d}-{os.urandom(500).hex()}".encode() for number in range(3_000)]
    for start in range(0, 3_000, 60):
        service.put("clicks", records[start : start + 60])
    service.end()
    damage(min(path for path in (service.data / "log").glob("*.log") if path.with_suffix(".idx").exists()))
    service.start()
    service.verb("resume")
    total = service.deliver_everything()["clicks"]
    landed = service.lines("clicks")
    assert set(landed) <= set(records) and max(landed.values()) == 1
    assert total["delivered"] == len(landed) and total["accepted"] == 3_000
    assert bool(total["unreadable"]) is is_lossy


def test_told_to_stop_while_everything_outside_hangs_it_stops_in_time_and_without_a_traceback(make):
    with socket.create_server(("127.0.0.1", 0)) as hole:
        endpoint = f"http://127.0.0.1:{hole.getsockname()[1]}"
        service = make(
            f"""
functions: {{sleeper: {{path: sleeper.py, timeout: 100s}}}}
catalogs: {{lake: {{type: file, path: catalog}}}}
streams:
  store: {{buffer: {{interval: 0s}}, sink: {{type: s3, bucket: lake, endpoint_url: "{endpoint}"}}}}
  local: {{transforms: [{{type: lambda, function: sleeper}}], sink: {{type: file, path: sink}}}}
  table: {{convert: {{format: parquet, table: no.such}}, buffer: {{interval: 0s}}, sink: {{type: file, path: sink}}}}
""",
            sleeper="import time\ndef handler(event, context):\n    time.sleep(90)\n",
        )
        (service.folder / "catalog").mkdir()
        service.start()
        for stream in ("store", "local", "table"):
            service.put(stream, [b'{"a":1}'] * 20)
        _until(lambda: any(each["open_objects"] for each in service.verb("status")["streams"]), service.told)
        host, port = service.running["url"].removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as half:
            half.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
            begun = time.monotonic()
            assert service.end(signal.SIGTERM) == 0
            assert time.monotonic() - begun < 5
    assert "Traceback" not in service.told()


#: What a function can do to its process, and how many of its records land all the same.
HOSTILE = {
    "exits": ("import os\ndef handler(event, context):\n    os._exit(0)\n", 0),
    "closes_everything": ("import os\ndef handler(event, context):\n    os.closerange(0, 256)\n    return event\n", 0),
    "eats_memory": ("def handler(event, context):\n    return [bytearray(10**7) for _ in range(10**5)]\n", 0),
    "stops_itself": ("import os\ndef handler(event, context):\n    os.kill(os.getpid(), 19)\n", 0),
    "crashes": ("import ctypes\ndef handler(event, context):\n    ctypes.string_at(0)\n", 0),
    "is_no_python": ("def handler(event, context) return 1\n", 0),
    "forks": (
        "import os, time\ndef handler(event, context):\n    if os.fork() == 0:\n        time.sleep(60)\n"
        "    return {'records': [dict(each, result='Ok') for each in event['records']]}\n",
        20,
    ),
    "prints": (
        "def handler(event, context):\n    print('x' * 5_000_000)\n"
        "    return {'records': [dict(each, result='Ok') for each in event['records']]}\n",
        20,
    ),
}


def test_a_hostile_function_costs_its_own_records_alone_and_heals_when_it_is_repaired(make):
    functions = "".join(f"  {name}: {{path: {name}.py, timeout: 1s, memory: 256MiB}}\n" for name in HOSTILE)
    streams = "".join(
        f"  {name}: {{transforms: [{{type: lambda, function: {name}, retries: 0}}], buffer: {{interval: 0s}},"
        f" sink: {{type: file, path: sink, prefix: {name}/}}, failed: {{prefix: bad-{name}/}}}}\n"
        for name in HOSTILE
    )
    service = make(f"functions:\n{functions}streams:\n{streams}", **{name: text for name, (text, _) in HOSTILE.items()})
    service.start()
    for name in HOSTILE:
        service.put(name, [b"%d" % number for number in range(20)])
    totals = service.deliver_everything()
    assert {name: totals[name]["delivered"] for name in HOSTILE} == {
        name: landed for name, (_, landed) in HOSTILE.items()
    }
    assert all(totals[name]["failed"] == 20 - landed for name, (_, landed) in HOSTILE.items())
    (service.folder / "is_no_python.py").write_text(HOSTILE["prints"][0])
    assert service.verb("replay", stream="is_no_python")["replayed"] == 20
    assert service.deliver_everything()["is_no_python"]["delivered"] == 20
