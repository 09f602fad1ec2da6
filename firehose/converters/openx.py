"""The OpenX deserializer, record by record in plain Python: the reference, and the default."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field, StringConstraints

from firehose import arrow
from firehose.components import ComponentConfig
from firehose.converters.failures import RecordError
from firehose.converters.json_text import OBJECT, read_objects
from firehose.converters.openx_rules import OpenXRules
from firehose.errors import InvalidError
from firehose.hive_types import INVALID_SCHEMA, arrow_schema, parse_columns
from firehose.protocols import Converted, Converter, TableSchema

#: Bytes of records whose rows wait as Python objects before they become columns. The garbage collector walks what waits
#: again and again: with 1 MiB conversion takes half as long again.
CHUNK_BYTES = 64 << 10

JsonKey = Annotated[str, StringConstraints(pattern=r"^\S+$", max_length=1024)]


class OpenXConfig(ComponentConfig):
    """JSON as the OpenX SerDe reads it."""

    type: Literal["openx"] = "openx"
    case_insensitive: bool = True
    """Match keys to columns without regard to case, and lower-case the keys of maps and of objects kept as text."""
    convert_dots_in_json_keys_to_underscores: bool = False
    """Let the key `a.b` feed the column or field `a_b`."""
    column_to_json_key_mappings: dict[JsonKey, JsonKey] = Field(default_factory=dict)
    """Which key feeds a column, where it is not the column's name; holds for fields of structs at every depth."""

    def build(self, schema: TableSchema) -> Converter:
        """Return the converter of records into `schema`. Errors: InvalidError naming table, column and position."""
        return OpenXConverter(self, schema)


class OpenXConverter:
    """Converts records one by one. Not for several threads at once: what is left out is counted on the way."""

    releases_gil = False

    def __init__(self, config: OpenXConfig, table: TableSchema) -> None:
        where = f"table {table.database}.{table.table}, version {table.version}"
        columns = parse_columns(table.columns, table=where)
        json_keys = {name.lower(): key for name, key in config.column_to_json_key_mappings.items()}
        #: What was cut or ignored since the last chunk, so that a failed record's part can be cut off again.
        self._remarks: list[str] = []
        rules = OpenXRules(
            table=where,
            case_insensitive=config.case_insensitive,
            dots_to_underscores=config.convert_dots_in_json_keys_to_underscores,
            json_keys=json_keys,
            remark=self._remarks.append,
        )
        self._row = rules.of(columns)[OBJECT]
        if unused := sorted(json_keys.keys() - rules.used_names):
            message = f"column_to_json_key_mappings names {', '.join(unused)}, but no column or field is called so"
            raise InvalidError(f"{where}: {message}", code=INVALID_SCHEMA)
        self.schema = arrow_schema(columns)

    def convert(self, data: pa.LargeBinaryArray) -> Converted:
        """Return a row for each object of each good record; a record of which any object fails gives none."""
        values, offsets = arrow.values_of(data), arrow.offsets_of(data).tolist()
        failed: dict[int, RecordError] = {}
        rows: list[Mapping[str, Any]] = []
        chunks: list[pa.RecordBatch] = []
        remarks: Counter[str] = Counter()
        chunk_end = CHUNK_BYTES
        for position, (start, end) in enumerate(pairwise(offsets)):
            mark = len(self._remarks)
            try:
                # all objects before any row: what was failed as a whole can be replayed as a whole
                found = [self._row(each) for each in read_objects(values[start:end])]
            except RecordError as error:
                del self._remarks[mark:]
                failed[position] = error.with_traceback(None)  # which would keep the record's values
                continue
            rows += found
            if end >= chunk_end:
                chunks.append(self._columns(rows))
                remarks.update(self._remarks)
                rows, chunk_end = [], end + CHUNK_BYTES
                self._remarks.clear()
        chunks.append(self._columns(rows))
        remarks.update(self._remarks)
        self._remarks.clear()
        return Converted(
            columns=arrow.concat(chunks, self.schema),
            failed=np.fromiter(failed, np.int64, len(failed)),
            codes=[error.code for error in failed.values()],
            messages=[error.message for error in failed.values()],
            details=[error.detail for error in failed.values()],
            remarks=dict(remarks),
        )

    def _columns(self, rows: list[Mapping[str, Any]]) -> pa.RecordBatch:
        columns = pa.array(rows, pa.struct(self.schema))
        return pa.RecordBatch.from_arrays(columns.flatten(), schema=self.schema)
