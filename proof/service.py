"""The service as a process of its own, as users run it: started, put to, asked, stopped."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from firehose.cli.call import call

COMMAND = Path(sys.executable).with_name("firehose")

#: What one request of the Firehose API holds.
BATCH_RECORDS, BATCH_BYTES = 500, 3 * 2**20

#: How long starting, stopping and delivering may take, on a machine that is busy with other things.
START_S, STOP_S, DELIVER_S = 60, 30, 180


class Service:
    """A running service. `pid` is that of its main process."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, data_dir: Path) -> None:
        self._process = process
        self.pid = process.pid
        self.url = url
        self.data_dir = data_dir
        self._client = boto3.client(
            "firehose",
            endpoint_url=url,
            region_name="us-east-1",
            aws_access_key_id="any",
            aws_secret_access_key="any",
            config=Config(retries={"mode": "standard"}),
        )

    def put(self, stream: str, records: Iterable[bytes]) -> None:
        """Send records with boto3, the way producers of Firehose do."""
        for batch in _batches(records):
            answer = self._client.put_record_batch(
                DeliveryStreamName=stream, Records=[{"Data": data} for data in batch]
            )
            assert answer["FailedPutCount"] == 0, answer

    def ask(self, verb: str, **parameters: Any) -> Any:
        """Return what a verb of the command line answers, without the start of a process for it."""
        return call(self.data_dir, verb, parameters)

    def command(self, *words: str) -> Any:
        """Run a command as a user does and return the JSON it prints."""
        answer = subprocess.run(
            [COMMAND, *words, "--json", "--data-dir", self.data_dir], capture_output=True, text=True, check=False
        )
        if answer.returncode:
            raise RuntimeError(f"firehose {' '.join(words)} ended with {answer.returncode}: {answer.stderr}")
        return json.loads(answer.stdout)

    def deliver(self, *, ask_s: float = 0.05) -> None:
        """Return when every stream has delivered everything. Errors: TimeoutError with what waits."""
        until = time.monotonic() + DELIVER_S
        while True:
            waiting = [stream for stream in self.ask("status")["streams"] if stream["backlog_records"]]
            if not waiting:
                return
            if time.monotonic() > until:
                raise TimeoutError(f"not delivered in {DELIVER_S} s: {waiting}")
            for stream in waiting:
                self.ask("flush", stream=stream["name"])
            time.sleep(ask_s)


@contextlib.contextmanager
def running(config: Path, home: Path, environment: Mapping[str, str]) -> Iterator[Service]:
    """Run the service with `config` while the block runs; everything durable and its log lie in `home`.

    Errors: RuntimeError with the end of the log, where it does not start.
    """
    data_dir = home / "service"
    words: list[str | Path] = [COMMAND, "run", config, "--port", "0", "--data-dir", data_dir, "--log-style", "plain"]
    with (home / "service.log").open("ab") as log:
        process = subprocess.Popen(words, env={**os.environ, **environment}, stdout=log, stderr=log)
    try:
        yield Service(process, _address(process, home), data_dir)
    finally:
        _stop(process)


def _address(process: subprocess.Popen[bytes], home: Path) -> str:
    """Return where the service listens, once it does."""
    until = time.monotonic() + START_S
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(FileNotFoundError):
            # the file appears whole; one of an earlier run has another process in it
            found = json.loads((home / "service" / "service.json").read_text())
            if found["pid"] == process.pid:
                return str(found["url"])
        time.sleep(0.02)
    raise RuntimeError(f"the service did not start:\n{(home / 'service.log').read_text()[-4_000:]}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _batches(records: Iterable[bytes]) -> Iterator[Sequence[bytes]]:
    batch: list[bytes] = []
    size = 0
    for record in records:
        if len(batch) == BATCH_RECORDS or (batch and size + len(record) > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(record)
        size += len(record)
    if batch:
        yield batch
