"""What tests of commands share."""

from __future__ import annotations

import subprocess

CATALOG = """
catalogs: {lake: {type: file, path: catalog}}
streams:
  packed: {buffer: {interval: 0s}, compression: %s, sink: {type: file, path: lake, prefix: "packed/a#b?c%%20d/"}}
  secret:
    buffer: {interval: 0s}
    compression: %s
    encryption: {type: client_side, key_file: key}
    sink: {type: file, path: lake, prefix: secret/}
  table:
    buffer: {interval: 0s}
    convert: {format: parquet, table: web.events}
    encryption: {type: client_side, key_file: key}
    sink: {type: file, path: lake, prefix: table/}
"""


def text(answer: subprocess.CompletedProcess[bytes]) -> str:
    assert answer.returncode == 0, answer
    assert not answer.stderr or b"Traceback" not in answer.stderr
    return answer.stdout.decode()
