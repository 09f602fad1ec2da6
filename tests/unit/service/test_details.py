"""What the error output says beside Firehose's words: the function's own, and the column that a value did not fit."""

from __future__ import annotations

import json
from typing import Any

from tests.service_world import ServiceWorld, ask, put


def entry_of(world: ServiceWorld) -> dict[str, Any]:
    (path,) = world.error_objects()
    found: dict[str, Any] = json.loads(path.read_bytes())
    return found


async def test_what_a_function_said_is_in_the_error_output_and_shown(world: ServiceWorld) -> None:
    (world.folder / "check.py").write_text("def handler(event, context):\n    return event['customer']\n")
    config = world.config(transforms=[{"type": "lambda", "function": "check", "retries": 0}])
    async with world.running(clicks=config) as service:
        await put(service, "clicks", b"one")
        await world.delivered(service)
        entry = entry_of(world)
        assert entry["errorMessage"].endswith("it returned an error result.")
        assert entry["errorDetail"] == f"KeyError: 'customer' ({world.folder}/check.py:2)"
        (listed,) = (await ask(service, "failed_ls"))["records"]
        shown = await ask(service, "failed_show", id=listed["id"])
        assert listed["detail"] == shown["detail"] == entry["errorDetail"]


async def test_the_column_is_in_the_error_output_beside_firehoses_words(world: ServiceWorld) -> None:
    folder = world.folder / "catalog" / "web"
    folder.mkdir(parents=True)
    (folder / "hits.yaml").write_text("columns: {id: int}\n")
    configuration = world.configuration(clicks=world.config(convert={"format": "parquet", "table": "web.hits"}))
    catalogs = {"lake": {"type": "file", "path": str(folder.parent)}}
    words = configuration.model_dump(mode="json", by_alias=True) | {"catalogs": catalogs}
    async with world.running_as(type(configuration).model_validate(words)) as service:
        await put(service, "clicks", b'{"id":"oops"}')
        await world.delivered(service)
    entry = entry_of(world)
    assert entry["lastErrorMessage"] == 'Data does not match the schema. For input string: "oops"'
    assert entry["errorDetail"] == 'Column id: the string "oops" cannot be read as int.'


async def test_entries_without_anything_to_add_look_as_before(world: ServiceWorld) -> None:
    async with world.running(clicks=world.checked()) as service:
        await put(service, "clicks", b"bad")
        await world.delivered(service)
    assert "errorDetail" not in entry_of(world)
