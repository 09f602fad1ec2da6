"""SIGKILL at random moments under load: nothing is lost, nothing lands twice, the account closes.

Three streams: raw records and a table of files, and objects of an S3 store that are uploaded in parts. Two producers
send a put again under its name until it is answered, as SDKs do: each of their records must land, once. The others give
up and go on with other records: what was acknowledged must land, once.
"""

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

from tests.services.s3proxy import S3Proxy

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("s3proxy")]

KILLS = int(os.environ.get("KILLS", "25"))
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
  parts:
    buffer: {{size: 6MiB, interval: 15s}}
    sink: {{type: s3, bucket: {bucket}, endpoint_url: "{store}", prefix: "parts/",
            multipart_above: 5MiB, part_size: 5MiB}}
    failed: {{prefix: "parts-failed/"}}
"""

#: So that objects of `parts` become larger than a part.
LARGE_BYTES = 50_000

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

    def __init__(self, folder: Path, store: S3Proxy, bucket: str) -> None:
        self.folder = folder
        self.environment = {
            **os.environ,
            "AWS_ACCESS_KEY_ID": store.access_key,
            "AWS_SECRET_ACCESS_KEY": store.secret_key,
        }
        (folder / "catalog" / "web").mkdir(parents=True)
        (folder / "catalog" / "web" / "events.yaml").write_text("columns: {id: string, number: bigint}\n")
        (folder / "check.py").write_text(CHECK)
        (folder / "sink").mkdir()
        (folder / "config.yaml").write_text(CONFIG.format(sink=folder / "sink", bucket=bucket, store=store.endpoint))
        self.log = (folder / "service.log").open("ab")
        self.process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def start(self) -> None:
        words = [COMMAND, "run", self.folder / "config.yaml", "--port", "0", "--data-dir", self.folder / "data"]
        self.process = subprocess.Popen(
            words, stdout=self.log, stderr=self.log, start_new_session=True, env=self.environment
        )
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
            time.sleep(0.02)  # another process: it can only be looked at
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
    """Puts records without rest and remembers what was acknowledged. `is_stubborn`: until each put is."""

    def __init__(self, service: Service, stream: str, seed: int, *, is_stubborn: bool) -> None:
        super().__init__(daemon=True)
        self.service, self.stream, self.seed, self.is_stubborn = service, stream, seed, is_stubborn
        self.sent, self.puts, self.acknowledged, self.again = 0, 0, set(), 0
        self.stopping = threading.Event()
        self._url, self._client, self._name = "", None, ""

    def run(self) -> None:
        chance = random.Random(self.seed)
        while not self.stopping.is_set():
            ids = [f"{self.stream}-{self.seed}-{self.sent + index}" for index in range(chance.randint(1, 60))]
            self.sent += len(ids)
            self._name = f"{self.seed}-{self.puts}"
            self.puts += 1
            records = [{"Data": self._record(each)} for each in ids]
            while not self._put(ids, records) and self.is_stubborn:
                self.again += 1
            if self.stream == "parts":
                time.sleep(0.3)  # 6 MB a second are enough

    def _put(self, ids: list[str], records: list[dict[str, bytes]]) -> bool:
        if self._url != self.service.url:
            self._url, self._client = self.service.url, self._connected(self.service.url)
        try:
            answer = self._client.put_record_batch(DeliveryStreamName=self.stream, Records=records)
        except (BotoCoreError, ClientError):
            time.sleep(0.01)  # it was killed: soon it is there again
            return False
        self.acknowledged.update(ids if answer["FailedPutCount"] == 0 else ())
        return answer["FailedPutCount"] == 0

    def _connected(self, url: str):
        client = _client(url)
        if self.is_stubborn:
            client.meta.events.register("before-call", self._name_put)
        return client

    def _name_put(self, params, **_) -> None:
        params["context"].setdefault("retries", {})["invocation-id"] = self._name

    def _record(self, identity: str) -> bytes:
        record = _record(identity)
        if self.stream == "parts":
            record = record[:-1] + b',"more":"' + os.urandom(LARGE_BYTES // 2).hex().encode() + b'"}'
        return record


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


def test_killed_again_and_again_under_load(tmp_path, s3proxy):
    seed = int(os.environ.get("KILL_SEED", "20261121"))
    chance = random.Random(seed)
    s3 = boto3.client(
        "s3",
        endpoint_url=s3proxy.endpoint,
        region_name="us-east-1",
        aws_access_key_id=s3proxy.access_key,
        aws_secret_access_key=s3proxy.secret_key,
    )
    bucket = f"kill-{os.urandom(4).hex()}"
    s3.create_bucket(Bucket=bucket)
    service = Service(tmp_path, s3proxy, bucket)
    service.start()
    streams = ("raw", "raw", "table", "parts")
    producers = [
        Producer(service, stream, number, is_stubborn=number in (0, 3)) for number, stream in enumerate(streams)
    ]
    for producer in producers:
        producer.start()
    for _ in range(KILLS):
        time.sleep(chance.uniform(0.05, 1.2))  # the moment of the kill, not a wait for something
        service.kill()
        service.start()
    for producer in producers:
        producer.stopping.set()
    for producer in producers:
        producer.join(60)
    try:
        _deliver_everything(service)
        audit = service.command("audit", "--deep")
    finally:
        service.kill()
        service.log.close()
    acknowledged = set().union(*(producer.acknowledged for producer in producers))
    s3proxy.forget_cut_uploads()
    delivered, failed = _landed(tmp_path / "sink")
    delivered += _landed_in(s3, bucket)
    landed = delivered + failed
    assert len(acknowledged) > 1_000
    assert all(len(each.acknowledged) == each.sent for each in producers if each.is_stubborn)
    assert sum(each.again for each in producers) >= KILLS // 4, "puts were cut off, and sent again"
    assert not acknowledged - set(landed), f"lost (seed {seed})"
    assert not [each for each, times in landed.items() if times > 1], f"twice (seed {seed})"
    assert failed, "the load must hold records that fail"
    assert audit["closes"], audit
    totals = Counter()
    for stream in audit["streams"]:
        totals.update(stream["total"])
    assert totals["delivered"] == sum(delivered.values()) and totals["failed"] == sum(failed.values())


def _landed_in(s3, bucket: str) -> Counter[str]:
    """Return how often each record lies in the store; objects of several parts must be among its own."""
    delivered: Counter[str] = Counter()
    # below a prefix: S3Proxy lists uploads that nobody ended, too, at the root
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="parts/")
    keys = [each["Key"] for page in pages for each in page.get("Contents", ()) if ".firehose-probe" not in each["Key"]]
    sizes = []
    for key in keys:
        body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        sizes.append(len(body))
        delivered.update(orjson.loads(line)["id"] for line in body.splitlines())
    assert max(sizes) > 5 * 2**20, "none was uploaded in parts"
    return delivered


def _deliver_everything(service: Service) -> None:
    until = time.monotonic() + 120
    while time.monotonic() < until:
        streams = service.command("status")["streams"]
        if not any(stream["backlog_records"] for stream in streams):
            return
        time.sleep(0.2)  # another process: it can only be asked
    raise AssertionError(f"not delivered in two minutes: {streams}\n{service.tail()}")
