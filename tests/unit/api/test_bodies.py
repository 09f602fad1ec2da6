"""What bodies may expand to."""

from __future__ import annotations

import gzip

import pytest
import zstandard

from firehose.api.bodies import FREE_EXPANSION_BYTES, MAX_EXPANSION, Bodies, expanded
from firehose.api.wire import WireError
from firehose.errors import ThrottledError

MAX = 8 * 2**20


def test_several_members_and_frames_are_one_body() -> None:
    assert expanded(gzip.compress(b"a") + gzip.compress(b"b"), "gzip", max_bytes=MAX) == b"ab"
    assert expanded(zstandard.compress(b"a") + zstandard.compress(b"b"), " ZSTD ", max_bytes=MAX) == b"ab"
    assert expanded(b"plain", "identity", max_bytes=MAX) == b"plain"


def test_small_bodies_may_expand_as_they_like() -> None:
    line = b'{"a":1}\n' * (FREE_EXPANSION_BYTES // 8)
    packed = zstandard.compress(line)
    assert len(line) > len(packed) * MAX_EXPANSION
    assert expanded(packed, "zstd", max_bytes=MAX) == line


def test_the_ratio_is_bounded_beyond_that() -> None:
    packed = zstandard.compress(bytes(2 * FREE_EXPANSION_BYTES))
    with pytest.raises(WireError, match=f"{MAX_EXPANSION} times its compressed size"):
        expanded(packed, "zstd", max_bytes=MAX)


def test_the_size_is_bounded_whatever_the_ratio() -> None:
    packed = gzip.compress(bytes(1_001), 0)
    assert len(expanded(packed, "gzip", max_bytes=1_001)) == 1_001
    with pytest.raises(WireError) as found:
        expanded(packed, "gzip", max_bytes=1_000)
    assert found.value.status == 413


def test_leases_share_one_budget_and_give_it_back() -> None:
    bodies = Bodies(100)
    with bodies.lease() as one, bodies.lease() as other:
        one.take(60)
        with pytest.raises(ThrottledError):
            other.take(60)
    with bodies.lease() as again:
        again.take(100)
