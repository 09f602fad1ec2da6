"""What every state store promises: all or nothing, durable, fenced, and the same story after it is opened again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from firehose.clock import HOUR_MS
from firehose.errors import FirehoseError, StaleEpochError
from firehose.records import RowSet
from firehose.state import (
    AddToAccount,
    BankSegment,
    Change,
    Done,
    FinishIntent,
    FinishReplay,
    ForgetSegments,
    ForgetShard,
    LetSegmentsGo,
    PutStream,
    RemoveStream,
    SaveDone,
    SaveIntents,
    SaveReplay,
    Term,
)
from firehose.stores.sqlite import SqliteStateStore
from tests.contract.states import HOUR, Open, account, intent, opened, stream

# --- streams ---------------------------------------------------------------------------------------------------------


async def test_a_stream_is_found_again_as_it_was_put(store: SqliteStateStore, open_store: Open) -> None:
    record = replace(stream(), origin="api", updated_ms=HOUR + 5, is_paused=True, is_orphaned=True, is_deleted=True)
    await store.apply(PutStream(record), PutStream(stream("u2", "views")))
    await store.apply(PutStream(replace(record, version=2, is_paused=False)))
    async with opened(open_store) as again:
        assert await again.streams() == [replace(record, version=2, is_paused=False), stream("u2", "views")]
        assert await again.removed_streams() == {}


async def test_a_removed_stream_leaves_its_account_and_manifests_and_its_name(store: SqliteStateStore) -> None:
    sent, open_ = intent("sent"), intent("open", RowSet.of_range("s", 10, 19))
    await store.apply(PutStream(stream()), PutStream(stream("u2", "clicks")))
    await store.apply(
        SaveIntents((sent, open_)),
        FinishIntent(sent, HOUR),
        SaveDone("u1", "s", "destination", 9, {1: RowSet.of_range("s", 70_000, 70_001).to_bytes()}),
        SaveReplay("u1", "t", RowSet.of_range("s", 0, 1), {HOUR: 2}),
        AddToAccount("u1", "destination", Term.DELIVERED, {HOUR: 10}),
        SaveDone("u2", "s", "destination", 3, {}),
    )
    await store.apply(AddToAccount("u1", "destination", Term.DISCARDED, {HOUR: 10}), RemoveStream("u1"))
    assert await store.streams() == [stream("u2", "clicks")]
    assert await store.removed_streams() == {"u1": "clicks"}
    found = await store.load("u1")
    assert (found.done, found.intents) == ((), ())
    assert await store.replays("u1") == (RowSet(), [])
    assert [each.intent for each in await store.manifests("u1", "destination")] == [sent]
    assert (await account(store))["u1", "destination", HOUR, Term.DISCARDED] == 10
    assert (await store.load("u2")).done == (Done("s", "destination", 3, RowSet()),)


async def test_removing_a_stream_twice_or_one_that_never_was_changes_nothing(store: SqliteStateStore) -> None:
    await store.apply(PutStream(stream()))
    await store.apply(RemoveStream("u1"))
    await store.apply(RemoveStream("u1"), RemoveStream("never"))
    assert await store.removed_streams() == {"u1": "clicks"}


# --- done rows -------------------------------------------------------------------------------------------------------


async def test_done_rows_are_kept_in_chunks(store: SqliteStateStore, open_store: Open) -> None:
    first, second = RowSet.of_range("s", 20, 29), RowSet.of_whole("s", [70_000, 2**33])
    await store.apply(SaveDone("u1", "s", "destination", 9, {0: first.to_bytes(), 1: second.to_bytes()}))
    assert (await store.load("u1")).done == (Done("s", "destination", 9, first | second),)
    await store.apply(SaveDone("u1", "s", "destination", 29, {0: None}))
    async with opened(open_store) as again:
        assert (await again.load("u1")).done == (Done("s", "destination", 29, second),)
        assert (await again.snapshot()).done == {"u1": (Done("s", "destination", 29, second),)}


async def test_shards_and_outlets_do_not_mix(store: SqliteStateStore) -> None:
    for shard, outlet, position in (("s", "destination", 1), ("s", "backup", 2), ("t", "destination", 3)):
        await store.apply(SaveDone("u1", shard, outlet, position, {0: RowSet.of_whole(shard, [9]).to_bytes()}))
    await store.apply(ForgetShard("u1", "s"))
    assert (await store.load("u1")).done == (Done("t", "destination", 3, RowSet.of_whole("t", [9])),)


# --- accounts --------------------------------------------------------------------------------------------------------


async def test_accounts_add_up_by_stream_outlet_hour_and_term(store: SqliteStateStore) -> None:
    await store.apply(
        AddToAccount("u1", "destination", Term.FAILED, {HOUR: 5, HOUR + HOUR_MS: 1}),
        AddToAccount("u1", "destination", Term.FAILED, {HOUR: -2}),
        AddToAccount("u1", "backup", Term.FAILED, {HOUR: 7}),
        AddToAccount("u2", "destination", Term.DELIVERED, {HOUR: 9}),
        AddToAccount("u2", "destination", Term.EXPIRED, {HOUR: 1}),
        AddToAccount("u2", "destination", Term.EXPIRED, {HOUR: -1}),
    )
    assert await account(store) == {
        ("u1", "destination", HOUR, Term.FAILED): 3,
        ("u1", "destination", HOUR + HOUR_MS, Term.FAILED): 1,
        ("u1", "backup", HOUR, Term.FAILED): 7,
        ("u2", "destination", HOUR, Term.DELIVERED): 9,
    }


async def test_a_segment_is_banked_once_whoever_says_so(store: SqliteStateStore, open_store: Open) -> None:
    accepted = {"u1": {HOUR: 3}, "u2": {HOUR: 4}}
    await store.apply(BankSegment("seg-1", accepted, "1"))
    await store.apply(BankSegment("seg-1", accepted, "x"), BankSegment("seg-2", {"u1": {HOUR: 10}}, "2"))
    async with opened(open_store) as again:
        await again.apply(BankSegment("seg-2", {"u1": {HOUR: 10}}, "y"))
        assert await again.banked_segments() == {"seg-1": "1", "seg-2": "2"}
        assert await account(again) == {("u1", "", HOUR, Term.ACCEPTED): 13, ("u2", "", HOUR, Term.ACCEPTED): 4}


async def test_a_segment_loses_its_books_before_it_is_forgotten(store: SqliteStateStore, open_store: Open) -> None:
    names = [f"seg-{number}" for number in range(4)]
    await store.apply(*(BankSegment(name, {"u1": {HOUR: 1}}, "books") for name in names))
    await store.apply(LetSegmentsGo(("seg-1", "seg-2", "nobody knows it")))
    await store.apply(ForgetSegments(("seg-2", "seg-3", "nobody knows it")))
    async with opened(open_store) as again:
        assert await again.banked_segments() == {"seg-0": "books", "seg-1": ""}
        await again.apply(BankSegment("seg-1", {"u1": {HOUR: 1}}, "books"))
        assert await again.banked_segments() == {"seg-0": "books", "seg-1": ""}, "it was banked once and let go"
        assert await account(again) == {("u1", "", HOUR, Term.ACCEPTED): 4}


# --- replays ---------------------------------------------------------------------------------------------------------


async def test_a_replay_is_unknown_until_its_end_is_known(store: SqliteStateStore, open_store: Open) -> None:
    rows = [RowSet.of_whole("s", [number]) for number in range(3)]
    plans = [SaveReplay("u1", f"t{number}", each, {HOUR: 1}) for number, each in enumerate(rows)]
    await store.apply(*plans)
    assert await store.replays("u1") == (RowSet(), plans)
    await store.apply(FinishReplay("u1", "t0", entered=True), FinishReplay("u1", "t1", entered=False))
    async with opened(open_store) as again:
        assert await again.replays("u1") == (rows[0], [plans[2]])
        assert await again.replays("u2") == (RowSet(), [])


async def test_the_end_of_a_replay_does_not_change_any_more(store: SqliteStateStore) -> None:
    plan = SaveReplay("u1", "t", RowSet.of_whole("s", [1]), {HOUR: 1})
    await store.apply(plan, FinishReplay("u1", "t", entered=True))
    await store.apply(FinishReplay("u1", "t", entered=False))
    assert await store.replays("u1") == (plan.rows, [])


async def test_replays_add_up(store: SqliteStateStore) -> None:
    for number in range(5):
        rows = RowSet.of_whole("s", range(number * 10, number * 10 + 10))
        await store.apply(SaveReplay("u1", f"t{number}", rows, {}), FinishReplay("u1", f"t{number}", entered=True))
    finished, unknown = await store.replays("u1")
    assert (finished, unknown) == (RowSet.of_range("s", 0, 49), [])


# --- all or nothing --------------------------------------------------------------------------------------------------


async def test_a_change_that_fails_takes_the_others_with_it(store: SqliteStateStore, open_store: Open) -> None:
    twice = SaveReplay("u1", "t", RowSet.of_whole("s", [1]), {HOUR: 1})
    await store.apply(PutStream(stream()), twice)
    before = await everything(store)
    some: list[Change] = [
        PutStream(stream("u2", "views")),
        RemoveStream("u1"),
        SaveIntents((intent(),)),
        SaveDone("u1", "s", "destination", 9, {0: RowSet.of_whole("s", [12]).to_bytes()}),
        AddToAccount("u1", "destination", Term.DELIVERED, {HOUR: 10}),
        BankSegment("seg-1", {"u1": {HOUR: 10}}, "books"),
    ]
    with pytest.raises(FirehoseError):
        await store.apply(*some, SaveReplay("u3", "t", twice.rows, {}), SaveReplay("u3", "t", twice.rows, {}), *some)
    assert await everything(store) == before
    await store.apply(*some)
    async with opened(open_store) as again:
        assert await everything(again) != before, "the store goes on after a change that failed"


async def everything(store: SqliteStateStore) -> tuple[object, ...]:
    """Return all that can be asked."""
    uids = ("u1", "u2", "u3")
    return (
        await store.streams(),
        await store.removed_streams(),
        [await store.load(uid) for uid in uids],
        [await store.replays(uid) for uid in uids],
        await account(store),
        await store.banked_segments(),
    )


async def test_no_changes_are_no_change(store: SqliteStateStore) -> None:
    await store.apply()
    assert await store.streams() == []


# --- fencing ---------------------------------------------------------------------------------------------------------


async def test_a_writer_that_was_replaced_writes_nothing_more(store: SqliteStateStore, open_store: Open) -> None:
    await store.apply(PutStream(stream()))
    async with opened(open_store) as successor:
        with pytest.raises(StaleEpochError):
            await store.apply(PutStream(stream("u2", "views")))
        with pytest.raises(StaleEpochError):
            await store.apply()
        await successor.apply(PutStream(stream("u3", "logs")))
        assert [each.uid for each in await store.streams()] == ["u1", "u3"], "reading is still allowed"


# --- size ------------------------------------------------------------------------------------------------------------


async def test_sets_of_many_rows_stay_small_and_exact(store: SqliteStateStore) -> None:
    runs = RowSet.of_range("s", 0, 9_999_999)
    odd = RowSet.of_whole("s", range(1, 200_000, 2))
    await store.apply(SaveIntents((intent(rows=runs),)))
    await store.apply(SaveDone("u1", "s", "destination", -1, {0: odd.to_bytes()}))
    found = await store.load("u1")
    assert found.intents[0].rows == runs
    assert found.done[0].beyond == odd
    assert len(runs.to_bytes()) < 10_000
