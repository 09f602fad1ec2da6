"""Every file in configs/ is run as users run it, with good records and bad ones, and what it leaves is looked at."""

from __future__ import annotations

import base64
import gzip
import json
import secrets
import subprocess
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import boto3
import cramjam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from pyarrow import orc
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.schema import Schema
from pyiceberg.types import LongType, NestedField, StringType, TimestamptzType

from proof.service import COMMAND, running

pytestmark = pytest.mark.integration

CONFIGS = Path(__file__).parents[2] / "configs"

NO_PARTITION = "partition/DynamicPartitioning.MetadataExtractionFailed"
REFUSED = "transform/Lambda.ProcessingFailedStatus"
NOT_JSON = "convert/DataFormatConversion.ParseError"
NOT_THE_TABLE = "convert/DataFormatConversion.MalformedData"


def test_every_example_is_run() -> None:
    untested = [path.name for path in sorted(CONFIGS.glob("*.yaml")) if f"test_{path.stem}" not in globals()]
    assert not untested, "each example needs a test here, called as the file is: test_<file>"


@dataclass(frozen=True, slots=True)
class Lake:
    """What a stream left in its folder."""

    path: Path

    def files(self, pattern: str) -> list[Path]:
        """Return the objects that match; at least one."""
        found = [path for path in sorted(self.path.glob(pattern)) if path.is_file()]
        assert found, [str(path) for path in self.path.rglob("*")]
        return found

    def rows(self, pattern: str) -> list[dict[str, Any]]:
        """Return the rows of Parquet files, in no particular order."""
        return [row for file in self.files(pattern) for row in pq.read_table(file, partitioning=None).to_pylist()]

    def failures(self, pattern: str) -> Counter[bytes]:
        """Return the original bytes of the records in an error output."""
        lines = [line for file in self.files(pattern) for line in file.read_bytes().splitlines()]
        return Counter(base64.b64decode(json.loads(line)["rawData"]) for line in lines)


