"""Streams made by the API convert to the table of a catalog here, and else to that of AWS Glue."""

from __future__ import annotations

import asyncio
import io
import secrets
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import pyarrow.parquet as pq
import pytest
from botocore.exceptions import ClientError

from firehose.catalogs.adding import MAX_TRIES
from firehose.catalogs.cache import BELIEVED_MS
from firehose.catalogs.file import FileCatalogConfig
from firehose.catalogs.first_of import FirstOf
from firehose.catalogs.glue import GlueCatalog, GlueCatalogConfig
from firehose.components import BuildContext
from firehose.errors import (
    AccessDeniedError,
    ConflictError,
    FirehoseError,
    InvalidError,
    NotFoundError,
    ThrottledError,
    UnavailableError,
)
from tests.daemon import Daemon
from tests.services.fault_proxy import Fault, FaultProxy, Refuse
from tests.services.glue import GlueError, Strict

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("moto")]


class Aws:
    """A bucket, and a database in Glue."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
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
def proxy(moto: str) -> Iterator[FaultProxy]:
    with FaultProxy(moto).running() as found:
        yield found


@pytest.fixture
def catalog(proxy: FaultProxy, build_context: BuildContext) -> GlueCatalog:
    found: Any = GlueCatalogConfig(endpoint_url=proxy.endpoint).build(build_context.environment)
    return found


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


async def test_a_table_is_asked_for_once_a_minute(
    aws: Aws, proxy: FaultProxy, catalog: GlueCatalog, build_context: BuildContext
) -> None:
    clock: Any = build_context.environment.clock
    aws.table("one", a="int")
    proxy.fault = strict = Strict(endpoint=aws.endpoint)
    await asyncio.gather(*(catalog.table_schema(aws.name, "one") for _ in range(50)))
    first = await catalog.table_schema(aws.name, "one")
    storage = {"Columns": [{"Name": "b", "Type": "int"}]}
    aws.glue.update_table(DatabaseName=aws.name, TableInput={"Name": "one", "StorageDescriptor": storage})
    clock._now_ms += BELIEVED_MS - 1
    assert await catalog.table_schema(aws.name, "one") is first
    assert strict.asked == ["GetTable"]
    clock._now_ms += 1
    assert (await catalog.table_schema(aws.name, "one")).columns == (("b", "int"),)
    assert strict.asked == ["GetTable", "GetTable"]


@pytest.mark.parametrize(
    ("fault", "kind", "code"),
    [
        (GlueError(code="ThrottlingException"), ThrottledError, "ThrottledByGlue"),
        (GlueError(code="AccessDeniedException"), AccessDeniedError, "AccessDenied"),
        (GlueError(code="UnrecognizedClientException"), AccessDeniedError, "InvalidToken"),
        (GlueError(code="EntityNotFoundException"), NotFoundError, "EntityNotFound"),
        (GlueError(code="InvalidInputException"), InvalidError, "InvalidInput"),
        (GlueError(code="GlueEncryptionException"), InvalidError, "GlueEncryptionException"),
        (GlueError(code="OperationTimeoutException"), UnavailableError, "SchemaValidationTimeout"),
        (GlueError(code="InternalServiceException", status=500), UnavailableError, "InternalServiceException"),
        (GlueError(code="FederationSourceException"), InvalidError, "InvalidRequest"),
        (GlueError(code="Unknown", status=503), UnavailableError, "InternalError"),
        (Refuse(), UnavailableError, "ServiceUnavailable"),
    ],
    ids=lambda each: getattr(each, "code", type(each).__name__) if isinstance(each, Fault) else "",
)
async def test_what_goes_wrong_in_glue_has_the_code_that_firehose_has_for_it(
    aws: Aws, proxy: FaultProxy, catalog: GlueCatalog, fault: Fault, kind: type[FirehoseError], code: str
) -> None:
    aws.table("one", a="int")
    proxy.fault = fault
    for ask in (catalog.table_schema, partial(catalog.add_columns, columns=[("b", "int")])):
        with pytest.raises(FirehoseError, match=f"table {aws.name}.one in AWS Glue") as caught:
            await ask(aws.name, "one")
        assert (type(caught.value), caught.value.code) == (kind, f"DataFormatConversion.{code}")
    proxy.fault = None
    assert (await catalog.table_schema(aws.name, "one")).columns == (("a", "int"),)


async def test_a_table_that_is_changed_keeps_all_else_that_was_said_of_it(aws: Aws, catalog: GlueCatalog) -> None:
    serde = {"SerializationLibrary": "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe"}
    storage = {"Location": "s3://lake/one/", "SerdeInfo": serde, "Parameters": {"k": "v"}}
    described = storage | {"Columns": [{"Name": "a", "Type": "int", "Comment": "the first"}]}
    more = {"TableType": "EXTERNAL_TABLE", "Parameters": {"classification": "parquet"}, "Owner": "me", "Retention": 7}
    keys = [{"Name": "day", "Type": "date"}]
    table = {"Name": "one", "StorageDescriptor": described, "PartitionKeys": keys, "Description": "ones", **more}
    aws.glue.create_table(DatabaseName=aws.name, TableInput=table)
    await catalog.add_columns(aws.name, "one", [("Note", "string")])
    found = aws.glue.get_table(DatabaseName=aws.name, Name="one")["Table"]
    columns = [*table["StorageDescriptor"]["Columns"], {"Name": "note", "Type": "string"}]
    assert {key: found[key] for key in table} == table | {"StorageDescriptor": storage | {"Columns": columns}}


async def test_a_partition_key_is_no_column_and_cannot_become_one(aws: Aws, catalog: GlueCatalog) -> None:
    aws.table("one", a="int")
    storage = {"Columns": [{"Name": "a", "Type": "int"}]}
    table = {"Name": "one", "StorageDescriptor": storage, "PartitionKeys": [{"Name": "day", "Type": "date"}]}
    aws.glue.update_table(DatabaseName=aws.name, TableInput=table)
    assert (await catalog.table_schema(aws.name, "one")).columns == (("a", "int"),)
    with pytest.raises(ConflictError, match="'day' is a partition key") as caught:
        await catalog.add_columns(aws.name, "one", [("b", "int"), ("DAY", "date")])
    assert caught.value.code == "DataFormatConversion.ColumnConflict"
    assert (await catalog.table_schema(aws.name, "one")).version == "2"


async def test_an_iceberg_table_is_not_changed_through_glue(aws: Aws, catalog: GlueCatalog) -> None:
    storage = {"Columns": [{"Name": "a", "Type": "int"}]}
    table = {"Name": "one", "StorageDescriptor": storage, "Parameters": {"table_type": "ICEBERG"}}
    aws.glue.create_table(DatabaseName=aws.name, TableInput=table)
    with pytest.raises(InvalidError, match="is an Iceberg table; columns are added through a catalog of type iceberg"):
        await catalog.add_columns(aws.name, "one", [("b", "int")])


async def test_columns_are_added_to_what_others_made_of_the_table(
    aws: Aws, proxy: FaultProxy, catalog: GlueCatalog
) -> None:
    aws.table("one", a="int")
    proxy.fault = strict = Strict(endpoint=aws.endpoint, rivals=2)
    added = await catalog.add_columns(aws.name, "one", [("b", "int")])
    assert added.columns == (("a", "int"), ("rival1", "int"), ("rival2", "int"), ("b", "int"))
    assert strict.asked == [*["GetTable", "UpdateTable"] * 3, "GetTable"]


async def test_a_table_that_others_change_all_the_time_is_given_up_for_a_while(
    aws: Aws, proxy: FaultProxy, catalog: GlueCatalog
) -> None:
    aws.table("one", a="int")
    proxy.fault = Strict(endpoint=aws.endpoint, rivals=MAX_TRIES)
    with pytest.raises(UnavailableError, match=f"others changed it {MAX_TRIES} times") as caught:
        await catalog.add_columns(aws.name, "one", [("b", "int")])
    assert caught.value.code == "DataFormatConversion.ConcurrentModificationException"


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
