"""What every JSON value becomes in every type of a column. This is the specification; nothing else decides.

A deserializer is one table. A line of it is a type of Hive (4.6), a column a kind of JSON value, and a cell the
function that makes the rule; there stands which paragraph the rule is from. null, and a key that is not there, are NULL
in every type, and nothing else is (4.5).

Both tables have the same lines, so that the differences are seen where they lie one above the other. In short, hive
reads numbers from numbers alone, times in formats that are configured, arrays from arrays and structs from objects, and
never makes text of what is nested (4.4); keys of its maps keep their case, and binary is text.
"""

from __future__ import annotations

from collections.abc import Mapping

from firehose.converters.book import COLUMNS, Cell, Cells
from firehose.converters.containers import by_key, by_place, each_item, each_pair, no_struct, one_item
from firehose.converters.scalars import (
    base64_bytes,
    cut,
    digits,
    exact,
    exact_text,
    fails,
    folded,
    hive_time,
    hive_time_text,
    json_text,
    openx_time,
    openx_time_text,
    real,
    real_text,
    text,
    truth,
    truth_text,
    truth_word,
    utf8_bytes,
    whole,
    whole_text,
)


def _table(lines: Mapping[str, tuple[Cell, ...]]) -> Mapping[str, Cells]:
    """Return each line of a table by the words of its types, and its cells by the kinds of values."""
    return {word: dict(zip(COLUMNS, cells, strict=True)) for words, cells in lines.items() for word in words.split()}


# fmt: off

#: 4.3 and 4.5.
OPENX = _table({
    # type              object      array       string           number       true, false  key of a map
    "boolean":         (fails,      fails,      truth_text,      fails,       truth,       truth_text),
    "tinyint smallint int bigint":
                       (fails,      fails,      whole_text,      whole,       fails,       whole_text),
    "float double":    (fails,      fails,      real_text,       real,        fails,       real_text),
    "decimal":         (fails,      fails,      exact_text,      exact,       fails,       exact_text),
    "string":          (json_text,  json_text,  text,            digits,      truth_word,  folded),
    "char varchar":    (cut(json_text), cut(json_text), cut(text), cut(digits), cut(truth_word), cut(folded)),
    "binary":          (fails,      fails,      base64_bytes,    fails,       fails,       base64_bytes),
    "timestamp date":  (fails,      fails,      openx_time_text, openx_time,  fails,       openx_time_text),
    "array":           (one_item,   each_item,  one_item,        one_item,    one_item,    fails),
    "map":             (each_pair,  fails,      fails,           fails,       fails,       fails),
    "struct":          (by_key,     by_place,   no_struct,       no_struct,   no_struct,   fails),
})

#: 4.4. What it does not say is as in Hive's own reader, or as above.
HIVE = _table({
    # type              object      array       string           number       true, false  key of a map
    "boolean":         (fails,      fails,      truth_text,      fails,       truth,       truth_text),
    "tinyint smallint int bigint":
                       (fails,      fails,      fails,           whole,       fails,       whole_text),
    "float double":    (fails,      fails,      fails,           real,        fails,       real_text),
    "decimal":         (fails,      fails,      fails,           exact,       fails,       exact_text),
    "string":          (fails,      fails,      text,            digits,      truth_word,  text),
    "char varchar":    (fails,      fails,      cut(text),       cut(digits), cut(truth_word), cut(text)),
    "binary":          (fails,      fails,      utf8_bytes,      fails,       fails,       utf8_bytes),
    "timestamp date":  (fails,      fails,      hive_time_text,  hive_time,   fails,       hive_time_text),
    "array":           (fails,      each_item,  fails,           fails,       fails,       fails),
    "map":             (each_pair,  fails,      fails,           fails,       fails,       fails),
    "struct":          (by_key,     fails,      fails,           fails,       fails,       fails),
})

# fmt: on
