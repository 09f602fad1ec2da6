"""Answers that no Lambda API gives, but something in its place may: they fail their records, and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from firehose.aws import AwsClients
from firehose.transforms.aws_lambda import LambdaConfig
from tests.integration.test_lambda_api import ARN, LambdaServer, Recorder, batch_of, context_of, failure, upper

pytestmark = pytest.mark.integration

FAILED = {"X-Amz-Function-Error": "Unhandled"}
DEEP = "[" * 900 + "]" * 900


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[LambdaServer]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    server, application = LambdaServer(), web.Application()
    application.router.add_post("/2015-03-31/functions/{name}/invocations", server.invoke)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = "http://{}:{}".format(*runner.addresses[0])
    yield server
    await runner.cleanup()


async def outcome_of(server: LambdaServer, folder: Path, answer: web.Response) -> tuple[str, str]:
    """Return code and reason of a record that met this answer; the next one must go through."""
    recorder, clients = Recorder(), AwsClients("us-east-1")
    config = LambdaConfig(arn=ARN, retries=0, endpoint_url=server.url)
    transform = config.build(context_of(clients, recorder, folder))
    server.answers = [lambda event: answer, upper]
    try:
        code, _, _ = failure(await transform.apply(batch_of(b"a")))
        assert (await transform.apply(batch_of(b"a"))).ok.data.to_pylist() == [b"A"]
    finally:
        await clients.close()
    return code, recorder.failures[-1].reason


@pytest.mark.parametrize(
    ("status", "body", "headers", "code", "reason"),
    [
        (500, "[]", {}, "Lambda.InternalServerError", "not an answer of the Lambda API"),
        (500, "null", {}, "Lambda.InternalServerError", "not an answer of the Lambda API"),
        (500, '{"__type": 5}', {}, "Lambda.InternalServerError", "not an answer of the Lambda API"),
        (500, "[" * 100_000, {}, "Lambda.InternalServerError", "not an answer of the Lambda API"),
        (502, b"<p>\xe9chec</p>", {}, "Lambda.InternalServerError", "not an answer of the Lambda API"),
        (429, "{}", {"Retry-After": "9" * 5_000}, "Lambda.InvokeLimitExceeded", ""),
        (500, f'{{"message": {DEEP}}}', {}, "Lambda.InternalServerError", "Invoke"),
        (500, '{"message": "\\ud800"}', {}, "Lambda.InternalServerError", "\\ud800"),
        (200, f'{{"records": {DEEP}}}', {}, "Lambda.FunctionError", "nested hundreds of levels deep"),
        (200, f'{{"errorType": {DEEP}}}', FAILED, "Lambda.FunctionError", "nested hundreds of levels deep"),
        (200, f'{{"stackTrace": [{DEEP}]}}', FAILED, "Lambda.FunctionError", ""),
        (200, '{"errorMessage": "\\ud800"}', FAILED, "Lambda.FunctionError", "it failed without saying why"),
        (200, "", {}, "Lambda.FunctionError", "not JSON"),
    ],
)
async def test_what_no_lambda_says_fails_its_records(
    server: LambdaServer,
    tmp_path: Path,
    status: int,
    body: str | bytes,
    headers: dict[str, str],
    code: str,
    reason: str,
) -> None:
    raw = body if isinstance(body, bytes) else body.encode()
    found, said = await outcome_of(server, tmp_path, web.Response(status=status, body=raw, headers=headers))
    assert found == code
    assert reason in said


async def test_an_answer_without_end_is_not_waited_for(server: LambdaServer, tmp_path: Path) -> None:
    sent_bytes = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent_bytes
        while True:
            sent_bytes += 2**16
            yield b"x" * 2**16

    code, reason = await outcome_of(server, tmp_path, web.Response(body=endless()))
    assert code == "Lambda.FunctionError"
    assert reason == "Function.ResponseSizeTooLarge: the answer has more than 6291556 bytes; Lambda allows 6291556"
    assert sent_bytes < 32 * 2**20
