"""`audit --deep`: what somebody did to objects after they were delivered is found and named."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import pytest

from firehose.errors import InvalidError
from firehose.operations import objects
from firehose.service import Service
from tests.service_world import ServiceWorld, ask, put, runner_of


async def deep(service: Service, **parameters: Any) -> dict[str, Any]:
    """Look at all objects, call by call."""
    found: dict[str, Any] = await ask(service, "audit_objects", **parameters)
    steps = 1
    while (cursor := found.pop("cursor")) is not None:
        more = await ask(service, "audit_objects", **parameters, cursor=cursor)
        found = {name: found.get(name, type(value)()) + value for name, value in more.items() if name != "cursor"} | {
            "cursor": more["cursor"]
        }
        steps += 1
    return found | {"steps": steps}


def objects_of(world: ServiceWorld, prefix: str = "clicks") -> list[Path]:
    return sorted(path for path in (world.lake / prefix).rglob("*") if path.is_file())


async def delivered(world: ServiceWorld, service: Service, *batches: list[bytes]) -> None:
    for batch in batches:
        await put(service, "clicks", *batch)
        await world.delivered(service)


@pytest.mark.parametrize("wait_ms", [0, 60_000])
async def test_objects_that_stand_as_they_were_delivered_are_counted(world: ServiceWorld, wait_ms: int) -> None:
    async with world.running(clicks=world.checked(), other=world.config("other")) as service:
        await delivered(world, service, [b"1", b"2"], [b"3", b"bad"], [b"4"])
        await put(service, "other", b"x")
        await world.delivered(service)
        found = await deep(service, wait_ms=wait_ms)
        sizes = [
            path.stat().st_size for path in world.lake.rglob("*") if path.is_file() and ".firehose" not in str(path)
        ]
        assert (found["objects"], found["records"], found["body_bytes"]) == (5, 6, sum(sizes))
        assert (found["differ"], found["elsewhere"], found["differences"], found["problems"]) == (0, 0, [], [])
        assert found["steps"] == (6 if wait_ms == 0 else 1)
        assert (await deep(service, stream="other"))["objects"] == 1


async def test_what_is_missing_cut_or_changed_is_named(world: ServiceWorld) -> None:
    async with world.running(clicks=world.config()) as service:
        await delivered(world, service, [b"1"], [b"22"], [b"333"], [b"4444"])
        by_body = {path.read_bytes(): path for path in objects_of(world)}
        gone, cut, changed = by_body[b"1\n"], by_body[b"22\n"], by_body[b"333\n"]
        gone.unlink()
        cut.write_bytes(b"2")
        changed.write_bytes(b"3x3\n")
        found = await deep(service)
        told = {each["url"]: each["what"] for each in found["differences"]}
        assert told[gone.as_uri()] == "is not there"
        assert told[cut.as_uri()] == "has 1 bytes, 3 were delivered"
        assert told[changed.as_uri()].startswith("has SHA-256 ") and told[changed.as_uri()].endswith(" was delivered")
        assert (found["differ"], found["objects"]) == (3, 3)
        assert {(each["stream"], each["outlet"]) for each in found["differences"]} == {("clicks", "destination")}


async def test_failed_records_are_missed_until_they_are_replayed(world: ServiceWorld) -> None:
    async with world.running(clicks=world.checked()) as service:
        await delivered(world, service, [b"bad 1"])
        (path,) = world.error_objects()
        aside = path.rename(world.folder / "aside")
        found = await deep(service)
        assert [(each["outlet"], each["what"]) for each in found["differences"]] == [("failed", "is not there")]
        aside.rename(path)
        world.mark.touch()
        assert (await ask(service, "replay"))["replayed"] == 1
        await world.delivered(service)
        path.unlink()
        assert (await deep(service))["differ"] == 0


async def test_encrypted_objects_are_compared_without_their_key(world: ServiceWorld) -> None:
    key = world.folder / "key"
    key.touch(0o600)
    key.write_bytes(secrets.token_bytes(32))
    encrypted = world.config(encryption={"type": "client_side", "key_file": str(key)}, compression="gzip")
    async with world.running(clicks=encrypted) as service:
        await delivered(world, service, [b"secret"])
        assert (await deep(service))["differ"] == 0
    (world.lake / ".firehose-sink" / "metadata").rename(world.folder / "elsewhere")
    async with world.running(clicks=encrypted) as service:
        (lost,) = (await deep(service))["differences"]
        assert "metadata" in lost["what"]
    (world.folder / "elsewhere").rename(world.lake / ".firehose-sink" / "metadata")
    key.write_bytes(secrets.token_bytes(32))
    async with world.running(clicks=encrypted) as service:
        assert (await deep(service))["objects"] == 1


async def test_objects_of_a_former_sink_are_counted_and_left_alone(world: ServiceWorld) -> None:
    async with world.running(clicks=world.config()) as service:
        await delivered(world, service, [b"1"])
    sink = {"type": "file", "path": str(world.folder / "elsewhere"), "prefix": "clicks/"}
    async with world.running(clicks=world.config(sink=sink)) as service:
        await delivered(world, service, [b"2"])
        found = await deep(service)
        assert (found["objects"], found["elsewhere"], found["differ"]) == (1, 1, 0)


async def test_a_sink_that_cannot_be_read_is_a_problem_of_its_stream_alone(world: ServiceWorld) -> None:
    async with world.running(clicks=world.config(), other=world.config("other")) as service:
        await delivered(world, service, [b"1"])
        await put(service, "other", b"x")
        await world.delivered(service)
        (path,) = objects_of(world)
        path.unlink()
        path.parent.rmdir()
        path.parent.write_bytes(b"a file where a folder was")
        found = await deep(service)
        assert [each["stream"] for each in found["problems"]] == ["clicks"] and found["objects"] == 1


async def test_objects_that_are_refused_do_not_hide_those_that_are_gone(world: ServiceWorld) -> None:
    async with world.running(clicks=world.config()) as service:
        await delivered(world, service, *([b"%d" % number] for number in range(7)))
        first, second, *others = objects_of(world)
        for path in (first, second):
            path.unlink()
            path.mkdir()  # what is there cannot be read
        others[0].unlink()
        found = await deep(service)
        assert (found["objects"], found["differ"], len(found["problems"])) == (4, 1, 2)
        assert found["differences"][0]["key"].endswith(others[0].name)
        for path in others[1:]:
            path.unlink()
            path.mkdir()
        found = await deep(service)
        assert "objects behind it were not looked at" in found["problems"][-1]["message"]


async def test_differences_come_in_portions(world: ServiceWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "MOST_NAMED", 2)
    monkeypatch.setattr(objects, "PAGE", 3)
    async with world.running(clicks=world.config()) as service:
        await delivered(world, service, *([b"%d" % number] for number in range(7)))
        for path in objects_of(world):
            path.unlink()
        found = await deep(service)
        assert (found["differ"], len({each["key"] for each in found["differences"]}), found["steps"]) == (7, 7, 4)


@pytest.mark.parametrize("cursor", ["x", [], ["a", "b"], [1, 2, 3]])
async def test_a_strange_cursor_is_refused(world: ServiceWorld, cursor: Any) -> None:
    async with world.running(clicks=world.config()) as service:
        with pytest.raises(InvalidError, match="cursor"):
            await ask(service, "audit_objects", cursor=cursor)


async def test_a_manifest_says_what_its_object_is_made_of(world: ServiceWorld) -> None:
    async with world.running(clicks=world.config()) as service:
        await delivered(world, service, [b"1", b"2"])
        (manifest,) = await service.state.manifests(runner_of(service).record.uid, "destination")
        intent = manifest.intent
        assert (len(intent.rows), intent.body_bytes, len(intent.checksum)) == (2, 4, 64)
        assert intent.facts["records"] == 2 and intent.facts["format"] == "records"
