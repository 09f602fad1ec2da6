"""What every state store keeps of objects: intents until they stand, and manifests from then on."""

from __future__ import annotations

import numpy as np

from firehose.clock import HOUR_MS
from firehose.records import RowSet
from firehose.state import (
    DropIntent,
    FinishIntent,
    ForgetManifests,
    Manifest,
    PutStream,
    RemoveStream,
    SaveIntents,
    Term,
)
from firehose.stores.sqlite import SqliteStateStore
from tests.contract.states import HOUR, Open, intent, opened, stream


async def test_an_intent_comes_back_whole_and_in_order(store: SqliteStateStore, open_store: Open) -> None:
    rows = RowSet.of_whole("s", [3, 5, 2**40])
    rows.add("t", np.array([1, 1]), np.array([0, 7]))
    intents = (intent("b", rows), intent("a", outlet="failed", term=Term.FAILED, content_encoding=None))
    await store.apply(SaveIntents(intents))
    async with opened(open_store) as again:
        assert (await again.load("u1")).intents == intents
        assert (await again.load("u2")).intents == ()


async def test_an_intent_is_replaced_by_its_next_attempt(store: SqliteStateStore) -> None:
    await store.apply(SaveIntents((intent(),)))
    second = intent(rows=RowSet.of_range("s", 0, 4), attempt=2, path="1.objects")
    await store.apply(SaveIntents((second,)))
    assert (await store.load("u1")).intents == (second,)


async def test_a_finished_intent_is_a_manifest_and_no_intent_any_more(store: SqliteStateStore) -> None:
    await store.apply(SaveIntents((intent(),)))
    await store.apply(FinishIntent(intent(), HOUR + 77))
    assert (await store.load("u1")).intents == ()
    (manifest,) = await store.manifests("u1", "destination")
    assert (manifest.intent, manifest.finished_ms) == (intent(), HOUR + 77)
    assert await store.manifests("u1", "failed") == await store.manifests("u2", "destination") == []


async def test_the_last_manifest_is_that_of_the_object_that_stood_last(store: SqliteStateStore) -> None:
    assert await store.last_manifest("u1", "destination") is None
    for key, finished_ms in (("a", HOUR + 1), ("b", HOUR + 3), ("c", HOUR + 2)):
        await store.apply(SaveIntents((intent(key),)), FinishIntent(intent(key), finished_ms))
    await store.apply(SaveIntents((intent("d"),)))
    assert await store.last_manifest("u1", "destination") == Manifest(intent("b"), HOUR + 3)
    assert await store.last_manifest("u1", "failed") is await store.last_manifest("u2", "destination") is None


async def test_manifests_come_in_pages_by_their_keys(store: SqliteStateStore) -> None:
    for key in "dacbe":
        await store.apply(SaveIntents((intent(key),)))
        if key != "e":
            await store.apply(FinishIntent(intent(key), HOUR))
    pages, after = [], ""
    while page := await store.manifest_page("u1", "destination", after=after, limit=3):
        pages.append([each.intent.key for each in page])
        after = pages[-1][-1]
    assert pages == [["a", "b", "c"], ["d"]]
    assert await store.manifest_page("u1", "failed", after="", limit=3) == []


async def test_a_manifest_says_what_stands_after_all(store: SqliteStateStore) -> None:
    await store.apply(SaveIntents((intent(),)))
    stands = intent(rows=RowSet.of_range("s", 0, 4), checksum="b0ffee", body_bytes=50, metadata={"a": "b"})
    await store.apply(FinishIntent(stands, HOUR))
    assert [each.intent for each in await store.manifests("u1", "destination")] == [stands]


async def test_earlier_attempts_are_kept_with_their_rows(store: SqliteStateStore) -> None:
    first, second = intent(), intent(rows=RowSet.of_range("s", 0, 4), attempt=2)
    third = intent(rows=RowSet.of_range("s", 2, 3), attempt=3, earlier=(first, second))
    await store.apply(SaveIntents((third,)))
    (found,) = (await store.load("u1")).intents
    assert found == third and found.attempts == (first, second, third)


async def test_a_dropped_intent_is_gone_but_a_manifest_cannot_be_dropped(store: SqliteStateStore) -> None:
    await store.apply(SaveIntents((intent("a"), intent("b"))))
    await store.apply(DropIntent(intent("a")), FinishIntent(intent("b"), HOUR))
    await store.apply(DropIntent(intent("b")))
    assert (await store.load("u1")).intents == ()
    assert [each.intent.key for each in await store.manifests("u1", "destination")] == ["b"]


async def test_manifests_come_oldest_first_and_from_a_time_on(store: SqliteStateStore) -> None:
    hours = {"c": HOUR + 2 * HOUR_MS, "a": HOUR, "b": HOUR + HOUR_MS}
    for key, hour in hours.items():
        await store.apply(SaveIntents((intent(key, hours={hour: 1}),)), FinishIntent(intent(key), 1))
    assert [each.intent.key for each in await store.manifests("u1", "destination")] == ["a", "b", "c"]
    late = await store.manifests("u1", "destination", since_ms=HOUR + HOUR_MS + 1)
    assert [each.intent.key for each in late] == ["b", "c"], "an hour is left out once all of it is too old"


async def test_old_manifests_of_one_outlet_are_forgotten_and_those_of_removed_streams(store: SqliteStateStore) -> None:
    await store.apply(PutStream(stream()), PutStream(stream("u2", "views")))
    for uid in ("u1", "u2"):
        for outlet in ("destination", "failed"):
            for key, finished_ms in (("old", HOUR - 1), ("new", HOUR), ("open", None)):
                each = intent(key, stream=uid, outlet=outlet, term=Term(outlet.replace("destination", "delivered")))
                await store.apply(SaveIntents((each,)))
                if finished_ms is not None:
                    await store.apply(FinishIntent(each, finished_ms))
    await store.apply(ForgetManifests("destination", HOUR), RemoveStream("u2"))
    await store.apply(ForgetManifests("nowhere", HOUR))

    async def kept(uid: str, outlet: str) -> list[str]:
        return sorted(each.intent.key for each in await store.manifests(uid, outlet))

    assert (await kept("u1", "destination"), await kept("u1", "failed")) == (["new"], ["new", "old"])
    assert (await kept("u2", "destination"), await kept("u2", "failed")) == (["new"], ["new"])
    assert [(each.outlet, each.key) for each in (await store.load("u1")).intents] == [
        ("destination", "open"),
        ("failed", "open"),
    ]


async def test_manifests_are_forgotten_a_part_at_a_time_oldest_first(store: SqliteStateStore) -> None:
    intents = tuple(intent(f"key-{number:04}") for number in range(2_500))
    await store.apply(SaveIntents(intents), *(FinishIntent(each, number) for number, each in enumerate(intents)))
    counts = []
    for _ in range(4):
        await store.apply(ForgetManifests("destination", 2_400))
        left = sorted(each.intent.key for each in await store.manifests("u1", "destination"))
        assert left == [each.key for each in intents[-len(left) :]]
        counts.append(len(left))
    assert counts == [1_500, 500, 100, 100]


async def test_many_intents_in_one_transaction(store: SqliteStateStore) -> None:
    intents = tuple(intent(f"key-{number:04}") for number in range(500))
    await store.apply(SaveIntents(intents))
    await store.apply(
        *(FinishIntent(each, HOUR) for each in intents[:250]), *(DropIntent(each) for each in intents[400:])
    )
    assert [each.key for each in (await store.load("u1")).intents] == [each.key for each in intents[250:400]]
