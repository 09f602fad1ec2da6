"""What goes wrong with a child process."""

from __future__ import annotations

from firehose.errors import InvalidError, UnavailableError


class ChildTimeoutError(UnavailableError):
    """The child did not answer in time and was killed. `detail` is the end of what it printed."""

    code = "ChildTimedOut"

    def __init__(self, message: str, *, detail: str) -> None:
        super().__init__(message)
        self.detail = detail


class ChildDiedError(UnavailableError):
    """The child ended before it answered. `detail` is its traceback or the end of what it printed."""

    code = "ChildDied"

    def __init__(self, message: str, *, detail: str, out_of_memory: bool) -> None:
        super().__init__(message)
        self.detail = detail
        self.out_of_memory = out_of_memory


class ChildGarbledError(UnavailableError):
    """The child sent what is no answer to the call: something in it writes to its socket. It was killed."""

    code = "ChildGarbled"


class ChildAnswerTooLargeError(InvalidError):
    """The child's answer has `answer_bytes`, more than the caller wants. Nothing of it was taken; it was killed."""

    code = "ChildAnswerTooLarge"

    def __init__(self, message: str, *, answer_bytes: int) -> None:
        super().__init__(message)
        self.answer_bytes = answer_bytes


class ChildError(InvalidError):
    """The code in the child raised `type_name`. `detail` is its traceback, `place` the line of its own in it."""

    code = "ChildRaised"

    def __init__(self, message: str, *, type_name: str, place: str, detail: str) -> None:
        super().__init__(message)
        self.type_name = type_name
        self.place = place
        self.detail = detail


def garbled(name: str, what: str) -> ChildGarbledError:
    """Return the error for a child that sent `what`."""
    return ChildGarbledError(
        f"{name}: its process was killed, for it sent {what}; code in it may write to no descriptor but its own"
    )
