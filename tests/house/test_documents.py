"""The documents tell the truth where a test can see it: links lead somewhere, YAML in them is valid."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from firehose import arrow
from firehose.api import bodies, ingest, puts
from firehose.cli import put
from firehose.components import BuildContext, FunctionConfig
from firehose.config.loader import load
from firehose.converters.times import days_of_text, micros_of_text
from firehose.records import Batch
from firehose.transforms.aws_lambda import LambdaConfig
from firehose.units import format_bytes

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("deploy/*.md")])
LINK = re.compile(r"\]\((?!https?:)([^)#]+)")
NAMED = re.compile(r"`((?:firehose|tests|configs|docs|deploy|transforms|benchmarks|demo)/[\w./-]+)`")
YAML = re.compile(r"```yaml\n(.*?)```|<<'YAML'\n(.*?)\nYAML", re.DOTALL)


def test_there_are_documents() -> None:
    assert {"README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "GLOSSARY.md"} <= {path.name for path in DOCUMENTS}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_and_paths_lead_somewhere(document: Path) -> None:
    text = document.read_text()
    missing = [link for link in LINK.findall(text) if not (document.parent / link).exists()]
    missing += [name for name in NAMED.findall(text) if not (ROOT / name).exists()]
    assert not [name for name in missing if "gcs" not in name]


def test_the_yaml_of_the_readme_is_valid(tmp_path: Path) -> None:
    blocks = [one or other for one, other in YAML.findall((ROOT / "README.md").read_text())]
    assert len(blocks) == 2
    (tmp_path / "clean.py").write_text("def handler(event, context): ...\n")
    (tmp_path / "catalog").mkdir()
    key = tmp_path / "key"
    key.write_bytes(bytes(range(32)))
    key.chmod(0o600)
    for number, block in enumerate(blocks):
        file = tmp_path / f"{number}.yaml"
        file.write_text(block)
        load([file], environment={"KEY_FILE": str(key)})


async def test_the_function_of_the_document_does_what_it_says(build_context: BuildContext, tmp_path: Path) -> None:
    text = (ROOT / "docs" / "functions.md").read_text()
    (tmp_path / "totals.py").write_text(re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0])
    functions = {"totals": FunctionConfig(path=tmp_path / "totals.py")}
    transform = LambdaConfig(function="totals").build(dataclasses.replace(build_context, functions=functions))
    sent = [b'{"price":1.5,"quantity":3}', b"x", b'{"price":1}', b'{"price":1,"quantity":1,"test":true}']
    try:
        outcome = await transform.apply(Batch.of("s", arrow.binary_column(sent), first_sequence=0, arrival_ms=0))
    finally:
        await transform.close()
    assert outcome.ok.data.to_pylist() == [b'{"price": 1.5, "quantity": 3, "total": 4.5}']
    assert (sum(len(each) for each in outcome.failed), len(outcome.dropped)) == (2, 1)


def test_the_limits_of_plain_http_are_those_of_the_service() -> None:
    limits = dict(re.findall(r"^\| ([^|`]+?) \| (\d[^|]*?) \|$", (ROOT / "docs" / "http.md").read_text(), re.MULTILINE))
    said = {name.partition(",")[0]: value for name, value in limits.items()}
    assert said["body"] == format_bytes(ingest.MAX_BODY_BYTES).replace("M", " M")
    assert said["records in a body"].startswith(f"{ingest.MAX_RECORDS:,};")
    assert said["one record"].startswith(f"{puts.MAX_RECORD_BYTES:,} bytes")
    assert put.RECORD_BYTES == puts.MAX_RECORD_BYTES, "the command knows it without loading the service"
    assert said["what a compressed body may expand to"].startswith(f"{bodies.MAX_EXPANSION} times its size; 1 MiB")
    assert said["time to send the body"] == f"{bodies.MAX_READ_S} s"
    assert said["bodies of all requests under way"].startswith(f"{bodies.MAX_TOTAL_BYTES >> 20} MiB together")


def test_the_times_of_the_document_are_read() -> None:
    times = (ROOT / "docs" / "conversion.md").read_text().partition("## Times")[2].partition("A time without")[0]
    examples = re.findall(r"`(\d[\d:.TZ -]*)`", times)
    assert len(examples) == 6
    *moments, day = examples
    assert {micros_of_text(each)[0] // 1_000_000 for each in moments} == {1_783_951_509}
    assert days_of_text(day) == days_of_text(moments[0][:10])
