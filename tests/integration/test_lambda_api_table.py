"""Every way in which a function can answer has the end that it has in Firehose: functions behind the Lambda API."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from firehose import arrow
from firehose.aws import AwsClients
from firehose.records import Batch
from firehose.transforms.aws_lambda import LambdaConfig
from tests.integration.test_lambda_api import (
    ARN,
    Answer,
    LambdaServer,
    Recorder,
    context_of,
    function_error,
    refusal,
    upper,
)
from tests.unit.transforms.failures_table import (
    ACCESS_DENIED,
    LIMIT_EXCEEDED,
    NOT_FOUND,
    RECORDS,
    TABLE,
    TIMED_OUT,
    Case,
)
from tests.unit.transforms.test_failures_table import fates

pytestmark = pytest.mark.integration


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[LambdaServer]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    server, application = LambdaServer(), web.Application(client_max_size=2**24)
    application.router.add_post("/2015-03-31/functions/{name}/invocations", server.invoke)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = "http://{}:{}".format(*runner.addresses[0])
    yield server
    await runner.cleanup()


def answering(case: Case, asked: list[dict[str, Any]]) -> Answer:
    """Return how the Lambda API answers for a function with the code of a case."""
    names: dict[str, Any] = {}
    exec(case.source, names)

    def answer(event: dict[str, Any]) -> web.StreamResponse:
        asked.append(event)
        try:
            return web.Response(text=json.dumps(names["answer"](event["records"])))
        except ValueError as error:
            response = function_error(errorType="ValueError", errorMessage=str(error), stackTrace=[])(event)
            assert response is not None
            return response

    return answer


async def check(server: LambdaServer, folder: Path, case: Case, retries: int, answer: Answer) -> None:
    clients = AwsClients("us-east-1")
    config = LambdaConfig(arn=ARN, retries=retries, endpoint_url=server.url)
    transform = config.build(context_of(clients, Recorder(), folder))
    server.answers = [answer]
    batch = Batch.of("s-1", arrow.binary_column(RECORDS), first_sequence=0, arrival_ms=1_767_225_600_123)
    try:
        outcome = await transform.apply(batch)
    finally:
        await transform.close()
        await clients.close()
    assert fates(outcome, len(batch), case.invocations(retries)) == case.fates
    assert len(server.requests) == case.invocations(retries)


@pytest.mark.parametrize("case", TABLE, ids=str)
async def test_each_way_of_answering_has_its_end(server: LambdaServer, tmp_path: Path, case: Case) -> None:
    asked: list[dict[str, Any]] = []
    await check(server, tmp_path, case, 1, answering(case, asked))
    assert len({event["invocationId"] for event in asked}) == case.invocations(1)
    assert all(event["records"] == asked[0]["records"] for event in asked)


@pytest.mark.parametrize("retries", [0, 1, 3])
@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (function_error(errorMessage="2026-01-01 4d2d Task timed out after 3.00 seconds"), TIMED_OUT),
        (refusal(429, "TooManyRequestsException"), LIMIT_EXCEEDED),
        (refusal(403, "AccessDeniedException"), ACCESS_DENIED),
        (refusal(404, "ResourceNotFoundException"), NOT_FOUND),
    ],
    ids=["timed out", "throttled", "no permission", "missing function"],
)
async def test_what_did_not_come_about_is_tried_again(
    server: LambdaServer, tmp_path: Path, answer: Answer, why: tuple[str, str], retries: int
) -> None:
    await check(server, tmp_path, Case("", "", (why,) * 3, is_retried=True), retries, answer)


async def test_records_are_sent_in_events_that_lambda_takes(server: LambdaServer, tmp_path: Path) -> None:
    """4 MiB of data or less, but too large together as JSON: so there are two events, and neither is too large."""
    clients = AwsClients("us-east-1")
    config = LambdaConfig(arn=ARN, endpoint_url=server.url, buffer_size="4MiB")
    transform = config.build(context_of(clients, Recorder(), tmp_path))
    server.answers = [upper]
    sent = [b"a" * 39] * 60_000
    batch = Batch.of("s-1", arrow.binary_column(sent), first_sequence=0, arrival_ms=0)
    assert batch.data_bytes < 4 * 2**20
    try:
        outcome = await transform.apply(batch)
    finally:
        await transform.close()
        await clients.close()
    assert outcome.ok.data.to_pylist() == [b"A" * 39] * 60_000
    assert all(int(request.headers["Content-Length"]) <= 6 * 2**20 for request in server.requests)
    assert len(server.requests) == 2
