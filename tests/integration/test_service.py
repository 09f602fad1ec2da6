"""The whole service as a process: streams of the API over restarts, replays that are killed, ends that are held up."""

from __future__ import annotations

import asyncio
import fcntl
import os
import random
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import ClientError

from firehose.executors import InlineExecutor
from firehose.stores.sqlite import SqliteStateStore
from tests.daemon import COMMAND, Daemon, until

pytestmark = pytest.mark.integration

REPLAY_KILLS = int(os.environ.get("KILLS", "25"))


# --- streams made by the API -----------------------------------------------------------------------------------------

S3 = {"RoleARN": "arn:aws:iam::000000000000:role/any", "BufferingHints": {"SizeInMBs": 1, "IntervalInSeconds": 0}}


@pytest.mark.xdist_group("moto")
def test_streams_made_with_boto3_survive_kills_with_and_without_the_files(daemon: Daemon, moto: str) -> None:
    s3 = boto3.client("s3", endpoint_url=moto)
    bucket = f"service-{os.urandom(4).hex()}"
    s3.create_bucket(Bucket=bucket)
    where = {"AWS_ENDPOINT_URL_S3": moto}
    target = S3 | {"BucketARN": f"arn:aws:s3:::{bucket}", "Prefix": "visits/"}

    def landed() -> Counter[bytes]:
        listed = s3.list_objects_v2(Bucket=bucket, Prefix="visits/").get("Contents", [])
        bodies = [s3.get_object(Bucket=bucket, Key=each["Key"])["Body"].read() for each in listed]
        return Counter(line for body in bodies for line in body.splitlines())

    daemon.start(**where)
    client = daemon.client()
    client.create_delivery_stream(DeliveryStreamName="visits", ExtendedS3DestinationConfiguration=target)
    with pytest.raises(ClientError, match="ResourceInUseException"):
        client.create_delivery_stream(DeliveryStreamName="visits", ExtendedS3DestinationConfiguration=target)
    with pytest.raises(ClientError, match="ResourceInUseException"):
        client.create_delivery_stream(DeliveryStreamName="clicks", ExtendedS3DestinationConfiguration=target)
    daemon.put(b"one", stream="visits")
    expected = Counter([b"one"])
    for number, with_files in enumerate((True, False, True)):
        daemon.end(signal.SIGKILL)
        daemon.start(config=with_files, **where)
        described = daemon.client().describe_delivery_stream(DeliveryStreamName="visits")["DeliveryStreamDescription"]
        assert described["DeliveryStreamStatus"] == "ACTIVE"
        assert described["Destinations"][0]["ExtendedS3DestinationDescription"]["Prefix"] == "visits/"
        expected_names = ["clicks", "visits"] if with_files else ["visits"]  # an orphan goes within a second
        until(lambda names=expected_names: daemon.client().list_delivery_streams()["DeliveryStreamNames"] == names)
        daemon.put(b"again %d" % number, stream="visits")
        expected[b"again %d" % number] += 1
    daemon.delivered()
    assert landed() == expected
    assert daemon.total("visits") == {"accepted": 4, "delivered": 4}
    # deleted with a backlog, and made anew: the old rows are counted, and never met again
    daemon.ask("status")
    assert daemon.run("pause", "visits").returncode == 0
    daemon.put(b"discarded", stream="visits")
    daemon.client().delete_delivery_stream(DeliveryStreamName="visits")
    until(lambda: "visits" not in daemon.client().list_delivery_streams()["DeliveryStreamNames"], "the deletion")
    daemon.client().create_delivery_stream(DeliveryStreamName="visits", ExtendedS3DestinationConfiguration=target)
    daemon.put(b"new", stream="visits")
    daemon.delivered()
    audit = daemon.ask("audit", "visits")
    assert audit["closes"]
    found = [(each["kind"], {term: rows for term, rows in each["total"].items() if rows}) for each in audit["streams"]]
    assert found == [
        ("defined", {"accepted": 1, "delivered": 1}),
        ("removed", {"accepted": 5, "delivered": 4, "discarded": 1}),
    ]
    assert landed() == expected + Counter([b"new"])


def test_one_name_in_a_file_and_in_the_api_does_not_start(daemon: Daemon) -> None:
    daemon.start(config=False)
    target = S3 | {"BucketARN": "arn:aws:s3:::bucket"}
    daemon.client().create_delivery_stream(DeliveryStreamName="clicks", ExtendedS3DestinationConfiguration=target)
    daemon.end(signal.SIGTERM)
    assert daemon.launch().wait(60) == 1
    *_, last = daemon.told().splitlines()
    assert last.startswith("firehose: stream 'clicks' is defined in a file, but was made by the API before; rename it")
    daemon.start(config=False)


# --- replays that are killed -----------------------------------------------------------------------------------------


