"""What the HTTP face needs of the service behind it, and nothing more: both sides know only this."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import pyarrow as pa

from firehose.config.models import StreamConfig


@dataclass(frozen=True, slots=True)
class PutAnswer:
    """Where the rows of one put lie now, durably: `rows` sequences of `shard` from `first_sequence` on."""

    shard: str
    first_sequence: int
    rows: int
    #: The stream's uid: shard and sequence alone repeat between streams.
    stream_uid: str
    #: True where an earlier attempt of the same put had stored them.
    is_repeat: bool = False


@dataclass(frozen=True, slots=True)
class StreamView:
    """One delivery stream as it stands now. Units: `created_ms`, `updated_ms` Unix milliseconds UTC."""

    name: str
    uid: str
    #: `CREATING`, `ACTIVE`, `DELETING`, `CREATING_FAILED` or `DELETING_FAILED`.
    status: str
    version: int
    created_ms: int
    #: None until the first effective update.
    updated_ms: int | None
    origin: Literal["config", "api"]
    config: StreamConfig
    #: The members of CreateDeliveryStream as sent, for Describe. None where the stream comes from a file.
    definition: dict[str, Any] | None = None


class StreamService(Protocol):
    """The delivery streams of this process."""

    region: str
    account: str

    async def put(self, name: str, data: pa.LargeBinaryArray, *, token: bytes = b"") -> PutAnswer:
        """Store all of `data`, or nothing, and return once it is durable.

        `token` is the same for every attempt of one put, and for nothing else; empty where the producer names none.
        What an earlier attempt stored is not stored again.

        Errors: NotFoundError (no such stream, or not active), ThrottledError (nothing was taken), UnavailableError
        (the disk failed), InvalidError (the stream does not take puts).
        """
        ...

    def stream(self, name: str) -> StreamView:
        """Return one stream. Errors: NotFoundError."""
        ...

    def streams(self) -> list[StreamView]:
        """Return all streams, ascending by name."""
        ...

    async def create_stream(self, name: str, config: StreamConfig, *, definition: dict[str, Any]) -> StreamView:
        """Create a stream; it may still be CREATING on return.

        Errors: ConflictError where the name exists in any state; InvalidError where the configuration names something
        that is not there, or with code `LimitExceededException` where there are too many streams.
        """
        ...

    async def delete_stream(self, name: str) -> None:
        """Begin to delete a stream and what it still holds.

        Errors: NotFoundError; ConflictError where it is being created, or comes from a file.
        """
        ...


class Health(Protocol):
    """What is asked by load balancers. The text says why not, for people."""

    def is_live(self) -> tuple[bool, str]:
        """Return false where only a restart helps."""
        ...

    def is_ready(self) -> tuple[bool, str]:
        """Return false where requests should go elsewhere for now."""
        ...


#: One verb of the admin door: takes the JSON object that was sent, returns what can be said in JSON.
AdminHandler = Callable[[dict[str, Any]], Awaitable[Any]]
