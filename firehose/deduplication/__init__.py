"""Which records were seen before: the ids that records name themselves, on disk, for a window of time.

It never errs towards losing: an id is 128 bits of a cryptographic hash, not a place in a filter, and it stands with the
row that it was first seen in, so that a row that is read again after a crash is not taken for its own duplicate.
"""

from firehose.deduplication.record_id import RecordId
from firehose.deduplication.window import Damage, RecordIdWindow, WindowStats

__all__ = ["Damage", "RecordId", "RecordIdWindow", "WindowStats"]
