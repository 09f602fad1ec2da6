"""The entries of the error output, read back from where they were written."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import pybase64

from firehose.components import BuildContext
from firehose.delivery.plan import FAILED
from firehose.delivery.reading import is_encrypted, lines, open_object
from firehose.errors import IntegrityError, InvalidError, NotFoundError
from firehose.operations.parameters import number
from firehose.protocols import Stage
from firehose.records import WHOLE, RowSet
from firehose.service import Service
from firehose.service.planning import build_outlets, close_outlets
from firehose.service.runner import StreamRunner
from firehose.state import Manifest

#: Where records can fail in this version.
STAGES = tuple(Stage)

#: Later than any time. Units: Unix milliseconds.
EVER = 2**62


@dataclass(frozen=True, slots=True)
class Entry:
    """One failed record as the error output holds it. `key` and `line` (from 1) name it.

    `message` is in Firehose's words, which say little of functions; `detail` is what the function itself said.
    """

    key: str
    line: int
    stage: str
    code: str
    message: str
    detail: str | None
    attempts: int
    arrival_ms: int
    ended_ms: int
    shard: str
    sequence: int
    sub_sequence: int
    data: bytes
    is_replayed: bool

    def summary(self, stream: str) -> dict[str, Any]:
        """Return the entry without its data."""
        return {
            "stream": stream,
            "id": f"{self.key}#{self.line}",
            "stage": self.stage,
            "code": self.code,
            "message": self.message,
            "detail": self.detail,
            "attempts": self.attempts,
            "arrival_ms": self.arrival_ms,
            "failed_ms": self.ended_ms,
            "data_bytes": len(self.data),
            "replayed": self.is_replayed,
        }


@dataclass(frozen=True, slots=True)
class Filter:
    """Which entries are meant.

    Units: `since_ms` (included) and `until_ms` (not included) are times of arrival; `failed_by_ms` (included) is one of
    failure.
    """

    stage: str | None
    code: str | None
    key: str | None
    since_ms: int
    until_ms: int
    failed_by_ms: int

    @classmethod
    def of(cls, parameters: dict[str, Any]) -> Filter:
        """Read the filter from a verb's parameters. Errors: InvalidError."""
        stage = parameters.get("stage")
        if stage is not None and stage not in STAGES:
            raise InvalidError(f"no stage {stage!r}; stages: {', '.join(STAGES)}")
        since_ms, until_ms = number(parameters, "since_ms", 0), number(parameters, "until_ms", EVER)
        failed_by_ms = number(parameters, "failed_by_ms", EVER)
        return cls(stage, parameters.get("code"), parameters.get("key"), since_ms, until_ms, failed_by_ms)

    def may_hold(self, manifest: Manifest) -> bool:
        """Return whether entries of this object may match, without reading it."""
        names = [name.partition("/") for name in manifest.intent.failures]
        has_reason = any(self.stage in (None, stage) and self.code in (None, code) for stage, _, code in names)
        return has_reason and self.key in (None, manifest.intent.key) and manifest.intent.oldest_ms < self.until_ms

    def matches(self, entry: Entry) -> bool:
        """Return whether the entry is meant."""
        has_reason = self.stage in (None, entry.stage) and self.code in (None, entry.code)
        return has_reason and entry.ended_ms <= self.failed_by_ms and self.since_ms <= entry.arrival_ms < self.until_ms


async def known_codes(service: Service, runners: Iterable[StreamRunner]) -> set[str]:
    """Return the codes of all failed records of these streams, replayed or not."""
    manifests = [each for runner in runners for each in await service.state.manifests(runner.record.uid, FAILED)]
    return {name.partition("/")[2] for manifest in manifests for name in manifest.intent.failures}


