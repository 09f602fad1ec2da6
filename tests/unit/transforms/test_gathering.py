"""Rows that wait to be sent together, in time that passes only when told to."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import numpy as np
import pytest

from firehose import arrow
from firehose.errors import UnavailableError
from firehose.protocols import Stage
from firehose.records import Batch, FailedRows, Outcome, RowSet
from firehose.testing import FakeClock
from firehose.transforms.gathering import Gathering

SECOND_MS = 1_000


class Sent:
    """What is sent: records of each event, in order. Answers when told to, or at once.

    Upper case goes on, `drop...` is dropped, `fail...` fails.
    """

    def __init__(self) -> None:
        self.events: list[list[list[bytes]]] = []
        self.answers: list[asyncio.Event] = []
        self.waits = False
        self.cancelled = 0
        self.error: Exception | None = None

    async def __call__(self, batches: Sequence[Batch]) -> list[Outcome]:
        number = len(self.events)
        self.events.append([batch.data.to_pylist() for batch in batches])
        self.answers.append(asyncio.Event())
        if self.waits:
            try:
                await self.answers[number].wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        if self.error is not None:
            raise self.error
        return [outcome_of(batch) for batch in batches]


def outcome_of(batch: Batch) -> Outcome:
    records = batch.data.to_pylist()
    fates = np.array([each[:4].decode() if each[:4] in (b"drop", b"fail") else "ok" for each in records])
    ok = batch.take(np.flatnonzero(fates == "ok"))
    bad = batch.take(np.flatnonzero(fates == "fail"))
    failed = FailedRows.of(Stage.TRANSFORM, bad, codes="X", messages="x", attempts=1, ended_ms=0)
    dropped = batch.take(np.flatnonzero(fates == "drop")).row_set() if (fates == "drop").any() else RowSet()
    upper = arrow.binary_column([each.upper() for each in ok.data.to_pylist()])
    return Outcome(ok.with_data(upper), (failed,) if len(bad) else (), dropped)


class Callers:
    """Calls `apply`, with sequences that go up in each shard."""

    def __init__(self, gathering: Gathering) -> None:
        self.gathering = gathering
        self.tasks: list[asyncio.Task[Outcome]] = []
        self.next: dict[str, int] = {}

    def put(self, *records: bytes, shard: str = "one") -> asyncio.Task[Outcome]:
        first = self.next.get(shard, 0)
        self.next[shard] = first + len(records)
        return self.put_at(first, *records, shard=shard)

    def put_at(self, first: int, *records: bytes, shard: str = "one") -> asyncio.Task[Outcome]:
        batch = Batch.of(shard, arrow.binary_column(records), first_sequence=first, arrival_ms=0)
        self.tasks.append(asyncio.create_task(self.gathering.apply(batch)))
        return self.tasks[-1]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def sent() -> Sent:
    return Sent()


Make = Callable[..., Callers]


@pytest.fixture
async def callers_of(clock: FakeClock, sent: Sent) -> AsyncIterator[Make]:
    made: list[Callers] = []

    def callers_of(**options: Any) -> Callers:
        options = {"max_bytes": 10, "max_age_ms": 60 * SECOND_MS, "concurrency": 5} | options
        made.append(Callers(Gathering(sent, name="f", clock=clock, **options)))
        return made[-1]

    yield callers_of
    for each in made:
        await each.gathering.close()
        assert not each.gathering._lanes, "nothing is kept of shards that have no rows here"
        await asyncio.gather(*each.tasks, return_exceptions=True)
    await clock.settle()
    assert asyncio.all_tasks() == {asyncio.current_task()}, "no task is left running"


def records(task: asyncio.Task[Outcome]) -> list[bytes]:
    return list(task.result().ok.data.to_pylist())


# --- when rows are sent ----------------------------------------------------------------------------------------------


async def test_rows_wait_until_the_first_is_old_enough(callers_of: Make, clock: FakeClock, sent: Sent) -> None:
    callers = callers_of()
    first = callers.put(b"a")
    await clock.advance(59 * SECOND_MS)
    second = callers.put(b"b")
    await clock.advance(SECOND_MS - 1)
    assert sent.events == []
    await clock.advance(1)
    assert sent.events == [[[b"a"], [b"b"]]]
    assert (records(first), records(second)) == ([b"A"], [b"B"])
    third = callers.put(b"c")
    await clock.advance(60 * SECOND_MS - 1)
    assert not third.done(), "the next ones have a time of their own"
    await clock.advance(1)
    assert records(third) == [b"C"]


async def test_enough_rows_are_sent_at_once(callers_of: Make, clock: FakeClock, sent: Sent) -> None:
    callers = callers_of()
    callers.put(b"aaaa")
    callers.put(b"bbbbbb")
    await clock.settle()
    assert sent.events == [[[b"aaaa"], [b"bbbbbb"]]]


async def test_rows_that_would_be_too_many_send_those_before_them(
    callers_of: Make, clock: FakeClock, sent: Sent
) -> None:
    callers = callers_of()
    callers.put(b"aaaa")
    second = callers.put(b"bbbb", b"cccc", b"dddd")
    await clock.settle()
    assert sent.events == [[[b"aaaa"], [b"bbbb"]]]
    assert not second.done()
    callers.put(b"ee")
    await clock.settle()
    assert sent.events[1:] == [[[b"cccc", b"dddd"], [b"ee"]]]
    assert records(second) == [b"BBBB", b"CCCC", b"DDDD"]


async def test_a_row_larger_than_all_goes_alone(callers_of: Make, clock: FakeClock, sent: Sent) -> None:
    callers = callers_of()
    callers.put(b"a")
    callers.put(b"b" * 99, b"c")
    await clock.settle()
    assert sent.events == [[[b"a"]], [[b"b" * 99]]]
    await clock.advance(60 * SECOND_MS)
    assert sent.events[2:] == [[[b"c"]]]


async def test_without_a_wait_everything_is_sent_as_it_comes(callers_of: Make, clock: FakeClock, sent: Sent) -> None:
    callers = callers_of(max_age_ms=0)
    for record in (b"a", b"b", b"c"):
        await callers.put(record)
    assert sent.events == [[[b"a"]], [[b"b"]], [[b"c"]]]


async def test_no_rows_are_an_outcome_at_once(callers_of: Make, sent: Sent) -> None:
    outcome = await callers_of().gathering.apply(
        Batch.of("one", arrow.binary_column([]), first_sequence=0, arrival_ms=0)
    )
    assert (len(outcome.ok), sent.events) == (0, [])


async def test_shards_never_meet(callers_of: Make, clock: FakeClock, sent: Sent) -> None:
    callers = callers_of()
    callers.put(b"a", shard="one")
    await clock.advance(SECOND_MS)
    callers.put(b"b", shard="two")
    await clock.advance(59 * SECOND_MS)
    assert sent.events == [[[b"a"]]]
    await clock.advance(SECOND_MS)
    assert sent.events[1:] == [[[b"b"]]]


async def test_rows_that_are_read_again_are_not_sent_with_those_behind_them(
    callers_of: Make, clock: FakeClock, sent: Sent
) -> None:
    callers = callers_of()
    callers.put_at(7, b"a")
    callers.put_at(7, b"a")
    callers.put_at(3, b"b")
    callers.put_at(4, b"c")
    await clock.advance(60 * SECOND_MS)
    assert sent.events == [[[b"a"]], [[b"a"]], [[b"b"], [b"c"]]]


# --- at once ---------------------------------------------------------------------------------------------------------


async def test_while_all_turns_are_taken_rows_are_put_together(callers_of: Make, clock: FakeClock, sent: Sent) -> None:
    sent.waits = True
    callers = callers_of(max_age_ms=0, concurrency=2)
    for record in (b"a", b"b", b"c", b"d", b"e"):
        callers.put(record)
        await clock.settle()
    assert sent.events == [[[b"a"]], [[b"b"]]]
    sent.answers[1].set()
    await clock.settle()
    assert sent.events[2:] == [[[b"c"], [b"d"], [b"e"]]]
    assert [task.done() for task in callers.tasks] == [False, True, False, False, False]


async def test_each_shard_has_turns_of_its_own(callers_of: Make, clock: FakeClock, sent: Sent) -> None:
    sent.waits = True
    callers = callers_of(max_age_ms=0, concurrency=1)
    for shard in ("one", "one", "two"):
        callers.put(b"a", shard=shard)
        await clock.settle()
    assert len(sent.events) == 2, "one is under way for each of the two"


async def test_outcomes_are_put_together_in_the_order_of_the_rows(
    callers_of: Make, clock: FakeClock, sent: Sent
) -> None:
    sent.waits = True
    task = callers_of(max_bytes=8).put(b"aaaa", b"fail", b"drop", b"bbbb", b"fail", b"cccc", b"drop")
    await clock.advance(60 * SECOND_MS)
    for answer in reversed(sent.answers):
        answer.set()
        await clock.settle()
    outcome = task.result()
    assert outcome.ok.data.to_pylist() == [b"AAAA", b"BBBB", b"CCCC"]
    assert [failed.rows.column("sequence").to_pylist() for failed in outcome.failed] == [[1], [4]]
    assert [sequence for _, sequence, _ in outcome.dropped] == [2, 6]


async def test_every_caller_has_its_own_rows_back(callers_of: Make, clock: FakeClock, sent: Sent) -> None:
    callers = callers_of(max_bytes=100)
    tasks = [callers.put(b"fail", b"a"), callers.put(b"drop"), callers.put(b"b", b"fail", b"drop")]
    await clock.advance(60 * SECOND_MS)
    assert len(sent.events) == 1
    outcomes = [task.result() for task in tasks]
    assert [outcome.ok.data.to_pylist() for outcome in outcomes] == [[b"A"], [], [b"B"]]
    assert [sum(len(each) for each in outcome.failed) for outcome in outcomes] == [1, 0, 1]
    assert [[sequence for _, sequence, _ in outcome.dropped] for outcome in outcomes] == [[], [2], [5]]


# --- a flush ---------------------------------------------------------------------------------------------------------


async def test_a_flush_sends_what_waits(callers_of: Make, clock: FakeClock, sent: Sent) -> None:
    callers = callers_of()
    callers.put(b"a", shard="one")
    callers.put(b"b", shard="two")
    await clock.settle()
    callers.gathering.hurry()
    await clock.settle()
    assert sent.events == [[[b"a"]], [[b"b"]]]
    later = callers.put(b"c")
    await clock.settle()
    assert not later.done(), "the next ones wait as usual"


async def test_rows_that_are_still_to_come_can_be_in_a_hurry_too(
    callers_of: Make, clock: FakeClock, sent: Sent
) -> None:
    callers = callers_of()
    callers.gathering.hurry({"one": 1})
    for record in (b"a", b"b", b"c"):
        callers.put(record, shard="one")
        callers.put(record, shard="two")
        await clock.settle()
    assert sent.events == [[[b"a"]], [[b"b"]]]
    callers.gathering.hurry({"one": 5})
    await clock.settle()
    assert sorted(sent.events[2:], key=len) == [[[b"c"]], [[b"a"], [b"b"], [b"c"]]]


# --- failing, and giving up ------------------------------------------------------------------------------------------


async def test_an_error_reaches_every_caller_that_it_concerns(callers_of: Make, clock: FakeClock, sent: Sent) -> None:
    sent.waits = True
    callers = callers_of(max_bytes=8)
    concerned = [callers.put(b"a", b"b"), callers.put(b"cccccc", b"dddd")]
    other = callers.put(b"eeee")
    await clock.settle()
    assert [len(event) for event in sent.events] == [2, 2]
    sent.error = UnavailableError("no process to be had")
    sent.answers[0].set()
    await clock.settle()
    assert [str(task.exception()) for task in concerned] == ["no process to be had"] * 2
    assert not other.done()
    sent.error = None
    sent.answers[1].set()
    assert (await other).ok.data.to_pylist() == [b"EEEE"], "what it was sent with does not matter to it"


async def test_rows_of_a_caller_that_failed_are_not_sent_any_more(
    callers_of: Make, clock: FakeClock, sent: Sent
) -> None:
    sent.error = UnavailableError("no process to be had")
    task = callers_of(concurrency=1).put(b"a" * 10, b"b" * 10, b"c" * 10)
    with pytest.raises(UnavailableError):
        await task
    await clock.advance(60 * SECOND_MS)
    assert len(sent.events) == 1


async def test_a_caller_that_gives_up_takes_its_waiting_rows_along(
    callers_of: Make, clock: FakeClock, sent: Sent
) -> None:
    callers = callers_of()
    tasks = [callers.put(b"a"), callers.put(b"b"), callers.put(b"c")]
    await clock.advance(SECOND_MS)
    tasks[1].cancel()
    await clock.advance(59 * SECOND_MS)
    assert sent.events == [[[b"a"], [b"c"]]]
    tasks = [callers.put(b"d")]
    await clock.settle()
    tasks[0].cancel()
    await clock.advance(60 * SECOND_MS)
    assert len(sent.events) == 1, "nobody is left, so nothing is sent"


async def test_what_is_under_way_goes_on_for_the_other_callers(callers_of: Make, clock: FakeClock, sent: Sent) -> None:
    sent.waits = True
    callers = callers_of(max_bytes=2)
    first, second = callers.put(b"a"), callers.put(b"b")
    await clock.settle()
    first.cancel()
    await clock.settle()
    assert sent.cancelled == 0
    sent.answers[0].set()
    await clock.settle()
    assert records(second) == [b"B"]
    third, fourth = callers.put(b"c"), callers.put(b"d")
    await clock.settle()
    third.cancel()
    fourth.cancel()
    await clock.settle()
    assert sent.cancelled == 1, "nobody waits for it any more"


async def test_after_it_is_closed_nothing_is_sent(callers_of: Make, clock: FakeClock, sent: Sent) -> None:
    sent.waits = True
    callers = callers_of(concurrency=1)
    tasks = [callers.put(b"a" * 10), callers.put(b"b" * 10), callers.put(b"c")]
    await clock.settle()
    await callers.gathering.close()
    errors = [await asyncio.gather(task, return_exceptions=True) for task in tasks]
    assert [str(error) for (error,) in errors] == ["f: closed during the call", "f: closed", "f: closed"]
    assert all(isinstance(error, UnavailableError) for (error,) in errors)
    await clock.advance(60 * SECOND_MS)
    assert (len(sent.events), sent.cancelled) == (1, 1)
    with pytest.raises(UnavailableError, match="f: closed"):
        await callers.put(b"d")


async def test_a_thousand_shards_leave_nothing_behind(callers_of: Make, clock: FakeClock) -> None:
    callers = callers_of()
    tasks = [callers.put(b"a", shard=f"shard-{number}") for number in range(1_000)]
    await clock.advance(60 * SECOND_MS)
    assert all(task.done() for task in tasks)
    assert not callers.gathering._lanes


# --- anything --------------------------------------------------------------------------------------------------------


class Unruly(Sent):
    """Answers in any order, sometimes not at all; holds what is promised against every event."""

    def __init__(self, dice: random.Random) -> None:
        super().__init__()
        self.waits = True
        self.dice = dice
        self.under_way: dict[str, int] = {}

    async def __call__(self, batches: Sequence[Batch]) -> list[Outcome]:
        (shard,) = {batch.shard for batch in batches}
        sequences = [sequence for batch in batches for sequence in batch.sequence.tolist()]
        assert sequences == sorted(set(sequences))
        assert sum(batch.data_bytes for batch in batches) <= 10 or len(sequences) == 1
        self.under_way[shard] = self.under_way.get(shard, 0) + 1
        assert self.under_way[shard] <= 2
        try:
            outcomes = await super().__call__(batches)
            if self.dice.random() < 0.1:
                raise UnavailableError("away")
            return outcomes
        finally:
            self.under_way[shard] -= 1


@pytest.mark.parametrize("seed", range(15))
async def test_whatever_happens_each_caller_has_its_rows_or_an_error(seed: int, clock: FakeClock) -> None:
    dice = random.Random(seed)
    sent = Unruly(dice)
    max_age_ms = dice.choice([0, 5 * SECOND_MS])
    gathering = Gathering(sent, name="f", max_bytes=10, max_age_ms=max_age_ms, concurrency=2, clock=clock)
    callers, given = Callers(gathering), []
    for _ in range(80):
        step = dice.random()
        if step < 0.5:
            given.append(
                [dice.choice([b"a", b"bb", b"drop", b"fail", b"", b"c" * 12]) for _ in range(dice.randrange(1, 6))]
            )
            callers.put(*given[-1], shard=dice.choice(["one", "two"]))
        elif step < 0.8 and sent.answers:
            dice.choice(sent.answers).set()
        elif step < 0.85 and callers.tasks:
            dice.choice(callers.tasks).cancel()
        elif step < 0.9:
            gathering.hurry({"one": callers.next.get("one", 0)})
        await clock.advance(dice.choice([0, 0, SECOND_MS, 4 * SECOND_MS]))
    sent.waits = False
    for answer in sent.answers:
        answer.set()
    await clock.advance(5 * SECOND_MS)
    assert all(task.done() for task in callers.tasks)
    assert not gathering._lanes
    for records_given, task in zip(given, callers.tasks, strict=True):
        if not task.cancelled() and task.exception() is None:
            assert records(task) == [each.upper() for each in records_given if each[:4] not in (b"drop", b"fail")]
    done = [not task.cancelled() and task.exception() is None for task in callers.tasks]
    assert sum(done) > len(done) / 3
