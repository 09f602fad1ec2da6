"""What the last processes did not save of their receipts is read out of the frames that hold those puts."""

from __future__ import annotations

from bisect import bisect_right

from firehose.errors import UnavailableError
from firehose.log.access import Access
from firehose.log.backlog import Backlog
from firehose.log.receipts import KEY_BYTES, Receipts
from firehose.log.segment import Segment


async def relearn(receipts: Receipts, backlog: Backlog, access: Access, *, since_ms: int) -> None:
    """Give `receipts` the puts since `since_ms` of frames behind what they have saved.

    Of an opening that is damaged somewhere, or has lost what was on the disk, all are forgotten: nobody knows which.
    """
    for segment in [*backlog.unknown, *backlog.segments.values()]:
        number, size_bytes = receipts.saved(segment.opening)
        is_short = (segment.number, segment.generation) == (number, 0) and segment.size_bytes < size_bytes
        if is_short or segment.is_damaged or segment.holes is not None or segment in backlog.unknown:
            receipts.forget(segment.opening)
    for segment in list(backlog.segments.values()):
        saved = receipts.saved(segment.opening)
        if segment.holes is None and segment.number >= saved.number:
            known_bytes = saved.size_bytes if (segment.number, segment.generation) == (saved.number, 0) else 0
            await _relearn_segment(receipts, access, segment, known_bytes, since_ms)


async def _relearn_segment(
    receipts: Receipts, access: Access, segment: Segment, known_bytes: int, since_ms: int
) -> None:
    for key in [key for key in segment.extents if key[1] == "put"]:
        try:
            table = await access.table(segment, key)
            wanted = [each for each in table.after(-1) if each.offset >= known_bytes and each.oldest_ms >= since_ms]
            found = await access.tokens(segment, key, wanted)
        except UnavailableError:
            receipts.forget(segment.opening)  # whatever it holds: it would be met again
            return
        firsts = [entry.first for entry in wanted]
        for each in found:
            if len(each.token) == KEY_BYTES:
                arrival_ms = wanted[bisect_right(firsts, each.first_sequence) - 1].oldest_ms
                receipts.add(each.token, each.first_sequence, each.rows, arrival_ms, opening=segment.opening)
