"""Child processes for code that must not share our memory, our time or our stdout: the only module that starts them.

A pool serves calls with a bounded number of children. A child serves one call at a time; it is started when first
needed, kept while it behaves, and killed with everything it started when it answers too late or too much, when what it
sends is no answer, when its caller gives up or when the pool is closed. It dies when we die.

Nothing that a child sends is trusted: code that runs there can write what it likes to any of its descriptors.
"""

from firehose.processes.errors import (
    ChildAnswerTooLargeError,
    ChildDiedError,
    ChildError,
    ChildGarbledError,
    ChildTimeoutError,
)
from firehose.processes.pool import ChildPrinted, ChildStarted, ProcessPool, minimal_environment

__all__ = [
    "ChildAnswerTooLargeError",
    "ChildDiedError",
    "ChildError",
    "ChildGarbledError",
    "ChildPrinted",
    "ChildStarted",
    "ChildTimeoutError",
    "ProcessPool",
    "minimal_environment",
]
