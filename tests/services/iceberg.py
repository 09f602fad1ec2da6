"""The Iceberg project's own REST catalog, from its compatibility tests. Tables are in SQLite, metadata in memory.

It asks for no token, and gives one to everybody.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.services.maven import jars, java
from tests.services.server import free_port, is_listening, running

VERSION = "1.10.0"

ARTIFACTS = (
    f"org.apache.iceberg:iceberg-core:{VERSION}",
    f"org.apache.iceberg:iceberg-core:{VERSION}:tests",
    f"org.apache.iceberg:iceberg-open-api:{VERSION}:test-fixtures",
    "org.eclipse.jetty:jetty-servlet:11.0.25",
    "org.apache.hadoop:hadoop-client-api:3.4.1",
    "org.apache.hadoop:hadoop-client-runtime:3.4.1",
    "org.xerial:sqlite-jdbc:3.50.3.0",
    "org.slf4j:slf4j-simple:2.0.17",
)


@contextmanager
def iceberg_server(folder: Path) -> Iterator[str]:
    """Run the catalog and yield its address."""
    port = free_port()
    found = jars(f"iceberg-rest-{VERSION}", ARTIFACTS)
    settings = {
        "CATALOG_URI": f"jdbc:sqlite:{folder / 'catalog.db'}",
        "CATALOG_WAREHOUSE": str(folder),
        "CATALOG_IO__IMPL": "org.apache.iceberg.inmemory.InMemoryFileIO",
        "CATALOG_REST_PORT": str(port),
    }
    command = [java(), "-Xmx256m", "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]
    command += ["-cp", f"{found}/*", "org.apache.iceberg.rest.RESTCatalogServer"]
    with running(command, folder=folder, is_ready=lambda: is_listening(port), environment=settings):
        yield f"http://127.0.0.1:{port}"
