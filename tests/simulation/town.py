"""A service on a machine that dies, with producers, operators and a store far away; and the laws that must hold.

Each record is unique, so that in the end every one of them can be looked for.
"""

from __future__ import annotations

import asyncio
import gc
import random
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pybase64

from firehose.budget import ByteBudget
from firehose.config.models import Configuration, ServerConfig, StreamConfig
from firehose.datadir import DataDirectory
from firehose.delivery.buffer import Hints
from firehose.errors import FirehoseError
from firehose.log.events import ReceiptsForgotten, ReceiptsNotSaved, ReceiptsUnreadable
from firehose.operations import VERBS
from firehose.service import Service
from firehose.telemetry import Event
from tests.simulation.loop import LoopClock, SimulationLoop
from tests.simulation.machine import Machine
from tests.simulation.producers import STREAM, Producers
from tests.simulation.store import CALM, Bucket, Weather
from tests.simulation.transform import CHANGED, PARTITIONS, Whims

#: When the simulated world begins. Units: Unix milliseconds.
BEGIN_MS = 1_767_225_600_000

#: How long a stream is given to bring everything home once nothing fails any more. Units: seconds of its own time.
CALM_S = 3_600.0

#: Far more steps than any world has needed to bring everything home.
HOME_STEPS = 300_000

#: What may be held beyond the budget: who cannot wait overdraws it by what is in hand, a batch or two for each of the
#: shards, and what they become on their way; and all of an object that is made again. The most seen was 63,000.
OVERDRAFT_BYTES = 120_000


#: Where the state's database lies: in memory if possible, since a simulated disk needs no real one's syncs.
FAST_FOLDER = Path("/dev/shm")


def run_town(seed: int, **options: Any) -> None:
    """Run one world. Errors: LawBrokenError, and whatever else goes wrong."""
    with tempfile.TemporaryDirectory(dir=FAST_FOLDER if FAST_FOLDER.is_dir() else None) as folder:
        Town(seed, Path(folder), **options).run()


class LawBrokenError(AssertionError):
    """Something happened that must never happen."""


