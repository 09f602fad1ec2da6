"""Whole services in made-up worlds: killed between any two steps, over disks, stores and functions that fail.

A failure prints its seed: `PYTHONHASHSEED=0 pytest tests/simulation -k 'seed-17'` runs that world again.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from tests.simulation.town import Town

SEEDS = range(100)


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: f"seed-{seed}")
def test_the_laws_hold_whatever_happens(seed: int) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        Town(seed, Path(folder)).run()
