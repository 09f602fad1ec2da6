"""How long loading takes: 200 streams that use most of what the configuration offers, in CPU time.

Run: .venv/bin/python benchmarks/config.py
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from firehose.config.loader import load

#: What 200 streams may take, so that a service starts and `firehose validate` answers without a wait.
LIMIT_SECONDS = 2.0

STREAMS = 200

STREAM = """
  events_{number}:
    source: direct_put
    transforms:
      - type: lambda
        function: score
    buffer: {{size: 5MiB, interval: 60s}}
    compression: {{type: gzip, level: 4}}
    sink:
      type: s3
      bucket: ${{BUCKET:-events}}-{number}
      prefix: "events/!{{timestamp:yyyy/MM/dd}}/!{{firehose:random-string}}/"
      time_zone: Europe/Berlin
    failed:
      prefix: "failed/!{{firehose:error-output-type}}/!{{timestamp:yyyy/MM/dd}}/"
      sink: {{type: file, path: failed}}
    tags: {{team: data, cost: "{number}"}}
"""


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "score.py").write_text("def handler(event, context): ...\n", encoding="utf-8")
        file = Path(folder, "firehose.yaml")
        streams = "".join(STREAM.format(number=number) for number in range(STREAMS))
        file.write_text(f"functions: {{score: {{path: score.py}}}}\nstreams:{streams}", encoding="utf-8")
        started = time.process_time()
        loaded = load([file], environment={})
        took_seconds = time.process_time() - started
    assert len(loaded.configuration.streams) == STREAMS
    print(f"{STREAMS} streams: {took_seconds:.2f} s of CPU (limit {LIMIT_SECONDS:.0f} s)")
    return 0 if took_seconds < LIMIT_SECONDS else 1


if __name__ == "__main__":
    sys.exit(main())
