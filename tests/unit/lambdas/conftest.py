from __future__ import annotations

import base64
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FOLDER = Path(__file__).parents[3] / "transforms"
ARRIVAL_MS = 1_767_225_600_123  # 2026-01-01T00:00:00.123Z


@pytest.fixture(scope="session")
def load() -> Callable[[str], ModuleType]:
    """Load a function the way Lambda does: by its file."""

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(f"lambda_{name}", FOLDER / f"{name}.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="session")
def run() -> Callable[..., list[tuple[str, bytes | None]]]:
    """Send records through a handler; return each one's result and data."""

    def run(module: ModuleType, *records: bytes, arrival_ms: int = ARRIVAL_MS) -> list[tuple[str, bytes | None]]:
        event: dict[str, Any] = {
            "invocationId": "4d2d",
            "deliveryStreamArn": "arn:aws:firehose:eu-west-1:123456789012:deliverystream/clicks",
            "region": "eu-west-1",
            "records": [
                {
                    "recordId": str(number),
                    "approximateArrivalTimestamp": arrival_ms,
                    "data": base64.b64encode(record).decode(),
                }
                for number, record in enumerate(records)
            ],
        }
        answer = json.loads(json.dumps(module.handler(event, None)))["records"]
        assert [record["recordId"] for record in answer] == [str(number) for number in range(len(records))]
        return [
            (record["result"], base64.b64decode(record["data"], validate=True) if "data" in record else None)
            for record in answer
        ]

    return run
