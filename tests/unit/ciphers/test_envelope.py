from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from pathlib import Path

import pytest

from firehose.ciphers import envelope
from firehose.ciphers.cipher import ClientSideCipher
from firehose.ciphers.keyrings import FileKeyring
from firehose.errors import FirehoseError, IntegrityError, InvalidError
from firehose.executors import InlineExecutor

#: Written by amazon-s3-encryption-client-java 4.0.1 with the key 00 01 .. 1f.
V3 = {
    "x-amz-3": "YMkLBV+EmhNhUL1IVSW4biUqY8Bjeo85rLOX4FB5MmOR94DbGDHtr27FyWZor2vynSNkwgnH7f4puGIn",
    "x-amz-c": "115",
    "x-amz-d": "75xA0bprrVM5l2vvj7ycyNpmhSJFOZeIgTRTtQ==",
    "x-amz-i": "7VlWdasovco2QGvIRt7ELe/OoYuedqAp/ZEjUg==",
    "x-amz-w": "02",
}
V3_BODY = base64.b64decode("Pah6LpSOUdb3NGkhlBKl0ii/Zs3e6+ASqG3OuY756L3c")

#: The same by the same client, told to write the older format.
V2 = {
    "x-amz-cek-alg": "AES/GCM/NoPadding",
    "x-amz-iv": "OUgAH9DaTdsQsi05",
    "x-amz-key-v2": "C8K8D+k5s63YwS+gsbDbxveCJNYTD8aMzuVAHHNv52bJV1ecMehZ5HBX6HfGD9EBIOBqekXm0sCHdljn",
    "x-amz-matdesc": "{}",
    "x-amz-tag-len": "128",
    "x-amz-wrap-alg": "AES/GCM",
}
V2_BODY = base64.b64decode("/Zkx+gId8JiemZMgVtMjXtaIcdWXmt8BB1ZatSgD94+1")

CONTENT = b'{"level":"info"}\n'


async def decrypt(folder: Path, body: bytes, metadata: Mapping[str, str]) -> bytes:
    key_file = folder / "key"
    if not key_file.exists():
        key_file.write_bytes(bytes(range(32)))
        key_file.chmod(0o600)
    (folder / "body").write_bytes(body)
    out = io.BytesIO()
    try:
        await ClientSideCipher(FileKeyring(key_file), InlineExecutor()).unwrap(folder / "body", metadata, out)
    except FirehoseError:
        assert out.getvalue() == b""
        raise
    return out.getvalue()


@pytest.mark.parametrize(("metadata", "body"), [(V3, V3_BODY), (V2, V2_BODY)], ids=["v3", "v2"])
async def test_objects_of_the_java_client_are_read(tmp_path: Path, metadata: Mapping[str, str], body: bytes) -> None:
    assert await decrypt(tmp_path, body, metadata) == CONTENT


#: Those that the official clients test themselves with.
@pytest.mark.parametrize(
    ("data_key", "message_id", "key", "commitment"),
    [
        (
            "80d90dc4cc7e77d8a6332efa44eba56230a7fe7b89af37d1e501ab2e07c0a163",
            "b8ea76bed24c7b85382a148cb9dcd1cfdfb765f55ded4dfa6e0c4c79",
            "6dd14f546cc006e639126e83f5d4d1b118576bb5df97f38c6fb3a1db87bbc338",
            "f89818bc0a346d3a3426b68e9509b6b2ae5fe1f904aa329fb73625db",
        ),
        (
            "501afb8227d22e75e68010414b8abdaf3064c081e8e922dafef4992036394d60",
            "61a00b4981a5aacfd136c55cb726e32d2a547dc7600a7d4675c69127",
            "e14786a714748d1d2c3a4a6816dec56ddf1881bbeabb4f39420ffb9f63700b2f",
            "5c1e73e47f6fe3a70d6d094283aceaa76d2975feb829212d88f0afc1",
        ),
    ],
)
def test_key_and_commitment_are_derived_as_published(data_key: str, message_id: str, key: str, commitment: str) -> None:
    content_key, committed = envelope.derive(bytes.fromhex(data_key), bytes.fromhex(message_id))
    assert (content_key.key.hex(), committed.hex()) == (key, commitment)
    assert (content_key.iv, content_key.associated_data) == (b"\x01" * 12, b"\x00\x73")


