"""What every cipher must do, whoever holds its master key."""

from __future__ import annotations

import base64
import io
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from firehose.ciphers.cipher import ClientSideCipher
from firehose.ciphers.keyrings import FileKeyring, KmsKeyring
from firehose.errors import FirehoseError, IntegrityError
from firehose.executors import InlineExecutor

TAG_BYTES = 16

BODIES = st.binary(max_size=200) | st.sampled_from((65535, 65536, 65537, 200_000)).map(secrets.token_bytes)

keeps_fixtures = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


class InvalidCiphertextException(Exception):
    pass


class Kms:
    """As much of KMS as there is without a server: keys bound to their encryption context."""

    exceptions = SimpleNamespace(IncorrectKeyException=KeyError, InvalidCiphertextException=InvalidCiphertextException)

    def __init__(self) -> None:
        self._master = AESGCM(secrets.token_bytes(32))

    async def generate_data_key(self, *, KeyId: str, KeySpec: str, EncryptionContext: Mapping[str, str]) -> Any:
        assert KeySpec == "AES_256"
        plaintext, iv = secrets.token_bytes(32), secrets.token_bytes(12)
        bound_to = json.dumps(EncryptionContext, sort_keys=True).encode()
        return {"Plaintext": plaintext, "CiphertextBlob": iv + self._master.encrypt(iv, plaintext, bound_to)}

    async def decrypt(self, *, KeyId: str, CiphertextBlob: bytes, EncryptionContext: Mapping[str, str]) -> Any:
        bound_to = json.dumps(EncryptionContext, sort_keys=True).encode()
        try:
            return {"Plaintext": self._master.decrypt(CiphertextBlob[:12], CiphertextBlob[12:], bound_to)}
        except (InvalidTag, ValueError) as error:
            raise InvalidCiphertextException from error


def with_key_file(folder: Path) -> ClientSideCipher:
    path = folder / secrets.token_hex(4)
    path.write_bytes(secrets.token_bytes(32))
    path.chmod(0o600)
    return ClientSideCipher(FileKeyring(path), InlineExecutor())


def with_kms(folder: Path) -> ClientSideCipher:
    kms = Kms()

    async def client() -> Any:
        return kms

    return ClientSideCipher(KmsKeyring(client, "alias/firehose", {"team": "data"}), InlineExecutor())


