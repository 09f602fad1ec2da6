"""One machine: a disk that outlives its processes, and what of the product is replaced so that chance decides when.

Everything else is the product's own: service, log, state, worker, replay, audit.
"""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import functools
import random
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

import orjson
import pybase64

from firehose.components import BuildContext, StreamIdentity
from firehose.delivery.buffer import Hints
from firehose.delivery.plan import Outlet, StreamPlan
from firehose.errors import UnavailableError
from firehose.log import IngestLog
from firehose.service import planning
from firehose.service.planning import Shared
from tests.disk import MemoryDisk
from tests.simulation.loop import LoopClock
from tests.simulation.store import Bucket, BucketSink
from tests.simulation.transform import Whims

T = TypeVar("T")


class StepExecutor:
    """Runs each call between two steps of the loop, so that others come between and a crash may, too."""

    def __init__(self, machine: Machine, name: str) -> None:
        self._machine = machine
        self._name = name

    async def run(self, call: Callable[[], T]) -> T:
        for _ in range(self._machine.chance.randint(0, 2)):
            await asyncio.sleep(0)  # a step of the loop: others come between
        if self._name == "state" and self._machine.chance.random() < self._machine.state_faults:
            raise UnavailableError("the state's disk is busy")
        result = call()
        await asyncio.sleep(0)  # done, and not told yet
        return result

    def close(self) -> None:
        """Nothing is held."""


class _NoProcesses:
    """Stands for pools and clients that no stream of the simulation uses."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    async def close(self) -> None:
        """Nothing is open."""


@dataclasses.dataclass(slots=True)
class Machine:
    """What stays when a process dies. `state_faults`, `disk_faults`: how likely each call fails."""

    folder: Path
    chance: random.Random
    bucket: Bucket
    whims: Whims
    hints: Hints
    segment_bytes: int
    idle_ms: int
    disk: MemoryDisk = dataclasses.field(default_factory=MemoryDisk)
    state_faults: float = 0.0
    disk_faults: float = 0.0
    clock: LoopClock | None = None

    def cut_power(self) -> None:
        """The process is dead; the disk forgets what was not synced, or some of it."""
        self.disk = self.disk.crash(kept=self.chance.choice((0.0, 0.0, self.chance.random(), 1.0)))
        self.disk.plan = self._plan

    def lose_outboxes(self) -> set[bytes]:
        """As where another machine takes over: finished objects are gone. Return the failed records in them."""
        failed: set[bytes] = set()
        for path in [each for each in self.disk.names if each.suffix == ".objects"]:
            for line in self.disk.names[path].data.splitlines():
                if b'"rawData"' in line:
                    with suppress(orjson.JSONDecodeError):  # cut off while it was written: it is nobody's yet
                        failed.add(pybase64.b64decode(orjson.loads(line)["rawData"]))
            self.disk.lose(path)
        return failed

    def _plan(self, verb: str, path: Path) -> int | None:
        if self.disk_faults and self.chance.random() < self.disk_faults:
            if verb == "write":
                return self.chance.randint(0, 100)  # the disk is full: a part of it was written
            if verb in ("sync", "append", "read", "rename"):
                raise OSError(errno.EIO, "Input/output error", str(path))
        return 2**31 if verb == "write" else None

    # --- what is replaced --------------------------------------------------------------------------------------------

    @contextmanager
    def replacing(self) -> Iterator[None]:
        """Let the product run on this machine."""
        opened = functools.partial(
            IngestLog.open.__func__, IngestLog, segment_bytes=self.segment_bytes, new_opening=self._opening
        )
        with ExitStack() as stack:
            for target, replacement in {
                "firehose.service.resources.ThreadExecutor": lambda threads, name: StepExecutor(self, name),
                "firehose.service.resources.OsFileSystem": lambda: self.disk,
                "firehose.service.resources.ProcessPool": _NoProcesses,
                "firehose.service.resources.AwsClients": _NoProcesses,
                "firehose.service.resources.IngestLog.open": opened,
                "firehose.service.runner.build_plan": self._build_plan,
                "firehose.operations.entries.build_outlets": self._build_outlets,
                "firehose.service.removal.shutil.rmtree": self._remove_tree,
                "firehose.delivery.intake.READ_BYTES": 4_096,
                "firehose.log.journal._IDLE_MS": self.idle_ms,
                "firehose.deduplication.window.MEMORY_ENTRIES": 16,
                "firehose.deduplication.run.BLOCK_ENTRIES": 16,
                "uuid.uuid4": self._uuid,
            }.items():
                stack.enter_context(mock.patch(target, replacement))
            yield

    def _opening(self) -> str:
        return f"{self.chance.getrandbits(64):016x}"

    def _uuid(self) -> uuid.UUID:
        return uuid.UUID(int=self.chance.getrandbits(128), version=4)

    def _remove_tree(self, folder: Path, ignore_errors: bool = False) -> None:
        _remove_tree(folder, ignore_errors=ignore_errors)
        for path in [each for each in self.disk.names if folder in each.parents]:
            self.disk.names.pop(path)

    def _build_plan(self, config: Any, identity: StreamIdentity, version: int, shared: Shared) -> StreamPlan:
        plan = planning.build_plan(config, identity, version, shared)
        return dataclasses.replace(
            plan,
            transforms=(self.whims.transform(),),
            conversion=self.whims.conversion(),
            partitioning=self.whims.partitioning(plan.partitioning.max_active) if plan.partitioning else None,  # type: ignore[arg-type] # it stands for it
            destination=self._outlet(plan.destination, identity),
            failed=self._outlet(plan.failed, identity),
        )

    def _build_outlets(self, config: Any, context: BuildContext, sinks: Any) -> tuple[Outlet, Outlet]:
        destination, failed = planning.build_outlets(config, context, sinks)
        return self._outlet(destination, context.stream), self._outlet(failed, context.stream)

    def _outlet(self, outlet: Outlet, identity: StreamIdentity) -> Outlet:
        assert self.clock is not None
        sink = BucketSink(self.bucket, self.disk, identity.uid, self.clock.now_ms)
        return dataclasses.replace(outlet, sink=sink, hints=self.hints)


_remove_tree = shutil.rmtree
