"""Column types as Hive writes them, `array<struct<sku:string,qty:int>>`, read into a tree and from there into Arrow.

    type   = boolean | tinyint | smallint | int | bigint | float | double | string | binary | timestamp | date
           | decimal [(precision [, scale])] | char(length) | varchar(length)
           | array<type> | map<type, type> | struct<name: type, ...>

Words are case-insensitive, blanks between tokens are ignored, field names with special characters stand in backquotes.
What is no such type is refused with the column and the position in its text; nothing is guessed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NoReturn

import pyarrow as pa

from firehose.errors import InvalidError

#: The table as a whole is wrong.
INVALID_SCHEMA = "DataFormatConversion.InvalidSchema"
#: The text of one column's type is wrong.
INVALID_TYPE = "DataFormatConversion.InvalidTypeFormat"
#: A column has no name, or no type.
VALIDATION = "DataFormatConversion.ValidationException"

#: Far deeper than any table, far below the interpreter's recursion limit.
MAX_TYPE_DEPTH = 64
#: What Hive and Arrow's 128-bit decimals hold.
MAX_PRECISION = 38
#: Hive: a decimal without precision and scale.
DEFAULT_PRECISION, DEFAULT_SCALE = 10, 0
MAX_LENGTH = {"char": 255, "varchar": 65_535}


@dataclass(frozen=True, slots=True)
class Primitive:
    """A type of one word."""

    word: str

    def __str__(self) -> str:
        return self.word


@dataclass(frozen=True, slots=True)
class Decimal:
    """Exact numbers of up to `precision` digits, `scale` of them behind the point."""

    precision: int
    scale: int

    def __str__(self) -> str:
        return f"decimal({self.precision},{self.scale})"


@dataclass(frozen=True, slots=True)
class Text:
    """`char` or `varchar`: text of up to `length` characters."""

    word: str
    length: int

    def __str__(self) -> str:
        return f"{self.word}({self.length})"


@dataclass(frozen=True, slots=True)
class Array:
    """Any number of items of one type."""

    item: HiveType

    def __str__(self) -> str:
        return f"array<{self.item}>"


@dataclass(frozen=True, slots=True)
class Map:
    """Values by key; keys are never nested."""

    key: HiveType
    value: HiveType

    def __str__(self) -> str:
        return f"map<{self.key},{self.value}>"


@dataclass(frozen=True, slots=True)
class Struct:
    """Named fields, told apart without regard to case. A table's row is one, too."""

    fields: tuple[tuple[str, HiveType], ...]

    def __str__(self) -> str:
        return f"struct<{','.join(f'{_quoted(name)}:{each}' for name, each in self.fields)}>"


HiveType = Primitive | Decimal | Text | Array | Map | Struct

#: Hive's timestamp has no zone; ours is in UTC, in microseconds that are not marked as adjusted to it. Athena, Trino
#: and Hive 4 write theirs so, Spark reads them as the TIMESTAMP or TIMESTAMP_NTZ that a table declares, DuckDB and
#: pandas as times without zone. That is what all of them make of Firehose's own files, too, so both can lie in one
#: table; those are INT96, which is deprecated and has no statistics to skip row groups by.
TIMESTAMP = pa.timestamp("us")

_ARROW: Mapping[str, pa.DataType] = {
    "boolean": pa.bool_(),
    "tinyint": pa.int8(),
    "smallint": pa.int16(),
    "int": pa.int32(),
    "bigint": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "string": pa.string(),
    "binary": pa.binary(),
    "timestamp": TIMESTAMP,
    "date": pa.date32(),
}

#: Words people bring from elsewhere, and what Hive calls them.
_MEANT = {
    "set": "array<T>",
    "list": "array<T>",
    "object": "struct<name:T>",
    "bool": "boolean",
    "integer": "int",
    "long": "bigint",
    "real": "float",
    "numeric": "decimal(p,s)",
    "text": "string",
    "bytes": "binary",
    "datetime": "timestamp",
}

_TOKEN = re.compile(r"\s*(?:(?P<quoted>`[^`]+`)|(?P<mark>[<>,:()])|(?P<word>[^\s<>,:()`]+)|(?P<bad>\S)|$)")


def parse_columns(columns: Iterable[tuple[str, str]], *, table: str) -> Struct:
    """Return a table's columns, given as (name, Hive type), as one struct.

    Errors: InvalidError naming `table`, the column and the position in its type, counted from 1.
    """
    fields: dict[str, tuple[str, HiveType]] = {}
    for name, text in columns:
        if not name.strip():
            raise InvalidError(f"{table}: a column has no name", code=VALIDATION)
        if not text.strip():
            raise InvalidError(f"{table}: column {name!r} has no type", code=VALIDATION)
        if name.lower() in fields:
            raise InvalidError(f"{table}: column {name!r} stands there twice (case is ignored)", code=INVALID_SCHEMA)
        fields[name.lower()] = name, parse_type(text, where=f"{table}: column {name!r}")
    if not fields:
        raise InvalidError(f"{table} has no columns; add at least one", code=INVALID_SCHEMA)
    return Struct(tuple(fields.values()))


def parse_type(text: str, *, where: str) -> HiveType:
    """Return the type that `text` says. Errors: InvalidError beginning with `where`, and naming the position."""
    parser = _Parser(text, where)
    found = parser.type(depth=1)
    parser.expect_end()
    return found


