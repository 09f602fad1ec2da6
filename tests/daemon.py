"""The service as a process of its own, and the commands as people run them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import boto3
import orjson
import pybase64
from botocore.config import Config

COMMAND = Path(sys.executable).with_name("firehose")

#: How long anything may take on a machine that is busy with other things.
PATIENCE_S = 90

#: Fails what begins with `bad` until the file `repaired` stands beside it.
CHECK = """
import base64, os

def handler(event, context):
    is_repaired = os.path.exists(os.path.join(os.path.dirname(__file__), "repaired"))
    answers = []
    for record in event["records"]:
        is_bad = base64.b64decode(record["data"]).startswith(b"bad") and not is_repaired
        answers.append({"recordId": record["recordId"], "result": "ProcessingFailed" if is_bad else "Ok",
                        "data": record["data"]})
    return {"records": answers}
"""

CHECKED = """
functions:
  check: {path: check.py, timeout: 30s}
streams:
  clicks:
    transforms: [{type: lambda, function: check}]
    buffer: {interval: 0s}
    sink: {type: file, path: lake, prefix: clicks/}
    failed: {prefix: "clicks-failed/!{firehose:error-output-type}/"}
"""


def until(is_so: Callable[[], Any], what: str = "it", patience_s: float = PATIENCE_S) -> Any:
    """Return what `is_so` returns once that is true."""
    deadline = time.monotonic() + patience_s
    while not (found := is_so()):
        assert time.monotonic() < deadline, f"{what} did not happen in {patience_s} s"
        time.sleep(0.02)  # another process: it can only be looked at
    return found


class Daemon:
    """A folder with a configuration, and the service that runs on it now and then."""

    def __init__(self, folder: Path, config: str | None = CHECKED) -> None:
        self.folder, self.data, self.lake = folder, folder / "data", folder / "lake"
        self.lake.mkdir()
        (folder / "check.py").write_text(CHECK)
        self.config = folder / "firehose.yaml"
        if config is not None:
            self.config.write_text(config)
        self.log = folder / "service.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.url = ""

    # --- the process -------------------------------------------------------------------------------------------------

    def launch(self, *options: str, config: bool = True, **environment: str) -> subprocess.Popen[bytes]:
        """Start the service without waiting for it."""
        words: list[Any] = [COMMAND, "run", *([self.config] if config else []), "--port", "0", "--data-dir", self.data]
        with self.log.open("ab") as out:
            self.process = subprocess.Popen([*words, *options], stdout=out, stderr=out, env=_environment(environment))
        return self.process

    def start(self, *options: str, config: bool = True, **environment: str) -> None:
        """Return once the service takes records."""
        self.launch(*options, config=config, **environment)
        until(self._is_announced, "the start")

    def _is_announced(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.told()[-4_000:]
        try:
            found = json.loads((self.data / "service.json").read_text())
        except FileNotFoundError:
            return False
        self.url = found["url"]
        return bool(found["pid"] == self.process.pid)

    def end(self, number: signal.Signals = signal.SIGKILL) -> tuple[int, float]:
        """End the service; return its exit status and the seconds that it took."""
        assert self.process is not None
        begun = time.monotonic()
        self.process.send_signal(number)
        status = self.process.wait(PATIENCE_S)
        return status, time.monotonic() - begun

    def close(self) -> None:
        """End what still runs."""
        if self.process is not None and self.process.poll() is None:
            self.end()

    def told(self) -> str:
        """Return what the service wrote to its log."""
        return self.log.read_text()

    # --- what people do ----------------------------------------------------------------------------------------------

    def client(self, url: str | None = None, *, attempts: int = 1) -> Any:
        """Return a client of the Firehose API, by way of another address where one is given."""
        return boto3.client(
            "firehose",
            endpoint_url=url or self.url,
            region_name="us-east-1",
            aws_access_key_id="any",
            aws_secret_access_key="any",
            config=Config(retries={"total_max_attempts": attempts, "mode": "standard"}),
        )

    def put(self, *records: bytes, stream: str = "clicks") -> None:
        """Send records with boto3."""
        client = self.client()
        for start in range(0, len(records), 500):
            batch = [{"Data": each} for each in records[start : start + 500]]
            answer = client.put_record_batch(DeliveryStreamName=stream, Records=batch)
            assert answer["FailedPutCount"] == 0, answer

    def run(
        self, *words: str | Path, given: bytes | None = None, **environment: str
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a command on the data directory."""
        return command(*words, "--data-dir", self.data, given=given, **environment)

    def ask(self, *words: str) -> Any:
        """Run a command that must succeed, and return the JSON it prints."""
        answer = self.run(*words, "--json")
        assert answer.returncode == 0, answer
        return json.loads(answer.stdout)

    def delivered(self) -> None:
        """Return once nothing waits any more."""
        until(lambda: not any(each["backlog_records"] for each in self.ask("status")["streams"]), "delivery")

    def total(self, stream: str = "clicks") -> dict[str, int]:
        """Return the terms of the account that are not 0; it must close."""
        (account,) = self.ask("audit", stream)["streams"]
        assert account["closes"], account
        return {term: rows for term, rows in account["total"].items() if rows}

    # --- what lies there ---------------------------------------------------------------------------------------------

    def records(self, prefix: str = "clicks") -> Counter[bytes]:
        """Return the records in the lake."""
        return Counter(line for path in self.objects(prefix) for line in path.read_bytes().splitlines())

    def failures(self, prefix: str = "clicks") -> Counter[bytes]:
        """Return the original bytes of the records in the error output."""
        lines = [line for path in self.objects(f"{prefix}-failed") for line in path.read_bytes().splitlines()]
        return Counter(pybase64.b64decode(orjson.loads(line)["rawData"]) for line in lines)

    def objects(self, prefix: str) -> list[Path]:
        """Return the objects under a prefix."""
        return sorted(path for path in (self.lake / prefix).rglob("*") if path.is_file())


def command(*words: str | Path, given: bytes | None = None, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command and return how it ended."""
    return subprocess.run(
        [COMMAND, *words],
        input=given,
        capture_output=True,
        env=_environment(environment),
        timeout=PATIENCE_S,
        check=False,
    )


def complaint(answer: subprocess.CompletedProcess[bytes], status: int = 1) -> str:
    """Return the one line that a command ended with, which must be no traceback."""
    assert answer.returncode == status, answer
    said = answer.stderr.decode()
    assert "Traceback" not in said, said
    lines: Sequence[str] = said.splitlines()
    assert len(lines) == 1 and lines[0].startswith("firehose: "), said
    return lines[0]


def _environment(more: dict[str, str]) -> dict[str, str]:
    return {**os.environ, **more}
