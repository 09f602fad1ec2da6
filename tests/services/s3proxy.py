"""S3Proxy: S3 on a folder, in Java. It checks signatures and Content-MD5, which moto does not.

Its conditional put holds for one writer only, and it ignores the condition at the end of a multipart upload.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.services.maven import jars, java
from tests.services.server import free_port, is_listening, running

VERSION = "3.0.0"

ACCESS_KEY = "proxy-user"
SECRET_KEY = "proxy-secret"

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
    found = jars(f"s3proxy-{VERSION}", [f"org.gaul:s3proxy:{VERSION}"])
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
    command = [java(), "-Xmx256m", "-cp", f"{folder}:{found}/*", "org.gaul.s3proxy.Main"]
    command += ["--properties", "s3proxy.properties"]
    with running(command, folder=folder, is_ready=lambda: is_listening(port)):
        yield S3Proxy(f"http://127.0.0.1:{port}", folder / "data")
