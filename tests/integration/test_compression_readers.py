"""What we compress is read by the libraries that Java programs read it with, and we read what they write."""

from __future__ import annotations

import random
import subprocess
import zipfile
import zlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from firehose.compressors.gzip import GzipConfig
from firehose.compressors.hadoop_snappy import HadoopSnappyConfig
from firehose.compressors.snappy import SnappyConfig
from firehose.compressors.zip import ZipConfig
from tests.interop import maven

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("compression-java")]

PROJECT = Path(__file__).parents[1] / "interop" / "compression-java"

CONTEXT: Any = None
COMPRESSORS: dict[str, Any] = {
    config.model_fields["type"].default: config().build(CONTEXT)
    for config in (GzipConfig, ZipConfig, SnappyConfig, HadoopSnappyConfig)
}
FORMS = pytest.mark.parametrize("form", COMPRESSORS)

_RANDOM = random.Random(11)
#: Around the blocks of both Snappy forms and our pieces of 1 MiB; text, noise, and what shrinks most.
BODIES: dict[str, bytes] = {
    "empty": b"",
    "row": b'{"a":1}\n',
    "text": b"".join(b'{"id":%d,"page":"/cart"}\n' % _RANDOM.randrange(10**6) for _ in range(100_000)),
    "zeros": bytes(3 * 2**20 + 5),
} | {f"noise-{size}": _RANDOM.randbytes(size) for size in (1, 32767, 32768, 32769, 218_423, 262_145, 2**20 + 1)}


@pytest.fixture(scope="module")
def java() -> list[str]:
    return ["java", "-cp", maven.classpath(PROJECT), "Main"]


def run(command: list[str], *arguments: str | Path) -> str:
    return subprocess.run([*command, *arguments], check=True, stdout=subprocess.PIPE, text=True, timeout=120).stdout


def told(bodies: Mapping[str, bytes]) -> str:
    return "".join(f"{name} {len(bodies[name])} {zlib.crc32(bodies[name])}\n" for name in sorted(bodies))


@FORMS
def test_java_reads_what_we_write(form: str, java: list[str], tmp_path: Path) -> None:
    for name, content in BODIES.items():
        with (tmp_path / name).open("wb") as file:
            layer = COMPRESSORS[form].wrap(file)
            layer.write(content[:1000])
            layer.write(content[1000:])
            layer.close()
    assert run(java, "read", form, tmp_path) == told(BODIES)


async def test_we_read_what_java_writes(java: list[str], tmp_path: Path) -> None:
    plain, packed = tmp_path / "plain", tmp_path / "packed"
    plain.mkdir()
    packed.mkdir()
    for name, content in BODIES.items():
        (plain / name).write_bytes(content)
    run(java, "write", plain, packed)
    forms = set()
    for file in packed.iterdir():
        form, _, name = file.name.partition(".")
        if form.startswith("hadoop_snappy") and name == "empty":
            assert file.stat().st_size == 0, "unlike Hadoop's own, which has an empty block as ours has"
            continue
        read = [piece async for piece in COMPRESSORS[form.removesuffix("_xerial")].unwrap(chunks_of(file))]
        assert b"".join(read) == BODIES[name], file.name
        forms.add(form)
    assert forms == {*COMPRESSORS, "hadoop_snappy_xerial"}


async def chunks_of(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(100_003):
            yield chunk


@pytest.mark.slow
async def test_a_zip_archive_of_more_than_4_gib_is_read(java: list[str], tmp_path: Path) -> None:
    pieces, piece = 4097, bytes(2**20)
    with (tmp_path / "large").open("wb") as file:
        layer = COMPRESSORS["zip"].wrap(file)
        for _ in range(pieces):
            layer.write(piece)
        layer.close()
    assert run(java, "read", "zip", tmp_path).split()[:2] == ["large", str(pieces * 2**20)]
    with zipfile.ZipFile(tmp_path / "large") as archive:
        assert archive.testzip() is None
        assert archive.infolist()[0].file_size == pieces * 2**20
    assert sum([len(read) async for read in COMPRESSORS["zip"].unwrap(chunks_of(tmp_path / "large"))]) == pieces * 2**20