class FailedReader:
    """Reads one stream's error output. Errors: those of its sink and cipher, when they are built."""

    def __init__(self, service: Service, runner: StreamRunner) -> None:
        self._service = service
        self._uid = runner.record.uid
        context = BuildContext(service.environment, runner.identity, service.configuration.functions, {})
        self._destination, self._outlet = build_outlets(runner.config, context, service.sinks)
        self._replayed = RowSet()

    async def manifests(self, wanted: Filter) -> list[Manifest]:
        """Return the objects that may hold wanted entries, oldest first, and look up what was replayed."""
        state = self._service.state
        self._replayed, unknown = await state.replays(self._uid)
        for replay in unknown:
            self._replayed = self._replayed | replay.rows
        found = await state.manifests(self._uid, FAILED, since_ms=wanted.since_ms)
        return [manifest for manifest in found if wanted.may_hold(manifest)]

    def open_records(self, manifest: Manifest) -> int:
        """Return how many entries of the object were not replayed."""
        return len(manifest.intent.rows - self._replayed)

    async def entries(self, manifest: Manifest) -> AsyncGenerator[Entry, None]:
        """Yield an object's entries.

        Errors: NotFoundError where somebody removed it; IntegrityError where it is not what was written.
        """
        stage = next(iter(manifest.intent.failures)).partition("/")[0]
        key, line, seen = manifest.intent.key, 0, RowSet()
        async with aclosing(self._lines(manifest)) as bodies:
            async for body in bodies:
                line += 1
                entry = self._entry(key, line, stage, body)
                at = (entry.shard, entry.sequence, entry.sub_sequence)
                if seen.holds(*at) or not manifest.intent.rows.holds(*at):
                    raise IntegrityError(
                        f"{self._outlet.sink.url}/{key} line {line} was not written here by this stream"
                    )
                seen.add(entry.shard, np.array([entry.sequence]), np.array([entry.sub_sequence]))
                yield entry

    async def _lines(self, manifest: Manifest) -> AsyncGenerator[bytes, None]:
        intent, outlet = manifest.intent, self._outlet
        written_to = intent.facts.get("url", outlet.sink.url)
        if written_to != outlet.sink.url:
            raise NotFoundError(
                f"{intent.key} was written to {written_to}, but failed records go to {outlet.sink.url} now; "
                "point `failed.sink` there to read it"
            )
        cipher = outlet.cipher if is_encrypted(intent.metadata) else None
        if is_encrypted(intent.metadata) and outlet.cipher is None:
            raise IntegrityError(f"{outlet.sink.url}/{intent.key} is encrypted; give the stream its `encryption` back")
        reader: Any = outlet.sink
        async with open_object(
            reader,
            intent.key,
            cipher=cipher,
            compressor=outlet.compressor,
            scratch=self._service.directory.scratch,
            executor=self._service.environment.executor,
        ) as chunks:
            async for line in lines(chunks):
                yield line

    def _entry(self, key: str, line: int, stage: str, body: bytes) -> Entry:
        try:
            fields = orjson.loads(body)
            sub_sequence = fields["subSequenceNumber"]
            shard, sequence = fields["shardId"], int(fields["sequenceNumber"])
            sub = WHOLE if sub_sequence is None else int(sub_sequence)
            return Entry(
                key=key,
                line=line,
                stage=stage,
                code=fields.get("errorCode") or fields["lastErrorCode"],
                message=fields.get("errorMessage") or fields.get("lastErrorMessage", ""),
                detail=fields.get("errorDetail"),
                attempts=fields["attemptsMade"],
                arrival_ms=fields["arrivalTimestamp"],
                ended_ms=fields["attemptEndingTimestamp"],
                shard=shard,
                sequence=sequence,
                sub_sequence=sub,
                data=pybase64.b64decode(fields["rawData"], validate=True),
                is_replayed=self._replayed.holds(shard, sequence, sub),
            )
        except (orjson.JSONDecodeError, KeyError, ValueError, TypeError, AttributeError) as error:
            raise IntegrityError(f"{self._outlet.sink.url}/{key} line {line} is no entry of ours: {error!r}") from error

    async def close(self) -> None:
        """Close connections."""
        await close_outlets(self._destination, self._outlet)
