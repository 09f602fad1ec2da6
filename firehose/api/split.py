"""Split one body into records: lines of text, or values of JSON. The bytes of a record are those that were sent."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final, NoReturn

import numpy as np
import pyarrow as pa

from firehose import arrow
from firehose.api.bodies import too_large
from firehose.api.wire import WireError

#: White space of JSON, by byte: what a blank line is made of.
_IS_TEXT: Final = np.ones(256, np.bool_)
_IS_TEXT[[0x09, 0x0A, 0x0D, 0x20]] = False

_SPACE: Final = re.compile(r"[ \t\r\n]*")


def split_lines(body: bytes, *, max_records: int) -> pa.LargeBinaryArray:
    """Return one record for each line that is not blank, without its line end (LF or CRLF).

    Errors: WireError, 413, for more than `max_records` lines.
    """
    data = np.frombuffer(body, np.uint8)
    if not len(data):
        return arrow.binary_column([])
    if body.count(b"\n") > max_records:
        raise _too_many(max_records)
    breaks = np.flatnonzero(data == 0x0A)
    starts, ends = np.concatenate(([0], breaks + 1)), np.append(breaks, len(data))
    if starts[-1] == len(data):
        starts, ends = starts[:-1], ends[:-1]
    has_text = np.logical_or.reduceat(_IS_TEXT[data], starts)
    starts, ends = starts[has_text], ends[has_text]
    ends = ends - (data[ends - 1] == 0x0D)
    return _slices(body, starts, ends)


def _slices(body: bytes, starts: arrow.Ints, ends: arrow.Ints) -> pa.LargeBinaryArray:
    """Return the pieces of `body` from `starts` to `ends`, which ascend and do not overlap.

    Seen as one column, pieces and the gaps between them alternate over the body; every second value is taken.
    """
    if not len(starts):
        return arrow.binary_column([])
    bounds = np.ravel(np.column_stack((starts, ends))).astype(np.int64, copy=False)
    buffers = [None, pa.py_buffer(bounds), pa.py_buffer(body)]
    alternating = pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(bounds) - 1, buffers)
    return alternating.take(pa.array(np.arange(0, len(bounds) - 1, 2)))


def split_json(body: bytes, *, max_records: int) -> pa.LargeBinaryArray:
    """Return one record for each element of a JSON array, or for each JSON value where several follow one another.

    Elements keep their own text, so that no number loses a digit on the way; that is why this is the standard
    library's scanner, which says where a value ends, and not a faster parser, which does not.

    Errors: WireError, 400, naming the place; 413 for more than `max_records`.
    """
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise _invalid(f"not UTF-8 at byte {error.start}") from None
    begin = _skip(text, 0)
    found = _elements(text, begin + 1) if text.startswith("[", begin) else _values(text, begin)
    records = list(islice(found, max_records + 1))
    if len(records) > max_records:
        raise _too_many(max_records)
    return arrow.binary_column(records)


def _values(text: str, position: int) -> Iterator[bytes]:
    """Yield values that follow one another, from `position` on."""
    while position < len(text):
        end = _value_end(text, position)
        yield text[position:end].encode()
        position = _skip(text, end)


def _elements(text: str, position: int) -> Iterator[bytes]:
    """Yield the elements of the array that was opened before `position`, and see that nothing follows it."""
    position = _skip(text, position)
    separator = "]" if text.startswith("]", position) else ","
    if separator == "]":
        position += 1
    while separator == ",":
        end = _value_end(text, position)
        yield text[position:end].encode()
        end = _skip(text, end)
        separator = text[end : end + 1]
        if separator not in (",", "]"):
            raise _invalid(f"expected ',' or ']' at character {end}")
        position = _skip(text, end + 1)
    if _skip(text, position) != len(text):
        raise _invalid(f"more text behind the array at character {position}")


def _skip(text: str, position: int) -> int:
    found = _SPACE.match(text, position)
    assert found is not None
    return found.end()


def _value_end(text: str, position: int) -> int:
    try:
        return _DECODER.raw_decode(text, position)[1]
    except json.JSONDecodeError as error:
        raise _invalid(f"{error.msg} at character {error.pos}") from None
    except RecursionError:
        raise _invalid(f"nested too deep at character {position}") from None


def _no_constant(name: str) -> NoReturn:
    raise _invalid(f"{name} is not JSON")


def _nothing(_: Any) -> None:
    """Keep no value: only the end of the text is wanted, and a number of a million digits stays cheap."""


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_nothing, parse_float=_nothing, parse_int=_nothing, parse_constant=_no_constant
)


def _too_many(max_records: int) -> WireError:
    return too_large(f"The body holds more than {max_records} records. Nothing was taken.")


def _invalid(problem: str) -> WireError:
    return WireError("InvalidBody", f"The body is not JSON: {problem}. Nothing was taken.")
