"""What somebody must repair at an S3 destination: told until then, and healed without a restart."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

import pytest

from tests.daemon import until
from tests.integration.outside import Outside
from tests.integration.s3_world import World
from tests.services.fault_proxy import Answer, Refuse

pytestmark = pytest.mark.integration

#: No resolver knows a name under this: RFC 6761.
NAME = "store.invalid"


def test_access_that_is_granted_later_heals_without_a_restart(world: World) -> None:
    """What a store makes of two writers is found out by then, and not by the errors."""
    world.proxy.fault = Answer(status=403, code="AccessDenied")
    world.start()
    world.put()
    world.shows("S3.AccessDenied")
    world.drains()


def test_a_bucket_that_is_made_later_heals_without_a_restart(world: World) -> None:
    world.bucket += "-later"
    world.start()
    world.put()
    world.shows("S3.NoSuchBucket")
    world.s3.create_bucket(Bucket=world.bucket)
    world.drains()


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
    # a flush is one attempt more; one that comes as soon as this may still be of a client that was made with the old
    until(lambda: world.daemon.run("flush", "clicks", "--timeout", "2s").returncode == 0, "a flush", 20)
    world.is_whole()


def test_a_name_that_does_not_resolve_yet_heals_without_a_restart(world: World, outside: Outside) -> None:
    world.endpoint = f"http://{NAME}:{urlsplit(world.endpoint).port}"
    world.start()
    world.put()  # ingest goes on
    world.shows("S3.ServiceUnavailable")
    assert NAME in world.status()["last_error"]["message"]
    world.put()
    assert world.status()["backlog_records"] == 40
    outside.resolve(NAME, "127.0.0.1")
    world.drains()


def test_a_name_that_is_gone_for_a_while_heals_without_a_restart(world: World, outside: Outside) -> None:
    outside.resolve(NAME, "127.0.0.1")
    world.endpoint = f"http://{NAME}:{urlsplit(world.endpoint).port}"
    world.start_well()
    outside.resolve(NAME, None)

    def is_missed() -> bool:
        """True once nobody remembers any more what was looked up before: for 10 s."""
        world.proxy.fault = Refuse()  # a connection that stands needs no name
        world.proxy.fault = None
        reached, failed = len(world.proxy.seen), world.failed()
        world.put()
        # the first attempt may be one on a connection that was just cut
        until(lambda: len(world.proxy.seen) > reached or world.failed() > failed + 1, "two attempts")
        if is_there := len(world.proxy.seen) > reached:
            world.flush()
        return not is_there

    until(is_missed, "a failed lookup", 30)
    reached = len(world.proxy.seen)
    world.put()
    world.shows("S3.ServiceUnavailable")
    assert NAME in world.status()["last_error"]["message"]
    assert world.status()["backlog_records"] == 40
    assert len(world.proxy.seen) == reached, "nothing gets there without the name"
    outside.resolve(NAME, "127.0.0.1")
    world.drains()
