"""An Iceberg catalog that is asked over the network, and all that can go wrong there."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.schema import Schema
from pyiceberg.types import FixedType, LongType, NestedField, StringType, StructType, TimestamptzType, UUIDType

from firehose.catalogs import iceberg_client
from firehose.catalogs.adding import MAX_TRIES
from firehose.catalogs.cache import BELIEVED_MS
from firehose.catalogs.iceberg import IcebergCatalog, IcebergCatalogConfig
from firehose.components import BuildContext
from firehose.errors import (
    AccessDeniedError,
    FirehoseError,
    InvalidError,
    NotFoundError,
    ThrottledError,
    UnavailableError,
)
from tests.services.fault_proxy import CutAnswer, Fault, FaultProxy, LoseReply, Refuse, Reset
from tests.services.glue import refuse

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("iceberg")]

FIELDS = (
    NestedField(1, "id", LongType(), required=True),
    NestedField(2, "at", TimestamptzType()),
    NestedField(3, "session", UUIDType()),
    NestedField(4, "seen", StructType(NestedField(5, "hash", FixedType(20)), NestedField(6, "agent", StringType()))),
)
COLUMNS = (
    ("id", "bigint"),
    ("at", "timestamp"),
    ("session", "string"),
    ("seen", "struct<hash:binary,agent:string>"),
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Says(Fault):
    """Answers so, without asking the server."""

    status: int
    body: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    def strike(self, exchange: Any) -> None:
        b"".join(exchange.body())
        refuse(exchange, self.status, self.body.encode(), **self.headers)


@dataclass(frozen=True, kw_only=True, eq=False)
class Watch(Fault):
    """Passes all on, and notes who asked for what."""

    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    delegation: list[str | None] = field(default_factory=list)

    def strike(self, exchange: Any) -> None:
        path = exchange.path.partition("?")[0]
        self.asked.append((exchange.command, path, exchange.headers["Authorization"]))
        self.delegation.append(exchange.headers["X-Iceberg-Access-Delegation"])
        exchange.pass_on()


def error(kind: str, code: int) -> str:
    return json.dumps({"error": {"message": "by a fault", "type": kind, "code": code}})


@pytest.fixture
def proxy(iceberg: str) -> Iterator[FaultProxy]:
    with FaultProxy(iceberg).running() as found:
        yield found


@pytest.fixture
def rest(iceberg: str) -> RestCatalog:
    return RestCatalog("tests", uri=iceberg, auth={"type": "noop"})


@pytest.fixture
def web(rest: RestCatalog) -> str:
    """A database with a table `clicks`."""
    name = f"web_{secrets.token_hex(4)}"
    rest.create_namespace(name)
    rest.create_table((name, "clicks"), Schema(*FIELDS))
    return name


Make = Callable[..., IcebergCatalog]


@pytest.fixture
def make(proxy: FaultProxy, build_context: BuildContext) -> Make:
    def make(**settings: Any) -> IcebergCatalog:
        found: Any = IcebergCatalogConfig(uri=proxy.endpoint, **settings).build(build_context.environment)
        return found

    return make


async def test_types_of_iceberg_are_those_of_hive(make: Make, web: str) -> None:
    found = await make().table_schema(web, "clicks")
    assert (found.version, found.columns) == ("0", COLUMNS)


async def test_partition_columns_are_columns_of_the_files(make: Make, rest: RestCatalog, web: str) -> None:
    with rest.load_table((web, "clicks")).update_spec() as update:
        update.add_identity("session")
    assert (await make().table_schema(web, "clicks")).columns == COLUMNS


async def test_a_catalog_without_a_token_is_asked_without_one_and_for_the_description_only(
    make: Make, proxy: FaultProxy, web: str
) -> None:
    proxy.fault = watch = Watch()
    await make().table_schema(web, "clicks")
    assert watch.asked == [("GET", "/v1/config", None), ("GET", f"/v1/namespaces/{web}/tables/clicks", None)]
    assert watch.delegation == [None, None]


async def test_a_given_token_is_sent(make: Make, proxy: FaultProxy, web: str) -> None:
    proxy.fault = watch = Watch()
    catalog = make(token="abc", properties={"header.X-Iceberg-Access-Delegation": "remote-signing"})
    await catalog.table_schema(web, "clicks")
    assert {who for _, _, who in watch.asked} == {"Bearer abc"}
    assert set(watch.delegation) == {"remote-signing"}


async def test_a_token_is_fetched_and_again_when_it_has_ended(make: Make, proxy: FaultProxy, web: str) -> None:
    proxy.fault = watch = Watch()
    catalog = make(credential="me:secret")
    await catalog.table_schema(web, "clicks")
    assert ("POST", "/v1/oauth/tokens") in {asked[:2] for asked in watch.asked}
    who = watch.asked[-1][2]
    assert who is not None and who.startswith("Bearer client-credentials-token:sub=me")
    proxy.fault = ended = Says(status=401, body=error("NotAuthorizedException", 401), path="/tables/", times=1)
    assert (await catalog.table_schema(web, "clicks", "0")).columns == COLUMNS
    assert proxy.struck(ended) == 1


@pytest.mark.parametrize(
    ("fault", "kind", "code", "said"),
    [
        (
            Says(status=429, body=error("TooManyRequests", 429), headers={"Retry_After": "7"}),
            ThrottledError,
            "SlowDown",
            "by a fault",
        ),
        (Says(status=503, body=error("SlowDown", 503)), UnavailableError, "InternalError", "by a fault"),
        (Says(status=500, body=error("InternalServerError", 500)), UnavailableError, "InternalError", "by a fault"),
        (Says(status=502, body="<html>bad gateway</html>"), UnavailableError, "InternalError", "bad gateway"),
        (Says(status=401, body=error("NotAuthorized", 401)), AccessDeniedError, "AccessDenied", "check `credential`"),
        (Says(status=403, body=error("Forbidden", 403)), AccessDeniedError, "AccessDenied", "check `credential`"),
        (Says(status=419), AccessDeniedError, "AccessDenied", "check `credential`"),
        (Says(status=400, body=error("BadRequest", 400)), InvalidError, "InvalidInput", "by a fault"),
        (Says(status=404, body="no such page", path="/config"), InvalidError, "InvalidInput", "no such page"),
        (Says(status=200, body="<html>log in</html>"), InvalidError, "InvalidInput", "no answer of an Iceberg catalog"),
        (Says(status=200, body="{}", path="/tables/"), InvalidError, "InvalidInput", "metadata"),
        (
            Says(status=200, body='{"endpoints":["GET /v1/{prefix}/namespaces"]}', path="/config"),
            InvalidError,
            "InvalidInput",
            "does not support",
        ),
        (
            Says(status=404, body=error("NoSuchNamespaceException", 404), path="/tables/"),
            NotFoundError,
            "EntityNotFound",
            "by a fault",
        ),
        (Refuse(), UnavailableError, "ServiceUnavailable", "not reachable"),
        (Reset(after_bytes=0), UnavailableError, "ServiceUnavailable", "not reachable"),
        (LoseReply(path="/tables/"), UnavailableError, "ServiceUnavailable", "not reachable"),
        (CutAnswer(after_bytes=100, path="/tables/"), UnavailableError, "ServiceUnavailable", "not reachable"),
    ],
    ids=lambda each: type(each).__name__ + str(getattr(each, "status", "")) if isinstance(each, Fault) else "",
)
async def test_what_goes_wrong_is_told_as_what_it_is_and_is_over_when_it_is(
    make: Make, proxy: FaultProxy, web: str, fault: Fault, kind: type[FirehoseError], code: str, said: str
) -> None:
    catalog, proxy.fault = make(token="t0ken"), fault
    with pytest.raises(FirehoseError) as caught:
        await catalog.table_schema(web, "clicks")
    found = caught.value
    assert (type(found), found.code) == (kind, f"DataFormatConversion.{code}")
    assert f"table {web}.clicks in the Iceberg catalog at {proxy.endpoint}" in str(found) and said in str(found)
    assert "t0ken" not in str(found) and len(str(found)) < 900
    if isinstance(found, ThrottledError):
        assert found.retry_after_ms == 7_000
    proxy.fault = None
    assert (await catalog.table_schema(web, "clicks")).columns == COLUMNS


async def test_a_credential_that_is_refused_is_told_without_it(make: Make, proxy: FaultProxy, web: str) -> None:
    body = json.dumps({"error": "invalid_client", "error_description": "who?"})
    proxy.fault = Says(status=401, body=body, path="/oauth/tokens")
    with pytest.raises(AccessDeniedError, match="invalid_client: who") as caught:
        await make(credential="me:s3cret").table_schema(web, "clicks")
    assert "s3cret" not in str(caught.value)


async def test_a_signature_that_needs_a_library_says_which(
    make: Make, web: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "boto3", None)
    with pytest.raises(InvalidError, match="boto3"):
        await make(properties={"rest.sigv4-enabled": "true"}).table_schema(web, "clicks")


async def test_a_catalog_that_hangs_is_given_up(
    make: Make, proxy: FaultProxy, web: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(iceberg_client, "READ_TIMEOUT_MS", 100)

    class Hang(Fault):
        def strike(self, exchange: Any) -> None:
            exchange.server.stands(self, 60)

    catalog, proxy.fault = make(), Hang(path="/tables/")
    with pytest.raises(UnavailableError, match=r"not reachable.*timed out"):
        await catalog.table_schema(web, "clicks")
    proxy.fault = None
    assert (await catalog.table_schema(web, "clicks")).columns == COLUMNS


async def test_a_table_is_asked_for_once_a_minute(
    make: Make, proxy: FaultProxy, web: str, build_context: BuildContext
) -> None:
    proxy.fault = watch = Watch(path="/tables/")
    catalog, clock = make(), build_context.environment.clock
    for _ in range(2):
        await asyncio.gather(*(catalog.table_schema(web, "clicks") for _ in range(20)))
    assert len(watch.asked) == 1
    clock._now_ms += BELIEVED_MS
    await catalog.table_schema(web, "clicks")
    assert len(watch.asked) == 2


@dataclass(frozen=True, kw_only=True, eq=False)
class Rival(Fault):
    """Somebody else adds a column just before each commit."""

    rest: RestCatalog
    path: str = "/tables/"
    added: list[str] = field(default_factory=list)

    def strike(self, exchange: Any) -> None:
        if exchange.command == "POST":
            database, _, table = exchange.path.rpartition("/namespaces/")[2].split("/")
            self.added.append(f"rival{len(self.added)}")
            with self.rest.load_table((database, table)).update_schema() as update:
                update.add_column(self.added[-1], LongType())
        exchange.pass_on()


async def test_columns_are_added_to_what_others_made_of_the_table(
    make: Make, proxy: FaultProxy, rest: RestCatalog, web: str
) -> None:
    proxy.fault = rival = Rival(rest=rest, times=5)
    added = await make().add_columns(web, "clicks", [("note", "string")])
    assert rival.added == ["rival0", "rival1"]
    assert added.columns[-3:] == (("rival0", "bigint"), ("rival1", "bigint"), ("note", "string"))
    assert rest.load_table((web, "clicks")).schema().as_struct().fields[-1].required is False


async def test_the_table_s_files_are_left_alone(make: Make, rest: RestCatalog, web: str) -> None:
    cleaned = {"write.metadata.delete-after-commit.enabled": "true", "write.metadata.previous-versions-max": "1"}
    with rest.create_table((web, "orders"), Schema(*FIELDS)).transaction() as change:
        change.set_properties(cleaned | {"py-io-impl": "no.such.Module"})
    catalog = make()
    for name in ("a", "b", "c"):
        added = await catalog.add_columns(web, "orders", [(name, "int")])
    assert (added.version, len(added.columns)) == ("3", len(COLUMNS) + 3)


async def test_a_table_that_others_change_all_the_time_is_given_up_for_a_while(
    make: Make, proxy: FaultProxy, rest: RestCatalog, web: str
) -> None:
    proxy.fault = Rival(rest=rest)
    with pytest.raises(UnavailableError, match=f"others changed it {MAX_TRIES} times"):
        await make().add_columns(web, "clicks", [("note", "string")])


async def test_a_commit_whose_answer_is_lost_is_found_the_next_time(make: Make, proxy: FaultProxy, web: str) -> None:
    class LoseCommit(LoseReply):
        def matches(self, operation: str, target: str, struck: int) -> bool:
            return operation == "other" and "/tables/" in target

    catalog, proxy.fault = make(), LoseCommit()
    with pytest.raises(UnavailableError):
        await catalog.add_columns(web, "clicks", [("note", "string")])
    proxy.fault = None
    added = await catalog.add_columns(web, "clicks", [("note", "string")])
    assert (added.version, added.columns) == ("1", (*COLUMNS, ("note", "string")))
