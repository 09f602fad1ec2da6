"""What the service must not forget, as values, and the contract of the store that keeps it.

A worker never writes a table: it says what changed (`Change`), all of it in one transaction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from firehose.records import RowSet


class Term(StrEnum):
    """The terms of the account: accepted + created = the sum of the others, per stream and hour of acceptance."""

    ACCEPTED = "accepted"
    CREATED = "created"
    DELIVERED = "delivered"
    FAILED = "failed"
    DROPPED = "dropped"
    DUPLICATE = "duplicate"
    EXPIRED = "expired"
    DISCARDED = "discarded"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class StreamRecord:
    """A delivery stream as the state knows it. `uid` is random per creation; a stream made anew is another one."""

    uid: str
    name: str
    #: `config` for streams from YAML, `api` for those made by CreateDeliveryStream.
    origin: str
    #: The definition as JSON: of the YAML model, or the members of the API call.
    definition: str
    version: int
    created_ms: int
    updated_ms: int | None = None
    is_paused: bool = False
    #: The stream is no longer defined: its backlog is delivered to the end, then it goes.
    is_orphaned: bool = False
    #: DeleteDeliveryStream was called: its backlog is discarded, and counted.
    is_deleted: bool = False


@dataclass(frozen=True, slots=True)
class Intent:
    """An object that is finished in the outbox and may have been sent. Saved before the first byte leaves."""

    stream: str
    outlet: str
    key: str
    rows: RowSet
    #: The account's term for the rows once the object is delivered: delivered, or failed for the error output.
    term: Term
    #: Which outlets the rows are done for then.
    settles: tuple[str, ...]
    path: str
    offset: int
    body_bytes: int
    checksum: str
    attempt: int
    created_ms: int
    oldest_ms: int
    #: Rows by hour of acceptance.
    hours: Mapping[int, int]
    #: Rows by (stage, code), for the error output.
    failures: Mapping[str, int] = field(default_factory=dict)
    #: Bytes of the rows as the producer sent them, rows of the file, encoder, table and schema version: for a manifest.
    facts: Mapping[str, str | int] = field(default_factory=dict)
    content_type: str = "application/octet-stream"
    content_encoding: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    #: What tells objects of one outlet apart: the values of the partition keys, or the error output's type.
    group: str = ""
    #: What was sent under this key before and may arrive yet: attempts whose bytes were lost here, oldest first.
    earlier: tuple[Intent, ...] = ()

    @property
    def attempts(self) -> tuple[Intent, ...]:
        """All that may stand under the key, oldest first; the first holds every row that the others do."""
        return (*self.earlier, self)


@dataclass(frozen=True, slots=True)
class Done:
    """The rows of one shard that are done for one outlet: all up to `position`, and `beyond` it."""

    shard: str
    outlet: str
    position: int
    beyond: RowSet


@dataclass(frozen=True, slots=True)
class PutStream:
    """Create the stream, or change what is known of it."""

    record: StreamRecord


@dataclass(frozen=True, slots=True)
class RemoveStream:
    """Forget the stream's progress and intents. Its account and manifests stay: they are history."""

    stream: str


@dataclass(frozen=True, slots=True)
class SaveIntents:
    """Save intents; one with the same stream, outlet and key is replaced (its next attempt)."""

    intents: tuple[Intent, ...]


@dataclass(frozen=True, slots=True)
class FinishIntent:
    """The object stands: the intent becomes its manifest, with what is said of it here."""

    intent: Intent
    finished_ms: int


@dataclass(frozen=True, slots=True)
class DropIntent:
    """The object will never be sent: its rows expired, were discarded, or are sent by another intent."""

    intent: Intent


@dataclass(frozen=True, slots=True)
class SaveDone:
    """Save what is done of one shard for one outlet. `chunks`: the changed pieces of the rows beyond, None: gone."""

    stream: str
    shard: str
    outlet: str
    position: int
    chunks: Mapping[int, bytes | None]


@dataclass(frozen=True, slots=True)
class ForgetShard:
    """The shard was read and delivered to its end: nothing of it will come again."""

    stream: str
    shard: str


