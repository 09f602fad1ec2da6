"""Java's servers: Maven fetches them, once for a machine."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from tests.services.server import CACHE, unavailable

POM = """\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>firehose.tests</groupId>
  <artifactId>{name}</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
{dependencies}
  </dependencies>
</project>
"""


def jars(name: str, artifacts: Iterable[str]) -> Path:
    """Return the folder of jars, fetched where this machine does not have them yet.

    `name` has the version in it. Artifacts are GROUP:ARTIFACT:VERSION, or with :CLASSIFIER behind.
    """
    folder = CACHE / name
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several test processes may want them at once
        if not folder.is_dir():
            _fetch(name, artifacts, folder)
    return folder


def java() -> str:
    """Return the command that runs Java."""
    return shutil.which("java") or unavailable("no Java here (apt-get install default-jre-headless)")


def _fetch(name: str, artifacts: Iterable[str], folder: Path) -> None:
    """Let Maven copy artifacts and what they need into `folder`, which appears whole or not at all."""
    maven = shutil.which("mvn") or unavailable(f"{name} is fetched by Maven (apt-get install maven)")
    work = CACHE / f"{name}-work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    (work / "pom.xml").write_text(POM.format(name=name, dependencies="\n".join(map(_dependency, artifacts))))
    command = [maven, "-B", "-q", "-ntp", "dependency:copy-dependencies", "-DincludeScope=runtime"]
    fetched = subprocess.run(
        [*command, "-DoutputDirectory=jars"], cwd=work, capture_output=True, text=True, timeout=600
    )
    if fetched.returncode:
        unavailable(f"Maven could not fetch {name}:\n{fetched.stdout[-2000:]}")
    (work / "jars").rename(folder)
    shutil.rmtree(work)


def _dependency(artifact: str) -> str:
    words = ("groupId", "artifactId", "version", "classifier")
    elements = (f"<{word}>{value}</{word}>" for word, value in zip(words, artifact.split(":"), strict=False))
    return f"<dependency>{''.join(elements)}</dependency>"