def test_a_new_object_carries_the_metadata_of_format_v3() -> None:
    wrapped = envelope.WrappedKey(bytes(32), b"wrapped", {"aws:x-amz-cek-alg": "115", "team": "data"})
    by_kms = envelope.seal(wrapped, envelope.Wrapping.KMS).metadata
    assert (by_kms["x-amz-c"], by_kms["x-amz-w"], by_kms["x-amz-3"]) == ("115", "12", "d3JhcHBlZA==")
    assert by_kms["x-amz-t"] == '{"aws:x-amz-cek-alg":"115","team":"data"}'
    by_file = envelope.seal(envelope.WrappedKey(bytes(32), b"wrapped"), envelope.Wrapping.AES).metadata
    assert set(by_file) == {"x-amz-c", "x-amz-w", "x-amz-3", "x-amz-d", "x-amz-i"}
    assert by_file["x-amz-w"] == "02"


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({}, "not encrypted by an S3 Encryption Client, or its key is in an instruction file"),
        ({name: V3[name] for name in ("x-amz-c", "x-amz-d", "x-amz-i")}, "instruction file"),
        ({"x-amz-key": "", "x-amz-iv": "", "x-amz-matdesc": "{}"}, "format V1 .* not authenticated"),
        ({**V3, "x-amz-c": "114"}, "suite '114' is not known"),
        ({**V3, "x-amz-w": "22"}, "wrapping '22' is not supported .*; supported: 12, 02"),
        ({**V3, "x-amz-w": "12", "x-amz-t": "{}"}, r"wrapped with kms\+context.* use kms_key to read it"),
        ({**V2, "x-amz-cek-alg": "AES/CBC/PKCS5Padding"}, "encrypted with 'AES/CBC/PKCS5Padding'"),
        ({**V2, "x-amz-wrap-alg": "AESWrap"}, r"wrapping 'AESWrap' is not supported .*kms\+context, AES/GCM"),
        ({**V2, "x-amz-tag-len": "96"}, "tags of 96 bits"),
    ],
)
async def test_what_is_not_supported_is_named(tmp_path: Path, metadata: Mapping[str, str], message: str) -> None:
    with pytest.raises(InvalidError, match=message):
        await decrypt(tmp_path, V3_BODY, metadata)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({**V3, "x-amz-key-v2": V2["x-amz-key-v2"]}, "several format versions"),
        ({**V3, "x-amz-key": ""}, "several format versions"),
        ({**V2, "x-amz-d": V3["x-amz-d"]}, "several format versions"),
        ({name: value for name, value in V3.items() if name not in ("x-amz-d", "x-amz-i")}, "lacks x-amz-d, x-amz-i"),
        ({name: value for name, value in V2.items() if name != "x-amz-iv"}, "lacks x-amz-iv"),
        ({**V3, "x-amz-d": "no base64"}, "x-amz-d is no base64"),
        ({**V3, "x-amz-d": "größer"}, "x-amz-d is no base64"),
        ({**V3, "x-amz-i": "AAAA"}, "x-amz-i has 3 bytes, not 28"),
        ({**V3, "x-amz-d": ""}, "x-amz-d has 0 bytes, not 28"),
        ({**V3, "x-amz-3": ""}, "does not open with the key in"),
        ({**V3, "x-amz-w": "12", "x-amz-t": "{"}, "x-amz-t is no JSON"),
        ({**V3, "x-amz-w": "12", "x-amz-t": '{"a":1}'}, "x-amz-t is no JSON object of texts"),
        ({**V3, "x-amz-w": "12", "x-amz-t": "[]"}, "x-amz-t is no JSON object of texts"),
        ({**V2, "x-amz-iv": "OUgAH9DaTdsQsi06"}, "does not match its tag"),
        ({**V2, "x-amz-iv": V3["x-amz-d"]}, "x-amz-iv has 28 bytes, not 12"),
        ({**V2, "x-amz-key-v2": V3["x-amz-3"]}, "does not open with the key in"),
    ],
)
async def test_damage_is_named(tmp_path: Path, metadata: Mapping[str, str], message: str) -> None:
    body = V2_BODY if "x-amz-key-v2" in metadata else V3_BODY
    with pytest.raises(IntegrityError, match=message):
        await decrypt(tmp_path, body, metadata)


def test_a_data_key_of_another_length_is_refused() -> None:
    with pytest.raises(IntegrityError, match="has 16 bytes, not 32"):
        envelope.read(V3).content_key(bytes(16))
