"""`firehose put`: the lines of a file, each a record, in requests of a bounded size."""

from __future__ import annotations

import os
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

from firehose.cli.call import NotYetError, RemoteError, call, send
from firehose.cli.output import counted
from firehose.datadir import DataDirectory, RunningService
from firehose.errors import FirehoseError, InvalidError, UnavailableError

#: Bytes of one request: few enough that a refusal concerns few records, many enough for 100 MB a second.
REQUEST_BYTES = 4 * 2**20

#: Records of one request, half of what the service takes in one.
REQUEST_RECORDS = 125_000

#: The longest record that the service takes.
RECORD_BYTES = 1_024_000

#: The longest line that is read: a record, and its end.
LINE_BYTES = RECORD_BYTES + 2

#: How long a full or stopping service is asked again for the same records.
PATIENCE_S = 60.0


def put(data_dir: Path, stream: str, file: BinaryIO, *, told: Callable[[int], object] = lambda records: None) -> int:
    """Send the lines of `file` and return how many were accepted. Errors: FirehoseError, with how many were."""
    directory = DataDirectory(data_dir)
    directory.require()
    accepted = at = 0
    try:
        for first, body in _bodies(file):
            at = first
            accepted += _send(directory, stream, body)
            told(accepted)
    except FirehoseError as error:
        if not accepted:
            raise
        at = error.line if isinstance(error, LineTooLongError) else at
        before = f"the {counted(accepted, 'record')} before line {at} were accepted, send the rest from there on"
        raise RemoteError(f"{error}; {before}", code=error.code) from error
    if not accepted:
        call(data_dir, "status", {"stream": stream})  # a wrong name is told, also where there is nothing to send
    return accepted


class LineTooLongError(InvalidError):
    """A line cannot be a record."""

    def __init__(self, line: int) -> None:
        super().__init__(f"line {line} has more than {RECORD_BYTES} bytes, the most of a record")
        self.line = line


def _bodies(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Yield whole lines, about REQUEST_BYTES or REQUEST_RECORDS of them, with the number of the first.

    Errors: LineTooLongError.
    """
    waiting: list[bytes] = []
    size = number = 0
    first = 1
    while line := file.readline(LINE_BYTES):
        number += 1
        is_too_long = len(line.rstrip(b"\r\n")) > RECORD_BYTES
        if not is_too_long and line.strip():
            waiting.append(line)
            size += len(line)
        is_full = size >= REQUEST_BYTES or len(waiting) >= REQUEST_RECORDS
        if is_full or (is_too_long and waiting):
            yield first, b"".join(waiting)
            waiting, size, first = [], 0, number + 1
        if is_too_long:
            raise LineTooLongError(number)
    if waiting:
        yield first, b"".join(waiting)


def _send(directory: DataDirectory, stream: str, body: bytes) -> int:
    """Return how many records of one request were accepted: all of them."""
    until_s = time.monotonic() + PATIENCE_S
    while True:
        running = directory.running()
        if running is None:
            raise UnavailableError(
                f"no service runs on {directory.path}; records are taken by a running one only, start `firehose run`"
            )
        try:
            return int(send(running, _request(running, stream, body))["accepted"])
        except NotYetError:
            if time.monotonic() > until_s:
                raise
            time.sleep(0.5)  # it was told to slow down, and nothing was taken


def _request(running: RunningService, stream: str, body: bytes) -> urllib.request.Request:
    """Return the request, signed where the environment holds keys: a service with `credentials` asks for it."""
    url = f"{running.url}/streams/{quote(stream, safe='')}/records"
    headers = {"Content-Type": "application/x-ndjson"}
    key, secret = os.environ.get("AWS_ACCESS_KEY_ID"), os.environ.get("AWS_SECRET_ACCESS_KEY")
    if key and secret:
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.credentials import Credentials

        signed = AWSRequest("POST", url, headers=headers, data=body)
        SigV4Auth(Credentials(key, secret), "firehose", "us-east-1").add_auth(signed)
        headers = dict(signed.headers.items())
    return urllib.request.Request(url, data=body, headers=headers)
