"""`firehose replay`: one bounded step after another, with a progress bar and a rate."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import click

from firehose.cli.call import call
from firehose.operations.replay import RECORDS_A_CALL


def replay(data_dir: Path, parameters: dict[str, Any], *, rate: int | None, is_quiet: bool) -> dict[str, Any]:
    """Replay everything that matches and return the totals. Errors: FirehoseError; what was moved stays moved."""
    expected: dict[str, Any] = call(data_dir, "replay", {**parameters, "dry_run": True})
    if "code" in parameters and not expected["replayed"] + expected["replayed_before"]:
        wanted = {name: value for name, value in parameters.items() if name != "dry_run"}
        expected["note"] = call(data_dir, "failed_ls", wanted).get("note")
    if parameters.get("dry_run"):
        return expected
    parameters = {**parameters, "failed_by_ms": expected["at_ms"]}
    step = min(RECORDS_A_CALL, rate) if rate else RECORDS_A_CALL
    moved, begun_s = 0, time.monotonic()
    with click.progressbar(length=expected["replayed"], label="replaying", hidden=is_quiet, file=sys.stderr) as bar:
        while True:
            answer: dict[str, Any] = call(data_dir, "replay", {**parameters, "limit": step})
            moved += answer["replayed"]
            bar.update(answer["replayed"])
            if answer["done"]:
                totals = {"replayed": moved, "replayed_before": expected["replayed_before"]}
                return {**answer, **totals, "note": expected.get("note")}
            if rate:
                time.sleep(max(0.0, begun_s + moved / rate - time.monotonic()))  # the pace that was asked for