class _Telemetry:
    """Keeps what was told, for whoever looks into a failed run."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)


class Town:
    """One simulated world, made by its seed alone.

    `outbox_losses`: how often finished objects are lost in a crash. `is_cramped`: little memory, and large buffers.
    """

    def __init__(self, seed: int, folder: Path, *, outbox_losses: float = 0.15, is_cramped: bool = False) -> None:
        self.outbox_losses = outbox_losses
        chance = self.chance = random.Random(seed)
        self.is_fickle = chance.random() < 0.5
        self.may_be_repaired = chance.random() < 0.7
        self.machine = Machine(
            folder=folder,
            chance=chance,
            bucket=Bucket(chance),
            whims=Whims(chance, self.is_fickle),
            hints=Hints(chance.choice((500, 3_000, 20_000)), chance.choice((0, 1_000, 5_000))),
            segment_bytes=chance.choice((2_000, 20_000, 10**7)),
            idle_ms=chance.choice((1_000, 30_000)),
        )
        whims = self.machine.whims
        rates = (chance.choice((0, chance.random() * 0.4)) for _ in range(4))
        whims.fails, whims.drops, whims.changes, whims.mismatches = rates
        self.now_ms = BEGIN_MS
        self.memory_bytes = chance.choice((20_000, 100_000, 10**7))
        if is_cramped:
            self.memory_bytes, self.machine.hints = 20_000, Hints(10**6, 5_000)
        self.telemetry = _Telemetry()
        self.producers = Producers(chance, self._clock_ms, self._is_forgetful)
        self.producers.sends_copies = chance.random() < 0.3
        #: How many partitions may be active, 0: records go to all the same objects.
        self.max_active = random.Random(f"{seed} partitions").choice((0, 0, 3, PARTITIONS))
        #: The streams that were deleted with what they held.
        self.deleted: set[str] = set()
        #: Rows whose finished objects were lost go again, out of turn.
        self.is_outbox_lost = False
        #: Failed records that waited in an outbox that was lost: the log may have let them go.
        self.lost: set[bytes] = set()
        self.most_held_bytes = 0
        #: Records that were in the error output at some time.
        self.ever_failed: set[bytes] = set()
        self.loops: list[SimulationLoop] = []

    # --- lives -------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Let some processes live and die, then one live on, and look at what is there."""
        with self.machine.replacing():
            try:
                for _ in range(self.chance.randint(1, 5)):
                    self._storm()
                    self._live(self._busy, steps=int(10 ** self.chance.uniform(1.5, 3.7)))
                    if self.chance.random() < 0.6:  # else it was killed: what nobody synced is there, for now
                        self.machine.cut_power()
                    if self.chance.random() < self.outbox_losses:
                        self.lost |= self.machine.lose_outboxes()
                        self.is_outbox_lost = True
                self._calm()
                if not self._live(self._come_home, steps=HOME_STEPS):
                    raise LawBrokenError("it does not come home")
            finally:
                self._bury()

    def _live(self, main: Callable[[Service], Any], *, steps: int) -> bool:
        loop = SimulationLoop()
        self.loops.append(loop)
        self.machine.clock = LoopClock(loop, self.now_ms)
        has_ended = loop.live(self._process(main), steps=steps)
        if self.most_held_bytes > self.memory_bytes + OVERDRAFT_BYTES:
            raise LawBrokenError(f"{self.most_held_bytes} bytes in memory, {self.memory_bytes} are allowed")
        self.now_ms = self.machine.clock.now_ms() + self.chance.choice((100, 3_000, 600_000))
        return has_ended

    async def _process(self, main: Callable[[Service], Any]) -> None:
        clock = self.machine.clock
        assert clock is not None
        directory = DataDirectory(self.machine.folder)
        self.machine.folder.mkdir(exist_ok=True)
        prefix = "good/!{partitionKeyFromLambda:p}/!{timestamp:HH}/" if self.max_active else "good/"
        words = {"sink": {"type": "file", "path": str(self.machine.folder / "unused"), "prefix": prefix}}
        words |= {"partition": {"max_active": self.max_active}} if self.max_active else {}
        words |= {"failed": {"prefix": "bad/!{firehose:error-output-type}/"}}
        words |= {"deduplicate": {"record_id": "id"}} if self.producers.sends_copies else {}
        stream = StreamConfig.model_validate(words)
        configuration = Configuration(server=ServerConfig())
        while True:
            try:
                service = await Service.open(configuration, directory, clock, self.telemetry)
                break
            except FirehoseError:  # the disk failed just then: whoever supervises it starts it again
                await asyncio.sleep(1)
        self._watch(service.budget)
        service._chance.seed(self.chance.random())
        started = asyncio.Event()
        working = asyncio.create_task(service.run(started))
        await started.wait()
        while STREAM in service.runners and service.runners[STREAM].record.is_deleted:
            await clock.sleep_ms(500)
        if STREAM not in service.runners:
            await self._trying(lambda: service.create_stream(STREAM, stream, definition={}))
        doing = asyncio.create_task(main(service))
        await asyncio.wait((working, doing), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
        doing.result()

    def _watch(self, budget: ByteBudget) -> None:
        """Give the service little memory, and note the most it holds."""
        overdraw, budget.limit_bytes = budget.overdraw, self.memory_bytes

        def noting(amount_bytes: int) -> None:
            overdraw(amount_bytes)
            self.most_held_bytes = max(self.most_held_bytes, budget.used_bytes)

        budget.overdraw = noting  # type: ignore[method-assign] # a tap on this one budget

    async def _trying(self, call: Callable[[], Any]) -> Any:
        for _ in range(5_000):
            try:
                return await call()
            except FirehoseError:  # its faults are chance: it is asked until it works, or for ever is a broken law
                await asyncio.sleep(0.5)
        raise LawBrokenError("refused for ever")

    def _storm(self) -> None:
        chance, machine = self.chance, self.machine

        def some(most: float) -> float:
            return chance.choice((0.0, chance.random() * most))

        slowest_ms = chance.choice((0, 50, 5_000))
        machine.bucket.weather = Weather(some(0.3), some(0.3), some(0.3), some(0.3), slowest_ms)
        machine.whims.breaks, machine.whims.slowest_ms = some(0.2), chance.choice((0, 20, 2_000))
        machine.state_faults, machine.disk_faults = some(0.05), some(0.03)

    def _calm(self) -> None:
        self.producers.is_calm = True
        self.machine.bucket.weather = CALM
        self.machine.whims.breaks = 0.0
        self.machine.state_faults = self.machine.disk_faults = 0.0

    def _is_forgetful(self) -> bool:
        """Return whether it was told that puts may not be known any more."""
        forgetful = (ReceiptsNotSaved, ReceiptsForgotten, ReceiptsUnreadable)
        return any(isinstance(event, forgetful) for event in self.telemetry.events)

    def _clock_ms(self) -> int:
        assert self.machine.clock is not None
        return self.machine.clock.now_ms()

    # --- what operators do --------------------------------------------------------------------------------------------

    async def _busy(self, service: Service) -> None:
        """Producers and operators at once, for a while of the process's own time."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self.chance.randint(1, 3)):
                tasks.create_task(self.producers.produce(service, self.chance.randint(1, 12)))
            tasks.create_task(self._operate(service, self.chance.randint(0, 6)))
            for name in [each for each in self.producers.unanswered if self.chance.random() < 0.3]:
                tasks.create_task(self.producers.send_again(service, name))

    async def _operate(self, service: Service, things: int) -> None:
        """Look, pause, flush, replay; now and then delete the stream and make it again."""
        for _ in range(things):
            await asyncio.sleep(self.chance.choice((0, 0.5, 20)))
            verb = self.chance.choices(
                ("audit", "status", "pause", "resume", "flush", "replay", "repair", "anew"), (4, 1, 1, 2, 2, 6, 1, 1)
            )[0]
            if verb == "anew" and self.producers.sends_copies:
                continue  # what is made anew knows no ids of records that landed before
            try:
                await self._do(service, verb)
            except FirehoseError:
                continue  # the disk or the store failed just then, and the operator was told

    async def _do(self, service: Service, verb: str) -> None:
        if verb == "repair":
            self.machine.whims.is_repaired = self.may_be_repaired
        elif verb == "anew":
            await self._make_anew(service)
        elif verb == "audit":
            self._must_close(await VERBS["audit"](service, {}))
        else:
            given = {"stream": STREAM} | ({"wait_ms": 1_000} if verb == "flush" else {})
            await VERBS[verb](service, given | ({"limit": self.chance.randint(1, 30)} if verb == "replay" else {}))

    async def _make_anew(self, service: Service) -> None:
        view = service.stream(STREAM)
        self.deleted.add(view.uid)
        await service.delete_stream(STREAM)
        while STREAM in service.runners:
            await service.environment.clock.sleep_ms(500)
        await self._trying(lambda: service.create_stream(STREAM, view.config, definition={}))

    # --- the end -----------------------------------------------------------------------------------------------------

    async def _come_home(self, service: Service) -> None:
        """Let everything be delivered, and check every law."""
        for name in list(self.producers.unanswered):
            await self.producers.send_again(service, name)
        async with asyncio.timeout(CALM_S):
            await VERBS["resume"](service, {"stream": STREAM})
            await self._until_idle(service)
            if self.chance.random() < 0.5:
                await VERBS["replay"](service, {})
                await self._until_idle(service)
        self._must_close(await VERBS["audit"](service, {}))
        await self._check_records(service)
        self._check_objects()

    async def _until_idle(self, service: Service) -> None:
        while True:
            await asyncio.sleep(self.machine.hints.max_age_ms / 1_000 + 1)
            worker = service.runners[STREAM].worker
            if worker is not None and worker.is_idle and not service.log.is_pending(service.runners[STREAM].record.uid):
                return

    def _must_close(self, audit: dict[str, Any]) -> None:
        is_faulty = self.machine.disk_faults or self.machine.state_faults
        if is_faulty and (audit["problems"] or any(each["problem"] for each in audit["streams"])):
            return  # while the disk refuses to read, or the state to be written, that is said
        open_ones = [each for each in audit["streams"] if not each["closes"]]
        if open_ones:
            raise LawBrokenError(f"the account does not close: {open_ones}")

    async def _check_records(self, service: Service) -> None:
        """Every acknowledged record is delivered, failed, or was dropped: one of them, once."""
        acknowledged, refused, places = self.producers.acknowledged, self.producers.refused, self.producers.places
        everywhere = Counter(record for _, record, _ in self._delivered())
        # of streams that were deleted, nothing more is promised than that: what was on its way may land yet
        delivered = Counter(record for _, record, owner in self._delivered() if owner not in self.deleted)
        failed = await self._failed(service)
        twice = [record for record, times in (everywhere + failed).items() if times > 1]
        gone = {record for record, (uid, _, _) in places.items() if uid in self.deleted}
        missing = acknowledged - self.lost - delivered.keys() - failed.keys() - self.machine.whims.dropped - gone
        strange = (everywhere.keys() | failed.keys()) & refused
        for name, found in (("twice", twice), ("lost", missing), ("refused and yet taken", strange)):
            if found:
                raise LawBrokenError(f"{len(found)} records {name}, as {sorted(found)[0][:40]!r}")
        terms = await self._terms(service)
        for term, there in (
            ("delivered", delivered.total()),
            ("failed", failed.total()),
            ("pending", 0),
            ("expired", 0),
        ):
            if terms[term] != there:
                raise LawBrokenError(f"the account says {terms[term]} {term}, there are {there}")
        if terms["unreadable"] > len(self.lost):
            raise LawBrokenError(f"{terms['unreadable']} records unreadable, but {len(self.lost)} were lost")

    async def _terms(self, service: Service) -> Counter[str]:
        found: Counter[str] = Counter()
        for account in (await VERBS["audit"](service, {}))["streams"]:
            if account["uid"] not in self.deleted:
                found.update(account["total"])
        return found

    def _delivered(self) -> Iterator[tuple[str, bytes, str]]:
        """Yield key, record and stream uid."""
        for key, sent in self.machine.bucket.objects.items():
            if key.startswith("good/"):
                yield from ((key, line.removesuffix(CHANGED), sent.owner) for line in sent.body.splitlines())

    async def _failed(self, service: Service) -> Counter[bytes]:
        """Return the records in the error output that were not replayed, but for streams that were deleted."""
        found: Counter[bytes] = Counter()
        replayed: dict[str, Any] = {}
        for key, sent in self.machine.bucket.objects.items():
            if not key.startswith("bad/"):
                continue
            for line in sent.body.splitlines():
                entry = orjson.loads(line)
                shard, sequence = entry["shardId"], int(entry["sequenceNumber"])
                if sent.owner not in replayed and sent.owner not in self.deleted:
                    replayed[sent.owner] = (await service.state.replays(sent.owner))[0]
                record = pybase64.b64decode(entry["rawData"])
                self.ever_failed.add(record)
                if sent.owner in replayed and not replayed[sent.owner].holds(shard, sequence, -1):
                    found[record] += 1
        return found

    def _check_objects(self) -> None:
        """An object's records are in the order of their shard; one key stands for one set of bytes."""
        places = self.producers.places
        by_object: dict[str, list[tuple[str, int]]] = defaultdict(list)
        for key, record, _ in self._delivered():
            # replayed ones are exempt; of copies it is not known which one landed
            if record in places and record not in self.ever_failed and record not in self.producers.copied:
                _, shard, sequence = places[record]
                by_object[key].append((shard, sequence))
        if self.max_active and not self.is_fickle:
            for key, record, _ in self._delivered():
                if key.split("/")[1] != str(self.machine.whims.partition(record)):
                    raise LawBrokenError(f"{record[:40]!r} lies in {key}, and belongs to another partition")
        if not self.is_outbox_lost:
            for key, places in by_object.items():
                self._check_order(key, places)
        if not self.is_fickle and not self.may_be_repaired:
            bodies: dict[str, str] = {}
            for sent in self.machine.bucket.history:
                if bodies.setdefault(sent.key, sent.checksum) != sent.checksum and sent.key.startswith("good/"):
                    raise LawBrokenError(f"{sent.key} was sent with different bytes")

    def _check_order(self, key: str, places: list[tuple[str, int]]) -> None:
        last: dict[str, int] = {}
        for shard, sequence in places:
            if sequence <= last.get(shard, -1):
                raise LawBrokenError(f"{key} is not in the order of {shard}")
            last[shard] = sequence

    # --- afterwards --------------------------------------------------------------------------------------------------

    def _bury(self) -> None:
        """Let go of dead processes: their tasks are still in the middle of something."""
        with unheard():
            for loop in self.loops:
                loop.close()
            self.loops.clear()
            self.machine.clock = None
            for _ in range(3):  # what is closed on the way may be collected only then
                gc.collect()


@contextmanager
def unheard() -> Iterator[None]:
    """Say nothing of coroutines that are collected in the middle: that is what a crash is."""
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    try:
        yield
    finally:
        sys.unraisablehook = hook
