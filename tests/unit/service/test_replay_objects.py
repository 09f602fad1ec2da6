"""Error objects that are gone, were edited, lie elsewhere or are encrypted: told, and nothing of them is believed."""

from __future__ import annotations

import secrets
from typing import Any

import pytest

from firehose.errors import NotFoundError
from firehose.service import Service
from firehose.service.events import EncryptionKeyChanged
from tests.service_world import ServiceWorld, ask, total
from tests.unit.service.replaying import fail, replay_all


async def _three_objects(world: ServiceWorld, service: Service) -> list[Any]:
    for record in (b"bad 0", b"bad 1", b"bad 2"):
        await fail(world, service, record, record + b" too")
    return world.error_objects()


async def test_an_object_that_was_removed_is_told_and_the_rest_goes_on(world: ServiceWorld) -> None:
    async with world.running(clicks=world.checked(), visits=world.checked("visits")) as service:
        paths = await _three_objects(world, service)
        await fail(world, service, b"bad", name="visits")
        paths[1].unlink()
        world.mark.touch()
        key = str(paths[1].relative_to(world.lake))
        for verb in ("failed_ls", "failed_stats", "replay"):
            answer = await ask(service, verb)
            (problem,) = answer["problems"]
            assert (problem["stream"], problem["key"], problem["code"]) == ("clicks", key, "File.NotFound")
            assert key in problem["message"]
            found = {
                "failed_ls": lambda answer: len(answer["records"]),
                "failed_stats": lambda answer: sum(each["records"] for each in answer["reasons"]),
                "replay": lambda answer: answer["replayed"],
            }
            assert found[verb](answer) == 5
        assert answer["done"], "what cannot be read is not waited for"
        with pytest.raises(NotFoundError, match=key):
            await ask(service, "failed_show", id=f"{key}#1")
        await world.delivered(service)
        assert (await total(service))["failed"] == 2, "those two are still failed"


@pytest.mark.parametrize("damage", ["not JSON", "a line twice", "a line of another stream", "raw data cut", "empty"])
async def test_an_object_that_was_edited_is_told_and_nothing_of_it_is_believed(
    world: ServiceWorld, damage: str
) -> None:
    async with world.running(clicks=world.checked(), visits=world.checked("visits")) as service:
        paths = await _three_objects(world, service)
        await fail(world, service, b"bad", name="visits")
        (other,) = world.error_objects("visits")
        first, second = paths[1].read_bytes().splitlines()
        lines = {
            "not JSON": [b"hello", second],
            "a line twice": [first, first],
            "a line of another stream": [other.read_bytes().splitlines()[0], second],
            "raw data cut": [first.replace(b'"rawData":"', b'"rawData":"*'), second],
            "empty": [b"", second],
        }[damage]
        paths[1].write_bytes(b"\n".join(lines) + b"\n")
        world.mark.touch()
        answer = await ask(service, "replay", stream="clicks")
        (problem,) = answer["problems"]
        assert problem["code"] == "IntegrityError" and paths[1].name in problem["message"]
        assert "line" in problem["message"]
        await world.delivered(service)
        landed = world.records()
        assert max(landed.values()) == 1, "nothing twice"
        assert set(landed) >= {b"bad 0", b"bad 0 too", b"bad 2", b"bad 2 too"}
        await total(service)


async def test_a_sink_that_moved_is_told(world: ServiceWorld) -> None:
    async with world.running(clicks=world.checked()) as service:
        await fail(world, service, b"bad")
    other = world.folder / "elsewhere"
    other.mkdir()
    moved = world.checked(sink={"type": "file", "path": str(other), "prefix": "clicks/"})
    async with world.running(clicks=moved) as service:
        (problem,) = (await ask(service, "failed_ls"))["problems"]
        assert (
            f"was written to {world.lake.as_uri()}, but failed records go to {other.as_uri()} now" in problem["message"]
        )
    back = world.checked(
        sink={"type": "file", "path": str(other), "prefix": "clicks/"},
        failed={"sink": {"type": "file", "path": str(world.lake)}},
    )
    async with world.running(clicks=back) as service:
        world.mark.touch()
        assert await replay_all(service) == 1


async def test_a_stream_whose_error_output_cannot_be_reached_does_not_hide_the_others(world: ServiceWorld) -> None:
    key = world.folder / "key"
    key.touch(0o600)
    key.write_bytes(secrets.token_bytes(32))
    encrypted = world.checked(encryption={"type": "client_side", "key_file": str(key)})
    async with world.running(clicks=encrypted, visits=world.checked("visits")) as service:
        await fail(world, service, b"bad 1")
        await fail(world, service, b"bad 2", name="visits")
        key.rename(world.folder / "lost")
        for verb in ("failed_ls", "failed_stats", "replay"):
            answer = await ask(service, verb)
            assert [each["stream"] for each in answer["problems"]] == ["clicks"], verb
            assert "key" in answer["problems"][0]["message"]
        assert answer["replayed"] == 1 and answer["done"]


# --- encryption ------------------------------------------------------------------------------------------------------


async def test_encrypted_failed_records_are_read_back_and_replayed(world: ServiceWorld) -> None:
    key = world.folder / "key"
    key.touch(0o600)
    key.write_bytes(secrets.token_bytes(32))
    encrypted = world.checked(encryption={"type": "client_side", "key_file": str(key)})
    async with world.running(clicks=encrypted) as service:
        await fail(world, service, b"bad secret", b"bad too")
        (path,) = world.error_objects()
        assert b"errorCode" not in path.read_bytes() and b"secret" not in path.read_bytes()
        records = (await ask(service, "failed_ls"))["records"]
        assert (await ask(service, "failed_show", id=records[0]["id"]))["text"] == "bad secret"
    former = key.read_bytes()
    async with world.running(clicks=encrypted) as service:
        await world.delivered(service)
    assert not world.telemetry.of(EncryptionKeyChanged)
    key.write_bytes(secrets.token_bytes(32))
    async with world.running(clicks=encrypted) as service:
        await world.until(lambda: world.telemetry.of(EncryptionKeyChanged), "the warning")
        answer = await ask(service, "replay")
        assert answer["replayed"] == 0 and answer["problems"][0]["code"] == "IntegrityError", "another key"
    assert world.telemetry.of(EncryptionKeyChanged) == [EncryptionKeyChanged("clicks", path.as_uri())]
    key.write_bytes(former)
    world.mark.touch()
    async with world.running(clicks=encrypted) as service:
        assert await replay_all(service) == 2, "the former key opens them"


async def test_encryption_may_be_switched_on_and_off_between(world: ServiceWorld) -> None:
    key = world.folder / "key"
    key.touch(0o600)
    key.write_bytes(secrets.token_bytes(32))
    encrypted = world.checked(encryption={"type": "client_side", "key_file": str(key)})
    async with world.running(clicks=encrypted) as service:
        await fail(world, service, b"bad 1")
    async with world.running(clicks=world.checked()) as service:
        await fail(world, service, b"bad 2")
        answer = await ask(service, "failed_ls")
        assert len(answer["records"]) == 1
        assert "is encrypted; give the stream its `encryption` back" in answer["problems"][0]["message"]
    async with world.running(clicks=encrypted) as service:
        world.mark.touch()
        assert await replay_all(service) == 2, "plain objects are read by an encrypting stream, too"
        await world.delivered(service)
        assert await total(service) == {"accepted": 2, "delivered": 2}
