"""What outlives its retention is given up, loudly; time in which nothing could be delivered does not count."""

from __future__ import annotations

import json
import time
from collections import Counter

import pytest

from tests.daemon import until
from tests.integration.outside import HOUR_S, Outside
from tests.integration.s3_world import STREAM, World, on_moto
from tests.services.fault_proxy import Answer, Fault, LoseReply

pytestmark = pytest.mark.integration

#: The retention where nothing else is said.
DAY_S = 24 * HOUR_S

#: So small that most records wait unread in the log: an object is what one put brings, 16 are made, and little is held.
NARROW = STREAM.replace("interval: 0s", "interval: 0s, size: 1KiB")

SHORT = NARROW.replace("    buffer:", "    source: {type: direct_put, retention: 3s}\n    buffer:")


def away(world: World, puts: int) -> Fault:
    """Let the destination take nothing any more; return once so many puts wait, and deliveries fail."""
    world.proxy.fault = fault = Answer(status=503, code="SlowDown", on=("put",))
    for _ in range(puts):
        world.put()
    world.shows("S3.SlowDown")
    assert world.status()["backlog_records"] == 20 * puts
    return fault


def is_tried(world: World, fault: Fault) -> None:
    """Return once some more attempts failed."""
    before = world.failed()
    world.struck(fault, world.proxy.struck(fault) + 3)
    until(lambda: world.failed() >= before + 3, "three failures")


def expired(world: World) -> int:
    """Return how many records were given up since the service started, as the metrics say."""
    return world.count("expired_records_total")


def told(world: World) -> list[str]:
    """Return the lines of the log that tell of it."""
    return [line for line in world.daemon.told().splitlines() if "records_expired" in line]


def nothing_expired(world: World) -> None:
    assert expired(world) == 0 and not told(world)


def gave_up(world: World, given_up: int) -> None:
    """Compare record by record: each was given up or has landed, and landed once; log, metrics and account say so."""
    landed = world.landed()
    assert landed <= Counter(world.sent)
    assert landed.total() == len(world.sent) - given_up
    assert world.daemon.total() == {"accepted": len(world.sent), "delivered": landed.total(), "expired": given_up}
    assert expired(world) == given_up
    assert all('"level": "error"' in line and '"stream": "clicks"' in line for line in told(world))
    assert sum(json.loads(line)["records"] for line in told(world)) == given_up


def nothing_expires_in_the_next_day(world: World, outside: Outside, fault: Fault) -> None:
    """Let nearly a retention pass; then the destination heals, and all is delivered."""
    is_tried(world, fault)
    outside.pass_time(DAY_S - 600)
    is_tried(world, fault)
    nothing_expired(world)
    world.drains()
    nothing_expired(world)


def test_objects_are_given_up_when_their_retention_ends(world: World, outside: Outside) -> None:
    world.start_well()
    fault = away(world, 3)
    outside.pass_time(DAY_S - 600)
    is_tried(world, fault)
    nothing_expired(world)
    outside.pass_time(HOUR_S + 660)  # an object is given up when the whole hour of its records is too old
    until(lambda: expired(world) == 60 and not world.status()["backlog_records"], "the end of the retention")
    gave_up(world, 60)
    away(world, 1)  # what comes now has all its time before it
    world.proxy.fault = None
    world.flush()
    gave_up(world, 60)
    assert world.landed().keys() >= set(world.sent[80:])
    assert world.status()["state"] == "delivering" and world.status()["last_error"] is None


def test_records_are_given_up_that_are_too_old_when_they_can_be_read(world: World) -> None:
    """They wait in the log behind those that cannot be delivered; no clock is set here."""
    world.start_well(SHORT)
    away(world, 20)
    put_s = time.monotonic()
    until(lambda: time.monotonic() > put_s + 3, "the youngest record's retention", 4)
    nothing_expired(world)
    world.proxy.fault = None
    world.flush()
    given_up = expired(world)
    assert 0 < given_up < 400
    gave_up(world, given_up)
    world.put()
    world.flush()
    gave_up(world, given_up)
    assert world.landed().keys() >= set(world.sent[:20] + world.sent[-20:])


def test_time_in_which_the_service_was_stopped_does_not_count(world: World, outside: Outside) -> None:
    world.start_well(NARROW)
    fault = away(world, 20)
    world.daemon.end()
    outside.pass_time(7 * DAY_S)
    world.daemon.start()
    nothing_expires_in_the_next_day(world, outside, fault)


def test_time_in_which_the_stream_was_paused_does_not_count(world: World, outside: Outside) -> None:
    world.start_well(NARROW)
    fault = away(world, 20)
    assert world.daemon.run("pause", "clicks").returncode == 0
    until(lambda: world.failed() == world.proxy.struck(fault), "the end of attempts that were under way")
    outside.pass_time(7 * DAY_S)
    world.put()
    assert world.status()["state"] == "paused"
    nothing_expired(world)
    assert world.daemon.run("resume", "clicks").returncode == 0
    nothing_expires_in_the_next_day(world, outside, fault)


@on_moto  # S3Proxy refuses a client whose clock is a day ahead
def test_an_object_whose_answer_was_lost_is_not_said_to_be_gone(world: World, outside: Outside) -> None:
    world.start_well()
    world.proxy.fault = lost = LoseReply(on=("put",))
    world.put()
    world.struck(lost)
    world.proxy.fault = Answer(status=503, code="SlowDown", on=("put",))
    world.shows("S3.SlowDown")
    outside.pass_time(26 * HOUR_S)
    until(lambda: not world.status()["backlog_records"])
    total = world.daemon.total()
    assert total["delivered"] == total["accepted"] == world.landed().total()
