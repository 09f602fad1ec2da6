"""The documents tell the truth where a test can see it: links lead somewhere, YAML in them is valid."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from firehose.config.loader import load

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