@pytest.fixture(params=[with_key_file, with_kms])
def make(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def cipher(make: Any, tmp_path: Path) -> ClientSideCipher:
    made: ClientSideCipher = make(tmp_path)
    return made


@dataclass(frozen=True)
class Sealed:
    body: bytes
    metadata: Mapping[str, str]


async def seal(cipher: ClientSideCipher, *writes: Any) -> Sealed:
    key, out = await cipher.data_key(), io.BytesIO()
    layer = cipher.wrap(out, key)
    for data in writes:
        assert layer.write(data) == len(data)
    layer.close()
    assert not out.closed
    return Sealed(out.getvalue(), key.metadata)


async def unseal(cipher: ClientSideCipher, folder: Path, sealed: Sealed) -> bytes:
    (folder / "body").write_bytes(sealed.body)
    out = io.BytesIO()
    try:
        await cipher.unwrap(folder / "body", sealed.metadata, out)
    except FirehoseError:
        assert out.getvalue() == b"", "bytes were released before they were verified"
        raise
    assert not out.closed
    return out.getvalue()


def flip(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@keeps_fixtures
@given(body=BODIES, cuts=st.lists(st.integers(0, 2**20), max_size=5))
async def test_what_was_written_comes_back_however_it_is_cut(
    cipher: ClientSideCipher, tmp_path: Path, body: bytes, cuts: list[int]
) -> None:
    marks = sorted({0, len(body), *(cut % (len(body) + 1) for cut in cuts)})
    sealed = await seal(cipher, *(body[start:end] for start, end in pairwise(marks)))
    assert len(sealed.body) == len(body) + TAG_BYTES
    assert await unseal(cipher, tmp_path, sealed) == body


async def test_every_kind_of_buffer_is_taken(cipher: ClientSideCipher, tmp_path: Path) -> None:
    sealed = await seal(cipher, b"ab", bytearray(b"cd"), memoryview(b"ef"), memoryview(pa.py_buffer(b"gh")), b"")
    assert await unseal(cipher, tmp_path, sealed) == b"abcdefgh"


async def test_each_object_has_a_key_of_its_own(cipher: ClientSideCipher) -> None:
    first, second = await cipher.data_key(), await cipher.data_key()
    assert first.plaintext != second.plaintext
    differing = {name for name in first.metadata if first.metadata[name] != second.metadata[name]}
    assert differing == {"x-amz-3", "x-amz-d", "x-amz-i"}


async def test_the_same_key_makes_the_same_bytes(cipher: ClientSideCipher) -> None:
    key, first, second = await cipher.data_key(), io.BytesIO(), io.BytesIO()
    for out, writes in ((first, [b"hello ", b"world"]), (second, [b"hello world"])):
        layer = cipher.wrap(out, key)
        for data in writes:
            layer.write(data)
        layer.close()
    assert first.getvalue() == second.getvalue()


async def test_a_key_is_not_shown(cipher: ClientSideCipher) -> None:
    key = await cipher.data_key()
    assert repr(key.plaintext) not in repr(key) and key.plaintext.hex() not in repr(key)
    assert base64.b64encode(key.plaintext).decode() not in repr(key)


async def test_metadata_can_travel_in_headers(cipher: ClientSideCipher, tmp_path: Path) -> None:
    sealed = await seal(cipher, b"hello")
    for name, value in sealed.metadata.items():
        assert f"{name}{value}".isascii() and f"{name}{value}".isprintable()
    assert sum(len(name) + len(value) for name, value in sealed.metadata.items()) < 1024
    # stores may change the case of names, and hand out other metadata too
    renamed = {name.title(): value for name, value in sealed.metadata.items()} | {"firehose-attempt": "1"}
    assert await unseal(cipher, tmp_path, Sealed(sealed.body, renamed)) == b"hello"


@keeps_fixtures
@given(place=st.floats(0, 1, exclude_max=True), content=st.sampled_from([b"", b"hello", bytes(70_000)]))
async def test_a_changed_bit_anywhere_in_the_body_is_found(
    cipher: ClientSideCipher, tmp_path: Path, place: float, content: bytes
) -> None:
    sealed = await seal(cipher, content)
    bit = int(place * len(sealed.body) * 8)
    with pytest.raises(IntegrityError, match="does not match its tag"):
        await unseal(cipher, tmp_path, Sealed(flip(sealed.body, bit), sealed.metadata))


@keeps_fixtures
@given(place=st.floats(0, 1, exclude_max=True))
@pytest.mark.parametrize("name", ["x-amz-3", "x-amz-d", "x-amz-i"])
async def test_a_changed_bit_in_wrapped_key_commitment_and_message_id_is_found(
    cipher: ClientSideCipher, tmp_path: Path, name: str, place: float
) -> None:
    sealed = await seal(cipher, b"hello")
    value = base64.b64decode(sealed.metadata[name])
    changed = base64.b64encode(flip(value, int(place * len(value) * 8))).decode()
    with pytest.raises(IntegrityError, match="metadata was changed"):
        await unseal(cipher, tmp_path, Sealed(sealed.body, {**sealed.metadata, name: changed}))


async def test_a_body_cut_off_or_continued_is_refused(cipher: ClientSideCipher, tmp_path: Path) -> None:
    sealed = await seal(cipher, b"hello")
    for length in range(len(sealed.body)):
        with pytest.raises(IntegrityError):
            await unseal(cipher, tmp_path, Sealed(sealed.body[:length], sealed.metadata))
    with pytest.raises(IntegrityError):
        await unseal(cipher, tmp_path, Sealed(sealed.body + b"\0", sealed.metadata))


async def test_metadata_that_lacks_a_part_is_refused(cipher: ClientSideCipher, tmp_path: Path) -> None:
    sealed = await seal(cipher, b"hello")
    for name in sealed.metadata:
        rest = {each: value for each, value in sealed.metadata.items() if each != name}
        with pytest.raises(FirehoseError):
            await unseal(cipher, tmp_path, Sealed(sealed.body, rest))


async def test_metadata_of_another_object_is_refused(cipher: ClientSideCipher, tmp_path: Path) -> None:
    first, second = await seal(cipher, b"hello"), await seal(cipher, b"hello")
    with pytest.raises(IntegrityError):
        await unseal(cipher, tmp_path, Sealed(first.body, second.metadata))


async def test_another_master_key_is_refused(make: Any, cipher: ClientSideCipher, tmp_path: Path) -> None:
    sealed = await seal(cipher, b"hello")
    with pytest.raises(IntegrityError, match="does not open with"):
        await unseal(make(tmp_path), tmp_path, sealed)


async def test_it_says_whether_a_key_would_open_where_it_need_not_ask(make: Any, tmp_path: Path) -> None:
    cipher, other = make(tmp_path), make(tmp_path)
    key = await cipher.data_key()
    answers = [await each.opens(key.metadata) for each in (cipher, other)]
    assert answers == ([True, False] if make is with_key_file else [None, None])
    if make is with_key_file:
        foreign = await with_kms(tmp_path).data_key()
        assert [await cipher.opens(each) for each in (foreign.metadata, {}, {"x-amz-3": "?"})] == [False] * 3
