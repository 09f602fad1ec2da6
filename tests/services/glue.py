"""What moto's Glue leaves out: UpdateTable of a version that is not the latest is refused; and errors on demand."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from typing import Any

import boto3

from tests.services.fault_proxy import Fault


def refuse(exchange: Any, status: int, body: bytes, **headers: str) -> None:
    """Answer a request whose body was read."""
    exchange.send_response_only(status)
    for name, value in {"Content-Type": "application/json", "Content-Length": f"{len(body)}", **headers}.items():
        exchange.send_header(name.replace("_", "-"), value)
    exchange.end_headers()
    exchange.wfile.write(body)


def glue_error(code: str) -> bytes:
    """Return the body of an error answer of Glue."""
    return json.dumps({"__type": code, "message": "by a fault"}).encode()


@dataclass(frozen=True, kw_only=True, eq=False)
class GlueError(Fault):
    """Answers with an error of Glue, without asking the server."""

    code: str
    status: int = 400

    def strike(self, exchange: Any) -> None:
        b"".join(exchange.body())
        refuse(exchange, self.status, glue_error(self.code))


@dataclass(frozen=True, kw_only=True, eq=False)
class Strict(Fault):
    """Passes on what Glue would take. `rivals`: so many changes of somebody else come just before one."""

    endpoint: str
    rivals: int = 0
    #: What was asked for, in the order in which it came.
    asked: list[str] = field(default_factory=list)
    _turn: threading.Lock = field(default_factory=threading.Lock)
    _changed: list[None] = field(default_factory=list)

    def strike(self, exchange: Any) -> None:
        body = b"".join(exchange.body())
        operation = exchange.headers["X-Amz-Target"].partition(".")[2]
        with self._turn:
            self.asked.append(operation)
            if operation == "UpdateTable" and self._is_late(json.loads(body)):
                refuse(exchange, 400, glue_error("ConcurrentModificationException"))
                return
            with exchange.sent([body]) as server:
                exchange.reply(server.getresponse())

    def _is_late(self, request: dict[str, Any]) -> bool:
        glue: Any = boto3.client("glue", endpoint_url=self.endpoint)
        where = {"DatabaseName": request["DatabaseName"], "Name": request["TableInput"]["Name"]}
        found = glue.get_table(**where)["Table"]
        if len(self._changed) < self.rivals:
            self._changed.append(None)
            storage = found["StorageDescriptor"]
            name = f"rival{len(self._changed)}"
            columns = [*storage["Columns"], {"Name": name, "Type": "int"}]
            table = {"Name": where["Name"], "StorageDescriptor": storage | {"Columns": columns}}
            glue.update_table(DatabaseName=where["DatabaseName"], TableInput=table)
            found = glue.get_table(**where)["Table"]
        return bool(request.get("VersionId", found["VersionId"]) != found["VersionId"])