class _Parser:
    """Recursive descent with one token of look-ahead."""

    def __init__(self, text: str, where: str) -> None:
        self._text, self._where = text, where
        self._at = 0
        self._advance()

    def _advance(self) -> None:
        found = _TOKEN.match(self._text, self._at)
        assert found is not None, "every text begins with a token, a bad character or its end"
        self._kind = found.lastgroup or "end"
        self._word = found[self._kind] if found.lastgroup else ""
        self._start, self._at = found.end() - len(self._word), found.end()

    def _fail(self, message: str, *, at: int | None = None, code: str = INVALID_TYPE) -> NoReturn:
        position = (self._start if at is None else at) + 1
        raise InvalidError(f"{self._where}, type {self._text!r}, position {position}: {message}", code=code)

    def _found(self) -> str:
        return repr(self._word) if self._word else "the end"

    def _is(self, mark: str) -> bool:
        return self._kind == "mark" and self._word == mark

    def _expect(self, mark: str) -> None:
        if not self._is(mark):
            self._fail(f"expected {mark!r}, found {self._found()}")
        self._advance()

    def expect_end(self) -> None:
        if self._kind != "end":
            self._fail(f"expected the end of the type, found {self._found()}")

    def type(self, depth: int) -> HiveType:
        if depth > MAX_TYPE_DEPTH:
            self._fail(f"nested more than {MAX_TYPE_DEPTH} deep")
        if self._kind != "word":
            self._fail(f"expected a type, found {self._found()}")
        word, start = self._word.lower(), self._start
        self._advance()
        if word in _ARROW:
            return Primitive(word)
        parse = _PARAMETERISED.get(word)
        if word == "uniontype":  # a type of Hive, but of no deserializer
            self._fail("uniontype cannot be filled from JSON; use one of its types", at=start, code=INVALID_SCHEMA)
        if parse is None:
            hint = f"; use {_MEANT[word]}" if word in _MEANT else f"; the types are {', '.join(TYPE_WORDS)}"
            self._fail(f"{word!r} is not a Hive type{hint}", at=start)
        return parse(self, word, depth)

    def _number(self, what: str, low: int, high: int) -> int:
        word, is_number = self._word, self._kind == "word" and self._word.isascii() and self._word.isdigit()
        if not is_number or len(word) > len(str(high)) or not low <= int(word) <= high:
            self._fail(f"expected a {what} from {low} to {high}, found {self._found()}")
        self._advance()
        return int(word)

    def decimal(self, word: str, depth: int) -> HiveType:
        if not self._is("("):
            return Decimal(DEFAULT_PRECISION, DEFAULT_SCALE)
        self._advance()
        precision, scale = self._number("precision", 1, MAX_PRECISION), 0
        if self._is(","):
            self._advance()
            scale = self._number("scale", 0, precision)
        self._expect(")")
        return Decimal(precision, scale)

    def text(self, word: str, depth: int) -> HiveType:
        self._expect("(")
        length = self._number("length", 1, MAX_LENGTH[word])
        self._expect(")")
        return Text(word, length)

    def array(self, word: str, depth: int) -> HiveType:
        self._expect("<")
        item = self.type(depth + 1)
        self._expect(">")
        return Array(item)

    def map(self, word: str, depth: int) -> HiveType:
        self._expect("<")
        start = self._start
        key = self.type(depth + 1)
        if isinstance(key, Array | Map | Struct):
            self._fail(f"{key} cannot be the key of a map; keys are never nested", at=start)
        self._expect(",")
        value = self.type(depth + 1)
        self._expect(">")
        return Map(key, value)

    def struct(self, word: str, depth: int) -> HiveType:
        self._expect("<")
        fields: dict[str, tuple[str, HiveType]] = {}
        while True:
            if self._kind not in ("word", "quoted"):
                self._fail(f"expected the name of a field, found {self._found()}")
            name, start = self._word.strip("`"), self._start
            self._advance()
            self._expect(":")
            if name.lower() in fields:
                self._fail(f"field {name!r} stands there twice (case is ignored)", at=start)
            fields[name.lower()] = name, self.type(depth + 1)
            if self._is(">"):
                break
            self._expect(",")
        self._advance()
        return Struct(tuple(fields.values()))


_PARAMETERISED: Mapping[str, Callable[[_Parser, str, int], HiveType]] = {
    "decimal": _Parser.decimal,
    "char": _Parser.text,
    "varchar": _Parser.text,
    "array": _Parser.array,
    "map": _Parser.map,
    "struct": _Parser.struct,
}

TYPE_WORDS = (*_ARROW, *_PARAMETERISED)


def _quoted(name: str) -> str:
    return name if re.fullmatch(r"[^\s<>,:()`]+", name) else f"`{name}`"


def arrow_type(hive_type: HiveType) -> pa.DataType:
    """Return the Arrow type that holds every value of `hive_type`, and no more than Parquet readers expect of it."""
    match hive_type:
        case Primitive(word):
            return _ARROW[word]
        case Decimal(precision, scale):
            return pa.decimal128(precision, scale)
        case Text():
            return pa.string()
        case Array(item):
            return pa.list_(pa.field("element", arrow_type(item)))
        case Map(key, value):
            return pa.map_(arrow_type(key), arrow_type(value))
        case Struct(fields):
            return pa.struct([pa.field(name, arrow_type(each)) for name, each in fields])


def arrow_schema(row: Struct) -> pa.Schema:
    """Return the Arrow schema of a table's columns; every column may be NULL."""
    return pa.schema([pa.field(name, arrow_type(each)) for name, each in row.fields])
