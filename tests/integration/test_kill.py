"""SIGKILL at random moments under load: nothing acknowledged is lost, nothing lands twice, the account closes."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import boto3
import orjson
import pyarrow.parquet as pq
import pybase64
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

pytestmark = pytest.mark.integration

KILLS = int(os.environ.get("KILLS", "50"))
COMMAND = Path(sys.executable).with_name("firehose")

CONFIG = """
functions:
  check: {{path: check.py, timeout: 20s}}
catalogs:
  lake: {{type: file, path: catalog}}
streams:
  raw:
    buffer: {{size: 32KiB, interval: 1s}}
    sink: {{type: file, path: {sink}, prefix: "raw/"}}
    failed: {{prefix: "raw-failed/"}}
  table:
    transforms: [{{type: lambda, function: check}}]
    convert: {{format: parquet, table: web.events}}
    buffer: {{size: 32KiB, interval: 1s}}
    sink: {{type: file, path: {sink}, prefix: "table/"}}
    failed: {{prefix: "table-failed/"}}
"""

CHECK = """
import base64

def handler(event, context):
    answers = []
    for record in event["records"]:
        data = base64.b64decode(record["data"])
        result = "ProcessingFailed" if b'"fails"' in data else "Ok"
        answers.append({"recordId": record["recordId"], "result": result, "data": record["data"]})
    return {"records": answers}
"""


class Service:
    """The service as a process that is killed and started again on the same data directory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "catalog" / "web").mkdir(parents=True)
        (folder / "catalog" / "web" / "events.yaml").write_text("columns: {id: string, number: bigint}\n")
        (folder / "check.py").write_text(CHECK)
        (folder / "sink").mkdir()
        (folder / "config.yaml").write_text(CONFIG.format(sink=folder / "sink"))
        self.log = (folder / "service.log").open("ab")
        self.process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def start(self) -> None:
        words = [COMMAND, "run", self.folder / "config.yaml", "--port", "0", "--data-dir", self.folder / "data"]
        self.process = subprocess.Popen(words, stdout=self.log, stderr=self.log, start_new_session=True)
        until = time.monotonic() + 30
        while time.monotonic() < until:
            assert self.process.poll() is None, self.tail()
            try:
                found = json.loads((self.folder / "data" / "service.json").read_text())
            except (FileNotFoundError, json.JSONDecodeError):
                found = {"pid": None}
            if found["pid"] == self.process.pid:
                self.url = found["url"]
                return
            time.sleep(0.02)
        raise AssertionError(f"not started in 30 s:\n{self.tail()}")

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def command(self, *words: str) -> dict:
        answer = subprocess.run(
            [COMMAND, *words, "--json", "--data-dir", self.folder / "data"], capture_output=True, text=True
        )
        assert answer.stdout, answer.stderr
        return json.loads(answer.stdout)

    def tail(self) -> str:
        return (self.folder / "service.log").read_text()[-4_000:]


class Producer(threading.Thread):
    """Puts records without rest and remembers what was acknowledged."""

    def __init__(self, service: Service, stream: str, seed: int) -> None:
        super().__init__(daemon=True)
        self.service, self.stream, self.seed = service, stream, seed
        self.sent, self.acknowledged = 0, set()
        self.stopping = threading.Event()

    def run(self) -> None:
        chance = random.Random(self.seed)
        url, client = "", None
        while not self.stopping.is_set():
            if url != self.service.url:
                url, client = self.service.url, _client(self.service.url)
            ids = [f"{self.stream}-{self.seed}-{self.sent + index}" for index in range(chance.randint(1, 60))]
            self.sent += len(ids)
            records = [{"Data": _record(each)} for each in ids]
            try:
                answer = client.put_record_batch(DeliveryStreamName=self.stream, Records=records)
            except (BotoCoreError, ClientError):
                time.sleep(0.01)  # it was killed: try again soon, with other records
                continue
            for each, told in zip(ids, answer["RequestResponses"], strict=True):
                if "RecordId" in told:
                    self.acknowledged.add(each)


def _record(identity: str) -> bytes:
    number = int(identity.rsplit("-", 1)[1])
    value = '"oops"' if number % 50 == 0 else number
    kind = "fails" if number % 70 == 0 else "passes"
    return f'{{"id":"{identity}","number":{value},"kind":"{kind}"}}'.encode()


def _client(url: str):
    return boto3.client(
        "firehose",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="any",
        aws_secret_access_key="any",
        config=Config(retries={"total_max_attempts": 1}, connect_timeout=2, read_timeout=5),
    )


def _landed(sink: Path) -> tuple[Counter[str], Counter[str]]:
    """Return how often each record lies in the sink, and in the error output."""
    delivered: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    for path in sink.rglob("*"):
        if not path.is_file() or ".firehose-sink" in path.parts:
            continue
        if "-failed" in path.relative_to(sink).parts[0]:
            failed.update(
                orjson.loads(pybase64.b64decode(orjson.loads(line)["rawData"]))["id"]
                for line in path.read_bytes().splitlines()
            )
        elif path.suffix == ".parquet":
            delivered.update(pq.read_table(path, columns=["id"]).column("id").to_pylist())
        else:
            delivered.update(orjson.loads(line)["id"] for line in path.read_bytes().splitlines())
    return delivered, failed


def test_killed_fifty_times_under_load(tmp_path):
    seed = int(os.environ.get("KILL_SEED", "20261121"))
    chance = random.Random(seed)
    service = Service(tmp_path)
    service.start()
    producers = [Producer(service, stream, number) for number, stream in enumerate(("raw", "raw", "table"))]
    for producer in producers:
        producer.start()
    for _ in range(KILLS):
        time.sleep(chance.uniform(0.05, 1.2))  # the moment of the kill, not a wait for something
        service.kill()
        service.start()
    for producer in producers:
        producer.stopping.set()
    for producer in producers:
        producer.join(30)
    try:
        _deliver_everything(service)
        audit = service.command("audit")
    finally:
        service.kill()
        service.log.close()
    acknowledged = set().union(*(producer.acknowledged for producer in producers))
    delivered, failed = _landed(tmp_path / "sink")
    landed = delivered + failed
    assert len(acknowledged) > 1_000
    assert not acknowledged - set(landed), f"lost (seed {seed})"
    assert not [each for each, times in landed.items() if times > 1], f"twice (seed {seed})"
    assert failed, "the load must hold records that fail"
    assert audit["closes"], audit
    totals = Counter()
    for stream in audit["streams"]:
        totals.update(stream["total"])
    assert totals["delivered"] == sum(delivered.values()) and totals["failed"] == sum(failed.values())


def _deliver_everything(service: Service) -> None:
    until = time.monotonic() + 120
    while time.monotonic() < until:
        streams = service.command("status")["streams"]
        if not any(stream["backlog_records"] for stream in streams):
            return
        time.sleep(0.2)
    raise AssertionError(f"not delivered in two minutes: {streams}\n{service.tail()}")
