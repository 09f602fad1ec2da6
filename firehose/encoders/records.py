"""Records end to end, as Firehose writes them, with or without a line feed between them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from firehose import arrow
from firehose.protocols import Output, RowWriter, Written

#: `newline`: a line feed behind each record that does not end in one. `between`: a line feed between any two records,
#: none behind the last. `none`: nothing.
Delimiter = Literal["newline", "between", "none"]

#: Bytes of records that are copied at once to put line feeds in; at least one record.
PIECE_BYTES = 4 << 20

_LINE_FEED = 0x0A


class RecordsEncoder:
    """Writes the column `data` as it is: what came in is what lies in the object."""

    extension = ""
    content_type = "application/octet-stream"

    def __init__(self, delimiter: Delimiter) -> None:
        self._delimiter = delimiter

    def open(self, out: Output, schema: pa.Schema) -> RowWriter:
        """Return a writer of the records of `schema`, which must have a column `data`."""
        assert "data" in schema.names
        return _RecordsWriter(out, self._delimiter)


class _RecordsWriter:
    held_bytes = 0

    def __init__(self, out: Output, delimiter: Delimiter) -> None:
        self._out, self._delimiter = out, delimiter
        self._rows = 0

    def write(self, rows: pa.RecordBatch) -> None:
        data = rows.column("data")
        if self._delimiter == "none":
            self._out.write(arrow.values_of(data))
            self._rows += len(data)
            return
        values, offsets = np.frombuffer(arrow.values_of(data), np.uint8), arrow.offsets_of(data)
        for first, last in _pieces(offsets):
            ends = offsets[first : last + 1]
            where = self._line_feeds(values, ends) - ends[0]
            piece = values[ends[0] : ends[-1]]
            self._out.write((np.insert(piece, where, _LINE_FEED) if len(where) else piece).data)
            self._rows += last - first

    def close(self) -> Written:
        return Written(self._rows)

    def _line_feeds(self, values: npt.NDArray[np.uint8], bounds: arrow.Ints) -> arrow.Ints:
        """Return the offsets in `values` that a line feed goes before. Shape of `bounds`: n + 1, of n records."""
        starts, ends = bounds[:-1], bounds[1:]
        if self._delimiter == "between":
            return starts if self._rows else starts[1:]
        # an empty record ends in nothing, whatever stands before it
        is_ended = (ends > starts) & (values[np.maximum(ends - 1, 0)] == _LINE_FEED) if len(values) else ends < starts
        return ends[~is_ended]


def _pieces(offsets: arrow.Ints) -> Iterator[tuple[int, int]]:
    """Yield ranges of records of about `PIECE_BYTES` each, the end not included."""
    first, count = 0, len(offsets) - 1
    while first < count:
        last = int(np.searchsorted(offsets, offsets[first] + PIECE_BYTES, side="right")) - 1
        last = min(max(last, first + 1), count)
        yield first, last
        first = last
