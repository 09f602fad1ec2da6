from __future__ import annotations

import io
import secrets
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from firehose.ciphers import gcm
from firehose.errors import IntegrityError, InvalidError

KEY = gcm.ContentKey(secrets.token_bytes(32), secrets.token_bytes(12), b"associated")


class Sizes:
    """An output that remembers how much it got at once."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def write(self, data: Any, /) -> int:
        self.sizes.append(len(data))
        return len(data)

    def close(self) -> None:
        raise AssertionError("the layer beneath stays open")


def encrypted(data: bytes) -> bytes:
    return AESGCM(KEY.key).encrypt(KEY.iv, data, KEY.associated_data)


@pytest.mark.parametrize("size", [0, 1, 65536, 65537, 300_000])
def test_pieces_make_what_one_call_makes(size: int, tmp_path: Path) -> None:
    data = secrets.token_bytes(size)
    out = io.BytesIO()
    layer = gcm.EncryptingOutput(out, KEY)
    layer.write(data)
    layer.close()
    assert out.getvalue() == encrypted(data)
    (tmp_path / "body").write_bytes(encrypted(data))
    decrypted = io.BytesIO()
    gcm.decrypt_file(tmp_path / "body", KEY, decrypted)
    assert decrypted.getvalue() == data


def test_neither_direction_holds_the_body(tmp_path: Path) -> None:
    data = bytes(5 * 2**20)
    out = Sizes()
    layer = gcm.EncryptingOutput(out, KEY)
    layer.write(data)
    layer.close()
    assert sum(out.sizes) == len(data) + 16 and max(out.sizes) == 2**16
    (tmp_path / "body").write_bytes(encrypted(data))
    out = Sizes()
    gcm.decrypt_file(tmp_path / "body", KEY, out)
    assert sum(out.sizes) == len(data) and max(out.sizes) == 2**16


def test_the_limit_is_that_of_aes_gcm() -> None:
    assert gcm.MAX_PLAINTEXT_BYTES == 2**36 - 32  # NIST SP 800-38D: 2^39 - 256 bits


def test_more_than_the_limit_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gcm, "MAX_PLAINTEXT_BYTES", 100)
    out = io.BytesIO()
    layer = gcm.EncryptingOutput(out, KEY)
    layer.write(bytes(60))
    with pytest.raises(InvalidError, match="at most 64 GiB"):
        layer.write(bytes(41))
    assert len(out.getvalue()) == 60
    layer.write(bytes(40))
    layer.close()

    (tmp_path / "body").write_bytes(bytes(117))
    with pytest.raises(IntegrityError, match="longer than AES-GCM can encrypt"):
        gcm.decrypt_file(tmp_path / "body", KEY, out)


@pytest.mark.parametrize("change", [lambda file: file.truncate(100_000), lambda file: file.write(b"\xff")])
def test_a_file_changed_while_it_is_released_is_noticed(tmp_path: Path, change: Any) -> None:
    path = tmp_path / "body"
    path.write_bytes(encrypted(bytes(200_000)))

    class Changes(Sizes):
        def write(self, data: Any, /) -> int:
            with path.open("r+b") as file:
                file.seek(150_000)
                change(file)
            return super().write(data)

    with pytest.raises(IntegrityError):
        gcm.decrypt_file(path, KEY, Changes())
