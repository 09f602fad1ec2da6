"""Random tables, and records that fit them, with what must come out."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from firehose import hive_types
from firehose.hive_types import Array, HiveType, Map, Primitive, Struct, Text
from firehose.protocols import TableSchema

EPOCH = datetime(1970, 1, 1)

#: Names of columns and fields: lower case, as catalogs keep them.
NAMES = st.text("abcdefghijklmnopqrstuvwxyz_0123456789", min_size=1, max_size=8).map(lambda name: f"c{name}")
TEXTS = st.text(st.characters(codec="utf-8"), max_size=12)

SCALARS: st.SearchStrategy[HiveType] = st.one_of(
    st.sampled_from(["boolean", "tinyint", "smallint", "int", "bigint", "float", "double", "string", "binary"]).map(
        Primitive
    ),
    st.sampled_from(["timestamp", "date"]).map(Primitive),
    st.integers(1, 38).flatmap(lambda p: st.builds(hive_types.Decimal, st.just(p), st.integers(0, p))),
    st.builds(Text, st.sampled_from(["char", "varchar"]), st.integers(12, 255)),
)
#: Keys whose order and equality every reader agrees on.
MAP_KEYS: st.SearchStrategy[HiveType] = st.sampled_from([Primitive("string"), Primitive("int"), Primitive("bigint")])


def _structs(inner: st.SearchStrategy[HiveType]) -> st.SearchStrategy[HiveType]:
    return st.dictionaries(NAMES, inner, min_size=1, max_size=4).map(lambda fields: Struct(tuple(fields.items())))


TYPES: st.SearchStrategy[HiveType] = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.builds(Array, inner), st.builds(Map, MAP_KEYS, inner), _structs(inner)),
    max_leaves=6,
)


@dataclass(frozen=True)
class Case:
    """A table, records as JSON, and the rows they hold."""

    schema: TableSchema
    records: list[bytes]
    rows: list[dict[str, Any]]


@st.composite
def cases(draw: st.DrawFn, types: st.SearchStrategy[HiveType] = TYPES, *, deserializer: str = "openx") -> Case:
    """Return a random table with up to five records that fit it, spelled in random ways that the deserializer takes."""
    columns = draw(st.dictionaries(NAMES, types, min_size=1, max_size=4))
    row = Struct(tuple(columns.items()))
    pairs = draw(st.lists(values(row, deserializer, nullable=False), max_size=5))
    schema = TableSchema("db", "t", "1", tuple((name, str(each)) for name, each in columns.items()))
    return Case(schema, [text.encode() for text, _ in pairs], [expected for _, expected in pairs])


@st.composite
def values(draw: st.DrawFn, hive_type: HiveType, deserializer: str, nullable: bool = True) -> tuple[str, Any]:
    """Return a value of the type as JSON that the deserializer takes, and as it must come out."""
    is_openx = deserializer == "openx"
    if nullable and draw(st.integers(0, 9)) == 0:
        return "null", None
    match hive_type:
        case Struct(fields):
            return draw(_objects(fields, deserializer))
        case Array(item):
            items = draw(st.lists(values(item, deserializer), max_size=3))
            return f"[{','.join(text for text, _ in items)}]", [value for _, value in items]
        case Map(key, value):
            entries = draw(st.dictionaries(_keys(str(key), is_openx), values(value, deserializer), max_size=3))
            members = ",".join(f"{json.dumps(str(name))}:{text}" for name, (text, _) in entries.items())
            return f"{{{members}}}", {name: each for name, (_, each) in entries.items()}
        case Text():
            text = draw(TEXTS)
            return json.dumps(text), text
        case hive_types.Decimal(precision, scale):
            digits = draw(st.integers(-(10**precision) + 1, 10**precision - 1))
            text = f"{digits}e-{scale}"
            return draw(_bare_or_quoted(text)) if is_openx else text, Decimal(text)
        case Primitive(word):
            return draw(_scalars(word, is_openx))


def _keys(word: str, is_openx: bool) -> st.SearchStrategy[Any]:
    if word == "string":
        return TEXTS.map(str.lower) if is_openx else TEXTS
    return st.integers(-(2**31), 2**31 - 1)


@st.composite
def _objects(
    draw: st.DrawFn, fields: tuple[tuple[str, HiveType], ...], deserializer: str
) -> tuple[str, dict[str, Any]]:
    found: dict[str, Any] = dict.fromkeys(name for name, _ in fields)
    members = []
    for name, hive_type in draw(st.permutations(fields)):
        if draw(st.integers(0, 5)) == 0:
            continue
        text, found[name] = draw(values(hive_type, deserializer))
        spelled = draw(st.sampled_from([name, name.upper(), name.title()]))
        members.append(f"{json.dumps(spelled)}:{draw(st.sampled_from(['', ' ']))}{text}")
    return f"{{{','.join(members)}}}", found


@st.composite
def _bare_or_quoted(draw: st.DrawFn, text: str) -> str:
    return draw(st.sampled_from([text, f'"{text}"']))


@st.composite
def _scalars(draw: st.DrawFn, word: str, is_openx: bool) -> tuple[str, Any]:
    if word in ("tinyint", "smallint", "int", "bigint"):
        high = 2 ** ({"tinyint": 8, "smallint": 16, "int": 32, "bigint": 64}[word] - 1)
        number = draw(st.integers(-high, high - 1))
        return draw(_bare_or_quoted(str(number))) if is_openx else str(number), number
    if word in ("float", "double"):
        real = draw(st.floats(allow_nan=False, allow_infinity=False, width=32 if word == "float" else 64))
        return draw(_bare_or_quoted(repr(real))) if is_openx else repr(real), real
    if word == "boolean":
        flag = draw(st.booleans())
        return draw(_bare_or_quoted(str(flag).lower())), flag
    if word == "binary" and not is_openx:
        text = draw(TEXTS)
        return json.dumps(text), text.encode()
    if word == "binary":
        body = draw(st.binary(max_size=8))
        return f'"{base64.b64encode(body).decode()}"', body
    if word == "string":
        text = draw(TEXTS)
        return draw(st.sampled_from([json.dumps(text), json.dumps(text, ensure_ascii=False)])), text
    micros = draw(st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999))
    moment = EPOCH + timedelta(microseconds=micros)
    if word == "date":
        return f'"{moment.date().isoformat()}"', moment.date()
    text = moment.isoformat(timespec="microseconds")
    return (f'"{text}Z"' if is_openx else f'"{text.replace("T", " ")}"'), moment
