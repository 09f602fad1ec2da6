"""Object keys: what an object is called, from its stream, its rows and the arrival of its oldest row.

A key is `<prefix><stream>-<version>-yyyy-MM-dd-HH-mm-ss-<uuid><extension>`. Nothing in it comes from the attempt: its
UUID and its random strings are made from the rows, so that a retry meets its own object. All times are the arrival of
the oldest row, in the time zone of the sink.

A prefix may hold expressions, `!{timestamp:yyyy/MM}`; without any, the date path `yyyy/MM/dd/HH/` is appended to it, by
plain concatenation. A prefix that was read can be evaluated for any time and never fails.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import Enum
from functools import cache
from uuid import UUID, uuid5
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from firehose.timestamps import TimestampPattern, doubts

#: How long a prefix may be once it is evaluated, without the date path that is appended to it.
MAX_EVALUATED = 512

#: How long the name of a folder may be in a file system, and so in a key that partition keys made. Units: bytes.
MAX_FOLDER_BYTES = 255

#: The longest key of S3, and about the longest name of an object: stream, version, time, UUID and the endings.
MAX_KEY_BYTES = 1_024
MAX_NAME_BYTES = 160

#: A folder that sinks keep for themselves.
RESERVED = ".firehose-sink"

#: What partition keys must not hold: control characters, and halves of characters, which no key can.
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")

#: How long `!{firehose:random-string}` is.
RANDOM_LENGTH = 11

#: The longest word for why records failed: what prefixes are measured with.
LONGEST_TYPE = "AmazonOpenSearchService-failed"

#: A moment whose month, weekday and numbers are as long as they get: what prefixes are measured with.
LONGEST_MOMENT = datetime(2026, 9, 30, 23, 59, 59, tzinfo=UTC)

DATE_PATH = TimestampPattern.parse("yyyy/MM/dd/HH/")
NAME_TIME = TimestampPattern.parse("yyyy-MM-dd-HH-mm-ss")

#: The space in which UUIDs are named after rows.
NAMESPACE = UUID("7d7aebd5-3f0a-4b8c-9d8e-35a1b1f5c0de")


class Word(Enum):
    """The expressions that are not timestamps."""

    RANDOM_STRING = "random-string"
    ERROR_OUTPUT_TYPE = "error-output-type"


@dataclass(frozen=True, slots=True)
class PartitionKey:
    """A value that records bring themselves. `namespace` says who found it: the query, or a function."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"!{{{self.namespace}:{self.name}}}"


#: Who finds partition keys.
FROM_QUERY, FROM_LAMBDA = "partitionKeyFromQuery", "partitionKeyFromLambda"

Piece = str | TimestampPattern | Word | PartitionKey


@cache
def zone(name: str) -> ZoneInfo:
    """Return the time zone `name`: UTC or an IANA name like Europe/Berlin. Errors: ValueError."""
    # Three-letter ids (EST, JST) are refused as Firehose does: they mean different things to different readers.
    if name == "UTC" or "/" in name:
        try:
            return ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            pass  # refused below, in one voice: a folder of the database gives an OSError, a wild path a ValueError
    raise ValueError(f"time zone {name!r} is not known; use UTC or an IANA name like Europe/Berlin")


