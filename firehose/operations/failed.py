"""`failed ls | show | stats`: what lies in the error output."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from typing import Any

import pybase64

from firehose.errors import FirehoseError, IntegrityError, NotFoundError
from firehose.operations.entries import Entry, FailedReader, Filter, known_codes
from firehose.operations.parameters import chosen, number
from firehose.service import Service
from firehose.service.runner import StreamRunner

#: What could not be read, for the answer: one stream or object less must not keep the others from being looked at.
Problems = list[dict[str, Any]]


#: What is wrong with one object alone: somebody removed it, or it is not what was written.
OF_ONE_OBJECT = (NotFoundError, IntegrityError)


@contextmanager
def noting(problems: Problems, stream: str, *kinds: type[FirehoseError], key: str | None = None) -> Iterator[None]:
    """Note errors of these kinds and go on."""
    try:
        yield
    except kinds as error:
        problems.append({"stream": stream, "key": key, "code": error.code, "message": str(error)})


async def _matching(
    service: Service, parameters: dict[str, Any], problems: Problems
) -> AsyncGenerator[tuple[StreamRunner, Entry], None]:
    wanted = Filter.of(parameters)
    for runner in chosen(service, parameters):
        name = runner.record.name
        with noting(problems, name, FirehoseError):
            reader = FailedReader(service, runner)
            try:
                for manifest in await reader.manifests(wanted):
                    with noting(problems, name, *OF_ONE_OBJECT, key=manifest.intent.key):
                        async with aclosing(reader.entries(manifest)) as entries:
                            async for entry in entries:
                                if wanted.matches(entry):
                                    yield runner, entry
            finally:
                await reader.close()


async def ls(service: Service, parameters: dict[str, Any]) -> dict[str, Any]:
    """List entries, oldest first; those that were replayed only with `all`. `note`: why there may be none."""
    limit, more, replayed = number(parameters, "limit", 100), False, 0
    found: list[dict[str, Any]] = []
    problems: Problems = []
    async with aclosing(_matching(service, parameters, problems)) as matching:
        async for runner, entry in matching:
            if entry.is_replayed and not parameters.get("all"):
                replayed += 1
                continue
            if len(found) == limit:
                more = True
                break
            found.append(entry.summary(runner.record.name))
    note = {} if found or more else await _why_none(service, parameters, replayed)
    return {"records": found, "more": more, "problems": problems} | note


async def show(service: Service, parameters: dict[str, Any]) -> dict[str, Any]:
    """Return one entry with its original bytes. Errors: NotFoundError."""
    name = str(parameters.get("id", ""))
    key, _, line = name.rpartition("#")
    problems: Problems = []
    async with aclosing(_matching(service, {**parameters, "key": key}, problems)) as matching:
        async for runner, entry in matching:
            if str(entry.line) == line:
                body = {"data": pybase64.b64encode(entry.data).decode(), "text": entry.data.decode("utf-8", "replace")}
                where = {"shard": entry.shard, "sequence": entry.sequence}
                return entry.summary(runner.record.name) | where | body
    why = "; ".join(each["message"] for each in problems) or "`firehose failed ls` shows their ids"
    raise NotFoundError(f"no failed record {name!r}: {why}")


async def stats(service: Service, parameters: dict[str, Any]) -> dict[str, Any]:
    """Count entries by stream, stage and code, and how many of them were replayed."""
    total: Counter[tuple[str, str, str]] = Counter()
    replayed: Counter[tuple[str, str, str]] = Counter()
    problems: Problems = []
    async with aclosing(_matching(service, parameters, problems)) as matching:
        async for runner, entry in matching:
            at = (runner.record.name, entry.stage, entry.code)
            total[at] += 1
            replayed[at] += entry.is_replayed
    reasons = [
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
    note = {} if reasons else await _why_none(service, parameters, 0)
    return {"reasons": reasons, "problems": problems} | note


async def _why_none(service: Service, parameters: dict[str, Any], replayed: int) -> dict[str, str]:
    """Return a `note` why nothing matches, where it is likely not what was expected."""
    if replayed:
        return {"note": f"{replayed} that match were replayed already"}
    code = parameters.get("code")
    if code is None or code in (known := await known_codes(service, chosen(service, parameters))):
        return {}
    there = f"codes there are: {', '.join(sorted(known))}" if known else "none failed at all"
    return {"note": f"no record failed with code {code!r}; {there}"}
