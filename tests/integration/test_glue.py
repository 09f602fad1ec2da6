"""Streams made by the API convert to the table of a catalog here, and else to that of AWS Glue."""

from __future__ import annotations

import io
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pyarrow.parquet as pq
import pytest
from botocore.exceptions import ClientError

from firehose.catalogs.file import FileCatalogConfig
from firehose.catalogs.first_of import FirstOf
from firehose.catalogs.glue import BELIEVED_MS, MAX_KNOWN, GlueCatalogConfig
from firehose.components import BuildContext
from firehose.errors import AccessDeniedError, NotFoundError, UnavailableError
from tests.daemon import Daemon

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("moto")]


class Aws:
    """A bucket, and a database in Glue."""

    def __init__(self, endpoint: str) -> None:
        self.where = {"AWS_ENDPOINT_URL": endpoint}
        self.name = f"lake-{secrets.token_hex(4)}"
        self.s3, self.glue = (boto3.client(service, endpoint_url=endpoint) for service in ("s3", "glue"))
        self.s3.create_bucket(Bucket=self.name)
        self.glue.create_database(DatabaseInput={"Name": self.name})

    def table(self, name: str, **columns: str) -> None:
        described = [{"Name": column, "Type": hive_type} for column, hive_type in columns.items()]
        self.glue.create_table(
            DatabaseName=self.name, TableInput={"Name": name, "StorageDescriptor": {"Columns": described}}
        )

    def destination(self, table: str, **schema: str) -> dict[str, Any]:
        role = "arn:aws:iam::000000000000:role/any"
        place = {"RoleARN": role, "DatabaseName": self.name, "TableName": table, "Region": "us-east-1", **schema}
        return {
            "RoleARN": role,
            "BucketARN": f"arn:aws:s3:::{self.name}",
            "Prefix": f"{table}/",
            "BufferingHints": {"SizeInMBs": 64, "IntervalInSeconds": 0},
            "DataFormatConversionConfiguration": {
                "SchemaConfiguration": place,
                "InputFormatConfiguration": {"Deserializer": {"OpenXJsonSerDe": {}}},
                "OutputFormatConfiguration": {"Serializer": {"ParquetSerDe": {}}},
            },
        }

    def rows(self, prefix: str) -> list[dict[str, Any]]:
        listed = self.s3.list_objects_v2(Bucket=self.name, Prefix=prefix).get("Contents", [])
        bodies = [self.s3.get_object(Bucket=self.name, Key=each["Key"])["Body"].read() for each in listed]
        return [row for body in bodies for row in pq.read_table(io.BytesIO(body)).to_pylist()]


@pytest.fixture
def aws(moto: str) -> Aws:
    return Aws(moto)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    found = Daemon(tmp_path, "catalogs: {here: {type: file, path: catalog}}")
    yield found
    found.close()


def test_a_table_of_the_api_is_looked_for_here_and_then_in_glue(daemon: Daemon, aws: Aws) -> None:
    folder = daemon.folder / "catalog" / aws.name
    folder.mkdir(parents=True)
    (folder / "both.yaml").write_text("columns: {here: string}")
    aws.table("both", there="string")
    aws.table("one", there="string")
    daemon.start(**aws.where)
    for table in ("both", "one"):
        daemon.client().create_delivery_stream(
            DeliveryStreamName=table, ExtendedS3DestinationConfiguration=aws.destination(table, CatalogId="0" * 12)
        )
        daemon.put(b'{"here":"a","there":"b"}', stream=table)
    daemon.delivered()
    assert (aws.rows("both/"), aws.rows("one/")) == ([{"here": "a"}], [{"there": "b"}])
    described = daemon.client().describe_delivery_stream(DeliveryStreamName="one")["DeliveryStreamDescription"]
    found = described["Destinations"][0]["ExtendedS3DestinationDescription"]["DataFormatConversionConfiguration"]
    assert found["SchemaConfiguration"]["CatalogId"] == "0" * 12 and found["Enabled"]


