"""The main job in one go: events in through boto3, Parquet out, failures by reason, repair, replay, the account.

Run by `make demo`. Everything it makes lies in `.demo`, which git ignores.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import duckdb
from botocore.config import Config

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / ".demo"
COMMAND = Path(sys.executable).with_name("firehose")
CONFIG = ROOT / "configs" / "quickstart.yaml"
EVENTS = 12_000
PORT_FILE = HOME / "service" / "service.json"


def say(text: str) -> None:
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n== {text}", flush=True)


def firehose(*words: str) -> str:
    """Run a command of the service and return what it prints."""
    answer = subprocess.run([COMMAND, *words, "--data-dir", HOME / "service"], capture_output=True, text=True)
    if answer.returncode:
        raise SystemExit(f"firehose {' '.join(words)}: {answer.stderr or answer.stdout}")
    return answer.stdout


@contextlib.contextmanager
def service(function: Path) -> Iterator[str]:
    """Run the service with the quickstart's stream and this function; yields its address."""
    environment = {**os.environ, "QUICKSTART_HOME": str(HOME), "QUICKSTART_FUNCTION": str(function)}
    with (HOME / "service.log").open("a") as log:
        process = subprocess.Popen([COMMAND, "run", CONFIG, "--port", "0"], env=environment, stdout=log, stderr=log)
        try:
            yield address(process)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def address(process: subprocess.Popen[bytes]) -> str:
    """Return where the service listens, once it does."""
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
            found = json.loads(PORT_FILE.read_text())
            if found["pid"] == process.pid:
                return str(found["url"])
        time.sleep(0.05)
    raise SystemExit(f"the service did not start:\n{(HOME / 'service.log').read_text()[-3000:]}")


def event(chance: random.Random, number: int) -> dict[str, Any]:
    """Return one page view."""
    at = datetime.datetime(2026, 7, 13, tzinfo=datetime.UTC) + datetime.timedelta(seconds=number * 7)
    page = chance.choices(["/", "/search", "/cart", "/checkout", "/healthz"], [40, 30, 15, 10, 5])[0]
    return {
        "event_id": f"{chance.getrandbits(64):016x}",
        "at": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "page": page,
        "status": chance.choices([200, 302, 404, 500], [90, 5, 4, 1])[0],
        "took_ms": round(chance.expovariate(1 / 80), 3),
        "amount": f"{chance.uniform(1, 300):.2f}" if page == "/checkout" else None,
        "user": {"id": chance.randrange(1, 5_000), "country": chance.choice(["DE", "FR", "IN", "BR", "US"])},
        "items": [
            {"sku": f"A-{chance.randrange(100)}", "quantity": chance.randrange(1, 4)}
            for _ in range(chance.randrange(4))
        ],
        "tags": {"device": chance.choice(["phone", "desktop"]), "campaign": chance.choice(["summer", "none"])},
    }


def records() -> list[bytes]:
    """Return page views as producers send them: most are good, some are damaged in the ways that are seen in life."""
    chance, found = random.Random(20260713), []
    for number in range(EVENTS):
        view = event(chance, number)
        if number % 97 == 0:
            view["status"] = "ok"
        if number % 151 == 0:
            view["at"] = view["at"].replace("Z", "+00:00")
        text = json.dumps(view)
        if number % 211 == 0:
            text = text.replace('"', "'").replace("None", "null")
        if number % 307 == 0:
            text += ","
        found.append(text.encode())
    return found


def put(url: str, found: list[bytes]) -> None:
    """Send records the way producers of Firehose do."""
    client = boto3.client(
        "firehose",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="any",
        aws_secret_access_key="any",
        config=Config(retries={"mode": "standard"}),
    )
    for start in range(0, len(found), 500):
        batch = [{"Data": each} for each in found[start : start + 500]]
        answer = client.put_record_batch(DeliveryStreamName="web_events", Records=batch)
        assert answer["FailedPutCount"] == 0, answer


def wait_until_delivered() -> None:
    """Return when nothing waits any more."""
    until = time.monotonic() + 120
    while time.monotonic() < until:
        firehose("flush", "web_events")
        (stream,) = json.loads(firehose("status", "--json"))["streams"]
        if stream["backlog_records"] == 0:
            return
        time.sleep(0.2)
    raise SystemExit(f"not delivered within two minutes: {stream}")


def show_table() -> int:
    """Query the Parquet files and print a small table; returns the rows in them."""
    files = f"read_parquet('{HOME}/lake/events/**/*.parquet', hive_partitioning = true)"
    query = (
        f'SELECT page, count(*) AS views, count(DISTINCT "user".id) AS users, round(avg(took_ms), 1) AS avg_ms,'
        f" sum(amount) AS amount FROM {files} GROUP BY page ORDER BY views DESC"
    )
    print(duckdb.sql(query))
    ((count,),) = duckdb.sql(f"SELECT count(*) FROM {files}").fetchall()
    return int(count)


def main() -> None:
    shutil.rmtree(HOME, ignore_errors=True)
    HOME.mkdir()
    found = records()
    with service(ROOT / "configs" / "functions" / "clean_events.py") as url:
        say(f"{len(found):,} web events go in through boto3's put_record_batch, some of them damaged")
        put(url, found)
        wait_until_delivered()
        say("What arrived, read from the Parquet files")
        rows = show_table()
        say("What failed, and why")
        print(firehose("failed", "stats"))
        print(firehose("failed", "ls", "--limit", "5"))
    with service(ROOT / "demo" / "repaired_events.py"):
        say("The function is repaired; the failed records go through it again")
        print(firehose("replay", "--stream", "web_events"))
        print(firehose("replay", "--stream", "web_events"))
        wait_until_delivered()
        say("Now the Parquet files hold them, too")
        repaired = show_table()
        say("The account")
        print(firehose("audit"))
    dropped = sum(1 for each in found if b"/healthz" in each)
    assert rows < repaired == len(found) - dropped, (rows, repaired, dropped)


if __name__ == "__main__":
    main()
