"""`failed ls | show | stats`: what lies in the error output, read back from where it was written."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import orjson
import pybase64

from firehose.components import BuildContext
from firehose.delivery.plan import FAILED, Outlet
from firehose.delivery.reading import lines, open_object
from firehose.errors import IntegrityError, InvalidError, NotFoundError
from firehose.operations.parameters import chosen, number
from firehose.protocols import Manifest, Stage
from firehose.records import WHOLE, RowSet
from firehose.service import Service
from firehose.service.planning import build_outlets
from firehose.service.runner import StreamRunner


@dataclass(frozen=True, slots=True)
class Entry:
    """One failed record as the error output holds it. `key` and `line` (from 1) name it."""

    key: str
    line: int
    stage: str
    code: str
    message: str
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
            "attempts": self.attempts,
            "arrival_ms": self.arrival_ms,
            "failed_ms": self.ended_ms,
            "data_bytes": len(self.data),
            "replayed": self.is_replayed,
        }


@dataclass(frozen=True, slots=True)
class Filter:
    """Which entries are meant. Units: `since_ms` (included) and `until_ms` (not included) are times of arrival."""

    stage: str | None
    code: str | None
    key: str | None
    since_ms: int
    until_ms: int

    @classmethod
    def of(cls, parameters: dict[str, Any]) -> Filter:
        """Read the filter from a verb's parameters. Errors: InvalidError."""
        stage = parameters.get("stage")
        if stage is not None and stage not in set(Stage):
            raise InvalidError(f"no stage {stage!r}; stages: {', '.join(Stage)}")
        since_ms, until_ms = number(parameters, "since_ms", 0), number(parameters, "until_ms", 2**62)
        return cls(stage, parameters.get("code"), parameters.get("key"), since_ms, until_ms)

    def may_hold(self, manifest: Manifest) -> bool:
        """Return whether entries of this object may match, without reading it."""
        names = [name.partition("/") for name in manifest.intent.failures]
        has_reason = any(self.stage in (None, stage) and self.code in (None, code) for stage, _, code in names)
        return has_reason and self.key in (None, manifest.intent.key) and manifest.intent.oldest_ms < self.until_ms

    def matches(self, entry: Entry) -> bool:
        """Return whether the entry is meant."""
        is_meant = self.stage in (None, entry.stage) and self.code in (None, entry.code)
        return is_meant and self.since_ms <= entry.arrival_ms < self.until_ms


class FailedReader:
    """Reads one stream's error output."""

    def __init__(self, service: Service, runner: StreamRunner) -> None:
        self._service = service
        self._uid = runner.record.uid
        context = BuildContext(service.environment, runner.identity, service.configuration.functions, {})
        self._outlets = build_outlets(runner.config, context)
        self._outlet: Outlet = self._outlets[1]
        self._replayed = RowSet()

    async def manifests(self, wanted: Filter) -> list[Manifest]:
        """Return the objects that may hold wanted entries, oldest first, and look up what was replayed."""
        state = self._service.state
        finished, unknown = await state.replays(self._uid)
        for replay in unknown:
            finished = finished | replay.rows
        self._replayed = finished
        found = await state.manifests(self._uid, FAILED, since_ms=wanted.since_ms)
        return [manifest for manifest in found if wanted.may_hold(manifest)]

    def open_records(self, manifest: Manifest) -> int:
        """Return how many entries of the object were not replayed."""
        return len(manifest.intent.rows - self._replayed)

    async def entries(self, manifest: Manifest) -> AsyncIterator[Entry]:
        """Yield an object's entries. Errors: NotFoundError where somebody removed it, IntegrityError for bad lines."""
        stage = next(iter(manifest.intent.failures)).partition("/")[0]
        key = manifest.intent.key
        reader: Any = self._outlet.sink
        environment = self._service.environment
        async with open_object(
            reader,
            key,
            cipher=self._outlet.cipher,
            compressor=self._outlet.compressor,
            scratch=self._service.directory.scratch,
            executor=environment.executor,
        ) as chunks:
            number = 0
            async for line in lines(chunks):
                number += 1
                yield self._entry(key, number, stage, line)

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
                attempts=fields["attemptsMade"],
                arrival_ms=fields["arrivalTimestamp"],
                ended_ms=fields["attemptEndingTimestamp"],
                shard=shard,
                sequence=sequence,
                sub_sequence=sub,
                data=pybase64.b64decode(fields["rawData"], validate=True),
                is_replayed=self._replayed.holds(shard, sequence, sub),
            )
        except (orjson.JSONDecodeError, KeyError, ValueError, TypeError) as error:
            raise IntegrityError(f"{self._outlet.sink.url}/{key} line {line} is no entry of ours: {error!r}") from error

    async def close(self) -> None:
        """Close connections."""
        destination, failed = self._outlets
        await destination.sink.close()
        if failed.sink is not destination.sink:
            await failed.sink.close()


async def _matching(service: Service, parameters: dict[str, Any]) -> AsyncIterator[tuple[StreamRunner, Entry]]:
    wanted = Filter.of(parameters)
    for runner in chosen(service, parameters):
        reader = FailedReader(service, runner)
        try:
            for manifest in await reader.manifests(wanted):
                async for entry in reader.entries(manifest):
                    if wanted.matches(entry):
                        yield runner, entry
        finally:
            await reader.close()


async def ls(service: Service, parameters: dict[str, Any]) -> dict[str, Any]:
    """List entries, oldest first; those that were replayed only with `all`."""
    limit, more = number(parameters, "limit", 100), False
    found: list[dict[str, Any]] = []
    async for runner, entry in _matching(service, parameters):
        if entry.is_replayed and not parameters.get("all"):
            continue
        if len(found) == limit:
            more = True
            break
        found.append(entry.summary(runner.record.name))
    return {"records": found, "more": more}


async def show(service: Service, parameters: dict[str, Any]) -> dict[str, Any]:
    """Return one entry with its original bytes. Errors: NotFoundError."""
    key, _, line = str(parameters.get("id", "")).rpartition("#")
    async for runner, entry in _matching(service, {**parameters, "key": key}):
        if str(entry.line) == line:
            body = {"data": pybase64.b64encode(entry.data).decode(), "text": entry.data.decode("utf-8", "replace")}
            where = {"shard": entry.shard, "sequence": entry.sequence}
            return entry.summary(runner.record.name) | where | body
    raise NotFoundError(f"no failed record {parameters.get('id')!r}; `firehose failed ls` shows their ids")


async def stats(service: Service, parameters: dict[str, Any]) -> dict[str, Any]:
    """Count entries by stream, stage and code, and how many of them were replayed."""
    total: Counter[tuple[str, str, str]] = Counter()
    replayed: Counter[tuple[str, str, str]] = Counter()
    async for runner, entry in _matching(service, parameters):
        at = (runner.record.name, entry.stage, entry.code)
        total[at] += 1
        replayed[at] += entry.is_replayed
    return {
        "reasons": [
            {
                "stream": at[0],
                "stage": at[1],
                "code": at[2],
                "records": count,
                "replayed": replayed[at],
                "open": count - replayed[at],
            }
            for at, count in sorted(total.items(), key=lambda item: (-item[1], item[0]))
        ]
    }
