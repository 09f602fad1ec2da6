"""Whole services in made-up worlds: killed between any two steps, over disks, stores and functions that fail.

A failure prints its seed: `PYTHONHASHSEED=0 pytest tests/simulation -k 'seed-17'` runs that world again.
"""

from __future__ import annotations

import os

import pytest

from tests.simulation.town import run_town

#: `make test` looks at these; SEEDS=100:200 looks at others.
SEEDS = range(*(int(each) for each in os.environ.get("SEEDS", "0:1000").split(":")))

#: Coroutines of dead processes are collected in the middle: that is what a crash is.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: f"seed-{seed}")
def test_the_laws_hold_whatever_happens(seed: int) -> None:
    run_town(seed)


@pytest.mark.parametrize("seed", range(30), ids=lambda seed: f"seed-{seed}")
def test_memory_stays_within_its_bounds_where_buffers_are_larger(seed: int) -> None:
    run_town(seed, is_cramped=True)
