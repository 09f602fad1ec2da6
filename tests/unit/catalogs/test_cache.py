"""What catalogs said is believed for a minute, within a bound, and asked for once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from firehose.catalogs.cache import BELIEVED_MS, MAX_KNOWN, Believed, Name, Recent
from firehose.errors import ThrottledError
from firehose.protocols import TableSchema
from firehose.testing import FakeClock

CLICKS: Name = ("web", "clicks", "LATEST")


def schema(version: int = 1) -> TableSchema:
    return TableSchema("web", "clicks", str(version), (("a", "int"),))


class Asked:
    """A catalog that answers when it is told to, and counts how often it was asked."""

    def __init__(self) -> None:
        self.times = 0
        self.answer: asyncio.Future[TableSchema] = asyncio.get_running_loop().create_future()

    async def __call__(self) -> TableSchema:
        self.times += 1
        return await asyncio.shield(self.answer)


def answering(*answers: TableSchema | Exception) -> Callable[[], Awaitable[TableSchema]]:
    left = list(answers)

    async def ask() -> TableSchema:
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return ask


async def settle() -> None:
    await FakeClock().settle()


async def test_an_answer_is_believed_for_a_minute() -> None:
    clock = FakeClock()
    tables, ask = Believed(clock), answering(schema(1), schema(2))
    assert (await tables.get(CLICKS, ask)).version == "1"
    await clock.advance(BELIEVED_MS - 1)
    assert (await tables.get(CLICKS, ask)).version == "1"
    await clock.advance(1)
    assert (await tables.get(CLICKS, ask)).version == "2"


async def test_what_was_said_before_is_not_used_where_the_catalog_cannot_be_asked() -> None:
    clock = FakeClock()
    tables, ask = Believed(clock), answering(schema(1), ThrottledError("slow down"), schema(2))
    await tables.get(CLICKS, ask)
    await clock.advance(BELIEVED_MS)
    with pytest.raises(ThrottledError):
        await tables.get(CLICKS, ask)
    assert (await tables.get(CLICKS, ask)).version == "2", "an error is not remembered"


async def test_the_minute_begins_when_the_question_is_asked() -> None:
    clock = FakeClock()
    tables, asked = Believed(clock), Asked()
    first = asyncio.create_task(tables.get(CLICKS, asked))
    await clock.advance(BELIEVED_MS)
    asked.answer.set_result(schema(1))
    await first
    assert (await tables.get(CLICKS, answering(schema(2)))).version == "2"


async def test_a_table_is_asked_for_once_however_many_want_it() -> None:
    tables, asked = Believed(FakeClock()), Asked()
    many = [asyncio.create_task(tables.get(CLICKS, asked)) for _ in range(50)]
    other = await tables.get(("web", "clicks", "1"), answering(schema(9)))
    assert other.version == "9", "another version is another question"
    asked.answer.set_result(schema(1))
    assert {found.version for found in await asyncio.gather(*many)} == {"1"}
    assert asked.times == 1


async def test_who_waited_gets_the_same_error_as_a_thing_of_his_own() -> None:
    tables, asked = Believed(FakeClock()), Asked()
    many = [asyncio.create_task(tables.get(CLICKS, asked)) for _ in range(3)]
    await settle()
    asked.answer.set_exception(ThrottledError("slow down", code="X", retry_after_ms=7))
    errors = await asyncio.gather(*many, return_exceptions=True)
    for error in errors:
        assert isinstance(error, ThrottledError) and (error.code, error.retry_after_ms) == ("X", 7)
        error.say_more("more")
    assert [str(error) for error in errors] == ["slow down; more"] * 3
    assert asked.times == 1


@pytest.mark.parametrize("ends", ["stopped", "a bug"])
async def test_where_the_one_who_asked_ends_another_asks(ends: str) -> None:
    tables, asked = Believed(FakeClock()), Asked()
    first = asyncio.create_task(tables.get(CLICKS, asked))
    await settle()
    second = asyncio.create_task(tables.get(CLICKS, answering(schema(2))))
    await settle()
    if ends == "stopped":
        first.cancel()
    else:
        asked.answer.set_exception(ZeroDivisionError())
    assert (await second).version == "2"
    with pytest.raises((asyncio.CancelledError, ZeroDivisionError)):
        await first


async def test_a_stopped_caller_does_not_stop_the_question() -> None:
    tables, asked = Believed(FakeClock()), Asked()
    first = asyncio.create_task(tables.get(CLICKS, asked))
    await settle()
    second = asyncio.create_task(tables.get(CLICKS, asked))
    await settle()
    second.cancel()
    await settle()
    asked.answer.set_result(schema(1))
    assert (await first).version == "1" and second.cancelled()


async def test_what_was_put_is_not_overwritten_by_an_older_answer() -> None:
    tables, asked = Believed(FakeClock()), Asked()
    first = asyncio.create_task(tables.get(CLICKS, asked))
    await settle()
    tables.put(CLICKS, schema(2))
    asked.answer.set_result(schema(1))
    assert (await first).version == "1", "it asked before"
    assert (await tables.get(CLICKS, answering())).version == "2"


async def test_so_many_tables_are_remembered_and_the_one_unused_for_longest_goes() -> None:
    tables = Believed(FakeClock())
    names = [("web", str(number), "LATEST") for number in range(MAX_KNOWN + 1)]
    for name in names[:-1]:
        await tables.get(name, answering(schema()))
    await tables.get(names[0], answering())
    await tables.get(names[-1], answering(schema()))
    await tables.get(names[0], answering())
    assert (await tables.get(names[1], answering(schema(2)))).version == "2", "it was forgotten"


def test_recent_values_within_a_bound() -> None:
    values: Recent[str, int] = Recent(2)
    values.put("a", 1)
    values.put("b", 2)
    values.put("a", 3)
    values.put("c", 4)
    assert (values.get("a"), values.get("b"), values.get("c"), len(values)) == (3, None, 4, 2)
