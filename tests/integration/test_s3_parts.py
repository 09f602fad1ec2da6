"""Large objects, sent in parts: whatever becomes of their requests, they land once."""

from __future__ import annotations

import pytest

from tests.integration.s3_world import MULTIPART, World, on_moto
from tests.services.fault_proxy import Answer, Fault, LoseReply, Reset

pytestmark = pytest.mark.integration

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


def test_an_upload_that_could_not_be_aborted_is_told_of(world: World) -> None:
    world.start_well(MULTIPART)
    world.proxy.fault = Answer(status=500, code="InternalError", on=("part", "abort"))
    world.put(12, 1_000_000)
    world.shows("S3.InternalError")
    world.proxy.fault = None
    world.flush()
    assert all(each["UploadId"] in world.daemon.told() for each in world.uploads())
