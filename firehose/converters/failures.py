"""Why a record fails: a code, and a message that names the place.

Source: 4.5 and 12.2 of the behaviour of Firehose say what each code is for.
"""

from __future__ import annotations

#: The text is not JSON.
PARSE_ERROR = "DataFormatConversion.ParseError"
#: It is JSON, or nothing at all, but not what the table holds.
MALFORMED_DATA = "DataFormatConversion.MalformedData"
#: It is an object, but one of its keys cannot be a key of the map that it fills.
INVALID_RECORD = "DataFormatConversion.InvalidRecord"

_MISMATCH = "Data does not match the schema. "

#: Messages quote at most so many characters of a value: the record itself is in the error output anyway.
MAX_QUOTED = 200


class RecordError(Exception):
    """One record cannot be converted. Its message goes to the error output, so it must not depend on the engine.

    So does `detail`: what a message in Firehose's words leaves out.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message, self.detail = code, message, ""


class MismatchError(RecordError):
    """The record is JSON, but some value does not fit its column.

    Whoever reads what is around the value says so with `within`, from the inside out, and the message names the column:
    `items[2].sku`. Where Firehose has words of its own they are the message, since clients match on them; the column is
    in the detail then.
    """

    def __init__(self, text: str, *, firehose: str | None = None) -> None:
        super().__init__(MALFORMED_DATA, f"{_MISMATCH}{firehose or text}")
        self._text, self._has_words, self._path = text, firehose is not None, ""

    def within(self, step: str) -> MismatchError:
        """Return the same failure, of a value that lies under `step`: a field's name, `[2]` or `['key']`."""
        dot = "." if self._path and not self._path.startswith("[") else ""
        self._path = f"{step}{dot}{self._path}"
        said = f"Column {quoted(self._path)}: {self._text}"
        if self._has_words:
            self.detail = said
        else:
            self.message = f"{_MISMATCH}{said}"
        return self

    def of_key(self, map_type: str) -> MismatchError:
        """Return the same failure, of a key of such a map: 12.2 has a code for these, and Firehose its words."""
        self.code = INVALID_RECORD
        self.message = f"Record is not as per schema. One or more map keys were invalid for {quoted(map_type)}."
        self._has_words = True
        return self


def quoted(text: str) -> str:
    """Return `text` as messages show it: its beginning, where it is long."""
    return text if len(text) <= MAX_QUOTED else text[:MAX_QUOTED] + "..."


def unreadable(text: str, hive_type: str, *, firehose: str | None = None) -> MismatchError:
    """Return the failure of a string that does not hold what its column's type needs."""
    return MismatchError(f'the string "{quoted(text)}" cannot be read as {hive_type}.', firehose=firehose)


def no_number(text: str, hive_type: str) -> MismatchError:
    """Return the failure of a string that does not hold the number its column's type needs, in Firehose's words."""
    return unreadable(text, hive_type, firehose=f'For input string: "{quoted(text)}"')
