"""Local functions in real child processes, through the whole transform."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from firehose import arrow
from firehose.errors import ConfigError, UnavailableError
from firehose.processes import ChildPrinted, ChildStarted
from firehose.records import Batch, Outcome
from firehose.transforms.aws_lambda import LambdaConfig, LambdaTransform
from firehose.transforms.events import FunctionFailed

#: A function as AWS documents them.
UPPER = """
import base64

def lambda_handler(event, context):
    output = []
    for record in event["records"]:
        payload = base64.b64decode(record["data"]).decode("utf-8")
        output.append({
            "recordId": record["recordId"],
            "result": "Ok",
            "data": base64.b64encode(payload.upper().encode("utf-8")).decode("utf-8"),
        })
    return {"records": output}
"""

#: Answers every record with what `say` returns.
SAY = """
import base64, json, os
def handler(event, context):
    data = base64.b64encode(json.dumps(say(event, context)).encode()).decode()
    return {"records": [{"recordId": r["recordId"], "result": "Ok", "data": data} for r in event["records"]]}
"""


def batch_of(*records: bytes) -> Batch:
    return Batch.of("s-1", arrow.binary_column(records), first_sequence=0, arrival_ms=1_767_225_600_123)


@pytest.fixture
def running(context_of: Any, function_of: Any) -> Callable[..., Any]:
    @asynccontextmanager
    async def running(code: str, *, retries: int = 0, **options: Any) -> AsyncIterator[LambdaTransform]:
        transform = LambdaConfig(function="f", retries=retries).build(context_of({"f": function_of(code, **options)}))
        try:
            yield transform
        finally:
            await transform.close()

    return running


def codes(outcome: Outcome) -> list[str]:
    return [code for failed in outcome.failed for code in failed.rows.column("code").to_pylist()]


async def said(transform: LambdaTransform) -> Any:
    outcome = await transform.apply(batch_of(b"x"))
    assert codes(outcome) == []
    return json.loads(outcome.ok.data[0].as_py())


async def test_an_aws_handler_runs_unchanged(running: Any) -> None:
    async with running(UPPER, handler="lambda_handler") as transform:
        outcome = await transform.apply(batch_of(b"a", b"", "é".encode()))
    assert outcome.ok.data.to_pylist() == [b"A", b"", "É".encode()]


async def test_a_version_asked_for_is_the_version_the_function_sees(context_of: Any, function_of: Any) -> None:
    code = SAY + "def say(event, context): return [context.function_version, context.invoked_function_arn]"
    arn = "arn:aws:lambda:us-west-2:999999999999:function:f:prod"
    transform = LambdaConfig(arn=arn).build(context_of({"f": function_of(code)}))
    try:
        assert await said(transform) == ["prod", arn]
    finally:
        await transform.close()


async def test_the_context_is_lambdas(running: Any) -> None:
    code = (
        SAY
        + """
def say(event, context):
    names = ("function_name", "function_version", "invoked_function_arn", "memory_limit_in_mb", "log_group_name",
             "log_stream_name", "client_context", "identity")
    return {n: getattr(context, n) for n in names} | {
        "id": context.aws_request_id, "left": context.get_remaining_time_in_millis()}
