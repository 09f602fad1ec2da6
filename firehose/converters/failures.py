"""Why a record fails: two families, each with its code."""

from __future__ import annotations

#: The text is not JSON.
PARSE_ERROR = "DataFormatConversion.ParseError"
#: It is JSON, or nothing at all, but not what the table holds.
MALFORMED_DATA = "DataFormatConversion.MalformedData"

#: Messages quote at most so many characters of a value: the record itself is in the error output anyway.
MAX_QUOTED = 200


class RecordError(Exception):
    """One record cannot be converted. Its message goes to the error output, so it must not depend on the engine."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


class MismatchError(RecordError):
    """The record is JSON, but some value does not fit its column."""

    def __init__(self, message: str) -> None:
        super().__init__(MALFORMED_DATA, f"Data does not match the schema. {message}")


def quoted(text: str) -> str:
    """Return `text` as messages show it: its beginning, where it is long."""
    return text if len(text) <= MAX_QUOTED else text[:MAX_QUOTED] + "..."


def bad_text(text: str) -> MismatchError:
    """Return the failure of a string that does not hold what its column's type needs, in Firehose's words."""
    return MismatchError(f'For input string: "{quoted(text)}"')
