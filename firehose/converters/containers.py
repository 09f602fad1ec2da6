"""The cells of types with types inside: what reads one kind of value as an array, a map or a struct."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from firehose.converters.book import EXTRA_ITEM, UNKNOWN_KEY, Book, Rule, Rules
from firehose.converters.failures import MismatchError, quoted
from firehose.converters.json_text import Pairs, Value, compact
from firehose.converters.scalars import unfit
from firehose.errors import InvalidError
from firehose.hive_types import INVALID_SCHEMA, Array, Map, Struct

#: How many spellings of keys are remembered for each struct, and how long they may be: half a megabyte at the most,
#: whatever keys records make up.
_MAX_SPELLINGS = 4096
_MAX_SPELLING_LENGTH = 128


# --- arrays ----------------------------------------------------------------------------------------------------------


def each_item(book: Book, this: Array) -> Rule:
    """An array is its items."""
    items = book.of(this.item)

    def read(value: list[Value]) -> list[Any]:
        found: list[Any] = []
        try:
            for item in value:
                found.append(items[type(item)](item))
        except MismatchError as error:
            raise error.within(f"[{len(found)}]") from None
        return found

    return read


def one_item(book: Book, this: Array) -> Rule:
    """4.5: a scalar or an object for an array is its one item."""
    items = book.of(this.item)

    def read(value: Value) -> list[Any]:
        return [items[type(value)](value)]

    return read


# --- maps ------------------------------------------------------------------------------------------------------------


def each_pair(book: Book, this: Map) -> Rule:
    """An object is its pairs, its keys read as the type of keys. Ours: a key given twice fails the record."""
    read_key, values = book.of_key(this.key), book.of(this.value)

    def read(pairs: Pairs) -> list[tuple[Any, Any]]:
        found: dict[Any, Any] = {}
        key = ""
        try:
            for key, value in pairs:
                try:
                    name = read_key(key)
                except MismatchError as error:
                    raise error.of_key(str(this)) from None
                if name in found:
                    raise _duplicate(key)
                found[name] = values[type(value)](value)
        except MismatchError as error:
            raise error.within(f"['{quoted(key)}']") from None
        return list(found.items())

    return read


# --- structs ---------------------------------------------------------------------------------------------------------


def by_key(book: Book, this: Struct) -> Rule:
    """4.3, 4.5: a field is fed by its key, NULL where there is none. Ours: a key given twice fails the record.

    Keys without a field are ignored, and counted.
    """
    by_spelling, remark, fold = _Spellings(book, _members(book, this)), book.remark, book.fold

    def read(pairs: Pairs) -> dict[str, Any]:
        found: dict[str, Any] = {}
        name: str | None = None
        try:
            for key, value in pairs:
                name, rules = by_spelling[key]
                if name is None:
                    remark(UNKNOWN_KEY)
                elif name in found:
                    raise _duplicate(fold(key))
                else:
                    found[name] = rules[type(value)](value)
        except MismatchError as error:
            raise error.within(name or "") from None
        return found

    return read


def by_place(book: Book, this: Struct) -> Rule:
    """4.5: an array fills a struct by position; fields without an item are NULL, extra items ignored, and counted."""
    members, remark = _members(book, this), book.remark

    def read(items: list[Value]) -> dict[str, Any]:
        for _ in range(len(items) - len(members)):
            remark(EXTRA_ITEM)
        found: dict[str, Any] = {}
        for (name, rules), item in zip(members, items, strict=False):
            try:
                found[name] = rules[type(item)](item)
            except MismatchError as error:
                raise error.within(name) from None
        return found

    return read


def no_struct(book: Book, this: Struct) -> Rule:
    """4.5: a scalar for a struct fails, in these words (two blanks), with the class that Java reads it as."""

    def refuse(value: str | bytes | bool) -> Any:
        match value:
            case str():
                java = "String"
            case bytes():
                java = "Long" if value.lstrip(b"-").isdigit() else "Double"
            case bool():
                java = "Boolean"
        shown = value if isinstance(value, str) else compact(value)
        words = f"Data is not JSONObject  but java.lang.{java} with value {quoted(shown)}"
        raise unfit(value, this, firehose=words)

    return refuse


#: A field's name and its rules.
_Member = tuple[str, Rules]
_NO_MEMBER: tuple[None, Rules] = (None, {})


def _members(book: Book, this: Struct) -> list[_Member]:
    return [(name, book.of(each)) for name, each in this.fields]


class _Spellings(dict[str, _Member | tuple[None, Rules]]):
    """The member that each spelling of a key feeds; learnt as spellings come, so that most keys cost one look-up."""

    def __init__(self, book: Book, members: Sequence[_Member]) -> None:
        super().__init__()
        self._table, self._fold = book.table, book.fold
        self._by_key: dict[str, _Member] = {}
        self._by_dotted_key: dict[str, _Member] = {}
        for member in members:
            name = member[0].lower()
            mapped = book.json_keys.get(name)
            if mapped is not None:
                book.used_names.add(name)
            elif book.dots_to_underscores:
                self._by_dotted_key[book.fold(member[0])] = member
            self._add(book.fold(mapped or member[0]), member)

    def _add(self, key: str, member: _Member) -> None:
        other = self._by_key.setdefault(key, member)
        if other is not member:
            message = f"the JSON key {key!r} feeds both {other[0]!r} and {member[0]!r}; map one of them to another key"
            raise InvalidError(f"{self._table}: {message}", code=INVALID_SCHEMA)

    def __missing__(self, spelling: str) -> _Member | tuple[None, Rules]:
        key = self._fold(spelling)
        member = self._by_key.get(key)
        if member is None and "." in key:
            member = self._by_dotted_key.get(key.replace(".", "_"))
        if len(self) < _MAX_SPELLINGS and len(spelling) <= _MAX_SPELLING_LENGTH:
            self[spelling] = member or _NO_MEMBER
        return member or _NO_MEMBER


def _duplicate(key: str) -> MismatchError:
    return MismatchError(f'duplicate key "{quoted(key)}".')
