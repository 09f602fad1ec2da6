"""The rule book of a table: for each column, what reads each kind of JSON value.

A deserializer is a table of cells, see `rules`. A cell makes the rule for one kind of value in one type, once for each
column; what is decided by options and types is decided there, and records only meet the rules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from firehose.converters.hive_times import HiveTimes
from firehose.converters.json_text import ARRAY, BOOLEAN, NULL, NUMBER, OBJECT, STRING
from firehose.hive_types import Array, Decimal, HiveType, Map, Primitive, Struct, Text

#: What reads a value of one kind; a MismatchError fails the record.
Rule = Callable[[Any], Any]
#: A column's rules by the kind of the value.
Rules = Mapping[type, Rule]
#: What makes a rule for a type.
Cell = Callable[["Book", Any], Rule]
#: The cells of a type, by the kind of the value; under `KEY`, for keys of maps.
Cells = Mapping[type, Cell]


class KEY:
    """The kind of the keys of maps: strings, with rules of their own."""


#: The kinds in the order in which tables of cells have them.
COLUMNS: tuple[type, ...] = (OBJECT, ARRAY, STRING, NUMBER, BOOLEAN, KEY)

# What is ignored or cut on purpose, and counted.
UNKNOWN_KEY, EXTRA_ITEM, CUT_TEXT, CUT_TIME = "unknown_key", "extra_item", "cut_text", "cut_time"


@dataclass(frozen=True)
class Book:
    """A deserializer and its options. `remark` is told each word of what was left out; errors call the table `table`.

    Errors: InvalidError where keys and columns cannot be matched.
    """

    table: str
    cells: Mapping[str, Cells]
    remark: Callable[[str], None]
    case_insensitive: bool = True
    dots_to_underscores: bool = False
    #: The JSON key that feeds a column or field, by its name in lower case.
    json_keys: Mapping[str, str] = field(default_factory=dict)
    times: HiveTimes = field(default_factory=HiveTimes)
    #: Which of `json_keys` some field of the table uses.
    used_names: set[str] = field(default_factory=set)
    _known: dict[HiveType, Rules] = field(default_factory=dict, init=False)

    def fold(self, key: str) -> str:
        return key.lower() if self.case_insensitive else key

    def of(self, hive_type: HiveType) -> Rules:
        """Return the rules of one type. Null is NULL in all of them (4.5: as is a key that is missing)."""
        rules = self._known.get(hive_type)
        if rules is None:  # each type is made once: several cells of an array ask for its items
            cells = self.cells[_word(hive_type)]
            rules = {kind: cell(self, hive_type) for kind, cell in cells.items() if kind is not KEY}
            rules[NULL] = lambda _: None
            self._known[hive_type] = rules
        return rules

    def of_key(self, hive_type: HiveType) -> Rule:
        """Return what reads the keys of a map as this type."""
        return self.cells[_word(hive_type)][KEY](self, hive_type)

    def counting_cuts(self, read: Callable[[Any], tuple[int, bool]]) -> Rule:
        """Return a rule that remarks where what it reads was cut."""

        def counted(value: Any) -> int:
            time, is_cut = read(value)
            if is_cut:
                self.remark(CUT_TIME)
            return time

        return counted


def _word(hive_type: HiveType) -> str:
    match hive_type:
        case Primitive(word) | Text(word, _):
            return word
        case Decimal():
            return "decimal"
        case Array():
            return "array"
        case Map():
            return "map"
        case Struct():
            return "struct"
