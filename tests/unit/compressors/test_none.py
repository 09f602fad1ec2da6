from __future__ import annotations

import io
from typing import Any

from firehose.compressors.none import NoneConfig

CONTEXT: Any = None


def test_the_object_says_nothing_of_compression() -> None:
    compressor = NoneConfig().build(CONTEXT)
    assert (compressor.extension, compressor.content_encoding) == ("", None)


def test_bytes_pass_as_they_are() -> None:
    out = io.BytesIO()
    layer = NoneConfig().build(CONTEXT).wrap(out)
    layer.write(b"hello")
    layer.close()
    assert out.getvalue() == b"hello"
