"""The settings of an Iceberg catalog."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from pydantic import ValidationError

from firehose.catalogs.iceberg import IcebergCatalogConfig


def properties(**settings: Any) -> dict[str, str]:
    return dict(IcebergCatalogConfig(**settings)._client_properties())


def test_a_bare_address_is_enough_and_tokens_come_from_there() -> None:
    assert properties(uri="https://lake/api/catalog/") == {
        "oauth2-server-uri": "https://lake/api/catalog/v1/oauth/tokens"
    }


def test_settings_are_pyiceberg_s_properties_and_more_of_those_win() -> None:
    assert properties(
        uri="http://lake:8181",
        warehouse="w",
        credential="id:secret",
        token="t",
        oauth2_server_uri="https://login/token",
        scope="s",
        properties={"header.X-Tenant": "a", "scope": "other"},
    ) == {
        "warehouse": "w",
        "credential": "id:secret",
        "token": "t",
        "oauth2-server-uri": "https://login/token",
        "scope": "other",
        "header.X-Tenant": "a",
    }


@pytest.mark.parametrize(
    "uri",
    ["", "lake", "ftp://lake", "https://", "https:///v1", "https://me:secret@lake", "https://lake?a=b", "http://a b"],
)
def test_an_address_that_is_none_or_has_a_password_in_it_is_refused(uri: str) -> None:
    with pytest.raises(ValidationError, match="uri"):
        IcebergCatalogConfig(uri=uri)


def test_secrets_are_not_shown() -> None:
    config = IcebergCatalogConfig(uri="http://lake", credential="id:hidden", token="hidden")
    assert "hidden" not in f"{config!r} {config} {config.model_dump_json()}"


def test_pyiceberg_is_not_loaded_by_a_service_that_has_no_such_catalog() -> None:
    code = "import sys, firehose.catalogs.iceberg as i; i.IcebergCatalogConfig(uri='http://a')"
    code += "; print('pyiceberg' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False\n"