@dataclass(frozen=True, slots=True)
class Prefix:
    """What keys begin with, read and found valid."""

    text: str
    time_zone: ZoneInfo
    pieces: tuple[Piece, ...]
    #: What follows where the text has no expressions.
    implied: tuple[Piece, ...] = ()

    @classmethod
    def parse(cls, text: str, *, error_output: bool = False, time_zone: str = "UTC") -> Prefix:
        """Read the prefix of a sink, or of an error output. Errors: ValueError, saying what in it is wrong."""
        pieces = tuple(_pieces_of(text))
        if error_output and any(isinstance(piece, PartitionKey) for piece in pieces):
            raise ValueError(f"error output prefix {text!r}: failed records have no partition keys")
        has_type = Word.ERROR_OUTPUT_TYPE in pieces
        if has_type and not error_output:
            raise ValueError(f"prefix {text!r}: !{{firehose:error-output-type}} belongs to the error output prefix")
        prefix = cls(text, zone(time_zone), pieces)
        if not prefix.has_expressions:
            word: tuple[Piece, ...] = (Word.ERROR_OUTPUT_TYPE, "/") if error_output else ()
            prefix = replace(prefix, implied=(*word, DATE_PATH))
        elif error_output and not has_type:
            raise ValueError(
                f"error output prefix {text!r}: with expressions it must hold !{{firehose:error-output-type}} too"
            )
        length = len(prefix._longest({}))
        if length > MAX_EVALUATED:
            raise ValueError(f"prefix {text!r}: up to {length} characters once evaluated, more than {MAX_EVALUATED}")
        return prefix

    @classmethod
    def for_errors(cls, text: str | None, prefix: Prefix) -> Prefix:
        """Read an error output prefix; where there is none, failed records go beneath `prefix`. Errors: ValueError."""
        if text is None and prefix.has_expressions:
            raise ValueError(f"an error output prefix is needed, because the prefix {prefix.text!r} has expressions")
        return cls.parse(prefix.text if text is None else text, error_output=True, time_zone=prefix.time_zone.key)

    def for_partitions(self, is_partitioned: bool) -> Prefix:
        """Return self where it holds partition keys just if a stream is partitioned. Errors: ValueError."""
        if self.partition_keys and not is_partitioned:
            raise ValueError(
                "Dynamic Partitioning Namespaces can only be part of a prefix expression "
                "when Dynamic Partitioning is enabled."
            )
        if is_partitioned and not self.partition_keys:
            raise ValueError(
                f"prefix {self.text!r}: with partitioning it must hold !{{{FROM_QUERY}:NAME}} or "
                f"!{{{FROM_LAMBDA}:NAME}}"
            )
        return self

    @property
    def partition_keys(self) -> tuple[PartitionKey, ...]:
        """The values that records bring, each once, as they stand in it."""
        return tuple(dict.fromkeys(piece for piece in self.pieces if isinstance(piece, PartitionKey)))

    @property
    def has_expressions(self) -> bool:
        return any(not isinstance(piece, str) for piece in self.pieces)

    @property
    def head(self) -> str:
        """What all keys begin with: the text before the first expression."""
        return self.pieces[0] if self.pieces and isinstance(self.pieces[0], str) else ""

    def columns(self) -> Iterator[str]:
        """Yield the columns that readers of tables take from the keys: `year` of `year=!{timestamp:yyyy}/`."""
        text = "".join(piece if isinstance(piece, str) else "?" for piece in self.pieces)
        for folder in text.split("/")[:-1]:
            column, equals, value = folder.partition("=")
            if equals and value:
                yield column

    def doubts(self) -> Iterator[str]:
        """Yield what is legal in the prefix, but likely means something else than its writer thought."""
        for piece in self.pieces:
            if isinstance(piece, str) and (found := _LOST_MARK.search(piece)):
                yield f"{found[0]} is plain text; expressions begin with an exclamation mark, !{found[0]}"
        patterns = (piece.letters for piece in self.pieces if isinstance(piece, TimestampPattern))
        # all of a key together: year, month and day may each have an expression of their own
        yield from doubts(frozenset().union(*patterns))

    def evaluate(
        self, oldest_ms: int, *, identity: UUID, error_output_type: str | None = None, values: Sequence[str] = ()
    ) -> str:
        """Return the prefix of the object with `identity` whose oldest row arrived at `oldest_ms`.

        Shape: `values` as many as `partition_keys`.
        """
        moment = local_time(oldest_ms, self.time_zone)
        keys = dict(zip(self.partition_keys, values, strict=True))
        return "".join(self._evaluated((*self.pieces, *self.implied), moment, identity, error_output_type, keys))

    def complaint(self, values: Sequence[str]) -> str | None:
        """Return why `values` of the partition keys cannot be in a key, None where they can.

        A slash is allowed: it makes folders. What would lead out of the folder, or make an empty one, is not.
        """
        for key, value in zip(self.partition_keys, values, strict=True):
            if not value:
                return f"partition key {key.name!r} is empty"
            if found := _UNSAFE.search(value):
                return f"partition key {key.name!r} holds the character U+{ord(found[0]):04X}"
            if "" in value.split("/"):
                return f"partition key {key.name!r} makes a folder without a name: {value!r}"
        evaluated = self._longest(dict(zip(self.partition_keys, values, strict=True)))
        if len(evaluated) > MAX_EVALUATED:
            return f"the prefix has {len(evaluated)} characters with these partition keys, more than {MAX_EVALUATED}"
        folders = evaluated.split("/")
        if "." in folders or ".." in folders:
            return "the partition keys make a folder '.' or '..'"
        if folders[0] == RESERVED:
            return f"the partition keys make a folder {RESERVED!r} at the top, which sinks keep for themselves"
        # the name of the object follows the last piece
        longest = max(len(folders[-1].encode()) + MAX_NAME_BYTES, *(len(folder.encode()) for folder in folders))
        if longest > MAX_FOLDER_BYTES:
            return f"the partition keys make the name of a folder or an object longer than {MAX_FOLDER_BYTES} bytes"
        if len(evaluated.encode()) + MAX_NAME_BYTES > MAX_KEY_BYTES:
            return f"the key is longer than {MAX_KEY_BYTES} bytes with these partition keys"
        return None

    def _longest(self, keys: Mapping[PartitionKey, str]) -> str:
        """Return the prefix as long as it gets, without the date path that is appended."""
        return "".join(self._evaluated(self.pieces, LONGEST_MOMENT, NAMESPACE, LONGEST_TYPE, keys))

    def _evaluated(
        self,
        pieces: tuple[Piece, ...],
        moment: datetime,
        identity: UUID,
        error_output_type: str | None,
        keys: Mapping[PartitionKey, str],
    ) -> Iterator[str]:
        for index, piece in enumerate(pieces):
            if isinstance(piece, str):
                yield piece
            elif isinstance(piece, TimestampPattern):
                yield piece.render(moment)
            elif isinstance(piece, PartitionKey):
                yield keys.get(piece, "")
            elif piece is Word.RANDOM_STRING:
                yield str(uuid5(identity, str(index)))[:RANDOM_LENGTH]
            else:
                assert error_output_type is not None, "an error output prefix is evaluated for a type"
                yield error_output_type


