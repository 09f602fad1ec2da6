"""Key files: the official Java client decrypts our objects, and we decrypt its.

The client is fetched and built by Maven, once, into the user's cache folder.
"""

from __future__ import annotations

import io
import secrets
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import boto3
import pytest

from firehose.ciphers.cipher import ClientSideCipher
from firehose.ciphers.keyrings import FileKeyring
from firehose.errors import IntegrityError
from firehose.executors import InlineExecutor
from tests.interop import maven

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.xdist_group("s3ec-java")]

PROJECT = Path(__file__).parents[1] / "interop" / "s3ec-java"

#: Around GCM's blocks of 16 bytes and our pieces of 64 KiB, and some pieces.
BODIES = {f"{size}-bytes": secrets.token_bytes(size) for size in (0, 1, 15, 16, 17, 65535, 65536, 65537, 3 * 2**20 + 5)}


class Place(NamedTuple):
    endpoint: str
    s3: Any
    bucket: str
    key_file: Path
    cipher: ClientSideCipher


@pytest.fixture(scope="session")
def classpath() -> str:
    """The client and our `Main`, built where this machine does not have this version of them yet."""
    return maven.classpath(PROJECT)


@pytest.fixture
def place(moto: str, tmp_path: Path) -> Place:
    key_file = tmp_path / "key"
    key_file.write_bytes(secrets.token_bytes(32))
    key_file.chmod(0o600)
    s3 = boto3.client("s3", endpoint_url=moto)
    bucket = f"java-{secrets.token_hex(4)}"
    s3.create_bucket(Bucket=bucket)
    return Place(moto, s3, bucket, key_file, ClientSideCipher(FileKeyring(key_file), InlineExecutor()))


def run_java(classpath: str, verb: str, form: str, place: Place, folder: Path, *names: str) -> None:
    command = ["java", "-cp", classpath, "Main", verb, form, place.endpoint, place.bucket, place.key_file, folder]
    subprocess.run([*command, *names], check=True, timeout=120)


async def put_ours(place: Place, name: str, body: bytes) -> None:
    key = await place.cipher.data_key()
    encrypted = io.BytesIO()
    layer = place.cipher.wrap(encrypted, key)
    layer.write(body)
    layer.close()
    place.s3.put_object(Bucket=place.bucket, Key=name, Body=encrypted.getvalue(), Metadata=dict(key.metadata))


@pytest.mark.parametrize("form", ["v3", "v2"])
async def test_we_decrypt_what_the_java_client_encrypts(
    form: str, classpath: str, place: Place, tmp_path: Path
) -> None:
    plain, body = tmp_path / "plain", tmp_path / "body"
    plain.mkdir()
    for name, content in BODIES.items():
        (plain / name).write_bytes(content)
    run_java(classpath, "put", form, place, plain)
    for name, content in BODIES.items():
        found = place.s3.get_object(Bucket=place.bucket, Key=name)
        assert ("x-amz-3" in found["Metadata"]) == (form == "v3")
        body.write_bytes(found["Body"].read())
        decrypted = io.BytesIO()
        await place.cipher.unwrap(body, found["Metadata"], decrypted)
        assert decrypted.getvalue() == content, name


async def test_the_java_client_decrypts_what_we_encrypt(classpath: str, place: Place, tmp_path: Path) -> None:
    for name, content in BODIES.items():
        await put_ours(place, name, content)
    run_java(classpath, "get", "v3", place, tmp_path, *BODIES)
    for name, content in BODIES.items():
        assert not (tmp_path / f"{name}.error").exists(), (tmp_path / f"{name}.error").read_text()
        assert (tmp_path / name).read_bytes() == content, name


async def test_both_refuse_a_changed_object(classpath: str, place: Place, tmp_path: Path) -> None:
    await put_ours(place, "changed", b"hello " * 100)
    found = place.s3.get_object(Bucket=place.bucket, Key="changed")
    body = bytearray(found["Body"].read())
    body[100] ^= 1
    place.s3.put_object(Bucket=place.bucket, Key="changed", Body=bytes(body), Metadata=found["Metadata"])
    run_java(classpath, "get", "v3", place, tmp_path, "changed")
    assert "AEADBadTagException" in (tmp_path / "changed.error").read_text()
    (tmp_path / "body").write_bytes(body)
    decrypted = io.BytesIO()
    with pytest.raises(IntegrityError, match="does not match its tag"):
        await place.cipher.unwrap(tmp_path / "body", found["Metadata"], decrypted)
    assert decrypted.getvalue() == b""