def test_replays_killed_at_random_moments_deliver_each_record_once(daemon: Daemon) -> None:
    """The command, the service, or both, again and again; two commands at a time; with the service, and without it."""
    chance = random.Random(int(os.environ.get("KILL_SEED", "20261122")))
    bad = [b"bad %05d" % number for number in range(3_000)]
    daemon.start()
    for start in range(0, len(bad), 100):  # many error objects
        daemon.put(*bad[start : start + 100])
    daemon.delivered()
    assert daemon.failures() == Counter(bad)
    (daemon.folder / "repaired").touch()
    for _ in range(REPLAY_KILLS):
        words = [COMMAND, "replay", "--rate", str(chance.choice([50, 300, 2_000])), "--data-dir", daemon.data]
        replays = [subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
        time.sleep(chance.uniform(0.2, 1.5))  # the moment of the kill, not a wait for something
        if chance.random() < 0.6:
            daemon.end(signal.SIGKILL)
        for each in replays:
            each.kill()
            each.communicate()
        is_running = daemon.process is not None and daemon.process.poll() is None
        if not is_running and chance.random() < 0.7:
            daemon.start()
        daemon.total()
    if daemon.process is not None and daemon.process.poll() is not None:
        daemon.start()
    answer = daemon.ask("replay")
    assert answer["done"] and answer["problems"] == []
    daemon.delivered()
    assert daemon.records() == Counter(bad)
    assert daemon.total() == {"accepted": len(bad), "delivered": len(bad)}
    again = daemon.ask("replay")
    assert (again["replayed"], again["replayed_before"]) == (0, len(bad))


def test_a_replay_through_a_function_that_is_still_broken_ends(daemon: Daemon) -> None:
    daemon.start()
    daemon.put(*(b"bad %d" % number for number in range(200)))
    daemon.delivered()
    answer = daemon.ask("replay", "--rate", "100")
    assert answer["replayed"] == 200
    daemon.delivered()
    assert daemon.total() == {"accepted": 200, "failed": 200}
    (reason,) = daemon.ask("failed", "stats")["reasons"]
    assert (reason["records"], reason["replayed"], reason["open"]) == (400, 200, 200)


# --- ends ------------------------------------------------------------------------------------------------------------


def test_told_to_stop_while_uploads_hang_it_ends_in_time(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as hole:  # accepts, and never answers
        config = f"""
streams:
  clicks:
    buffer: {{interval: 0s}}
    sink: {{type: s3, bucket: lake, endpoint_url: "http://127.0.0.1:{hole.getsockname()[1]}"}}
"""
        daemon = Daemon(tmp_path, config)
        try:
            daemon.start(AWS_ACCESS_KEY_ID="any", AWS_SECRET_ACCESS_KEY="any")
            daemon.put(*(b"%d" % number * 1_000 for number in range(50)))
            until(lambda: daemon.ask("status")["streams"][0]["open_objects"], "an object on its way")
            status, took_s = daemon.end(signal.SIGTERM)
            assert status == 0 and took_s < 5, (status, took_s)
            assert daemon.total() == {"accepted": 50, "pending": 50}
        finally:
            daemon.close()
    assert "Traceback" not in daemon.told()


def test_told_to_stop_while_a_thread_hangs_it_ends_in_time_and_other_streams_went_on(tmp_path: Path) -> None:
    """A disk that hangs holds threads that nobody can cancel; here they wait for a lock that is never given."""
    config = """
streams:
  hangs: {buffer: {interval: 0s}, sink: {type: file, path: hung, prefix: hangs/}}
  works: {buffer: {interval: 0s}, sink: {type: file, path: lake, prefix: works/}, compression: gzip}
"""
    daemon = Daemon(tmp_path, config)
    hidden = tmp_path / "hung" / ".firehose-sink"
    hidden.mkdir(parents=True)
    with (hidden / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            daemon.start()
            for number in range(12):
                daemon.put(b"%d" % number, stream="hangs")
                until(lambda number=number: daemon.ask("status", "hangs")["streams"][0]["open_objects"] > number)
            daemon.put(b"still works", stream="works")
            until(lambda: daemon.objects("works"), "delivery beside a sink that hangs")
            status, took_s = daemon.end(signal.SIGTERM)
        finally:
            daemon.close()
    assert status == 0 and took_s < 5, (status, took_s)
    assert '"stop_forced"' in daemon.told() and "Traceback" not in daemon.told()
    daemon.start()
    daemon.delivered()
    assert daemon.total("hangs") == {"accepted": 12, "delivered": 12}
    daemon.close()


def test_a_service_that_lost_its_state_ends_with_one_line(daemon: Daemon) -> None:
    """As where two machines share one directory, and the lock does not reach that far."""
    daemon.start()

    async def take_over() -> None:
        await (await SqliteStateStore.open(daemon.data / "state.db", InlineExecutor())).close()

    asyncio.run(take_over())
    daemon.put(b"one")
    assert daemon.process is not None and daemon.process.wait(60) == 1
    *_, last = daemon.told().splitlines()
    assert last.startswith("firehose: ") and "was opened by another process" in last
    assert "Traceback" not in daemon.told()
    daemon.start()
    daemon.delivered()
    assert daemon.records() == {b"one": 1}


# --- asked while it starts and stops ---------------------------------------------------------------------------------


def test_commands_find_their_way_while_the_service_comes_and_goes(daemon: Daemon) -> None:
    """Asked without rest while the service is killed, stopped and started: no command fails, no start is kept out."""
    daemon.start()
    daemon.put(b"one", b"bad two")
    daemon.delivered()
    stop, problems = threading.Event(), []

    def watch() -> None:
        while not stop.is_set():
            answer = daemon.run("status", "--json")
            if answer.returncode:
                problems.append(answer.stderr)

    watchers = [threading.Thread(target=watch) for _ in range(2)]
    for each in watchers:
        each.start()
    try:
        for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL, signal.SIGTERM):
            daemon.end(number)
            daemon.start()
    finally:
        stop.set()
        for each in watchers:
            each.join()
    # one that was just being answered when the service was killed may say so
    assert all(b"broke off its answer" in each or b"does not answer" in each for each in problems), problems
    assert len(problems) <= 8
    assert daemon.total() == {"accepted": 2, "delivered": 1, "failed": 1}
