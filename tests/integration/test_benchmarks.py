"""`make bench` runs, and prints a line for each stage. What the numbers are is nobody's test."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads CPU times from Linux's /proc")
def test_the_benchmark_prints_every_stage_beside_its_floor(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.main", "--records", "2000", "--rounds", "1", "--folder", str(tmp_path)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = re.findall(r"^(\w+) +([\d.]+) +([\d.]+) +([\d.]+)   (.+)$", done.stdout, re.MULTILINE)
    assert [(stage, floor) for stage, *_, floor in rows] == [
        ("put", "aiohttp, orjson, pybase64"),
        ("convert", "DuckDB json_transform"),
        ("convert", "orjson.loads"),
        ("write", "pyarrow write_table"),
        ("whole", "the sum of put, DuckDB, pyarrow"),
    ]
    assert list(tmp_path.iterdir()) == []
