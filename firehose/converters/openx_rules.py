"""OpenX: what every JSON value becomes in every type of a column. This is the specification; nothing else decides.

    column type        object      array       string            number           true, false   null, no key
    boolean            fails       fails       "true", "false"   fails            itself        NULL
    tinyint .. bigint  fails       fails       its digits        if whole         fails         NULL
    float, double      fails       fails       its number        nearest          fails         NULL
    decimal(p,s)       fails       fails       its number        exactly          fails         NULL
    string             its JSON    its JSON    itself            as written       as written    NULL
    char(n) varchar(n) the string's text, cut to n characters and counted                       NULL
    binary             fails       fails       its base64        fails            fails         NULL
    timestamp, date    fails       fails       see `times`       see `times`      fails         NULL
    array<T>           one item    each item   one item          one item         one item      NULL
    map<K,V>           each pair   fails       fails             fails            fails         NULL
    struct<...>        by key      by place    fails             fails            fails         NULL

Nothing becomes NULL but null and what is not there. What a type cannot hold to the last digit fails the record, where
Firehose wraps round or rounds in silence; what is cut or ignored on purpose is counted in the remarks.

With `case_insensitive`, keys are lower-cased at every depth: for matching, as keys of maps where these are text, and in
objects that become text. A key for the same field, or of the same map, given twice fails the record, as two values
cannot both be kept; in objects that become text both stay. Keys without a field are ignored and counted.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from firehose.converters import numbers, times
from firehose.converters.failures import MismatchError, quoted, unreadable
from firehose.converters.json_text import ARRAY, BOOLEAN, KINDS, NULL, NUMBER, OBJECT, STRING, Pairs, Value, compact
from firehose.errors import InvalidError
from firehose.hive_types import INVALID_SCHEMA, Array, Decimal, HiveType, Map, Primitive, Struct, Text

#: What reads a value of one kind; a MismatchError fails the record.
Rule = Callable[[Any], Any]
#: A column's rules by the kind of the value.
Rules = Mapping[type, Rule]

# What is ignored or cut on purpose, and counted.
UNKNOWN_KEY, EXTRA_ITEM, CUT_TEXT, CUT_TIME = "unknown_key", "extra_item", "cut_text", "cut_time"

#: How many spellings of keys are remembered for each struct, and how long they may be: half a megabyte at the most,
#: whatever keys records make up.
_MAX_SPELLINGS = 4096
_MAX_SPELLING_LENGTH = 128


@dataclass(frozen=True)
class OpenXRules:
    """The options, and a rule book made from them for each type. `remark` is told each word of what was left out.

    `table` is what errors call the table.
    """

    table: str
    case_insensitive: bool
    dots_to_underscores: bool
    json_keys: Mapping[str, str]
    remark: Callable[[str], None]
    #: Which of `json_keys` some field of the table uses.
    used_names: set[str] = field(default_factory=set)

    def fold(self, key: str) -> str:
        return key.lower() if self.case_insensitive else key

    def of(self, hive_type: HiveType) -> Rules:
        """Return the rules of one type, each kind of value with its own."""
        match hive_type:
            case Struct():
                return self._struct(hive_type)
            case Map():
                return self._map(hive_type)
            case Array():
                return self._array(hive_type)
            case Text():
                return self._cut_text(hive_type)
            case Decimal(precision, scale):
                read = numbers.decimals(precision, scale)
                number_in = _if_number(read, str(hive_type))
                return _rules(hive_type, number=lambda text: read(text.decode()), string=number_in)
            case Primitive(word):
                return self._primitive(word)

    def _primitive(self, word: str) -> Rules:
        this = Primitive(word)
        match word:
            case "boolean":
                return _rules(this, boolean=bool, string=_boolean_from_text)
            case "tinyint" | "smallint" | "int" | "bigint":
                return _rules(this, number=numbers.integers(word), string=numbers.integers_from_text(word))
            case "float" | "double":
                return _rules(this, number=numbers.floats(word), string=numbers.floats_from_text(word))
            case "string":
                return self._text(this)
            case "binary":
                return _rules(this, string=_bytes_from_base64)
            case "timestamp":
                return self._timestamp(this)
            case "date":
                return self._date(this)
        raise AssertionError(f"no rules for {word}")

    def _text(self, this: HiveType) -> Rules:
        """OpenX: an object or array in a string column is its JSON text, with keys lower-cased as everywhere."""

        def as_json(value: Value) -> str:
            return compact(value, lower_keys=self.case_insensitive)

        return _rules(
            this, object_=as_json, array=as_json, string=str, number=bytes.decode, boolean=_BOOLEAN_TEXTS.__getitem__
        )

    def _cut_text(self, this: Text) -> Rules:
        """OpenX: text longer than a char or varchar is cut to its length in characters."""

        def cutting(read: Rule) -> Rule:
            def cut(value: Value) -> str:
                text: str = read(value)
                if len(text) > this.length:
                    self.remark(CUT_TEXT)
                return text[: this.length]

            return cut

        plain = self._text(this)
        return {kind: plain[kind] if kind is NULL else cutting(plain[kind]) for kind in KINDS}

    def _timestamp(self, this: HiveType) -> Rules:
        """OpenX: a timestamp is a text or a number; microseconds are kept, finer digits are cut and counted."""
        return _rules(
            this,
            string=self._counting_cuts(times.micros_of_text),
            number=self._counting_cuts(lambda number: times.micros_of_number(number.decode())),
        )

    def _date(self, this: HiveType) -> Rules:
        """OpenX: a date is read as a timestamp is, or from a day alone; a time of day is cut and counted."""
        return _rules(
            this,
            string=self._counting_cuts(times.days_of_text),
            number=self._counting_cuts(lambda number: times.days_of_micros(*times.micros_of_number(number.decode()))),
        )

    def _counting_cuts(self, read: Callable[[Any], tuple[int, bool]]) -> Rule:
        def counted(value: Value) -> int:
            time, is_cut = read(value)
            if is_cut:
                self.remark(CUT_TIME)
            return time

        return counted

    def _array(self, this: Array) -> Rules:
        """OpenX: a scalar or object for an array is wrapped into an array of one item."""
        items = self.of(this.item)

        def each_item(value: list[Value]) -> list[Any]:
            found: list[Any] = []
            try:
                for item in value:
                    found.append(items[type(item)](item))
            except MismatchError as error:
                raise error.within(f"[{len(found)}]") from None
            return found

        def one_item(value: Value) -> list[Any]:
            return [items[type(value)](value)]

        return _rules(this, object_=one_item, array=each_item, string=one_item, number=one_item, boolean=one_item)

    def _map(self, this: Map) -> Rules:
        """OpenX: only an object fills a map; its keys are strings that are read as the type of keys."""
        read_key, values = self.of(this.key)[STRING], self.of(this.value)
        # a time's T, a number's E and base64 would not survive lower case
        is_text = isinstance(this.key, Text) or this.key == Primitive("string")

        def each_pair(pairs: Pairs) -> list[tuple[Any, Any]]:
            found: dict[Any, Any] = {}
            key = ""
            try:
                for key, value in pairs:
                    name = read_key(self.fold(key) if is_text else key)
                    if name in found:
                        raise _duplicate(self.fold(key))
                    found[name] = values[type(value)](value)
            except MismatchError as error:
                raise error.within(f"['{quoted(key)}']") from None
            return list(found.items())

        return _rules(this, object_=each_pair)

    def _struct(self, this: Struct) -> Rules:
        """OpenX: an object fills a struct by key, an array by place, and extra items are ignored and counted."""
        members: list[_Member] = [(name, self.of(each)) for name, each in this.fields]
        by_spelling, remark, no_struct = _Spellings(self, members), self.remark, _no_struct(this)

        def by_key(pairs: Pairs) -> dict[str, Any]:
            found: dict[str, Any] = {}
            name: str | None = None
            try:
                for key, value in pairs:
                    name, rules = by_spelling[key]
                    if name is None:
                        remark(UNKNOWN_KEY)
                    elif name in found:
                        raise _duplicate(self.fold(key))
                    else:
                        found[name] = rules[type(value)](value)
            except MismatchError as error:
                raise error.within(name or "") from None
            return found

        def by_place(items: list[Value]) -> dict[str, Any]:
            for _ in range(len(items) - len(members)):
                remark(EXTRA_ITEM)
            found: dict[str, Any] = {}
            for (name, rules), item in zip(members, items, strict=False):
                try:
                    found[name] = rules[type(item)](item)
                except MismatchError as error:
                    raise error.within(name) from None
            return found

        return _rules(this, object_=by_key, array=by_place, string=no_struct, number=no_struct, boolean=no_struct)


#: A field's name and its rules.
_Member = tuple[str, Rules]
_NO_MEMBER: tuple[None, Rules] = (None, {})


class _Spellings(dict[str, _Member | tuple[None, Rules]]):
    """The member that each spelling of a key feeds; learnt as spellings come, so that most keys cost one look-up."""

    def __init__(self, book: OpenXRules, members: Sequence[_Member]) -> None:
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


_BOOLEAN_TEXTS = {True: "true", False: "false"}
#: What messages call values: containers by their kind alone, scalars with what they are.
_CONTAINERS: Mapping[type, str] = {OBJECT: "an object", ARRAY: "an array"}
_SCALARS: Mapping[type, str] = {STRING: "the string ", NUMBER: "the number ", BOOLEAN: ""}


def _rules(
    this: HiveType,
    *,
    object_: Rule | None = None,
    array: Rule | None = None,
    string: Rule | None = None,
    number: Rule | None = None,
    boolean: Rule | None = None,
) -> Rules:
    """Return the rules of `this`: null is NULL, and kinds without a rule fail the record."""

    def refuse(value: Value) -> Any:
        raise _unfit(value, this)

    given = {OBJECT: object_, ARRAY: array, STRING: string, NUMBER: number, BOOLEAN: boolean, NULL: lambda _: None}
    return {kind: given[kind] or refuse for kind in KINDS}


def _unfit(value: Value, this: HiveType, *, firehose: str | None = None) -> MismatchError:
    """Return the failure of a value of a kind that `this` is not read from."""
    shown = _CONTAINERS.get(type(value)) or _SCALARS[type(value)] + quoted(compact(value))
    return MismatchError(f"{shown} cannot be read as {quoted(str(this))}.", firehose=firehose)


def _boolean_from_text(text: str) -> bool:
    """OpenX reads any text but "true" as false; we fail what is neither."""
    lowered = text.lower()
    if lowered not in ("true", "false"):
        raise unreadable(text, "boolean")
    return lowered == "true"


def _bytes_from_base64(text: str) -> bytes:
    """JSON has no bytes: base64 is how they travel in it. Standard alphabet, padded, no blanks."""
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        raise unreadable(text, "binary") from None


def _if_number(read: Callable[[str], Any], hive_type: str) -> Callable[[str], Any]:
    def read_text(text: str) -> Any:
        if not numbers.is_number(text):
            raise unreadable(text, hive_type)
        return read(text)

    return read_text


def _no_struct(this: HiveType) -> Rule:
    """OpenX: a scalar for a struct fails, in these words (two blanks), with the class that Java reads it as."""

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
        raise _unfit(value, this, firehose=words)

    return refuse


def _duplicate(key: str) -> MismatchError:
    return MismatchError(f'duplicate key "{quoted(key)}".')
