"""`firehose replay`: one bounded step after another, with a progress bar and a rate."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from firehose.cli.call import call
from firehose.operations.replay import RECORDS_A_CALL


def replay(data_dir: Path, parameters: dict[str, Any], *, rate: int | None, is_quiet: bool) -> dict[str, Any]:
    """Replay everything that matches and return the totals. Errors: FirehoseError; what was moved stays moved."""
    expected = call(data_dir, "replay", {**parameters, "dry_run": True})
    if parameters.get("dry_run"):
        return dict(expected)
    total = expected["replayed"]
    step = min(RECORDS_A_CALL, rate) if rate else RECORDS_A_CALL
    moved, begun_s = 0, time.monotonic()
    bar = click.progressbar(length=total, label="replaying", hidden=is_quiet)
    with bar:
        while True:
            answer = call(data_dir, "replay", {**parameters, "limit": step})
            moved += answer["replayed"]
            bar.update(answer["replayed"])
            if answer["done"] or not answer["replayed"]:
                break
            if rate:  # the pace that was asked for, not a wait for something
                time.sleep(max(0.0, begun_s + moved / rate - time.monotonic()))
    return {"replayed": moved, "replayed_before": expected["replayed_before"], "left": answer["left"], "done": True}
