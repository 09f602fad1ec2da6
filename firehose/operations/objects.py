"""`audit --deep`: do the objects stand at their sinks as they were delivered? Each is read, and its bytes are counted.

One call looks at objects for a bounded time and says where it stopped, so that the caller can show progress, or stop.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from firehose.clock import Clock
from firehose.components import BuildContext
from firehose.delivery.plan import FAILED, Outlet
from firehose.delivery.standing import ROWS_METADATA
from firehose.errors import FirehoseError, InvalidError, NotFoundError, ThrottledError
from firehose.executors import Executor
from firehose.operations.parameters import chosen, number
from firehose.service import Service
from firehose.service.planning import build_outlets, close_outlets
from firehose.service.runner import StreamRunner
from firehose.state import Intent

#: How long one call goes on, unless it is told otherwise: an object that is begun is read to its end.
CALL_MS = 5_000

#: Manifests that are loaded at once.
PAGE = 500

#: Differences that one call names: whoever has lost a whole bucket need not read a million lines.
MOST_NAMED = 1_000

#: So many objects in a row that are refused are a matter of the store, not of the objects.
MOST_REFUSED = 3

#: What one object is enough for: each attempt takes long.
NOBODY_ANSWERS = {"S3.ServiceUnavailable"}


@dataclass(slots=True)
class Checked:
    """What was found: `objects` that stand, what they hold, and how many differ from what was delivered.

    `elsewhere`: objects at a sink that the stream had before, which were not looked at. Units: `body_bytes` as stored.
    """

    objects: int = 0
    records: int = 0
    body_bytes: int = 0
    differ: int = 0
    elsewhere: int = 0
    #: Stream, outlet, key, url, and in `what` how the object differs from its manifest.
    differences: list[dict[str, str]] = field(default_factory=list)
    #: Stream, code and message of what could not be looked at.
    problems: list[dict[str, str]] = field(default_factory=list)

    def add_problem(self, stream: str, error: FirehoseError) -> None:
        """Say why something of a stream was not looked at."""
        self.problems.append({"stream": stream, "code": error.code, "message": str(error)})


async def audit_objects(service: Service, parameters: dict[str, Any]) -> dict[str, Any]:
    """Compare the manifests of one stream, or of all, with what stands at their sinks: existence, size, SHA-256.

    Goes on behind `cursor`, for about `wait_ms`; returns what `Checked` says, and the next `cursor`, None at the end.
    Failed records that were replayed already are not missed where somebody removed their object.
    """
    clock = service.environment.clock
    until_ms = clock.monotonic_ms() + number(parameters, "wait_ms", CALL_MS)
    cursor = _cursor(parameters.get("cursor"))
    checked = Checked()
    for runner in sorted(chosen(service, parameters), key=lambda each: each.record.name):
        name = runner.record.name
        if name < cursor[0]:
            continue
        after = cursor[1:] if name == cursor[0] else ("", "")
        try:
            place = await _Stream(service, runner, checked).check(after, clock, until_ms)
        except FirehoseError as error:
            checked.add_problem(name, error)
            continue
        if place is not None:
            return asdict(checked) | {"cursor": [name, *place]}
    return asdict(checked) | {"cursor": None}


def _cursor(given: Any) -> tuple[str, str, str]:
    if given is None:
        return ("", "", "")
    if not isinstance(given, list) or len(given) != 3 or not all(isinstance(each, str) for each in given):
        raise InvalidError("cursor: give back what the call before returned")
    name, outlet, key = given
    return name, outlet, key


@dataclass(slots=True)
class _Stream:
    """Looks at the objects of one stream."""

    service: Service
    runner: StreamRunner
    checked: Checked
    #: How many objects in a row could not be looked at.
    refused: int = 0

    async def check(self, after: tuple[str, str], clock: Clock, until_ms: int) -> tuple[str, str] | None:
        """Look at what comes behind the outlet and key `after`; return where the time was over, or None.

        Errors: those of the sinks.
        """
        service, runner = self.service, self.runner
        context = BuildContext(service.environment, runner.identity, service.configuration.functions, {})
        outlets = build_outlets(runner.config, context, service.sinks)
        replayed = (await service.state.replays(runner.record.uid))[0]
        try:
            for outlet in sorted(outlets, key=lambda each: each.name):
                if outlet.name < after[0]:
                    continue
                key = after[1] if outlet.name == after[0] else ""
                while page := await service.state.manifest_page(runner.record.uid, outlet.name, after=key, limit=PAGE):
                    for manifest in page:
                        key = manifest.intent.key
                        is_replayed = outlet.name == FAILED and not len(manifest.intent.rows - replayed)
                        await self._try_to_look(outlet, manifest.intent, may_be_gone=is_replayed)
                        named = len(self.checked.differences) + len(self.checked.problems)
                        if clock.monotonic_ms() >= until_ms or named >= MOST_NAMED:
                            return outlet.name, key
        finally:
            await close_outlets(*outlets)
        return None

    async def _try_to_look(self, outlet: Outlet, intent: Intent, *, may_be_gone: bool) -> None:
        """Look at one object, or say why not. Errors: those of the sink, where several in a row were refused."""
        try:
            await self._look(outlet, intent, may_be_gone=may_be_gone)
        except FirehoseError as error:
            self.refused += 1
            if self.refused == MOST_REFUSED or isinstance(error, ThrottledError) or error.code in NOBODY_ANSWERS:
                error.say_more("objects behind it were not looked at")
                raise
            self.checked.add_problem(self.runner.record.name, error)
        else:
            self.refused = 0

    async def _look(self, outlet: Outlet, intent: Intent, *, may_be_gone: bool) -> None:
        """Look at one object. Errors: those of the sink, but for one that is not there."""
        if intent.facts.get("url", outlet.sink.url) != outlet.sink.url:
            self.checked.elsewhere += 1
            return
        try:
            size, checksum = await _read(outlet.sink, intent.key, self.service.sinks)
        except NotFoundError:
            if not may_be_gone:
                self._tell(outlet, intent, "is not there")
            return
        self.checked.objects += 1
        self.checked.records += len(intent.rows)
        self.checked.body_bytes += size
        if size != intent.body_bytes:
            self._tell(outlet, intent, f"has {size} bytes, {intent.body_bytes} were delivered")
        elif intent.checksum and checksum != intent.checksum:
            self._tell(outlet, intent, f"has SHA-256 {checksum}, {intent.checksum} was delivered")
        elif intent.metadata.keys() - {ROWS_METADATA} and await self._lacks_metadata(outlet, intent):
            self._tell(outlet, intent, "has lost the metadata that says how to decrypt it")

    async def _lacks_metadata(self, outlet: Outlet, intent: Intent) -> bool:
        """Return whether an encrypted object is without what its bytes cannot be read without."""
        sink: Any = outlet.sink
        found = (await sink.stat(intent.key)).metadata
        return any(found.get(name) != value for name, value in intent.metadata.items() if name != ROWS_METADATA)

    def _tell(self, outlet: Outlet, intent: Intent, what: str) -> None:
        place = {"stream": self.runner.record.name, "outlet": outlet.name, "key": intent.key}
        self.checked.differ += 1
        self.checked.differences.append(place | {"url": f"{outlet.sink.url}/{intent.key}", "what": what})


async def _read(sink: Any, key: str, executor: Executor) -> tuple[int, str]:
    """Return size and SHA-256 of an object's bytes. Errors: NotFoundError, and others of the sink."""
    size, digest = 0, hashlib.sha256()
    async with sink.open(key) as chunks:
        async for chunk in chunks:
            size += len(chunk)
            await executor.run(partial(digest.update, chunk))
    return size, digest.hexdigest()
