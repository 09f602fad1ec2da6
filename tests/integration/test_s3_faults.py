"""What goes wrong at an S3 destination, by a proxy in front of a real server: nothing is lost, and nothing lands twice.

S3Proxy checks signatures, and its multipart uploads ignore conditions, so the sink takes it for `overwrite`; moto keeps
them, and is `conditional`: the two ways in which an object is created.
"""

from __future__ import annotations

import dataclasses
import http.client
import os
import random
import secrets
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest

from tests.daemon import Daemon, until
from tests.services.fault_proxy import (
    Answer,
    CutAnswer,
    Fault,
    FaultProxy,
    LoseReply,
    Refuse,
    Reset,
    Trickle,
)

pytestmark = pytest.mark.integration

S3PROXY = pytest.param("s3proxy", marks=pytest.mark.xdist_group("s3proxy"))
MOTO = pytest.param("moto", marks=pytest.mark.xdist_group("moto"))

STREAM = """
streams:
  clicks:
    buffer: {interval: 0s}
    sink: {type: s3, bucket: BUCKET, endpoint_url: "ENDPOINT", prefix: clicks/MORE}
"""

#: An object of 12 records of 1 MB goes in three parts.
MULTIPART = STREAM.replace("interval: 0s", "interval: 1m, size: 11MiB").replace(
    "MORE", ", part_size: 5MiB, multipart_above: 5MiBMORE"
)


