"""`cat` as people run it: whatever was put comes out again, and what cannot is told."""

from __future__ import annotations

import gzip
import os
import secrets
import subprocess
from pathlib import Path

import boto3
import pyarrow.parquet as pq
import pytest

from tests.daemon import COMMAND, Daemon, command, complaint
from tests.integration.commands import CATALOG

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("compression", ["none", "gzip", "zip", "zstd", "snappy", "hadoop_snappy"])
def test_cat_prints_what_was_put(tmp_path: Path, compression: str) -> None:
    daemon = Daemon(tmp_path, CATALOG % (compression, compression))
    for name in ("key", "other"):
        (tmp_path / name).touch(0o600)
        (tmp_path / name).write_bytes(secrets.token_bytes(32))
    (tmp_path / "catalog" / "web").mkdir(parents=True)
    (tmp_path / "catalog" / "web" / "events.yaml").write_text("columns: {id: string}\n")
    try:
        daemon.start()
        for stream in ("packed", "secret", "table"):
            daemon.put(b'{"id":"one"}', b'{"id":"two"}', stream=stream)
        daemon.delivered()
    finally:
        daemon.close()
    body = b'{"id":"one"}\n{"id":"two"}\n'
    (packed,), (secret,), (table,) = (daemon.objects(each) for each in ("packed", "secret", "table"))
    key = ["--key-file", tmp_path / "key"]
    assert command("cat", packed).stdout == body
    assert command("cat", packed, packed).stdout == body * 2
    assert command("cat", packed.as_uri()).stdout == body
    assert b'"one"' not in secret.read_bytes()
    assert command("cat", *key, secret).stdout == body
    parquet = command("cat", *key, table).stdout
    (tmp_path / "plain.parquet").write_bytes(parquet)
    assert pq.read_table(tmp_path / "plain.parquet").to_pylist() == [{"id": "one"}, {"id": "two"}]
    said = complaint(command("cat", secret))
    assert said == f"firehose: {secret} is encrypted; give --key-file or --kms-key"
    answer = command("cat", "--key-file", tmp_path / "other", secret)
    assert complaint(answer).startswith(f"firehose: {secret}: ") and not answer.stdout, "another key opens nothing"
    assert complaint(command("cat", "--key-file", tmp_path / "key", "--kms-key", "k", secret))
    copy = tmp_path / f"copy{packed.suffix if compression != 'none' else ''}"
    copy.write_bytes(packed.read_bytes())
    if compression == "hadoop_snappy":  # whose name is that of the other form
        assert "no header of snappy-java" in complaint(command("cat", copy))
    else:
        assert command("cat", copy).stdout == body, "a copy without its metadata is told by its name"
    copy.write_bytes(secret.read_bytes())
    said = complaint(command("cat", *key, copy))
    assert said.startswith(f"firehose: {copy} has no metadata") and ".firehose-sink/metadata" in said
    if compression != "none":
        said = complaint(command("cat", copy))
        assert said.startswith(f"firehose: {copy}: ") and "or it is encrypted, and was copied without" in said


def test_cat_of_damaged_and_missing_objects(tmp_path: Path) -> None:
    assert "No such file" in complaint(command("cat", tmp_path / "missing"))
    assert complaint(command("cat", tmp_path / "no" / "such" / "folder"))
    said = complaint(command("cat", tmp_path))
    assert said.startswith(f"firehose: {tmp_path} is a folder; give the objects in it, for example: $(find {tmp_path} ")
    assert "three slashes" in complaint(command("cat", "file://out/x"))
    for url in ("http://x/y", "s3://bucket", "s3://bucket/", "s3://x/key", "ftp://a/b"):
        assert url in complaint(command("cat", url)), url
    packed = gzip.compress(b"x" * 100_000 + os.urandom(1_000))
    (tmp_path / "cut.gz").write_bytes(packed[:-20])
    assert complaint(command("cat", tmp_path / "cut.gz"))
    (tmp_path / "plain").write_bytes(b"just a file")
    assert command("cat", tmp_path / "plain").stdout == b"just a file"
    (tmp_path / "key").touch(0o600)
    (tmp_path / "key").write_bytes(secrets.token_bytes(32))
    assert complaint(command("cat", "--key-file", tmp_path / "key", tmp_path / "plain"))
    (tmp_path / "key").write_bytes(b"short")
    assert "key" in complaint(command("cat", "--key-file", tmp_path / "key", tmp_path / "plain"))


@pytest.mark.xdist_group("moto")
def test_cat_of_an_object_in_a_store(tmp_path: Path, moto: str) -> None:
    s3, bucket = boto3.client("s3", endpoint_url=moto), f"cat-{secrets.token_hex(4)}"
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="a/b?c#d%20e", Body=gzip.compress(b"body"), ContentEncoding="gzip")
    s3.put_object(Bucket=bucket, Key="odd", Body=b"body", ContentEncoding="br")
    where = {"AWS_ENDPOINT_URL_S3": moto}
    assert command("cat", f"s3://{bucket}/a/b?c#d%20e", **where).stdout == b"body"
    said = complaint(command("cat", f"s3://{bucket}/odd", **where))
    assert said.endswith("has Content-Encoding 'br', which cat does not read")
    for url in (f"s3://{bucket}/missing", f"s3://{bucket}-not/there"):
        assert url.rpartition("/")[0] in complaint(command("cat", url, **where))


def test_a_reader_that_has_enough_is_no_error(daemon: Daemon) -> None:
    daemon.start()
    daemon.put(*(b"%06d" % number * 100 for number in range(2_000)))
    daemon.delivered()
    words = f"{COMMAND} cat {' '.join(str(each) for each in daemon.objects('clicks'))} | head -c 10"
    answer = subprocess.run(["bash", "-c", words], capture_output=True, check=False)
    assert len(answer.stdout) == 10 and b"Traceback" not in answer.stderr and b"firehose:" not in answer.stderr