_EXPRESSION = re.compile(r"!\{(?P<namespace>[^:{}]*):(?P<value>(?:'[^']*'|[^'}])*)\}")

#: An expression whose mark was forgotten.
_LOST_MARK = re.compile(r"\{(?:timestamp|firehose|partitionKeyFrom(?:Query|Lambda)):[^{}]*\}")


def _pieces_of(text: str) -> Iterator[Piece]:
    at = 0
    while (start := text.find("!{", at)) >= 0:
        if start > at:
            yield text[at:start]
        found = _EXPRESSION.match(text, start)
        if found is None:
            raise ValueError(
                f"prefix {text!r}: '!{{' at character {start + 1} must begin an expression like !{{timestamp:yyyy}}"
            )
        yield _expression(text, found["namespace"], found["value"])
        at = found.end()
    if at < len(text):
        yield text[at:]


def _expression(text: str, namespace: str, value: str) -> Piece:
    match namespace:
        case "timestamp" if value:
            try:
                return TimestampPattern.parse(value)
            except ValueError as error:
                raise ValueError(f"prefix {text!r}: {error}") from None
        case "firehose" if value in {word.value for word in Word}:
            return Word(value)
        case "partitionKeyFromQuery" | "partitionKeyFromLambda" if value:
            return PartitionKey(namespace, value)
    raise ValueError(
        f"prefix {text!r}: !{{{namespace}:{value}}} is not known; allowed: !{{timestamp:PATTERN}}, "
        "!{firehose:random-string}, !{firehose:error-output-type}, !{partitionKeyFromQuery:NAME}, "
        "!{partitionKeyFromLambda:NAME}"
    )


def local_time(time_ms: int, time_zone: ZoneInfo) -> datetime:
    """Return Unix milliseconds as a time in `time_zone`, cut to whole seconds."""
    return datetime.fromtimestamp(time_ms // 1_000, time_zone)


def object_uuid(*, stream_uid: str, outlet: str, rows: bytes) -> UUID:
    """Return the UUID of the object that holds `rows` (`RowSet.to_bytes`): the same rows always give the same one.

    The outlet belongs to it, since the same rows may leave by two outlets into one bucket.
    """
    return uuid5(NAMESPACE, f"{stream_uid}\n{outlet}\n{rows.hex()}")


def object_name(
    *, stream: str, version: int, oldest_ms: int, identity: UUID, extension: str, time_zone: ZoneInfo
) -> str:
    """Return what follows the prefix in a key."""
    return f"{stream}-{version}-{NAME_TIME.render(local_time(oldest_ms, time_zone))}-{identity}{extension}"


def object_key(
    prefix: Prefix,
    *,
    stream: str,
    version: int,
    oldest_ms: int,
    identity: UUID,
    extension: str = "",
    error_output_type: str | None = None,
    values: Sequence[str] = (),
) -> str:
    """Return the whole key of an object. `error_output_type`: for the error output alone, why its rows failed."""
    begin = prefix.evaluate(oldest_ms, identity=identity, error_output_type=error_output_type, values=values)
    return begin + object_name(
        stream=stream,
        version=version,
        oldest_ms=oldest_ms,
        identity=identity,
        extension=extension,
        time_zone=prefix.time_zone,
    )


def next_key(key: str) -> str:
    """Return the key for an object whose own is taken for good: the same but for its UUID, and always the same one."""
    found = list(_UUID.finditer(key))[-1]
    return f"{key[: found.start()]}{uuid5(NAMESPACE, key)}{key[found.end() :]}"


_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