Run = Callable[..., Lake]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run an example with records for its stream until all is delivered, and see that all are accounted for."""

    def run(
        example: str,
        stream: str,
        good: Sequence[bytes],
        failing: Mapping[str, Sequence[bytes]] | None = None,
        dropped: Sequence[bytes] = (),
        duplicate: Sequence[bytes] = (),
        **environment: str,
    ) -> Lake:
        lake = tmp_path / "lake"
        bad = {reason: list(records) for reason, records in (failing or {}).items()}
        sent = [*good, *dropped, *duplicate, *(record for records in bad.values() for record in records)]
        with running(CONFIGS / example, tmp_path, {"LAKE": str(lake)} | environment) as service:
            service.put(stream, sent)
            service.deliver()
            reasons = service.ask("failed_stats")["reasons"]
            audit = service.ask("audit")
        assert {f"{each['stage']}/{each['code']}": each["records"] for each in reasons} == {
            reason: len(records) for reason, records in bad.items()
        }
        (account,) = audit["streams"]
        assert account["closes"] and account["stream"] == stream
        total = account["total"]
        ends = {"delivered": len(good), "dropped": len(dropped), "duplicate": len(duplicate)}
        ends["failed"] = len(sent) - sum(ends.values())
        assert {end: total[end] for end in (*ends, "accepted", "pending")} == ends | {
            "accepted": len(sent),
            "pending": 0,
        }
        return Lake(lake)

    return run


def test_quickstart(run: Run, tmp_path: Path) -> None:
    view = {"event_id": "1", "at": "2026-07-13T14:05:09Z", "page": "/cart", "status": 200, "amount": "9.90"}
    view |= {"user": {"id": 7, "country": "DE"}, "items": [{"sku": "A-1", "quantity": 2}], "tags": {"device": "phone"}}
    lake = run(
        "quickstart.yaml",
        "web_events",
        good=[json.dumps(view).encode()],
        failing={REFUSED: [b"not JSON"], NOT_THE_TABLE: [b'{"status":"ok"}']},
        dropped=[b'{"page":"/healthz"}'],
        QUICKSTART_HOME=str(tmp_path),
    )
    (row,) = lake.rows("events/day=*/*.parquet")
    assert row["at"] == datetime(2026, 7, 13, 14, 5, 9) and str(row["amount"]) == "9.90"
    assert row["user"] == {"id": 7, "country": "DE"} and row["tags"] == [("device", "phone")]
    assert set(lake.failures("failed/*/*/*/*/*")) == {b"not JSON", b'{"status":"ok"}'}


def test_access_log(run: Run) -> None:
    combined = (
        b'203.0.113.7 - ann [17/May/2015:12:05:03 +0200] "GET /a?b=1 HTTP/1.1" 200 512 "https://e.com/" "Mozilla/5.0"'
    )
    common = b'198.51.100.9 - - [01/Jan/2026:00:00:00 +0000] "-" 400 -'
    too_large = combined.replace(b" 512 ", b" 512%s " % (b"0" * 20))
    lake = run(
        "access_log.yaml",
        "access_log",
        good=[combined, common],
        failing={REFUSED: [b"no line of a log", b""], NOT_THE_TABLE: [too_large]},
    )
    rows = {row["host"]: row for row in lake.rows("access/day=*/*.parquet")}
    assert rows["203.0.113.7"] == {
        "host": "203.0.113.7",
        "ident": None,
        "user": "ann",
        "time": datetime(2015, 5, 17, 10, 5, 3),
        "method": "GET",
        "path": "/a?b=1",
        "protocol": "HTTP/1.1",
        "request": None,
        "status": 200,
        "bytes": 512,
        "referrer": "https://e.com/",
        "agent": "Mozilla/5.0",
        "forwarded_for": None,
    }
    assert rows["198.51.100.9"]["status"] == 400 and rows["198.51.100.9"]["bytes"] is None
    assert lake.failures("access-failed/processing-failed/*/*/*/*") == Counter([b"no line of a log", b""])
    assert lake.failures("access-failed/format-conversion-failed/*/*/*/*") == Counter([too_large])


def test_syslog(run: Run) -> None:
    rfc5424 = b'<165>1 2026-01-02T03:04:05.678+01:00 web-1 shop 4711 ID47 [Order@32473 id="7" Total="9.90"] paid'
    rfc3164 = b"<34>Jan  1 00:00:00 web-2 su[7]: 'su root' failed"
    lake = run("syslog.yaml", "syslog", good=[rfc5424, rfc3164], failing={REFUSED: [b"hello", b"<999>1 - - - - - - x"]})
    rows = {row["host"]: row for row in lake.rows("syslog/*/*/*/*/*.parquet")}
    assert rows["web-1"] == {
        "facility": "local4",
        "severity": "notice",
        "time": datetime(2026, 1, 2, 2, 4, 5, 678_000),
        "host": "web-1",
        "app": "shop",
        "process_id": "4711",
        "message_id": "ID47",
        "data": [("Order@32473", [("id", "7"), ("Total", "9.90")])],
        "message": "paid",
    }
    assert rows["web-2"]["time"].hour == 23, "midnight in Berlin, whatever the year"
    assert rows["web-2"]["app"] == "su" and rows["web-2"]["severity"] == "critical" and rows["web-2"]["data"] is None
    assert set(lake.failures("syslog-failed/*/*/*/*/*")) == {b"hello", b"<999>1 - - - - - - x"}


def test_mask_pii(run: Run) -> None:
    event = b'{"user":{"name":"Ann","mail":"Ann@example.com"},"ssn":"078-05-1120","card":4111111111111111,"n":9.90}'
    lake = run(
        "mask_pii.yaml",
        "masked",
        good=[event, b'{"n":1}'],
        failing={REFUSED: [b"call 078-05-1120", b"\xff"]},
        MASK_KEY="k",
    )
    (file,) = lake.files("masked/*/*/*/*.json.gz")
    first, second = gzip.decompress(file.read_bytes()).splitlines()
    masked = json.loads(first)
    assert b"078-05" not in first and b"4111" not in first and b"xample.com" not in first and b"Ann" not in first
    assert masked["user"]["mail"].startswith("[email:") and masked["user"]["name"].startswith("[masked:")
    assert b'"n":9.90' in first and second == b'{"n":1}'
    assert set(lake.failures("unmasked-failed/processing-failed/*")) == {b"call 078-05-1120", b"\xff"}


def test_cloudwatch_logs(run: Run) -> None:
    def envelope(kind: str, *messages: str) -> bytes:
        events = [{"id": str(number), "timestamp": 1, "message": text} for number, text in enumerate(messages)]
        return gzip.compress(json.dumps({"messageType": kind, "logEvents": events}).encode())

    cut_off = envelope("DATA_MESSAGE", "three")[:-9]
    lake = run(
        "cloudwatch_logs.yaml",
        "app_logs",
        good=[envelope("DATA_MESSAGE", "one", "two"), envelope("DATA_MESSAGE", "four")],
        failing={REFUSED: [cut_off, b"plain text"]},
        dropped=[envelope("CONTROL_MESSAGE", "CWL CONTROL MESSAGE: Checking health of destination Firehose.")],
    )
    (file,) = lake.files("app_logs/*/*/*/*.zst")
    assert zstandard.ZstdDecompressor().decompressobj().decompress(file.read_bytes()) == b"one\ntwo\nfour\n"
    assert set(lake.failures("app_logs-failed/processing-failed/*")) == {cut_off, b"plain text"}


def test_nginx_status(run: Run) -> None:
    responses = {"1xx": 0, "2xx": 179026, "3xx": 12627, "4xx": 2828, "5xx": 1895, "total": 196376}
    snapshot = {
        "version": 6,
        "load_timestamp": 1445680800424,
        "timestamp": 1446249499322,
        "connections": {"accepted": 8995031, "dropped": 0, "active": 2, "idle": 29},
        "server_zones": {"hg.nginx.org": {"processing": 0, "requests": 205543, "responses": responses}},
        "upstreams": {
            "trac-backend": {"peers": [{"id": 0, "server": "10.0.0.1:8080", "backup": False}], "keepalive": 0}
        },
        "stream": {"server_zones": {}, "upstreams": {"pg": {"peers": [{"id": 3, "health_checks": {"unhealthy": 1}}]}}},
    }
    text = json.dumps(snapshot).encode()
    as_text = text.replace(b'"active": 2', b'"active": "two"')
    lake = run(
        "nginx_status.yaml",
        "nginx_status",
        good=[text],
        failing={NOT_JSON: [text[:-1], b"Python's {'version': 6}"], NOT_THE_TABLE: [as_text, b'{"stream": 7}']},
    )
    (row,) = lake.rows("nginx_status/*/*/*.parquet")
    assert row["taken_at"] == datetime.fromtimestamp(1446249499.322, UTC).replace(tzinfo=None)
    assert row["connections"] == {"accepted": 8995031, "dropped": 0, "active": 2, "idle": 29}
    ((zone, facts),) = row["server_zones"]
    assert zone == "hg.nginx.org" and facts["responses"]["successful"] == 179026
    ((upstream, backend),) = row["upstreams"]
    assert upstream == "trac-backend" and backend["peers"][0]["backup"] is False
    ((_, postgres),) = row["stream"]["upstreams"]
    assert postgres["peers"][0]["health_checks"]["unhealthy"] == 1 and row["stream"]["server_zones"] == []
    assert set(lake.failures("nginx_status-failed/format-conversion-failed/*")) >= {as_text, text[:-1]}


def test_orc(run: Run) -> None:
    view = {"event_id": "1", "at": "2026-07-13T14:05:09Z", "amount": "9.90", "user": {"id": 7, "country": "DE"}}
    view |= {"items": [{"sku": "A-1", "quantity": 2}], "tags": {"device": "phone"}}
    lake = run(
        "orc.yaml",
        "events_orc",
        good=[json.dumps(view).encode(), b'{"event_id":"2"}'],
        failing={NOT_JSON: [b"not JSON"], NOT_THE_TABLE: [b'{"status":"ok"}']},
    )
    (file,) = lake.files("events_orc/day=*/*.orc")
    first, second = orc.read_table(file).to_pylist(maps_as_pydicts="strict")
    assert first == view | {
        "at": datetime(2026, 7, 13, 14, 5, 9),
        "amount": Decimal("9.90"),
        "page": None,
        "status": None,
        "took_ms": None,
    }
    assert second["event_id"] == "2" and second["user"] is None
    assert set(lake.failures("events_orc-failed/*/*/*/*/*")) == {b"not JSON", b'{"status":"ok"}'}


#: What is not converted passes as it is, whatever it is.
RAW = (b'{"a":1}', b"ends in a line feed\n", b"\x00\xff no text", b"")
AS_LINES = b'{"a":1}\nends in a line feed\n\x00\xff no text\n\n'


def test_raw_gzip(run: Run) -> None:
    (file,) = run("raw_gzip.yaml", "raw_gzip", good=RAW).files("raw_gzip/*/*/*/*/*.json.gz")
    assert gzip.decompress(file.read_bytes()) == AS_LINES


def test_raw_zip(run: Run) -> None:
    (file,) = run("raw_zip.yaml", "raw_zip", good=RAW).files("raw_zip/*/*/*/*/*.zip")
    with zipfile.ZipFile(file) as archive:
        assert [archive.read(name) for name in archive.namelist()] == [AS_LINES]


def test_raw_snappy(run: Run) -> None:
    (file,) = run("raw_snappy.yaml", "raw_snappy", good=RAW).files("raw_snappy/*/*/*/*/*.snappy")
    assert bytes(cramjam.snappy.decompress_raw(file.read_bytes()[20:])) == AS_LINES  # behind header and length


def test_raw_hadoop_snappy(run: Run) -> None:
    (file,) = run("raw_hadoop_snappy.yaml", "raw_hadoop_snappy", good=RAW).files("raw_hadoop_snappy/*/*/*/*/*.snappy")
    assert bytes(cramjam.snappy.decompress_raw(file.read_bytes()[8:])) == AS_LINES  # behind two lengths


def test_partitions(run: Run) -> None:
    good = [b'{"customer":{"id":%d},"kind":"%s"}' % (number % 3, kind) for number in range(6) for kind in (b"a", b"b")]
    bad = [
        b'{"kind":"a"}',
        b'{"customer":{"id":null},"kind":"a"}',
        b"no JSON",
        b'{"customer":{"id":"a//b"},"kind":"c"}',
    ]
    lake = run("partitions.yaml", "orders", good=good, failing={NO_PARTITION: bad})
    found = {
        tuple(file.relative_to(lake.path).parts[1:3]): Counter(gzip.decompress(file.read_bytes()).splitlines())
        for file in lake.files("orders/*/*/*/*.gz")
    }
    assert found == {
        (f"customer={customer}", f"kind={kind}"): {b'{"customer":{"id":%d},"kind":"%s"}' % (customer, kind.encode()): 2}
        for customer in range(3)
        for kind in "ab"
    }
    assert set(lake.failures("orders-failed/metadata-extraction-failed/*")) == set(bad)


def test_batch_function(run: Run) -> None:
    lake = run(
        "batch_function.yaml",
        "masked_text",
        good=[b'203.0.113.7 ann@example.com "GET / HTTP/1.1" 200', b"nothing to mask"],
        failing={REFUSED: [b"a\x00b"]},
        dropped=[b'203.0.113.7 - "GET /healthz HTTP/1.1" 200'],
    )
    (file,) = lake.files("masked_text/*/*/*/*.txt.gz")
    assert gzip.decompress(file.read_bytes()) == b'[masked] [masked] "GET / HTTP/1.1" 200\nnothing to mask\n'
    assert set(lake.failures("unmasked-failed/processing-failed/*")) == {b"a\x00b"}


def test_log_messages(run: Run) -> None:
    def packed(kind: str, *lines: str) -> bytes:
        events = [{"id": "1", "timestamp": 1, "message": line} for line in lines]
        return gzip.compress(json.dumps({"messageType": kind, "logEvents": events}).encode())

    no_envelope = gzip.compress(b"no envelope")
    lake = run(
        "log_messages.yaml",
        "log_messages",
        good=[packed("DATA_MESSAGE", "one", "two"), packed("DATA_MESSAGE", "three")],
        failing={
            "decompress/Decompression failed.": [b"no gzip"],
            "decompress/Message extraction failed.": [no_envelope],
        },
        dropped=[packed("CONTROL_MESSAGE", "CWL CONTROL MESSAGE: Checking health of destination")],
    )
    (file,) = lake.files("log_messages/*/*/*/*/*.log.gz")
    assert gzip.decompress(file.read_bytes()) == b"one\ntwo\nthree\n"
    assert set(lake.failures("log_messages-failed/decompression-failed/*")) == {b"no gzip", no_envelope}


def test_validated(run: Run) -> None:
    good, bad = b'{"id":"A","lines":[{"sku":1}]}', [b'{"id":"A","lines":[{}]}', b'{"lines":[{"sku":1}]}']
    failing = {"validate/JsonSchema.ValidationFailed": bad, "validate/JsonSchema.ParseError": [b"no JSON"]}
    lake = run("validated.yaml", "validated_orders", good=[good], failing=failing)
    (file,) = lake.files("validated_orders/*/*/*/*/*")
    assert file.read_bytes() == good + b"\n"
    assert set(lake.failures("validated_orders-failed/validation-failed/*")) == {*bad, b"no JSON"}


def test_hive(run: Run) -> None:
    events = [
        b'{"Event_Id":"1","at":"2026-07-13T14:05:09.250+0200","status":200,"amount":9.90,"tags":{"Device":"phone"}}',
        b'{"event_id":"2","at":"13/Jul/2026:12:05:09 +0000"}{"event_id":"3","at":1783944309000}',
        b'{"event_id":"4","at":"2026-07-13 12:05:09"}',
    ]
    quoted, nested = b'{"status":"200"}', b'{"page":{"path":"/"}}'
    failing = {NOT_THE_TABLE: [quoted, nested, b'{"at":"2026-07-13"}'], NOT_JSON: [b"no JSON"]}
    lake = run("hive.yaml", "hive_events", good=events, failing=failing)
    rows = {row["event_id"]: row for row in lake.rows("hive_events/day=*/*.parquet")}
    assert {row["at"].replace(microsecond=0) for row in rows.values()} == {datetime(2026, 7, 13, 12, 5, 9)}
    assert rows["1"]["at"].microsecond == 250_000 and str(rows["1"]["amount"]) == "9.90"
    assert rows["1"]["tags"] == [("Device", "phone")]
    assert set(lake.failures("hive_events-failed/**/*")) == {quoted, nested, b'{"at":"2026-07-13"}', b"no JSON"}


@pytest.mark.xdist_group("iceberg")
def test_iceberg(run: Run, iceberg: str) -> None:
    catalog, database = RestCatalog("tests", uri=iceberg, auth={"type": "noop"}), f"example_{secrets.token_hex(4)}"
    fields = [("id", LongType()), ("at", TimestamptzType()), ("page", StringType())]
    schema = Schema(*(NestedField(place, name, kind) for place, (name, kind) in enumerate(fields, 1)))
    catalog.create_namespace(database)
    catalog.create_table((database, "events"), schema)
    event = b'{"id":1,"at":"2026-07-13T14:05:09Z","page":"/"}'
    failing = {NOT_THE_TABLE: [b'{"id":"x"}'], NOT_JSON: [b"x"]}
    lake = run("iceberg.yaml", "from_iceberg", good=[event], failing=failing, ICEBERG_URI=iceberg, DATABASE=database)
    assert lake.rows("events/day=*/*.parquet") == [{"id": 1, "at": datetime(2026, 7, 13, 14, 5, 9), "page": "/"}]


def test_raw_zstd(run: Run) -> None:
    (file,) = run("raw_zstd.yaml", "raw_zstd", good=RAW).files("raw_zstd/*/*/*/*/*.zst")
    assert zstandard.ZstdDecompressor().decompressobj().decompress(file.read_bytes()) == AS_LINES


def test_deduplicate(run: Run) -> None:
    first = (b'{"order":{"id":"A-1"},"try":1}', b'{"order":{"id":"A-2"}}', b'{"order":{"id":1}}', b'{"order":{}}')
    again = (b'{"try":2,"order":{"id":"A-1"}}', b'{"order":{"id":1}}')
    (file,) = run("deduplicate.yaml", "orders", good=[*first, b'{"order":{}}'], duplicate=again).files("orders/**/*")
    assert Counter(file.read_bytes().splitlines()) == Counter([*first, b'{"order":{}}'])


@pytest.mark.xdist_group("moto")
def test_s3(run: Run, moto: str) -> None:
    client, bucket = boto3.client("s3", endpoint_url=moto), f"example-{secrets.token_hex(4)}"
    client.create_bucket(Bucket=bucket)
    run("s3.yaml", "to_s3", good=RAW, BUCKET=bucket, STORAGE_CLASS="STANDARD_IA", AWS_ENDPOINT_URL_S3=moto)
    (listed,) = client.list_objects_v2(Bucket=bucket)["Contents"]
    assert listed["Key"].startswith("events/20") and listed["Key"].endswith(".gz")
    found = client.get_object(Bucket=bucket, Key=listed["Key"])
    assert gzip.decompress(found["Body"].read()) == AS_LINES
    assert (found["ServerSideEncryption"], found["StorageClass"]) == ("AES256", "STANDARD_IA")


@pytest.mark.xdist_group("moto")
def test_glue(run: Run, moto: str) -> None:
    s3, glue = (boto3.client(service, endpoint_url=moto) for service in ("s3", "glue"))
    name = f"example_{secrets.token_hex(4)}"
    bucket = name.replace("_", "-")
    s3.create_bucket(Bucket=bucket)
    glue.create_database(DatabaseInput={"Name": name})
    columns = [{"Name": "id", "Type": "bigint"}, {"Name": "page", "Type": "string"}]
    table = {"Name": "events", "StorageDescriptor": {"Columns": columns}}
    glue.create_table(DatabaseName=name, TableInput=table)
    where = {"AWS_ENDPOINT_URL_S3": moto, "AWS_ENDPOINT_URL_GLUE": moto}
    failing = {NOT_THE_TABLE: [b'{"id":"x"}'], NOT_JSON: [b"x"]}
    run("glue.yaml", "from_glue", good=[b'{"id":1,"page":"/"}'], failing=failing, BUCKET=bucket, DATABASE=name, **where)
    keys = [each["Key"] for each in s3.list_objects_v2(Bucket=bucket)["Contents"]]
    (key,) = [each for each in keys if each.startswith("events/day=20") and each.endswith(".parquet")]
    body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    assert pq.read_table(pa.BufferReader(body)).to_pylist() == [{"id": 1, "page": "/"}]
    (key,) = [each for each in keys if each.startswith("failed/format-conversion-failed/")]
    (entry, _) = map(json.loads, s3.get_object(Bucket=bucket, Key=key)["Body"].read().splitlines())
    assert entry["dataCatalogTable"]["databaseName"] == name


def test_encrypted(run: Run, tmp_path: Path) -> None:
    key_file = tmp_path / "master.key"
    key_file.touch(0o600)
    key_file.write_bytes(secrets.token_bytes(32))
    (file,) = run("encrypted.yaml", "encrypted", good=RAW, KEY_FILE=str(key_file)).files("encrypted/*/*/*/*")
    with pytest.raises(zstandard.ZstdError):
        zstandard.ZstdDecompressor().decompressobj().decompress(file.read_bytes())
    printed = subprocess.run([COMMAND, "cat", "--key-file", key_file, file], capture_output=True, check=True)
    assert printed.stdout == AS_LINES
