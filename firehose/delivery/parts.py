"""What the tasks of one worker share."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

from firehose.budget import BudgetShare
from firehose.clock import Clock
from firehose.components import Environment
from firehose.delivery.buffer import Buffer
from firehose.delivery.duplicates import Duplicates
from firehose.delivery.ledger import Ledger
from firehose.delivery.outbox import Outbox
from firehose.delivery.plan import DESTINATION, FAILED, StreamPlan
from firehose.delivery.retention import Retention
from firehose.delivery.sealer import Sealer
from firehose.delivery.spill import Spill
from firehose.delivery.steps import Steps
from firehose.executors import Executor
from firehose.state import StateStore
from firehose.telemetry import Emitter


@dataclass(frozen=True, slots=True)
class Parts:
    """One of each: the worker makes them, its tasks use them."""

    plan: StreamPlan
    clock: Clock
    telemetry: Emitter
    executor: Executor
    state: StateStore
    budget: BudgetShare
    chance: random.Random
    steps: Steps
    outbox: Outbox
    spill: Spill
    sealer: Sealer
    ledger: Ledger
    buffer: Buffer
    retention: Retention
    duplicates: Duplicates | None

    @classmethod
    def build(
        cls, plan: StreamPlan, environment: Environment, state: StateStore, budget: BudgetShare, chance: random.Random
    ) -> Parts:
        """Return the parts of a worker of `plan`."""
        folder: Path = environment.data_dir / "streams" / plan.identity.uid
        clock, telemetry, executor = environment.clock, environment.telemetry, environment.executor
        outbox, spill = Outbox(folder / "outbox", environment.files), Spill(folder / "spill", executor)
        steps = Steps(plan.identity.name, clock, telemetry, chance)
        ledger = Ledger(plan.identity.uid, (DESTINATION,), state)
        duplicates = None
        if plan.deduplication is not None:
            ids = folder / "record-ids"
            duplicates = Duplicates(plan.identity.name, plan.deduplication, ids, environment, steps, ledger)
        return cls(
            plan=plan,
            clock=clock,
            telemetry=telemetry,
            executor=executor,
            state=state,
            budget=budget,
            chance=chance,
            steps=steps,
            outbox=outbox,
            spill=spill,
            sealer=Sealer(plan, outbox, spill, budget, environment),
            ledger=ledger,
            buffer=Buffer({DESTINATION: plan.destination.hints, FAILED: plan.failed.hints}),
            retention=Retention(plan.retention_ms, clock),
            duplicates=duplicates,
        )
