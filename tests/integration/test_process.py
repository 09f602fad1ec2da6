"""The service as a supervisor sees it: a process that starts, says how it is, and stops when it is told to."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.services.server import POLL_S, stop, tail

pytestmark = pytest.mark.integration

COMMAND = Path(sys.executable).with_name("firehose")

#: What the service promises between SIGTERM and its end.
STOP_S = 5.0
#: A loaded small machine takes some seconds to import pyarrow and botocore.
START_S = 60.0

STREAM = """
streams:
  web_events:
    buffer: {interval: %s}
    sink: {type: file, path: lake}
"""


class Process:
    """A running service. `url` is known once it has announced itself."""

    def __init__(self, folder: Path, *options: str, **environment: str) -> None:
        self.data_dir = folder / "data"
        self.log = folder / "service.log"
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                [COMMAND, "run", folder / "firehose.yaml", "--data-dir", self.data_dir, "--port", "0", *options],
                stdout=out,
                stderr=out,
                env={**os.environ, **environment},
                start_new_session=True,
            )

    @property
    def url(self) -> str:
        found = json.loads((self.data_dir / "service.json").read_text())
        assert found["pid"] == self.process.pid
        return str(found["url"])

    async def until(self, is_so: Callable[[], bool], what: str) -> None:
        """Return when `is_so`; fails where the process ends before, or takes too long."""
        deadline = time.monotonic() + START_S
        while not is_so():
            ended = self.process.poll()
            assert ended is None, f"ended with {ended} before {what}\n{tail(self.log)}"
            assert time.monotonic() < deadline, f"no {what} after {START_S} s\n{tail(self.log)}"
            await asyncio.sleep(POLL_S)

    async def is_announced(self) -> None:
        await self.until(lambda: _pid_in(self.data_dir / "service.json") == self.process.pid, "announcement")

    async def ends(self) -> tuple[int, float]:
        """Return the exit status, and the seconds it took from now."""
        begun = time.monotonic()
        status = await asyncio.to_thread(self.process.wait, 90)
        return status, time.monotonic() - begun

    async def terminate(self) -> tuple[int, float]:
        """Send SIGTERM; return as `ends`."""
        self.process.send_signal(signal.SIGTERM)
        return await self.ends()


def _pid_in(path: Path) -> int | None:
    try:
        return int(json.loads(path.read_text())["pid"])
    except FileNotFoundError:
        return None


def write_config(folder: Path, *, interval: str = "1s") -> None:
    """Write the configuration of one stream to a file sink."""
    (folder / "firehose.yaml").write_text(STREAM % interval)
    (folder / "lake").mkdir(exist_ok=True)


@asynccontextmanager
async def running(folder: Path, *options: str, **environment: str) -> AsyncIterator[Process]:
    """Start a service and let it announce itself; it is gone at the end of the block."""
    service = Process(folder, *options, **environment)
    try:
        await service.is_announced()
        yield service
    finally:
        stop(service.process)


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
        yield session


async def get(http: aiohttp.ClientSession, url: str) -> tuple[int, str]:
    async with http.get(url) as answer:
        return answer.status, (await answer.text()).strip()


async def is_ready(http: aiohttp.ClientSession, service: Process) -> None:
    """Return when the service says that it is ready; it announces itself a moment before."""
    deadline = time.monotonic() + START_S
    while (found := await get(http, f"{service.url}/readyz")) != (200, "ok"):
        assert found[0] == 503 and time.monotonic() < deadline, found
        await asyncio.sleep(POLL_S)


async def put(http: aiohttp.ClientSession, service: Process, *records: str) -> dict[str, Any]:
    async with http.post(f"{service.url}/streams/web_events/records", data="\n".join(records)) as answer:
        assert answer.status == 200, await answer.text()
        found: dict[str, Any] = await answer.json()
        return found


def delivered(folder: Path) -> list[str]:
    """Return the records that stand at the sink."""
    objects = (folder / "lake").glob("[!.]*/**/web_events-*")  # what begins with a dot is the sink's own
    return sorted(line for path in objects for line in path.read_text().splitlines())


def complaint(service: Process) -> str:
    """Return what a service that ended said, which must be one line of its own and no traceback."""
    said = service.log.read_text()
    assert "Traceback" not in said, said
    (line,) = [line for line in said.splitlines() if line.startswith("firehose: ")]
    return line


async def test_what_was_accepted_before_a_stop_is_delivered_after_the_next_start(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    write_config(tmp_path, interval="15m")
    records = [json.dumps({"number": number}) for number in range(3)]
    async with running(tmp_path) as service:
        await is_ready(http, service)
        assert await get(http, f"{service.url}/healthz") == (200, "ok")
        assert (await put(http, service, *records))["accepted"] == 3
        status, took_s = await service.terminate()
        assert status == 0, tail(service.log)
        assert took_s < STOP_S
    assert delivered(tmp_path) == [], "buffered for 15 minutes, so a stop delivered it in a hurry"
    assert not (service.data_dir / "service.json").exists()
    write_config(tmp_path, interval="1s")
    async with running(tmp_path) as service:
        await service.until(lambda: delivered(tmp_path) == records, "delivery")
        assert (await service.terminate())[0] == 0
    assert delivered(tmp_path) == records


async def test_port_0_takes_a_free_port(tmp_path: Path) -> None:
    write_config(tmp_path)
    async with running(tmp_path) as service:
        assert not service.url.endswith((":4573", ":0"))


async def test_every_log_line_is_json(tmp_path: Path) -> None:
    write_config(tmp_path)
    async with running(tmp_path) as service:
        await service.until(lambda: "service_started" in service.log.read_text(), "start")
        await service.terminate()
    events = [json.loads(line)["event"] for line in service.log.read_text().splitlines()]
    assert {"service_started", "service_stopped"} <= set(events)


async def test_a_second_process_is_refused_and_does_no_harm(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    write_config(tmp_path)
    async with running(tmp_path) as first:
        second_folder = tmp_path / "second"
        second_folder.mkdir()
        write_config(second_folder)
        second = Process(second_folder, "--data-dir", str(first.data_dir))
        status, _ = await second.ends()
        assert status == 1
        assert f"{first.data_dir} is in use by process {first.process.pid}; stop it first" in complaint(second)
        await is_ready(http, first)
        await put(http, first, "still here")


async def test_a_port_in_use_is_told_and_the_directory_stays_free(tmp_path: Path) -> None:
    write_config(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        service = Process(tmp_path, "--port", str(port))
        status, _ = await service.ends()
    assert status == 1
    assert f"cannot listen on 127.0.0.1:{port}" in complaint(service)
    assert "address already in use" in complaint(service)
    async with running(tmp_path, "--log-style", "plain"):
        pass


@pytest.mark.parametrize("place", ["a file stands there", "nobody may write there"])
async def test_a_data_directory_that_cannot_be_made_is_told(tmp_path: Path, place: str) -> None:
    write_config(tmp_path)
    (tmp_path / "file").touch()
    # /sys refuses root as well
    data_dir = tmp_path / "file" / "data" if place == "a file stands there" else Path("/sys/firehose")
    service = Process(tmp_path, "--data-dir", str(data_dir))
    assert (await service.ends())[0] == 1
    assert f"{data_dir} cannot be used as data directory" in complaint(service)


async def test_an_open_address_without_credentials_is_refused(tmp_path: Path) -> None:
    write_config(tmp_path)
    service = Process(tmp_path, "--host", "0.0.0.0")
    assert (await service.ends())[0] == 1
    assert "refusing to listen on 0.0.0.0" in complaint(service)
    assert not service.data_dir.exists() or not (service.data_dir / "state.db").exists()


@pytest.mark.parametrize("moment", ["lock", "log"])
async def test_sigterm_during_the_start_ends_it_and_the_next_start_works(tmp_path: Path, moment: str) -> None:
    write_config(tmp_path)
    service = Process(tmp_path)
    try:
        await service.until((service.data_dir / moment).exists, moment)
        status, took_s = await service.terminate()
    finally:
        stop(service.process)
    # before its handler stands the signal itself ends the process: to systemd and to Docker both are a clean stop
    assert status in (0, -signal.SIGTERM), tail(service.log)
    assert took_s < STOP_S
    assert "Traceback" not in service.log.read_text()
    async with running(tmp_path):
        pass


async def test_sigint_stops_as_sigterm_does(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    write_config(tmp_path)
    async with running(tmp_path) as service:
        await is_ready(http, service)
        service.process.send_signal(signal.SIGINT)
        assert (await service.ends())[0] == 0
    assert "Traceback" not in service.log.read_text()


async def test_commands_reach_the_service_directly_whatever_proxy_is_set(tmp_path: Path) -> None:
    write_config(tmp_path)
    environment = {**os.environ, "http_proxy": "http://127.0.0.1:9", "no_proxy": ""}
    async with running(tmp_path) as service:
        command = [COMMAND, "status", "--json", "--data-dir", service.data_dir]
        done = await asyncio.to_thread(subprocess.run, command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert [stream["state"] for stream in json.loads(done.stdout)["streams"]] == ["delivering"]


class SlowPut:
    """A put whose body stops in the middle."""

    async def begin(self, service: Process) -> None:
        port = int(service.url.rpartition(":")[2])
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", port)
        head = "POST /streams/web_events/records HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 10\r\n\r\n"
        self._writer.write(head.encode() + b"slow ")
        await self._writer.drain()

    async def end(self) -> bytes:
        """Send the rest and return the answer; b"" where the service hung up."""
        self._writer.write(b"put.\n")
        try:
            return await self._reader.read()
        except ConnectionError:
            return b""

    def close(self) -> None:
        self._writer.close()


@pytest.fixture
async def slow_put() -> AsyncIterator[SlowPut]:
    found = SlowPut()
    yield found
    found.close()


async def test_a_producer_that_stalls_does_not_hold_up_the_stop(
    tmp_path: Path, http: aiohttp.ClientSession, slow_put: SlowPut
) -> None:
    write_config(tmp_path)
    async with running(tmp_path) as service:
        await is_ready(http, service)
        await slow_put.begin(service)
        await is_ready(http, service)  # answered after the head of the put was taken up
        status, took_s = await service.terminate()
        assert status == 0, tail(service.log)
        assert took_s < STOP_S
        assert b"200 OK" not in await slow_put.end()


async def test_while_it_drains_probes_tell_so_and_what_was_begun_is_finished(
    tmp_path: Path, http: aiohttp.ClientSession, slow_put: SlowPut
) -> None:
    write_config(tmp_path)
    async with running(tmp_path) as service:
        await is_ready(http, service)
        url = service.url
        await slow_put.begin(service)
        await is_ready(http, service)
        service.process.send_signal(signal.SIGTERM)
        found = (200, "ok")
        while found == (200, "ok"):
            found = await get(http, f"{url}/readyz")
        assert found == (503, "stopping")
        assert await get(http, f"{url}/healthz") == (200, "ok")
        async with http.post(f"{url}/streams/web_events/records", data="late") as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        async with http.post(url, data="{}", headers={"X-Amz-Target": "Firehose_20150804.PutRecord"}) as answer:
            assert (answer.status, answer.headers["x-amzn-ErrorType"]) == (503, "ServiceUnavailableException")
        assert (await slow_put.end()).startswith(b"HTTP/1.1 200 OK")
        assert (await service.ends())[0] == 0
    async with running(tmp_path) as service:
        await service.until(lambda: delivered(tmp_path) == ["slow put."], "delivery")


async def test_systemd_is_told_when_the_service_is_ready_and_when_it_stops(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    write_config(tmp_path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(str(tmp_path / "notify"))
        channel.settimeout(START_S)
        async with running(tmp_path, NOTIFY_SOCKET=str(tmp_path / "notify")) as service:
            assert await asyncio.to_thread(channel.recv, 4_096) == b"READY=1"
            assert await get(http, f"{service.url}/readyz") == (200, "ok")
            assert (await service.terminate())[0] == 0
            assert await asyncio.to_thread(channel.recv, 4_096) == b"STOPPING=1"
