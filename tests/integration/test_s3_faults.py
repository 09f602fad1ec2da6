"""What goes wrong at an S3 destination, by a proxy in front of a real server: nothing is lost, nothing lands twice."""

from __future__ import annotations

import dataclasses
import http.client
import random
from collections import Counter
from contextlib import closing
from itertools import pairwise
from urllib.parse import urlsplit

import pytest

from tests.daemon import until
from tests.integration.s3_world import STREAM, World, on_both, on_moto
from tests.services.fault_proxy import Answer, CutAnswer, Fault, LoseReply, Refuse, Reset, Trickle

pytestmark = pytest.mark.integration

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


# --- what HEAD could not tell ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "theirs", "code"), [(400, "ExpiredToken", "S3.InvalidToken"), (503, "SlowDown", "S3.SlowDown")]
)
def test_a_store_without_conditions_shows_the_code_too(world: World, status: int, theirs: str, code: str) -> None:
    world.start_well()
    world.proxy.fault = fault = Answer(status=status, code=theirs)
    world.put()
    world.struck(fault, 3)
    world.shows(code, 2)
