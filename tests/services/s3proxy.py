"""S3Proxy: S3 on a folder, in Java. It checks signatures and Content-MD5, which moto does not.

Its conditional put holds for one writer only, and it ignores the condition at the end of a multipart upload.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.services.server import CACHE, free_port, is_listening, running, unavailable

VERSION = "3.0.0"

ACCESS_KEY = "proxy-user"
SECRET_KEY = "proxy-secret"

POM = f"""\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>firehose.tests</groupId>
  <artifactId>s3proxy-jars</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.gaul</groupId>
      <artifactId>s3proxy</artifactId>
      <version>{VERSION}</version>
    </dependency>
  </dependencies>
</project>
"""

#: Without this it logs every line of every request.
LOGBACK = """\
<configuration>
  <appender name="OUT" class="ch.qos.logback.core.ConsoleAppender">
    <encoder><pattern>%d %level %logger{20} %msg%n</pattern></encoder>
  </appender>
  <root level="WARN"><appender-ref ref="OUT"/></root>
</configuration>
"""


@dataclass(frozen=True)
class S3Proxy:
    """A running S3Proxy and the only credentials it takes."""

    endpoint: str
    folder: Path
    access_key: str = ACCESS_KEY
    secret_key: str = SECRET_KEY

    def forget_cut_uploads(self) -> None:
        """Remove what uploads left that were cut off: S3 forgets it, this server fails at every listing because of it.

        Its objects have their attributes before they have their name; a piece has none. One that grows is left alone.
        """
        for path in self.folder.rglob("*"):
            if path.is_file() and not os.listxattr(path) and time.time() - path.stat().st_mtime > 0.5:
                path.unlink(missing_ok=True)


@contextmanager
def s3proxy_server(folder: Path) -> Iterator[S3Proxy]:
    """Run S3Proxy and yield it."""
    java = shutil.which("java")
    if java is None:
        unavailable("S3Proxy needs Java (apt-get install default-jre-headless)")
    jars = s3proxy_jars()
    port = free_port()
    (folder / "data").mkdir()
    (folder / "logback.xml").write_text(LOGBACK)
    settings = {
        "s3proxy.endpoint": f"http://127.0.0.1:{port}",
        "s3proxy.authorization": "aws-v2-or-v4",
        "s3proxy.identity": ACCESS_KEY,
        "s3proxy.credential": SECRET_KEY,
        "s3proxy.ignore-unknown-headers": "true",
        "jclouds.provider": "filesystem-nio2",
        "jclouds.filesystem.basedir": str(folder / "data"),
    }
    (folder / "s3proxy.properties").write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    command = [java, "-Xmx256m", "-cp", f"{folder}:{jars}/*", "org.gaul.s3proxy.Main"]
    command += ["--properties", "s3proxy.properties"]
    with running(command, folder=folder, is_ready=lambda: is_listening(port)):
        yield S3Proxy(f"http://127.0.0.1:{port}", folder / "data")


def s3proxy_jars() -> Path:
    """Return the folder of jars, fetched by Maven where this machine does not have them yet."""
    jars = CACHE / f"s3proxy-{VERSION}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "s3proxy.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several test processes may want them at once
        if not jars.is_dir():
            fetch_jars(jars)
    return jars


def fetch_jars(jars: Path) -> None:
    """Let Maven copy S3Proxy and what it needs into `jars`, which appears whole or not at all."""
    maven = shutil.which("mvn")
    if maven is None:
        unavailable("S3Proxy is fetched by Maven (apt-get install maven)")
    work = CACHE / "s3proxy-work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    (work / "pom.xml").write_text(POM)
    command = [maven, "-B", "-q", "-ntp", "dependency:copy-dependencies", "-DincludeScope=runtime"]
    fetched = subprocess.run(
        [*command, "-DoutputDirectory=jars"], cwd=work, capture_output=True, text=True, timeout=600
    )
    if fetched.returncode:
        unavailable(f"Maven could not fetch S3Proxy {VERSION}:\n{fetched.stdout[-2000:]}")
    (work / "jars").rename(jars)
    shutil.rmtree(work)
