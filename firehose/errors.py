"""Every error this package raises on purpose.

    FirehoseError
    ├── ConfigError               the configuration is wrong: says file, line, key, value and what is allowed
    ├── RetryableError            the same call may succeed later
    │   ├── ThrottledError        asked to slow down, or out of room
    │   └── UnavailableError      not reachable, timed out, failed on its side
    ├── PermanentError            will not succeed until somebody repairs something
    │   ├── AccessDeniedError
    │   ├── NotFoundError
    │   ├── ConflictError         something stands where ours should, and it is not ours
    │   └── InvalidError          the other side refuses what was asked
    ├── IntegrityError            bytes do not match their checksum or tag; nothing of them was used
    ├── DataDirectoryError        the data directory is in use, too new, or not ours
    └── StaleEpochError           another worker owns this now: stop, write nothing

Two axes. What to do: `RetryableError` is tried again by the worker until retention ends; `PermanentError` is tried
again too, but slowly and with an alarm, because data is kept until somebody repairs. Which: `code` comes from a bounded
set (`S3.AccessDenied`, `Lambda.FunctionError`): it is a metric label, a field of the error output, a word to grep for.

Rows that fail are values (`records.FailedRows`), not exceptions: one bad record fails alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class FirehoseError(Exception):
    """Base of all errors raised on purpose. `code` is stable and bounded; the text is for people."""

    code = "InternalError"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code

    def say_more(self, text: str) -> None:
        """Add to the message, so that logs show it: what `add_note` adds shows in tracebacks only."""
        self.args = (f"{self}; {text}",)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in the configuration, with its place. Lines and columns count from 1; 0 means unknown."""

    message: str
    key: str = ""
    file: str = ""
    line: int = 0
    column: int = 0
    value: str | None = None
    allowed: str | None = None

    def __str__(self) -> str:
        line = f":{self.line}:{self.column}" if self.line else ""
        place = f"{self.file}{line}: " if self.file else ""
        subject = f"{self.key}: " if self.key else ""
        got = f" (got {self.value})" if self.value is not None else ""
        allowed = f"; allowed: {self.allowed}" if self.allowed else ""
        return f"{place}{subject}{self.message}{got}{allowed}"


class ConfigError(FirehoseError):
    """The configuration is wrong. Carries every problem found, not only the first."""

    code = "InvalidConfiguration"

    def __init__(self, problems: Sequence[Problem] | str) -> None:
        self.problems = [Problem(problems)] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class RetryableError(FirehoseError):
    """The same call may succeed later. `retry_after_ms` is the other side's wish, when it named one."""

    code = "ServiceUnavailable"

    def __init__(self, message: str, *, code: str | None = None, retry_after_ms: int | None = None) -> None:
        super().__init__(message, code=code)
        self.retry_after_ms = retry_after_ms


class ThrottledError(RetryableError):
    """Asked to slow down, or a quota or the disk is full. Nothing was taken."""

    code = "ServiceUnavailableException"


class UnavailableError(RetryableError):
    """Not reachable, timed out, or failed on its own side. Whether the call took effect may be unknown."""


class PermanentError(FirehoseError):
    """Will not succeed until somebody repairs something. The data stays where it is meanwhile."""


class AccessDeniedError(PermanentError):
    """The credentials in use may not do this."""

    code = "AccessDenied"


class NotFoundError(PermanentError):
    """The thing named does not exist."""

    code = "NotFound"


class ConflictError(PermanentError):
    """Something stands where ours should, and it is not ours."""

    code = "Conflict"


class InvalidError(PermanentError):
    """The other side understood and refuses."""

    code = "InvalidRequest"


class IntegrityError(FirehoseError):
    """Bytes do not match their checksum, tag or commitment. Nothing of them was released."""

    code = "IntegrityError"


class DataDirectoryError(FirehoseError):
    """The data directory is in use by another process, was written by a newer version, or is not one of ours."""

    code = "DataDirectory"


class StaleEpochError(FirehoseError):
    """Another worker owns this now. Stop without writing anything."""

    code = "StaleEpoch"