"""
    )
    async with running(code, timeout="30s", memory="256MiB") as transform:
        first, second = await said(transform), await said(transform)
    assert first.pop("id") != second["id"]
    assert 25_000 < first.pop("left") <= 30_000
    assert first == {
        "function_name": "f",
        "function_version": "$LATEST",
        "invoked_function_arn": "arn:aws:lambda:eu-west-1:123456789012:function:f",
        "memory_limit_in_mb": "256",
        "log_group_name": "/aws/lambda/f",
        "log_stream_name": "clicks",
        "client_context": None,
        "identity": None,
    }


async def test_the_environment_is_lambdas_and_the_functions_own(running: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    code = SAY + "def say(event, context): return dict(os.environ) | {'cwd': os.getcwd()}"
    async with running(code, environment={"TABLE": "t", "AWS_REGION": "mars-1"}) as transform:
        seen = await said(transform)
    assert seen["AWS_LAMBDA_FUNCTION_NAME"] == "f"
    assert seen["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] == "512"
    assert seen["AWS_DEFAULT_REGION"] == "eu-west-1"
    assert seen["_HANDLER"] == "code.handler"
    assert seen["LAMBDA_TASK_ROOT"] == seen["cwd"]
    assert (seen["TABLE"], seen["AWS_REGION"]) == ("t", "mars-1")
    assert "AWS_SECRET_ACCESS_KEY" not in seen


async def test_modules_and_files_beside_the_function_are_found(running: Any, function_of: Any) -> None:
    function_of("WORD = 'beside'", name="helper.py")
    function_of("text", name="data.txt")
    code = "import helper\n" + SAY + "def say(event, context): return [helper.WORD, open('data.txt').read()]"
    async with running(code, name="my-function.v2.py") as transform:
        assert await said(transform) == ["beside", "text"]


async def test_what_the_module_keeps_stays_between_invocations(running: Any) -> None:
    code = SAY + "calls = []\ndef say(event, context):\n    calls.append(1)\n    return len(calls)"
    async with running(code) as transform:
        assert [await said(transform) for _ in range(3)] == [1, 2, 3]


async def test_prints_and_logs_become_events(running: Any, recorder: Any) -> None:
    code = (
        "import logging\nlogger = logging.getLogger()\nlogger.setLevel(logging.INFO)\n"
        + SAY
        + "def say(event, context):\n    print('printed')\n    logger.info('logged %s', 1)"
    )
    async with running(code) as transform:
        await said(transform)
    (event,) = recorder.of(ChildPrinted)
    assert (event.pool, event.text) == ("f", "printed\n[INFO] logged 1\n")


async def test_a_function_that_raises_says_where_in_the_log(running: Any, recorder: Any) -> None:
    async with running("def handler(event, context):\n    return event['customer']", retries=1) as transform:
        outcome = await transform.apply(batch_of(b"a", b"b"))
    assert codes(outcome) == ["Lambda.FunctionError"] * 2
    assert outcome.failed[0].rows.column("attempts").to_pylist() == [2, 2]
    event, again = recorder.of(FunctionFailed)
    assert (again.reason, again.detail) == (event.reason, ""), "one traceback, not one for each attempt"
    shared = f"{event.reason} (of an invocation with 2 records, which all failed)"
    assert outcome.failed[0].rows.column("detail").to_pylist() == [shared] * 2
    assert re.fullmatch(r"KeyError: 'customer' \(/.*/functions/code\.py:2\)", event.reason)
    assert 'code.py", line 2, in handler' in event.detail


@pytest.mark.parametrize(
    ("code", "reason", "detail"),
    [
        ("import no_such_module\ndef handler(e, c): ...", "No module named 'no_such_module' (/", 'code.py", line 1'),
        ("def handler(e, c:\n    pass", "/code.py:1)", "SyntaxError"),
        ("x = {}\nx['a']\ndef handler(e, c): ...", "KeyError: 'a' (/", 'code.py", line 2'),
        ("def other(e, c): ...", "AttributeError: no function 'handler' in", "code.py"),
        ("handler = 5", "AttributeError: no function 'handler' in", "code.py"),
        ("class A: ...\na = A()\ndef main(e, c): ...", "`handler` names one; there is A, main", "code.py"),
    ],
)
async def test_a_file_that_cannot_be_loaded_says_why_in_the_log(
    running: Any, recorder: Any, code: str, reason: str, detail: str
) -> None:
    async with running(code) as transform:
        outcome = await transform.apply(batch_of(b"a"))
    assert codes(outcome) == ["Lambda.FunctionError"]
    (event,) = recorder.of(FunctionFailed)
    assert reason in event.reason
    assert detail in event.detail


async def test_a_file_repaired_meanwhile_is_loaded_by_the_next_attempt(
    running: Any, function_of: Any, clock: Any
) -> None:
    async with running("def handler(e, c", retries=1, handler="lambda_handler") as transform:

        async def sleep_ms(duration_ms: int) -> None:
            function_of(UPPER)

        clock.sleep_ms = sleep_ms
        outcome = await transform.apply(batch_of(b"a"))
    assert outcome.ok.data.to_pylist() == [b"A"]


LOWER = UPPER.replace(".upper()", ".lower()")


@pytest.mark.parametrize("which", ["the file", "a module beside it"])
async def test_what_was_changed_since_it_was_loaded_is_loaded_anew(running: Any, function_of: Any, which: str) -> None:
    config = function_of(UPPER)
    beside = config.path.with_name("beside.py")
    beside.write_text(UPPER)
    changed = config.path if which == "the file" else beside
    code = UPPER if which == "the file" else "from beside import lambda_handler\n"
    async with running(code, handler="lambda_handler") as transform:
        assert (await transform.apply(batch_of(b"aB"))).ok.data.to_pylist() == [b"AB"]
        changed.write_text(LOWER)
        os.utime(changed, (0, 0))  # as if it had been changed a while ago
        assert (await transform.apply(batch_of(b"aB"))).ok.data.to_pylist() == [b"ab"]
        changed.write_text("def lambda_handler(e, c")
        assert (await transform.apply(batch_of(b"aB"))).ok.data.to_pylist() == [b"ab"], "it is being written just now"
        os.utime(changed, (1, 1))
        assert codes(await transform.apply(batch_of(b"aB"))) == ["Lambda.FunctionError"]
        changed.write_text(UPPER)
        os.utime(changed, (2, 2))
        assert (await transform.apply(batch_of(b"aB"))).ok.data.to_pylist() == [b"AB"]


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        ("{'records': [{'recordId': '1', 'result': 'Ok', 'data': b'YQ=='}]}", "Object of type bytes is not JSON"),
        ("{'records': {1, 2}}", "Object of type set is not JSON serializable"),
    ],
)
async def test_what_json_cannot_say_is_a_function_error(running: Any, recorder: Any, result: str, reason: str) -> None:
    async with running(f"def handler(e, c):\n    return {result}") as transform:
        outcome = await transform.apply(batch_of(b"a"))
    assert codes(outcome) == ["Lambda.FunctionError"]
    (event,) = recorder.of(FunctionFailed)
    assert reason in event.reason
    assert ("b64encode(...).decode()" in event.reason) == ("bytes" in reason)


async def test_an_answer_that_is_too_large_is_final(running: Any, recorder: Any) -> None:
    async with running("def handler(e, c): return {'records': 'x' * 7_000_000}", retries=3) as transform:
        outcome = await transform.apply(batch_of(b"a"))
    assert outcome.failed[0].rows.column("attempts").to_pylist() == [1]
    (event,) = recorder.of(FunctionFailed)
    assert event.reason == "Function.ResponseSizeTooLarge: the answer has 7000015 bytes; Lambda allows 6291556"


#: What a function returns that answers well.
OK = "{'records': [dict(each, result='Ok') for each in event['records']]}"
DEEP = "def handler(e, c):\n    x = []\n    for _ in range(400): x = [x]\n    return "
#: Writes TEXT to every descriptor there is, then raises.
EVERYWHERE = """
import os, struct
def handler(event, context):
    for descriptor in range(3, 32):
        try:
            os.write(descriptor, TEXT)
        except OSError:
            pass
    raise ValueError("x")