class World:
    """A service, an S3 server, and the proxy between them."""

    def __init__(self, folder: Path, endpoint: str) -> None:
        self.s3 = boto3.Session().client("s3", endpoint_url=endpoint)
        self.bucket = f"faults-{secrets.token_hex(4)}"
        self.s3.create_bucket(Bucket=self.bucket)
        self.proxy = FaultProxy(endpoint)
        #: What the service takes for the store.
        self.endpoint = self.proxy.endpoint
        self.daemon = Daemon(folder, None)
        self.sent: list[bytes] = []

    def start(self, config: str = STREAM, **options: str) -> None:
        """Start the service; `options` are more of the sink's."""
        more = "".join(f", {name}: {value}" for name, value in options.items())
        self.daemon.config.write_text(
            config.replace("MORE", more).replace("BUCKET", self.bucket).replace("ENDPOINT", self.endpoint)
        )
        self.daemon.start()

    def start_well(self, config: str = STREAM, **options: str) -> None:
        """Start the service and let it deliver once, so that it has asked the store all it wants to know of it."""
        self.start(config, **options)
        self.put()
        self.flush()

    def flush(self) -> None:
        """Return once all is delivered; what waits for its next attempt is tried at once."""
        flushed = self.daemon.run("flush", "clicks")
        assert flushed.returncode == 0, flushed

    def put(self, count: int = 20, size: int = 100) -> None:
        """Send new records, which must be acknowledged."""
        records = [b"%d-" % (len(self.sent) + each) for each in range(count)]
        records = [each + secrets.token_hex(size // 2).encode()[: size - len(each)] for each in records]
        at_once = max(1, min(count, 3_000_000 // size))
        for start in range(0, count, at_once):
            self.daemon.put(*records[start : start + at_once])
        self.sent += records

    def struck(self, fault: Fault, times: int = 1) -> None:
        """Return once so many requests met the fault."""
        until(lambda: self.proxy.struck(fault) >= times, f"{fault} {times} times")

    def status(self) -> Any:
        """Return what `status` says of the stream."""
        return next(each for each in self.daemon.ask("status")["streams"] if each["name"] == "clicks")

    def shows(self, code: str, patience_s: float = 10) -> None:
        """Return once status and metrics say that deliveries fail with this code."""

        def is_shown() -> bool:
            found = self.status()
            error = found["last_error"]
            return bool(error and error["code"] == code and found["state"] == "failing" and self.failures(code))

        try:
            until(is_shown, code, patience_s)
        except AssertionError as error:
            error.add_note(f"{self.status()}\n{self.metrics()}")
            raise

    def metrics(self) -> list[str]:
        """Return the metrics of failed deliveries."""
        with urllib.request.urlopen(f"{self.daemon.url}/metrics") as answer:
            lines = answer.read().decode().splitlines()
        return [line for line in lines if line.startswith("firehose_delivery_failures_total{")]

    def failures(self, code: str) -> bool:
        """Return whether the metrics tell of failed deliveries with this code."""
        return any(f'code="{code}"' in line and 'stream="clicks"' in line for line in self.metrics())

    def keys(self, prefix: str = "") -> list[str]:
        """Return the keys of all objects."""
        listed = self.s3.list_objects_v2(Bucket=self.bucket, Prefix=prefix)
        assert not listed["IsTruncated"]
        return [each["Key"] for each in listed.get("Contents", [])]

    def landed(self, prefix: str = "clicks/") -> Counter[bytes]:
        """Return the records in the bucket."""
        bodies = [self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read() for key in self.keys(prefix)]
        return Counter(line for body in bodies for line in body.splitlines())

    def uploads(self) -> list[Any]:
        """Return the multipart uploads that were begun and never ended."""
        found: list[Any] = self.s3.list_multipart_uploads(Bucket=self.bucket).get("Uploads", [])
        return found

    def drains(self) -> None:
        """Repair the destination: what was acknowledged is there, all of it and once, without a restart."""
        self.proxy.fault = None
        self.flush()
        self.is_whole()

    def is_whole(self) -> None:
        """Compare what was acknowledged with what landed, record by record."""
        assert self.landed() == Counter(self.sent)
        assert self.daemon.total() == {"accepted": len(self.sent), "delivered": len(self.sent)}
        assert all(key.startswith("clicks/2") for key in self.keys()), self.keys()  # no probe was left
        assert self.status()["state"] == "delivering"
        assert self.status()["last_error"] is None


@pytest.fixture(params=[S3PROXY])
def world(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    endpoint = request.getfixturevalue(request.param)
    if request.param == "s3proxy":
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", endpoint.access_key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", endpoint.secret_key)
        endpoint = endpoint.endpoint
    found = World(tmp_path, endpoint)
    with found.proxy.running():
        yield found
        found.daemon.close()


on_both = pytest.mark.parametrize("world", [S3PROXY, MOTO], indirect=True)
on_moto = pytest.mark.parametrize("world", [MOTO], indirect=True)


# --- small objects ---------------------------------------------------------------------------------------------------

#: What a fault is shown as. Codes that HEAD could not tell are those of the put: see the end of this file.
FAULTS: dict[str, tuple[Fault, str]] = {
    "refused": (Refuse(), "S3.ServiceUnavailable"),
    "500": (Answer(status=500, code="InternalError"), "S3.InternalError"),
    "503": (Answer(status=503, code="SlowDown", on=("put",)), "S3.SlowDown"),
    "412": (Answer(status=412, code="PreconditionFailed", on=("put",)), "S3.ConditionalRequestConflict"),
    "reset": (Reset(after_bytes=300, on=("put",)), "S3.ServiceUnavailable"),
    "expired": (Answer(status=400, code="ExpiredToken", on=("put",)), "S3.InvalidToken"),
    "denied": (Answer(status=403, code="AccessDenied"), "S3.AccessDenied"),
    "no bucket": (Answer(status=404, code="NoSuchBucket"), "S3.NoSuchBucket"),
}


@pytest.mark.parametrize(("fault", "code"), FAULTS.values(), ids=FAULTS)
def test_records_wait_while_the_destination_fails_and_land_once_when_it_is_back(
    world: World, fault: Fault, code: str
) -> None:
    world.start_well()
    world.proxy.fault = fault
    for _ in range(3):
        world.put()  # ingest goes on
    world.shows(code)
    assert world.status()["backlog_records"] == 60
    assert len(world.landed()) == 20
    world.put()
    world.drains()


def test_access_that_is_granted_later_heals_without_a_restart(world: World) -> None:
    """What a store makes of two writers is found out by then, and not by the errors."""
    world.proxy.fault, code = FAULTS["denied"]
    world.start()
    world.put()
    world.shows(code)
    world.drains()


def test_a_bucket_that_is_made_later_heals_without_a_restart(world: World) -> None:
    world.bucket += "-later"
    world.start()
    world.put()
    world.shows("S3.NoSuchBucket")
    world.s3.create_bucket(Bucket=world.bucket)
    world.drains()


def test_a_broken_bucket_does_not_hold_up_the_streams_of_others(world: World) -> None:
    other = world.bucket + "-other"
    world.s3.create_bucket(Bucket=other)
    world.start(STREAM + STREAM.replace("streams:\n  clicks", "  visits").replace("BUCKET", other))
    world.proxy.fault = Answer(status=403, code="AccessDenied", path=f"/{world.bucket}/")
    world.put()
    world.daemon.put(b"one", b"two", stream="visits")
    world.shows("S3.AccessDenied")
    flushed = world.daemon.run("flush", "visits")
    assert flushed.returncode == 0, flushed
    assert world.daemon.total("visits") == {"accepted": 2, "delivered": 2}
    world.drains()


@on_both
def test_an_object_whose_reply_was_lost_is_found_again(world: World) -> None:
    world.start_well()
    # on moto the second put is told 412, which is lost too
    world.proxy.fault = lost = LoseReply(on=("put",), times=2)
    world.put()
    world.struck(lost)
    world.daemon.delivered()  # with no help
    world.drains()
    assert len(world.keys()) == 2


@on_both
def test_an_object_whose_reply_was_lost_is_found_again_after_a_kill(world: World) -> None:
    world.start_well()
    world.proxy.fault = lost = LoseReply(on=("put",))
    world.put()
    world.struck(lost)
    world.daemon.end()
    world.proxy.fault = None
    world.daemon.start()
    world.drains()
    assert len(world.keys()) == 2


def test_a_slow_destination_holds_up_nobody(world: World) -> None:
    world.start_well()
    world.proxy.fault = slow = Trickle(bytes_per_s=1_000, on=("put",))
    world.put(1_000, 100)  # 100 seconds' worth
    world.struck(slow)
    for _ in range(3):
        world.put()
    assert world.status()["backlog_records"] == 1_060  # none of them
    world.drains()


def test_attempts_come_slower_and_slower_and_not_in_step(world: World) -> None:
    """0.2 s, doubled each time, of which a random part between half and all is waited."""
    world.start(conditional="always")  # one request an attempt
    world.proxy.fault = fault = Answer(status=500, code="InternalError")
    for number in range(2):
        world.put()
        world.struck(fault, number + 1)
    attempts: dict[str, list[float]] = {}

    def is_enough() -> bool:
        attempts.clear()
        for each in list(world.proxy.seen):
            attempts.setdefault(each.target, []).append(each.at_s)
        return len(attempts) == 2 and all(len(times) >= 5 for times in attempts.values())

    until(is_enough, "the fifth attempt")
    shares = []
    for times in attempts.values():
        waits = [later - earlier for earlier, later in pairwise(times[:5])]
        assert (waits[-1] / waits[0]) ** (1 / 3) > 1.2, waits
        for number, wait_s in enumerate(waits):
            shares.append(wait_s / (0.2 * 2**number))
            assert shares[-1] > 0.49, waits
            assert wait_s < 0.2 * 2**number + 1, waits  # a busy machine's second
    assert max(shares) - min(shares) > 0.02, shares
    world.drains()


def test_a_name_that_does_not_resolve_holds_up_nothing_but_deliveries(world: World) -> None:
    """Names cannot be broken and mended without the machine's rights: the service is started again instead."""
    world.endpoint = "http://no-such-host.invalid:9000"
    world.start()
    world.put()
    world.shows("S3.ServiceUnavailable")
    assert "no-such-host.invalid" in world.status()["last_error"]["message"]
    world.daemon.end()
    world.endpoint = world.proxy.endpoint
    world.start()
    world.drains()


@on_both
def test_any_mix_of_faults_loses_nothing_and_doubles_nothing(world: World) -> None:
    chance = random.Random(20261121)
    kinds = [*(fault for fault, _ in FAULTS.values() if not isinstance(fault, Refuse)), LoseReply(on=("put",))]
    world.start_well()
    for _ in range(4):
        for kind in chance.sample(kinds, 4):
            world.proxy.fault = fault = dataclasses.replace(kind)  # another one, so that it has struck nobody yet
            world.put()
            world.struck(fault)
        world.put()
        world.drains()


# --- large objects, in parts -----------------------------------------------------------------------------------------

PART_FAULTS: dict[str, Fault] = {
    "no beginning": Answer(status=503, code="SlowDown", on=("begin",)),
    "part reset": Reset(after_bytes=1_000_000, on=("part",)),
    "part reply lost": LoseReply(on=("part",), times=2),
    "end fails with 200": Answer(status=200, code="InternalError", on=("complete",)),
    "end conflicts": Answer(status=412, code="PreconditionFailed", on=("complete",)),
    "end reply lost": LoseReply(on=("complete",), times=2),
}


@pytest.mark.parametrize("fault", PART_FAULTS.values(), ids=PART_FAULTS)
def test_an_object_in_parts_lands_once_whatever_becomes_of_its_requests(world: World, fault: Fault) -> None:
    lands_in_parts(world, fault)


@on_moto
@pytest.mark.parametrize("name", ["part reset", "end reply lost"])
def test_an_object_in_parts_lands_once_where_its_end_is_conditional(world: World, name: str) -> None:
    lands_in_parts(world, PART_FAULTS[name])


def lands_in_parts(world: World, fault: Fault) -> None:
    world.start_well(MULTIPART)
    world.proxy.fault = fault
    world.put(12, 1_000_000)
    world.struck(fault)
    world.put(3)
    world.drains()
    large = world.s3.list_objects_v2(Bucket=world.bucket)["Contents"]
    assert sum(each["Size"] > 10_000_000 for each in large) == 1
    assert not world.uploads()


# --- what is read back -----------------------------------------------------------------------------------------------

CHECKED = """
functions:
  check: {path: check.py, timeout: 30s}
"""


def test_failed_records_whose_objects_are_cut_short_are_not_taken_for_all(world: World) -> None:
    failing = STREAM.replace("    buffer", "    transforms: [{type: lambda, function: check}]\n    buffer")
    world.start(CHECKED + failing + '    failed: {prefix: "clicks-failed/!{firehose:error-output-type}/"}\n')
    bad = [b"bad %d" % number for number in range(50)]
    world.daemon.put(*bad)
    world.put()
    world.daemon.delivered()
    world.proxy.fault = CutAnswer(after_bytes=5_000, on=("get",))
    for words in (("failed", "ls"), ("replay",), ("audit", "--deep")):
        answer = world.daemon.run(*words)
        assert answer.returncode == 1, answer
        assert b"not reachable" in answer.stderr and b"Traceback" not in answer.stderr, answer
        assert words != ("replay",) or answer.stdout.startswith(b"0 records replayed"), answer
    world.proxy.fault = None
    assert len(world.daemon.ask("failed", "ls")["records"]) == 50
    (world.daemon.folder / "repaired").touch()
    assert world.daemon.ask("replay")["replayed"] == 50
    world.daemon.delivered()
    assert world.landed() == Counter(world.sent + bad)
    assert world.daemon.total() == {"accepted": 70, "delivered": 70}


# --- the proxy -------------------------------------------------------------------------------------------------------


@on_moto
def test_the_proxy_passes_on_bodies_of_a_length_that_is_not_told(world: World) -> None:
    """No client here sends such a body by itself; moto takes one without a signature."""
    world.s3.put_bucket_acl(Bucket=world.bucket, ACL="public-read-write")
    address = urlsplit(world.proxy.endpoint).netloc
    with closing(http.client.HTTPConnection(address)) as client:
        for number in range(2):  # the connection is kept
            pieces = [b"one", b"x" * 100_000, b"two"]
            client.request("PUT", f"/{world.bucket}/{number}", iter(pieces), encode_chunked=True)
            answer = client.getresponse()
            assert answer.status == 200, answer.read()
            answer.read()
    bodies = [world.s3.get_object(Bucket=world.bucket, Key=key)["Body"].read() for key in ("0", "1")]
    assert bodies == [b"".join(pieces)] * 2


# --- what does not hold yet ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "theirs", "code"), [(400, "ExpiredToken", "S3.InvalidToken"), (503, "SlowDown", "S3.SlowDown")]
)
def test_a_store_without_conditions_shows_the_code_too(world: World, status: int, theirs: str, code: str) -> None:
    world.start_well()
    world.proxy.fault = fault = Answer(status=status, code=theirs)
    world.put()
    world.struck(fault, 3)
    world.shows(code, 2)


def test_credentials_that_are_put_right_in_their_file_heal_without_a_restart(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, right = os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
    file = world.daemon.folder / "credentials"
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))

    def write(secret: str) -> None:
        file.write_text(f"[default]\naws_access_key_id={key}\naws_secret_access_key={secret}\n")

    write("old")
    world.start()
    world.put()
    world.shows("S3.AccessDenied")
    write(right)
    flushed = world.daemon.run("flush", "clicks", "--timeout", "4s")
    assert flushed.returncode == 0, flushed
    world.is_whole()


def test_an_upload_that_could_not_be_aborted_is_told_of(world: World) -> None:
    world.start_well(MULTIPART)
    world.proxy.fault = Answer(status=500, code="InternalError", on=("part", "abort"))
    world.put(12, 1_000_000)
    world.shows("S3.InternalError")
    world.proxy.fault = None
    world.flush()
    assert all(each["UploadId"] in world.daemon.told() for each in world.uploads())
