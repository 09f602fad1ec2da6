"""The bytes of a delivery as a file of its own."""

from __future__ import annotations

import hashlib
import io
import os
from base64 import b64encode
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from firehose.protocols import Delivery
from firehose.sinks.body import CHUNK_BYTES, Body, md5_of_parts, verified_chunks

MakeDelivery = Callable[..., Delivery]


def test_a_body_is_the_deliverys_bytes_and_no_others(make_delivery: MakeDelivery) -> None:
    with Body(make_delivery(b"0123456789")) as body:
        assert body.read() == b"0123456789"
        assert body.read() == b""
        assert body.seek(-3, os.SEEK_END) == 7
        assert body.read(100) == b"789"
        body.seek(2)
        body.seek(1, os.SEEK_CUR)
        assert (body.tell(), body.read(2)) == (3, b"34")


def test_a_piece_begins_at_zero_and_ends_with_the_object(make_delivery: MakeDelivery) -> None:
    delivery = make_delivery(b"0123456789")
    assert Body(delivery, 4, 3).readall() == b"456"
    assert Body(delivery, 8, 3).readall() == b"89"
    assert Body(delivery, 10, 3).readall() == b""
    with Body(delivery, 4, 3) as body:
        assert body.seek(0, os.SEEK_END) == 3


def test_a_body_hides_its_file_so_that_nobody_takes_its_size(make_delivery: MakeDelivery) -> None:
    with Body(make_delivery()) as body, pytest.raises(io.UnsupportedOperation):
        body.fileno()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(size=st.integers(0, 3 * CHUNK_BYTES), part_bytes=st.integers(CHUNK_BYTES // 3, 2 * CHUNK_BYTES))
def test_parts_have_the_md5_of_their_bytes(make_delivery: MakeDelivery, size: int, part_bytes: int) -> None:
    body = os.urandom(size)
    parts = [body[at : at + part_bytes] for at in range(0, max(size, 1), part_bytes)]
    expected = [b64encode(hashlib.md5(part).digest()).decode() for part in parts]
    delivery = make_delivery(body)
    assert md5_of_parts(delivery, part_bytes) == expected
    assert b"".join(verified_chunks(delivery)) == body
