"""The AWS Lambda runtime of local functions, inside a child process: finds `handler(event, context)` and calls it.

Only the standard library is imported here; the function's own imports should be all that a child pays for.
Source: https://docs.aws.amazon.com/lambda/latest/dg/python-context.html
"""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from json import dumps, loads  # by name: functions replace `json.dumps`, and Lambda's runtime would not notice
from pathlib import Path
from typing import Any

#: How long a file that was changed must stay as it is before it is loaded: editors and copies write in several steps.
SETTLED_NS = 1_000_000_000


class MarshalError(Exception):
    """The function returned something that is no answer."""


class LambdaContext:
    """What a handler can know of its invocation."""

    client_context = None
    identity = None

    def __init__(self, setup: Mapping[str, Any]) -> None:
        self.aws_request_id = str(uuid.uuid4())
        self.function_name: str = os.environ["AWS_LAMBDA_FUNCTION_NAME"]
        self.function_version: str = os.environ["AWS_LAMBDA_FUNCTION_VERSION"]
        self.invoked_function_arn: str = setup["arn"]
        self.memory_limit_in_mb: str = os.environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"]
        self.log_group_name: str = os.environ["AWS_LAMBDA_LOG_GROUP_NAME"]
        self.log_stream_name: str = os.environ["AWS_LAMBDA_LOG_STREAM_NAME"]
        self._ends_ms: int = _monotonic_ms() + setup["timeout_ms"]

    def get_remaining_time_in_millis(self) -> int:
        """Return the milliseconds until the invocation times out."""
        return max(0, self._ends_ms - _monotonic_ms())


def serve(setup: Mapping[str, Any]) -> Callable[[bytes], bytes]:
    """Return a function from the event's JSON to the answer's, which calls the handler in the file `setup["path"]`."""
    set_up_logging()
    code = Code(Path(setup["path"]), setup["handler"])

    def invoke(event: bytes) -> bytes:
        return _marshal(code.handler()(loads(event), LambdaContext(setup)))

    return invoke


def set_up_logging() -> None:
    """Let the root logger write warnings, as in Lambda; what the function sets up is added to that."""
    logging.basicConfig(format="[%(levelname)s] %(message)s")


class Code:
    """A function's file and the modules beside it, as they were loaded last."""

    def __init__(self, path: Path, name: str, *, key: str = "handler") -> None:
        self._path = path
        self._name = name
        self._key = key
        self._load()

    def handler(self) -> Callable[..., Any]:
        """Return the function as its files are now. Errors: what they raise when they are run."""
        if self._has_changed():
            for name in self._modules():
                del sys.modules[name]
            self._load()
        return self._handler

    def _load(self) -> None:
        self._handler = load_handler(self._path, self._name, self._key)
        self._stamps = {file: _stamp(file) for file in self._modules().values()}

    def _modules(self) -> dict[str, str]:
        """Return the function's file and those of modules beside it, by name; not what is installed, or ours."""
        folder = f"{self._path.parent}{os.sep}"
        found = {}
        for name, module in list(sys.modules.items()):
            file = getattr(module, "__file__", None) or ""
            is_own = name.partition(".")[0] not in ("firehose", "__main__") and "site-packages" not in file
            if is_own and file.startswith(folder):
                found[name] = file
        return found

    def _has_changed(self) -> bool:
        now = {file: _stamp(file) for file in self._stamps}
        changed_ns = [now[file][0] for file, before in self._stamps.items() if now[file] != before]
        return bool(changed_ns) and time.time_ns() - max(changed_ns) > SETTLED_NS


def _stamp(file: str) -> tuple[int, int]:
    try:
        found = os.stat(file)
    except OSError:
        return 0, -1
    return found.st_mtime_ns, found.st_size


def load_handler(path: Path, name: str, key: str) -> Callable[..., Any]:
    """Run the file at `path` as a module and return its function `name`; modules and files beside it are found.

    `key` is where the configuration names it.
    """
    os.chdir(path.parent)
    if sys.path[0] != str(path.parent):
        sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    handler = getattr(module, name, None)
    if not callable(handler):
        values = vars(module).items()
        own = [each for each, value in values if callable(value) and getattr(value, "__module__", "") == path.stem]
        raise AttributeError(f"no function {name!r} in {path}; `{key}` names one; there is {', '.join(own) or 'none'}")
    found: Callable[..., Any] = handler
    return found


def _marshal(answer: Any) -> bytes:
    try:
        return dumps(answer).encode()
    except (TypeError, ValueError, RecursionError) as error:
        hint = "; base64 data must be text: b64encode(...).decode()" if "bytes" in str(error) else ""
        raise MarshalError(f"cannot make JSON of what the handler returned: {error}{hint}") from error


def _monotonic_ms() -> int:
    return time.monotonic_ns() // 1_000_000
