"""Steps that need CPU alone: decompressing, taking messages out of envelopes, holding records against a schema."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firehose import arrow
from firehose.components import BuildContext
from firehose.errors import InvalidError
from firehose.executors import InlineExecutor
from firehose.kernels import Kernels
from firehose.protocols import Converted
from firehose.records import Batch, Outcome
from firehose.transforms import decompress
from firehose.transforms.cloudwatch_logs import CloudWatchLogsConfig
from firehose.transforms.decompress import DecompressConfig
from firehose.transforms.json_schema import JsonSchemaConfig, JsonSchemaKernel
from tests.world import HereAndNow


@pytest.fixture
def context(build_context: BuildContext) -> BuildContext:
    environment, stream = build_context.environment, build_context.stream
    return BuildContext(environment, stream, {}, {}, Kernels(InlineExecutor(), HereAndNow()))


async def outcome(config: Any, context: BuildContext, *records: bytes) -> Outcome:
    batch = Batch.of("s", arrow.binary_column(records), first_sequence=0, arrival_ms=0)
    found: Outcome = await config.build(context).apply(batch)
    return found


def failures(found: Outcome) -> dict[int, tuple[str, str]]:
    """Return code and message of each row that failed, by its sequence."""
    return {
        row["sequence"]: (row["code"], row["message"]) for failed in found.failed for row in failed.rows.to_pylist()
    }


# --- decompress ------------------------------------------------------------------------------------------------------


async def test_each_record_is_decompressed_by_itself(context: BuildContext) -> None:
    packed = [gzip.compress(b"one"), gzip.compress(b"two") + gzip.compress(b" three"), gzip.compress(b"")]
    found = await outcome(DecompressConfig(), context, *packed)
    assert found.ok.data.to_pylist() == [b"one", b"two three", b""] and found.ok.changed
    assert not found.failed


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (b"plain", "the record is no gzip: "),
        (b"", "the record is cut off"),
        (gzip.compress(b"x" * 100)[:-9], "the record is cut off"),
        (gzip.compress(b"x" * 100)[:-1] + b"!", "the record is no gzip: "),
        (gzip.compress(b"x") + b"more", "the record is no gzip: "),
        (gzip.compress(b"x" * 1_001), "the record becomes larger than 1000 bytes"),
        (gzip.compress(b"x" * 600) * 2, "the record becomes larger than 1000 bytes"),
    ],
)
async def test_what_is_no_gzip_fails_alone(
    context: BuildContext, monkeypatch: pytest.MonkeyPatch, record: bytes, message: str
) -> None:
    monkeypatch.setattr(decompress, "MAX_RECORD_BYTES", 1_000)
    found = await outcome(DecompressConfig(), context, gzip.compress(b"good"), record, gzip.compress(b"x" * 1_000))
    assert found.ok.data.to_pylist() == [b"good", b"x" * 1_000]
    ((code, told),) = failures(found).values()
    assert code == "Decompression failed." and told.startswith(message)
    (failed,) = found.failed
    assert failed.stage == "decompress" and failed.rows.column("data").to_pylist() == [record] and not failed.changed


# --- cloudwatch_logs -------------------------------------------------------------------------------------------------

CONTROL = b'{"messageType":"CONTROL_MESSAGE","owner":"CloudwatchLogs","logEvents":[{"id":"","message":"CWL CONTROL"}]}'


def envelope(*messages: Any) -> bytes:
    events = [{"id": "1", "timestamp": 1, "message": message} for message in messages]
    return orjson.dumps({"messageType": "DATA_MESSAGE", "logGroup": "/app", "logStream": "i", "logEvents": events})


async def test_messages_come_out_a_line_each(context: BuildContext) -> None:
    records = [envelope("one", "two"), envelope(""), envelope(), envelope("é")]
    found = await outcome(CloudWatchLogsConfig(), context, *records)
    assert found.ok.data.to_pylist() == [b"one\ntwo\n", b"\n", b"", "é\n".encode()]


@pytest.mark.parametrize("control", ["drop", "empty"])
async def test_control_messages_are_dropped_or_empty(context: BuildContext, control: str) -> None:
    step = CloudWatchLogsConfig.model_validate({"control_messages": control})
    found = await outcome(step, context, CONTROL, envelope("one"))
    assert found.ok.data.to_pylist() == [b""] * (control == "empty") + [b"one\n"]
    assert len(found.dropped) == (control == "drop")


@pytest.mark.parametrize(
    "record",
    [b"no JSON", b"[]", b"{}", b'{"messageType":"DATA_MESSAGE"}', b'{"messageType":"X","logEvents":[]}', envelope(1)],
)
async def test_what_is_no_envelope_fails_alone(context: BuildContext, record: bytes) -> None:
    found = await outcome(CloudWatchLogsConfig(), context, record, envelope("one"))
    assert found.ok.data.to_pylist() == [b"one\n"]
    assert failures(found)[0][0] == "Message extraction failed."


# --- json_schema -----------------------------------------------------------------------------------------------------

SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["order"],
    "properties": {
        "order": {
            "type": "object",
            "required": ["id"],
            "properties": {
                "id": {"type": "string", "minLength": 2},
                "lines": {"type": "array", "items": {"$ref": "#/$defs/line"}},
            },
        },
        "kind": {"enum": ["a", "b"]},
    },
    "$defs": {"line": {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}, "required": ["n"]}},
}


def config(folder: Path, schema: dict[str, Any]) -> JsonSchemaConfig:
    path = folder / "schema.json"
    path.write_text(json.dumps(schema))
    found = JsonSchemaConfig(path=path)
    assert found.complaint() is None
    return found


async def test_records_that_fit_pass_as_they_are_and_others_say_where_they_do_not(
    context: BuildContext, tmp_path: Path
) -> None:
    records = {
        b'{"order":{"id":"A1"}}': None,
        b'{"order": {"id": "A1", "lines": [{"n": 1}, {"n": 0}]}}': "$.order.lines[1].n breaks 'minimum'",
        b'{"order":{"id":1}}': "$.order.id breaks 'type'",
        b"{}": "$ breaks 'required'",
        b'{"order":{"id":"A1"},"kind":"c"}': "$.kind breaks 'enum'",
        b"[]": "$ breaks 'type'",
    }
    found = await outcome(config(tmp_path, SCHEMA), context, *records)
    assert found.ok.data.to_pylist() == [b'{"order":{"id":"A1"}}'] and not found.ok.changed
    told = [
        ("JsonSchema.ValidationFailed", f"The record does not fit the schema: {why}.")
        for why in records.values()
        if why
    ]
    assert list(failures(found).values()) == told
    assert {failed.stage for failed in found.failed} == {"validate"}


@pytest.mark.parametrize("record", [b"no JSON", b"", b"{}{}", b'{"a": NaN}', b'"\xff"', b"[" * 10_000 + b"]" * 10_000])
async def test_what_is_no_json_fails_as_such(context: BuildContext, tmp_path: Path, record: bytes) -> None:
    found = await outcome(config(tmp_path, {}), context, record, b"{}")
    assert len(found.ok) == 1 and failures(found)[0] == ("JsonSchema.ParseError", "The record is no JSON.")


NO_SCHEMA = [
    (None, "cannot be read"),
    ("[1]", "must be an object"),
    ("{", "cannot be read"),
    ('{"type": "strin"}', "no JSON Schema: $.type: 'strin' is not valid"),
    ('{"properties": {"a": {"$ref": "http://example.com/x.json"}}}', "refers to 'http://example.com/x.json'"),
    ('{"$ref": "#/nope"}', "cannot be used: "),
    ('{"$schema": "http://127.0.0.1:9/x"}', "cannot be used: "),
    ('{"not": ' * 400 + "{}" + "}" * 400, "nested too deeply"),
    ('{"anyOf": [{"$ref": "other.json"}]}', "refers to 'other.json'; it may refer to nothing but itself"),
]


@pytest.mark.parametrize(("text", "why"), NO_SCHEMA)
def test_a_file_without_a_schema_is_refused(context: BuildContext, tmp_path: Path, text: str | None, why: str) -> None:
    path = tmp_path / "schema.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InvalidError, match=r"schema\.json") as refused:
        JsonSchemaConfig(path=path).build(context)
    assert why in str(refused.value)
    assert why in str(JsonSchemaConfig(path=path).complaint())


def run(engine: str, schema: dict[str, Any], *records: bytes) -> Converted:
    import pyarrow as pa

    kernel = JsonSchemaKernel(schema, engine)
    return kernel.run(pa.RecordBatch.from_arrays([arrow.binary_column(records)], names=["data"]))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text("ab", max_size=3) | st.floats(allow_nan=False, width=16),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["order", "id", "lines", "n", "kind"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(deadline=None, max_examples=150)
@given(st.lists(VALUES, min_size=1, max_size=4))
def test_both_engines_say_the_same(values: list[Any]) -> None:
    records = [json.dumps(value).encode() for value in values]
    python, rust = run("python", SCHEMA, *records), run("rust", SCHEMA, *records)
    assert python.failed.tolist() == rust.failed.tolist()
    assert (python.codes, python.messages) == (rust.codes, rust.messages)
