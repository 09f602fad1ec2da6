"""How long a service with a large backlog takes until it accepts its first put, and to stop.

    python -m benchmarks.start --gigabytes 10

Prints one JSON object. Times are of the wall clock: compare those with a backlog with those without, of the same run.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

COMMAND = Path(sys.executable).with_name("firehose")

CONFIG = """
server: {log_quota: 1TiB, log_level: error}
streams:
  clicks: {source: {type: direct_put, retention: forever}, sink: {type: file, path: lake}}
"""

LINES_A_PUT = 120_000


class Service:
    """The service as a process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "config.yaml").write_text(CONFIG)

    def start(self) -> float:
        """Return the seconds until the first put was accepted."""
        began = time.monotonic()
        words: list[str | Path] = [
            COMMAND,
            "run",
            self.folder / "config.yaml",
            "--port",
            "0",
            "--data-dir",
            self.folder / "data",
        ]
        self.process = subprocess.Popen(words)
        while not self._is_accepted(b"first\n"):
            assert self.process.poll() is None, "the service did not start"
            time.sleep(0.005)  # 5 ms of a second: the error of the measurement
        return time.monotonic() - began

    def _is_accepted(self, body: bytes) -> bool:
        try:
            known = json.loads((self.folder / "data" / "service.json").read_text())
            if known["pid"] != self.process.pid:
                return False
            request = urllib.request.Request(f"{known['url']}/streams/clicks/records", body)
            request.add_header("Content-Type", "application/x-ndjson")
            with urllib.request.urlopen(request, timeout=120) as answer:
                return bool(json.load(answer)["accepted"])
        except (OSError, ValueError):
            return False

    def stop(self, how: signal.Signals) -> float:
        """Return the seconds until the process is gone."""
        began = time.monotonic()
        self.process.send_signal(how)
        self.process.wait()
        return time.monotonic() - began

    def fill(self, size_bytes: int) -> None:
        """Put records of web events while nothing is delivered."""
        subprocess.run(
            [COMMAND, "pause", "clicks", "--data-dir", self.folder / "data"], check=True, capture_output=True
        )
        chance = random.Random(1)
        event = {"agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36", "referrer": "https://example.com/"}
        changing = ({"user": chance.getrandbits(40), "page": chance.randint(0, 9_999)} for _ in range(LINES_A_PUT))
        body = b"".join(json.dumps(event | each).encode() + b"\n" for each in changing)
        for _ in range(-(-size_bytes // len(body))):
            assert self._is_accepted(body), "the service refused records"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=10, help="records in the backlog, before compression")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".benchmark-") as folder:
        service = Service(Path(folder))
        empty_s = service.start()
        service.fill(int(given.gigabytes * 1e9))
        report = {"gigabytes": given.gigabytes, "first_put_s": {"without_backlog": round(empty_s, 2)}, "stop_s": {}}
        for how in (signal.SIGKILL, signal.SIGTERM):
            report["stop_s"][how.name] = round(service.stop(how), 2)
            report["first_put_s"][f"after_{how.name}"] = round(service.start(), 2)
        service.stop(signal.SIGTERM)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
