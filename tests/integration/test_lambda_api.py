"""The Lambda API over real HTTP: a small server that answers Invoke the way Lambda does."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from aiohttp import web

from firehose import arrow
from firehose.aws import AwsClients
from firehose.clock import SystemClock
from firehose.components import BuildContext, Environment, StreamIdentity
from firehose.executors import InlineExecutor
from firehose.filesystem import OsFileSystem
from firehose.records import Batch, Outcome
from firehose.telemetry import Event
from firehose.transforms.aws_lambda import LambdaConfig, LambdaTransform
from firehose.transforms.events import FunctionFailed

pytestmark = pytest.mark.integration

ARN = "arn:aws:lambda:eu-west-1:123456789012:function:upper"

#: None: hang up.
Answer = Callable[[dict[str, Any]], web.StreamResponse | None]


class LambdaServer:
    """Answers each invocation with the next of `answers`, the last one for ever."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.requests: list[web.Request] = []
        self.url = ""

    async def invoke(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        event = json.loads(await request.read())
        answer = self.answers[min(len(self.requests), len(self.answers)) - 1](event)
        if answer is None:
            assert request.transport is not None
            request.transport.close()
        return answer or web.Response()


class InstantClock(SystemClock):
    async def sleep_ms(self, duration_ms: int) -> None:
        pass


class Recorder:
    def __init__(self) -> None:
        self.failures: list[FunctionFailed] = []

    def emit(self, event: Event) -> None:
        if isinstance(event, FunctionFailed):
            self.failures.append(event)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
async def server() -> AsyncIterator[LambdaServer]:
    server = LambdaServer()
    application = web.Application(client_max_size=2**24)
    application.router.add_post("/2015-03-31/functions/{name}/invocations", server.invoke)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    server.url = f"http://{host}:{port}"
    yield server
    await runner.cleanup()


@pytest.fixture
async def transform(
    server: LambdaServer, recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[LambdaTransform]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    clients = AwsClients("us-east-1")
    transform = LambdaConfig(arn=f"{ARN}:prod", retries=1, endpoint_url=server.url).build(
        context_of(clients, recorder, tmp_path)
    )
    yield transform
    await transform.close()
    await clients.close()


def context_of(clients: AwsClients, recorder: Recorder, folder: Path) -> BuildContext:
    environment = Environment(
        clock=InstantClock(),
        telemetry=recorder,
        executor=InlineExecutor(),
        files=OsFileSystem(),
        data_dir=folder,
        aws=clients,
        log=None,
    )
    stream = StreamIdentity(uid="u", name="clicks", region="eu-west-1", account="123456789012")
    return BuildContext(environment=environment, stream=stream, functions={}, catalogs={})


def upper(event: dict[str, Any]) -> web.StreamResponse:
    records = [
        {
            "recordId": record["recordId"],
            "result": "Ok",
            "data": base64.b64encode(base64.b64decode(record["data"]).upper()).decode(),
        }
        for record in event["records"]
    ]
    return web.json_response({"records": records}, headers={"X-Amz-Executed-Version": "7"})


def function_error(**payload: Any) -> Answer:
    return lambda event: web.json_response(payload, headers={"X-Amz-Function-Error": "Unhandled"})


def refusal(status: int, code: str) -> Answer:
    return lambda event: web.json_response(
        {"Type": "User", "Message": "no"}, status=status, headers={"x-amzn-ErrorType": code}
    )


def batch_of(*records: bytes) -> Batch:
    return Batch.of("s-1", arrow.binary_column(records), first_sequence=0, arrival_ms=1_767_225_600_123)


def failure(outcome: Outcome) -> tuple[str, str, int]:
    (row,) = outcome.failed[0].rows.to_pylist()
    return row["code"], row["message"], row["attempts"]


async def test_invoke_sends_the_event_and_takes_the_answer(server: LambdaServer, transform: LambdaTransform) -> None:
    server.answers = [upper]
    outcome = await transform.apply(batch_of(b"a", b"b"))
    assert outcome.ok.data.to_pylist() == [b"A", b"B"]
    (request,) = server.requests
    assert unquote(request.match_info["name"]) == f"{ARN}:prod"
    assert request.headers["X-Amz-Invocation-Type"] == "RequestResponse"
    assert "/eu-west-1/lambda/aws4_request" in request.headers["Authorization"]


async def test_a_large_batch_arrives(server: LambdaServer, transform: LambdaTransform) -> None:
    server.answers = [upper]
    records = [b"x" * 1_000_000] * 3
    outcome = await transform.apply(batch_of(*records))
    assert outcome.ok.data.to_pylist() == [b"X" * 1_000_000] * 3
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("answer", "code", "attempts", "reason", "detail"),
    [
        (
            function_error(errorType="KeyError", errorMessage="'a'", stackTrace=["  File x, line 1\n", "    boom\n"]),
            "Lambda.FunctionError", 2, "KeyError: 'a'", "  File x, line 1\n    boom",
        ),
        (
            function_error(errorMessage="2026-01-01T00:00:00.000Z 4d2d Task timed out after 3.00 seconds"),
            "Lambda.FunctionTimedOut", 2, "Task timed out after 3.00 seconds", "",
        ),
        (
            function_error(errorType="Sandbox.Timedout", errorMessage="RequestId: 4d2d Error: Task timed out"),
            "Lambda.FunctionTimedOut", 2, "Sandbox.Timedout", "",
        ),
        (
            function_error(errorType="Function.ResponseSizeTooLarge", errorMessage="Response payload size exceeded"),
            "Lambda.FunctionError", 1, "Function.ResponseSizeTooLarge: Response payload size exceeded", "",
        ),
        (lambda event: web.json_response({"records": "?"}), "Lambda.FunctionError", 1, "not a list", ""),
        (lambda event: web.Response(text="<html>"), "Lambda.FunctionError", 1, "not JSON", ""),
        (
            lambda event: web.Response(text="boom", headers={"X-Amz-Function-Error": "Unhandled"}),
            "Lambda.FunctionError", 2, "it failed without saying why: boom", "",
        ),
        (refusal(429, "TooManyRequestsException"), "Lambda.InvokeLimitExceeded", 2, "TooManyRequestsException", ""),
        (refusal(403, "AccessDeniedException"), "Lambda.InvokeAccessDenied", 2, "AccessDeniedException", ""),
        (refusal(404, "ResourceNotFoundException"), "Lambda.ResourceNotFound", 2, "ResourceNotFoundException", ""),
        (refusal(500, "ServiceException"), "Lambda.InternalServerError", 2, "ServiceException", ""),
        (refusal(502, "Surprise"), "Lambda.InternalServerError", 2, "Surprise", ""),
        (refusal(400, "Surprise"), "Lambda.InvocationFailure", 2, "Surprise", ""),
        (refusal(403, "ExpiredTokenException"), "Lambda.InvalidSecurityToken", 2, "ExpiredTokenException", ""),
    ],
)  # fmt: skip
async def test_what_goes_wrong_has_firehoses_code(
    server: LambdaServer,
    transform: LambdaTransform,
    recorder: Recorder,
    answer: Answer,
    code: str,
    attempts: int,
    reason: str,
    detail: str,
) -> None:
    server.answers = [answer]
    outcome = await transform.apply(batch_of(b"a"))
    found_code, _, found_attempts = failure(outcome)
    assert (found_code, found_attempts) == (code, attempts)
    assert len(server.requests) == attempts
    assert reason in recorder.failures[-1].reason
    assert recorder.failures[0].detail == detail


async def test_the_error_output_has_firehoses_texts(server: LambdaServer, transform: LambdaTransform) -> None:
    server.answers = [refusal(403, "AccessDeniedException")]
    text = "Access was denied. Ensure that the access policy allows access to the Lambda function."
    assert failure(await transform.apply(batch_of(b"a")))[1] == text


async def test_throttled_once_is_tried_again(server: LambdaServer, transform: LambdaTransform) -> None:
    server.answers = [refusal(429, "TooManyRequestsException"), upper]
    outcome = await transform.apply(batch_of(b"a"))
    assert outcome.ok.data.to_pylist() == [b"A"]
    assert len(server.requests) == 2


async def test_a_server_that_is_not_there_counts_as_an_attempt(
    recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    clients = AwsClients("us-east-1")
    config = LambdaConfig(arn=ARN, retries=1, endpoint_url="http://127.0.0.1:9")
    transform = config.build(context_of(clients, recorder, tmp_path))
    code, _, attempts = failure(await transform.apply(batch_of(b"a")))
    await clients.close()
    assert (code, attempts) == ("Lambda.ServiceUnavailable", 2)


async def test_a_server_that_hangs_up_counts_as_an_attempt(server: LambdaServer, transform: LambdaTransform) -> None:
    server.answers = [lambda event: None]
    code, _, attempts = failure(await transform.apply(batch_of(b"a")))
    assert (code, attempts) == ("Lambda.ServiceUnavailable", 2)