"""


@pytest.mark.parametrize(
    ("code", "attempts", "reason"),
    [
        (DEEP + "{'records': x}", 1, "a record of the answer is a value nested hundreds of levels deep"),
        (DEEP + "x", 1, "the answer is a value nested hundreds of levels deep"),
        ("def handler(e, c):\n    x = []\n    x.append(x)\n    return x", 2, "MarshalError: cannot make JSON"),
        ("import json\njson.dumps = lambda *a, **k: '[]'\ndef handler(e, c): raise OSError('x')", 2, "OSError: x (/"),
        (EVERYWHERE.replace("TEXT", "b'x' * 64"), 2, "its process was killed, for it sent 17 bytes that do not begin"),
        (
            EVERYWHERE.replace("TEXT", "struct.pack('!QQB', 2, 3_000_000_000, 0)"),
            1,
            "Function.ResponseSizeTooLarge: the answer has 3000000000 bytes; Lambda allows 6291556",
        ),
        ("def handler(e, c): raise ValueError('\\ud800 oh')", 2, r"ValueError: \ud800 oh"),
        (f"def handler(event, c): return dict({OK}, more='\\ud800')", 1, "the answer is not JSON"),
        (f"def handler(event, c): return dict({OK}, more=float('nan'))", 1, "the answer is not JSON"),
        (f"def handler(event, c): return dict({OK}, more=10**4000)", 1, "the answer is not JSON"),
        (f"def handler(event, c): return dict({OK}, more=10**5000)", 2, "MarshalError: cannot make JSON"),
        ("class E(BaseException): ...\ndef handler(e, c): raise E", 2, "exited with status 1"),
        ("import os\ndef handler(e, c): os.kill(os.getpid(), 40)", 2, "was killed by signal 40"),
        ("import os\ndef handler(e, c): os.closerange(0, 256)", 2, "its process"),
        ("async def handler(e, c): ...", 2, "MarshalError: cannot make JSON"),
    ],
)  # fmt: skip
async def test_whatever_a_function_does_only_its_records_fail(
    running: Any, recorder: Any, code: str, attempts: int, reason: str
) -> None:
    async with running(f"import warnings\nwarnings.simplefilter('ignore')\n{code}", retries=1) as transform:
        outcome = await transform.apply(batch_of(b"a", b"b"))
    assert codes(outcome) == ["Lambda.FunctionError"] * 2
    assert outcome.failed[0].rows.column("attempts").to_pylist() == [attempts] * 2
    assert reason in recorder.of(FunctionFailed)[-1].reason


async def test_json_that_a_function_replaced_is_not_what_is_answered_with(running: Any) -> None:
    code = f"import json\njson.dumps = json.loads = lambda *a, **k: None\ndef handler(event, context): return {OK}"
    async with running(code) as transform:
        assert [(await transform.apply(batch_of(b"a"))).ok.data.to_pylist() for _ in range(2)] == [[b"a"]] * 2


async def test_a_fork_that_returns_from_the_handler_changes_nothing(running: Any, recorder: Any) -> None:
    code = f"import os\ndef handler(event, context):\n    for _ in range(3): os.fork()\n    return {OK}"
    async with running(code) as transform:
        for each in (b"a", b"b", b"c"):
            assert (await transform.apply(batch_of(each))).ok.data.to_pylist() == [each]
    assert len(recorder.of(ChildStarted)) == 1


async def test_a_function_that_takes_too_long_timed_out(running: Any, recorder: Any) -> None:
    code = "import time\ndef handler(e, c):\n    print('waiting')\n    time.sleep(1000)"
    async with running(code, timeout="300ms") as transform:
        outcome = await transform.apply(batch_of(b"a"))
    assert codes(outcome) == ["Lambda.FunctionTimedOut"]
    (event,) = recorder.of(FunctionFailed)
    assert event.reason == "f: no answer within 300ms; its process was killed"


async def test_a_function_that_needs_too_much_memory_fails(running: Any, recorder: Any) -> None:
    async with running("def handler(e, c): return len(bytearray(10**9))", memory="64MiB") as transform:
        outcome = await transform.apply(batch_of(b"a"))
    assert codes(outcome) == ["Lambda.FunctionError"]
    (event,) = recorder.of(FunctionFailed)
    assert event.reason == "f: out of memory (limit 64MiB)"


async def test_a_function_that_ends_its_process_fails(running: Any, recorder: Any) -> None:
    async with running("import sys\ndef handler(e, c): sys.exit(4)") as transform:
        outcome = await transform.apply(batch_of(b"a"))
    assert codes(outcome) == ["Lambda.FunctionError"]
    (event,) = recorder.of(FunctionFailed)
    assert event.reason == "f: its process exited with status 4"


async def test_closing_fails_no_record_it_is_raised(running: Any, tmp_path: Path) -> None:
    code = "import os, time\ndef handler(e, c):\n    os.mknod(os.environ['BEGAN'])\n    time.sleep(99)"
    async with running(code, retries=3, environment={"BEGAN": str(tmp_path / "began")}) as transform:
        call = asyncio.create_task(transform.apply(batch_of(b"a")))
        async with asyncio.timeout(20):
            while not (tmp_path / "began").exists():  # noqa: ASYNC110 - other processes set no events
                await asyncio.sleep(0.005)
        await transform.close()
        with pytest.raises(UnavailableError, match="f: closed during the call"):
            await call
        with pytest.raises(UnavailableError, match="f: closed"):
            await transform.apply(batch_of(b"a"))


def test_a_missing_file_is_an_error_of_the_configuration(context_of: Any, function_of: Any, tmp_path: Path) -> None:
    config = function_of("")
    config.path.unlink()
    with pytest.raises(ConfigError, match=r"functions\.f\.path: no file .*code\.py"):
        LambdaConfig(function="f").build(context_of({"f": config}))