@dataclass(frozen=True, slots=True)
class AddToAccount:
    """Add rows to one term of one outlet's account, by hour of acceptance; negative numbers take away."""

    stream: str
    outlet: str
    term: Term
    hours: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class BankSegment:
    """Add a log segment's accepted rows to the accounts, once for each segment name.

    `books`: what the log wants to be told of it at its next opening, so that a file that is gone is missed.
    """

    segment: str
    accepted: Mapping[str, Mapping[int, int]]
    books: str


@dataclass(frozen=True, slots=True)
class LetSegmentsGo:
    """These banked segments are needed no more: their files may be gone at any time, so their books are dropped."""

    segments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ForgetSegments:
    """The files of these segments are gone: nobody will ask again whether they were banked."""

    segments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ForgetManifests:
    """Forget manifests of objects that stood before `before_ms`: those of one outlet, and all of removed streams.

    Only the oldest thousand or so at once, so that the commit stays small.
    """

    outlet: str
    before_ms: int


@dataclass(frozen=True, slots=True)
class SaveReplay:
    """Say that `rows` (of the error output) are about to enter the log again as the put `token`."""

    stream: str
    token: str
    rows: RowSet
    hours: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class FinishReplay:
    """The put `token` is in the log (`entered`), so its rows are replayed for good; or it never was, nor are they."""

    stream: str
    token: str
    entered: bool


Change = (
    PutStream
    | RemoveStream
    | SaveIntents
    | FinishIntent
    | DropIntent
    | SaveDone
    | ForgetShard
    | AddToAccount
    | BankSegment
    | LetSegmentsGo
    | ForgetSegments
    | ForgetManifests
    | SaveReplay
    | FinishReplay
)


@dataclass(frozen=True, slots=True)
class StreamState:
    """What a worker finds when it starts."""

    done: tuple[Done, ...]
    intents: tuple[Intent, ...]


@dataclass(frozen=True, slots=True)
class AccountRow:
    """So many rows of one stream and outlet, accepted in one hour, ended as `term`."""

    stream: str
    outlet: str
    hour: int
    term: Term
    rows: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """What is known of a delivered object: its intent, and when it stood."""

    intent: Intent
    finished_ms: int


@dataclass(frozen=True, slots=True)
class StateSnapshot:
    """All accounts, and what is done of every stream, at one moment."""

    account: tuple[AccountRow, ...]
    done: Mapping[str, tuple[Done, ...]]


class StateStore(Protocol):
    """Positions, done rows, intents, manifests, accounts and stream definitions.

    `apply` is all or nothing and durable; it is refused with StaleEpochError once another worker has opened the state.
    """

    async def apply(self, *changes: Change) -> None:
        """Make all `changes`, in order, in one transaction."""
        ...

    async def streams(self) -> list[StreamRecord]:
        """Return all streams, by name."""
        ...

    async def load(self, stream: str) -> StreamState:
        """Return what is done and what is under way."""
        ...

    async def failed_rows(self, stream: str) -> int:
        """Return how many rows of a stream lie in its error output and were not replayed."""
        ...

    async def snapshot(self) -> StateSnapshot:
        """Return all accounts and what is done, of one moment."""
        ...

    async def manifests(self, stream: str, outlet: str, *, since_ms: int = 0) -> list[Manifest]:
        """Return the delivered objects of an outlet whose newest row is not older than `since_ms`, oldest first."""
        ...

    async def manifest_page(self, stream: str, outlet: str, *, after: str, limit: int) -> list[Manifest]:
        """Return the delivered objects of an outlet whose keys come behind `after`, ascending by key."""
        ...

    async def last_manifest(self, stream: str, outlet: str) -> Manifest | None:
        """Return the object of an outlet that was delivered last."""
        ...

    async def banked_segments(self) -> dict[str, str]:
        """Return the log segments that were banked, with their books; those that were let go have none ("")."""
        ...

    async def replays(self, stream: str) -> tuple[RowSet, list[SaveReplay]]:
        """Return the rows that were replayed for good, and the replays whose end is not known."""
        ...

    async def close(self) -> None:
        """Close the state."""
        ...
