"""Java programs for tests, built by Maven once for each state of their sources, into the user's cache folder."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from tests.services.server import CACHE, unavailable


def classpath(project: Path) -> str:
    """Return what `java -cp` needs for the program in `project`, a folder with a pom.xml that takes `build.folder`.

    Skips on a laptop without JDK or Maven, fails in CI.
    """
    maven = shutil.which("mvn")
    if maven is None or shutil.which("java") is None:
        unavailable(f"{project.name} needs JDK 17 and Maven (apt-get install openjdk-17-jdk-headless maven)")
    sources = sorted(path for path in project.rglob("*") if path.is_file())
    version = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    build = CACHE / f"{project.name}-{version}"
    if not (build / "complete").exists():
        command = [maven, "-B", "-q", "-ntp", "-f", project / "pom.xml", f"-Dbuild.folder={build}", "compile"]
        built = subprocess.run(command, capture_output=True, text=True, timeout=600)
        if built.returncode:
            unavailable(f"Maven could not build {project.name}:\n{built.stdout[-2000:]}")
        (build / "complete").touch()
    return f"{build / 'classes'}{os.pathsep}{build / 'libraries'}/*"
