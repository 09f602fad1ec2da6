from __future__ import annotations

import base64
import gzip
import json
import random
from typing import Any

import pytest


@pytest.fixture(scope="module")
def logs(load: Any) -> Any:
    return load("cloudwatch_logs")


def envelope(*messages: str, kind: str = "DATA_MESSAGE") -> bytes:
    return gzip.compress(
        json.dumps(
            {
                "messageType": kind,
                "owner": "123456789012",
                "logGroup": "/app",
                "logStream": "i-1",
                "subscriptionFilters": ["f"],
                "logEvents": [
                    {"id": str(number), "timestamp": 1_767_225_600_000 + number, "message": message}
                    for number, message in enumerate(messages)
                ],
            }
        ).encode()
    )


@pytest.mark.parametrize(
    ("messages", "data"),
    [
        (["one"], b"one"),
        (["one", "two", "drei ü"], "one\ntwo\ndrei ü".encode()),
        (["", "after an empty one"], b"\nafter an empty one"),
        (["two\nlines\n"], b"two\nlines\n"),
        (['{"level":"info"}'], b'{"level":"info"}'),
        ([], b""),
    ],
)
def test_messages_become_lines(logs: Any, run: Any, messages: list[str], data: bytes) -> None:
    assert run(logs, envelope(*messages)) == [("Ok", data)]


def test_the_example_of_the_docstring(logs: Any, run: Any) -> None:
    example = logs.__doc__.split("The gzip of\n\n")[1].split("\n\nbecomes")[0]
    assert run(logs, gzip.compress(json.dumps(json.loads(example)).encode())) == [("Ok", b"one\ntwo")]


def test_control_messages_are_dropped(logs: Any, run: Any) -> None:
    probe = "CWL CONTROL MESSAGE: Checking health of destination Firehose."
    assert run(logs, envelope(probe, kind="CONTROL_MESSAGE")) == [("Dropped", None)]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not gzip",
        b'{"messageType":"DATA_MESSAGE","logEvents":[]}',
        envelope("cut off")[:-4],
        envelope("followed by") + b"more",
        envelope("twice") * 2,
        envelope("other", kind="SOMETHING_ELSE"),
        gzip.compress(b"not json", mtime=0),
        gzip.compress(b"\xff\xfe\xfd", mtime=0),
        gzip.compress(b"[]", mtime=0),
        gzip.compress(b"{}", mtime=0),
        gzip.compress(b'{"messageType":"DATA_MESSAGE"}', mtime=0),
        gzip.compress(b'{"messageType":"DATA_MESSAGE","logEvents":{}}', mtime=0),
        gzip.compress(b'{"messageType":"DATA_MESSAGE","logEvents":["text"]}', mtime=0),
        gzip.compress(b'{"messageType":"DATA_MESSAGE","logEvents":[{"id":"1"}]}', mtime=0),
        gzip.compress(b'{"messageType":"DATA_MESSAGE","logEvents":[{"message":5}]}', mtime=0),
        gzip.compress(b'{"messageType":["DATA_MESSAGE"]}', mtime=0),
    ],
)
def test_anything_else_fails_alone(logs: Any, run: Any, body: bytes) -> None:
    first, second, third = run(logs, envelope("before"), body, envelope("after"))
    assert (first, second[0], third) == (("Ok", b"before"), "ProcessingFailed", ("Ok", b"after"))


def test_what_would_exceed_lambdas_limit_fails_and_the_rest_goes_on(logs: Any, run: Any) -> None:
    two_mb = "x" * 2_000_000
    results = [result for result, _ in run(logs, *[envelope(two_mb)] * 4, envelope("small"))]
    assert results == ["Ok", "Ok", "ProcessingFailed", "ProcessingFailed", "Ok"]


def test_an_answer_stays_below_lambdas_limit(logs: Any) -> None:
    randomness = random.Random(1)
    records = [
        {"recordId": f"{number:056d}", "data": base64.b64encode(envelope("y" * size)).decode()}
        for number, size in enumerate(randomness.choices([10, 1_000, 100_000, 900_000], k=500))
    ]
    answer = json.dumps(logs.handler({"records": records}, None))
    assert len(answer) < 6 * 2**20


def test_a_bomb_is_not_unpacked(logs: Any, run: Any) -> None:
    bomb = gzip.compress(
        b'{"messageType":"DATA_MESSAGE","logEvents":[{"message":"' + b"0" * (65 * 2**20) + b'"}]}', mtime=0
    )
    assert run(logs, bomb)[0][0] == "ProcessingFailed"