def test_a_table_that_nobody_has_is_refused_when_the_stream_is_made(daemon: Daemon, aws: Aws) -> None:
    (daemon.folder / "catalog").mkdir()
    aws.table("empty")
    aws.table("full", a="int")
    daemon.start(**aws.where)
    for table, version, said in (
        ("missing", "LATEST", ("there are no tables", "in AWS Glue", "EntityNotFoundException")),
        ("empty", "LATEST", ("in AWS Glue has no columns",)),
        ("full", "7", ("has no version '7'",)),
    ):
        with pytest.raises(ClientError) as caught:
            daemon.client().create_delivery_stream(
                DeliveryStreamName="s", ExtendedS3DestinationConfiguration=aws.destination(table, VersionId=version)
            )
        assert caught.value.response["Error"]["Code"] == "InvalidArgumentException"
        assert all(each in str(caught.value) for each in said), str(caught.value)
    assert daemon.client().list_delivery_streams()["DeliveryStreamNames"] == []


def test_a_stream_is_made_while_glue_cannot_be_reached_and_goes_on_when_it_can(daemon: Daemon, aws: Aws) -> None:
    (daemon.folder / "catalog").mkdir()
    aws.table("one", there="string")
    daemon.start(**aws.where, AWS_ENDPOINT_URL_GLUE="http://127.0.0.1:9")
    daemon.client().create_delivery_stream(
        DeliveryStreamName="one", ExtendedS3DestinationConfiguration=aws.destination("one")
    )
    daemon.put(b'{"there":"b"}', stream="one")
    assert daemon.run("flush", "one", "--timeout", "2s").returncode == 1
    (status,) = daemon.ask("status")["streams"]
    assert status["backlog_records"] == 1 and "AWS Glue" in status["last_error"]["message"]
    daemon.end()
    daemon.start(**aws.where)
    daemon.delivered()
    assert aws.rows("one/") == [{"there": "b"}]


async def test_glue_is_believed_for_a_minute_and_so_many_tables_are_remembered(
    aws: Aws, moto: str, build_context: BuildContext
) -> None:
    clock: Any = build_context.environment.clock
    catalog: Any = GlueCatalogConfig(endpoint_url=moto).build(build_context.environment)
    aws.table("one", a="int")
    first = await catalog.table_schema(aws.name, "one")
    aws.glue.update_table(
        DatabaseName=aws.name,
        TableInput={"Name": "one", "StorageDescriptor": {"Columns": [{"Name": "b", "Type": "int"}]}},
    )
    clock._now_ms += BELIEVED_MS - 1
    assert await catalog.table_schema(aws.name, "one") is first
    clock._now_ms += 1
    assert (await catalog.table_schema(aws.name, "one")).columns == (("b", "int"),)
    known = next(iter(catalog._known.values()))
    catalog._known = {("x", "y", str(number)): known for number in range(MAX_KNOWN)}
    await catalog.table_schema(aws.name, "one", "1")
    assert len(catalog._known) == MAX_KNOWN and ("x", "y", "0") not in catalog._known


async def test_a_catalog_that_cannot_tell_ends_the_search(
    tmp_path: Path, build_context: BuildContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = FileCatalogConfig(path=tmp_path).build(build_context.environment)
    away = GlueCatalogConfig(endpoint_url="http://127.0.0.1:9").build(build_context.environment)
    with pytest.raises(UnavailableError, match=r"there are no tables.*; table a.b in AWS Glue: not reachable"):
        await FirstOf([here, away]).table_schema("a", "b")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    away = GlueCatalogConfig(endpoint_url="http://127.0.0.1:8").build(build_context.environment)
    with pytest.raises(AccessDeniedError, match="AWS client of glue: Unable to locate credentials"):
        await FirstOf([here, away]).table_schema("a", "b")
    with pytest.raises(NotFoundError, match=r"there are no tables.*; no table a.b in"):
        await FirstOf([here, here]).table_schema("a", "b")
