"""What commands must know of the server while it does not run: where its buckets are, how large its log may become."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from firehose.config.models import Configuration, ServerConfig
from firehose.errors import DataDirectoryError

FACTS = {"region", "account", "memory_bytes", "log_quota_bytes", "failed_quota_bytes"}


def server_facts(server: ServerConfig) -> dict[str, Any]:
    """Return what is to be kept in the data directory."""
    return server.model_dump(mode="json", by_alias=True, include=FACTS)


def configuration_of(facts: Mapping[str, Any]) -> Configuration:
    """Return a configuration without streams, of a server as it was last run. Errors: DataDirectoryError."""
    try:
        return Configuration(server=ServerConfig.model_validate(dict(facts)))
    except ValidationError as error:
        wrong = ", ".join(str(each["loc"][0]) for each in error.errors())
        raise DataDirectoryError(f"server.json of the data directory is damaged ({wrong}); remove it") from error
