"""The reference converter: record by record in plain Python, whatever the deserializer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from firehose import arrow
from firehose.converters.book import Rule
from firehose.converters.failures import RecordError
from firehose.converters.json_text import read_objects
from firehose.protocols import Converted

#: Bytes of records whose rows wait as Python objects before they become columns. The garbage collector walks what waits
#: again and again: with 1 MiB conversion takes half as long again.
CHUNK_BYTES = 64 << 10


class RecordConverter:
    """Converts records one by one. Not for several threads at once: what is left out is counted on the way."""

    releases_gil = False

    def __init__(self, schema: pa.Schema, row: Rule, remarks: list[str]) -> None:
        """Make a converter of what reads an object as a row, and adds a word to `remarks` for what it leaves out."""
        self.schema = schema
        self._row = row
        #: What was cut or ignored since the last chunk, so that a failed record's part can be cut off again.
        self._remarks = remarks

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
