"""What a function behind the Lambda API says of its own failure, whatever that is."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firehose.aws import AwsClients
from firehose.transforms import remote
from firehose.transforms.contract import FunctionArn, InvocationError
from firehose.transforms.remote import RemoteFunction, _function_error

ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
FAILURES = st.fixed_dictionaries({}, optional=dict.fromkeys(("errorType", "errorMessage", "stackTrace"), ANY))


@settings(max_examples=200, deadline=None, derandomize=True)
@given((FAILURES | ANY).map(lambda told: json.dumps(told).encode()) | st.binary(max_size=40))
def test_any_failure_is_told_in_text_of_bounded_size(body: bytes) -> None:
    error = _function_error(body)
    assert error.code == "Lambda.FunctionError"
    assert len(error.reason.encode()) < 5_000
    assert len(error.detail.encode()) < 5_000


@pytest.mark.parametrize("key", ["errorType", "errorMessage", "stackTrace"])
@pytest.mark.parametrize("value", ["x" * 1_000_000, "[" * 900 + "]" * 900, 5, ["x" * 1_000_000] * 4])
def test_much_is_cut(key: str, value: Any) -> None:
    text = value if isinstance(value, str) and value.startswith("[") else json.dumps(value)
    error = _function_error(f'{{"{key}": {text}}}'.encode())
    assert len(error.reason) < 5_000
    assert len(error.detail) <= 8_192


async def test_who_takes_an_event_and_never_reads_it_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "SEND_TIMEOUT_MS", 400)
    monkeypatch.setattr(remote, "READ_TIMEOUT_MS", 400)
    is_over = asyncio.Event()

    async def deaf(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined] # sockets have it
        await is_over.wait()
        writer.transport.abort()

    server = await asyncio.start_server(deaf, "127.0.0.1", 0)
    endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    arn, clients = FunctionArn.parse("arn:aws:lambda:us-east-1:000000000000:function:clean"), AwsClients()
    function = RemoteFunction(arn, clients, endpoint_url=endpoint)
    with pytest.raises(InvocationError, match=r"Lambda"):
        await asyncio.wait_for(function.invoke([b"x" * 32 * 2**20]), 20)
    is_over.set()
    server.close()
    await clients.close()
