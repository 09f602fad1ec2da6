"""A worker whose records choose their objects themselves."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

import orjson
import pyarrow as pa
import pybase64
import pytest

from firehose.delivery.buffer import Hints
from firehose.errors import UnavailableError
from firehose.records import Batch, Outcome
from tests.world import World


@pytest.fixture
def partitioned(world: World) -> Iterator[World]:
    world.prefix, world.query = "c=!{partitionKeyFromQuery:c}/!{timestamp:yyyy}/", "{c: .c}"
    yield world


def record(partition: object, number: int = 0) -> bytes:
    return orjson.dumps({"c": partition, "n": number})


def folders(world: World) -> dict[str, Counter[bytes]]:
    """Return the records under each prefix."""
    found: dict[str, Counter[bytes]] = defaultdict(Counter)
    for key, (_, body) in world.sink.objects.items():
        found[key.rpartition("/")[0]].update(body.splitlines())
    return found


async def test_each_partition_has_objects_of_its_own(partitioned: World) -> None:
    world, records = partitioned, [record(number % 7, number) for number in range(100)]
    async with world.worker():
        world.source.put("s", records, arrival_ms=world.clock.now_ms())
        world.source.put("t", records, arrival_ms=world.clock.now_ms())
        await world.clock.advance(120_000)
        assert await world.account() == {"delivered": 200}
    assert folders(world) == {
        f"c={partition}/2026": Counter(dict.fromkeys(records[partition::7], 2)) for partition in range(7)
    }


async def test_a_partition_is_closed_at_its_own_size_and_time(partitioned: World) -> None:
    world = partitioned
    world.hints = Hints(max_bytes=200, max_age_ms=60_000)
    async with world.worker():
        world.source.put("s", [record("slow")], arrival_ms=world.clock.now_ms())
        await world.clock.advance(30_000)
        world.source.put("s", [record("fast", 10**number) for number in range(12)], arrival_ms=world.clock.now_ms())
        await world.clock.advance(1_000)
        assert list(folders(world)) == ["c=fast/2026"], "its size is reached"
        await world.clock.advance(29_500)
        assert set(folders(world)) == {"c=fast/2026", "c=slow/2026"}
        assert sum(folders(world)["c=fast/2026"].values()) < 12, "the rest is younger"
        await world.clock.advance(30_000)
        assert sum(folders(world)["c=fast/2026"].values()) == 12


async def test_records_without_a_partition_go_to_the_error_output_as_they_came(partitioned: World) -> None:
    world, bad = partitioned, [b"no JSON", record(None), record("a//b")]
    async with world.worker():
        world.source.put("s", [record("a"), *bad], arrival_ms=world.clock.now_ms())
        await world.clock.advance(120_000)
        assert await world.account() == {"delivered": 1, "failed": 3}
    ((key, (_, body)),) = world.failed_sink.objects.items()
    assert key.startswith("bad/metadata-extraction-failed/")
    entries = [orjson.loads(line) for line in body.splitlines()]
    assert [pybase64.b64decode(entry["rawData"]) for entry in entries] == bad
    assert {entry["errorCode"] for entry in entries} == {"DynamicPartitioning.MetadataExtractionFailed"}
    assert entries[0]["errorMessage"] == "Non JSON record provided"


async def test_beyond_the_limit_of_active_partitions_only_new_ones_fail(partitioned: World) -> None:
    world = partitioned
    world.max_active = 3
    async with world.worker() as worker:
        world.source.put("s", [record(number) for number in range(5)], arrival_ms=world.clock.now_ms())
        world.source.put("t", [record(number) for number in range(5)], arrival_ms=world.clock.now_ms())
        await world.clock.advance(1_000)
        assert worker.partitions is not None and worker.partitions.names == {"0", "1", "2"}
        await world.clock.advance(120_000)
        assert not worker.partitions.names, "they were delivered"
        world.source.put("s", [record(4)], arrival_ms=world.clock.now_ms())
        await world.clock.advance(120_000)
        assert await world.account() == {"delivered": 7, "failed": 4}
    ((key, (_, body)),) = world.failed_sink.objects.items()
    assert key.startswith("bad/activePartitionExceeded/")
    assert {orjson.loads(line)["errorCode"] for line in body.splitlines()} == {
        "DynamicPartitioning.ActivePartitionsLimitExceeded"
    }


async def test_a_partition_is_active_until_its_object_stands(partitioned: World) -> None:
    world, is_down = partitioned, True
    world.max_active = 1
    world.sink.fault = lambda step, delivery: UnavailableError("down") if is_down else None
    async with world.worker() as worker:
        world.source.put("s", [record("a")], arrival_ms=world.clock.now_ms())
        await world.clock.advance(120_000)
        assert worker.partitions is not None and worker.partitions.names == {"a"}
        world.source.put("s", [record("b"), record("a", 1)], arrival_ms=world.clock.now_ms())
        await world.clock.advance(120_000)
        is_down = False
        await world.clock.advance(120_000)
        assert await world.account() == {"delivered": 2, "failed": 1}


class SaysOtherwise:
    """A function that says another partition each time it is asked."""

    asked = 0

    async def apply(self, batch: Batch) -> Outcome:
        self.asked += 1
        keys = pa.array([f'{{"c":"{self.asked}-{number % 2}"}}' for number in range(len(batch))], pa.string())
        return Outcome(Batch(batch.shard, batch.rows, batch.changed, partition_keys=keys))

    async def close(self) -> None:
        pass


async def test_a_partition_that_is_another_when_rows_are_read_again_loses_and_doubles_nothing(world: World) -> None:
    """The outbox is lost after one of two objects was sent; the answer to that was lost, too."""
    world.prefix, world.transforms = "!{partitionKeyFromLambda:c}/!{timestamp:yyyy}/", (SaysOtherwise(),)
    records = [b"%d" % number for number in range(10)]
    sent: list[str] = []

    def fault(step: str, delivery: object) -> Exception | None:
        if step == "after" and not sent:
            sent.append(step)
            return UnavailableError("no answer")
        return UnavailableError("down") if sent and len(sent) < 2 else None

    world.sink.fault = fault
    async with world.worker():
        world.source.put("s", records, arrival_ms=world.clock.now_ms())
        await world.clock.advance(61_000)
        assert len(world.sink.objects) == 1
    for path in (world.folder / "streams").rglob("*.objects"):
        path.unlink()
    sent.append("well again")
    async with world.worker() as worker:
        await world.clock.advance(300_000)
        assert worker.is_idle
    assert sorted(await world.delivered()) == records
    assert await world.account() == {"delivered": 10}


async def test_thousands_of_partitions_share_their_slabs(partitioned: World) -> None:
    world = partitioned
    world.max_active, world.hints = 5_000, Hints(max_bytes=10**6, max_age_ms=60_000)
    async with world.worker() as worker:
        for _ in range(3):
            world.source.put("s", [record(number, number) for number in range(5_000)], arrival_ms=world.clock.now_ms())
        await world.clock.advance(1_000)
        held = worker.buffer.held_bytes["destination"]
        assert 0 < held < 3 * 5_000 * 150
        worker.ask_to_spill()
        await world.clock.advance(1_000)
        assert worker.buffer.held_bytes["destination"] == 0
        await world.clock.advance(600_000)
        assert worker.is_idle
        assert await world.account() == {"delivered": 15_000}
        assert world.budget.used_bytes == 0
    assert len(folders(world)) == 5_000
