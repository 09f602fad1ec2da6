"""Moving failed records back into the log, once, whatever crashes in between."""

from __future__ import annotations

from firehose.delivery.plan import DESTINATION
from firehose.protocols import AddToAccount, Change, FinishReplay, SaveReplay, Term


def settle(replay: SaveReplay, *, entered: bool) -> tuple[Change, ...]:
    """Return what to save once it is known whether a replay's put is in the log: its rows leave the failed ones."""
    finish = FinishReplay(replay.stream, replay.token, entered)
    if not entered:
        return (finish,)
    moved = {hour: -rows for hour, rows in replay.hours.items()}
    return (finish, AddToAccount(replay.stream, DESTINATION, Term.FAILED, moved))
