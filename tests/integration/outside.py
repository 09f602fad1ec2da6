"""What a process takes from its machine, and a test cannot have otherwise: days that pass, names that come and go."""

from __future__ import annotations

import os
from pathlib import Path

HOUR_S = 3_600

HOOKS = Path(__file__).with_name("hooks")


class Outside:
    """Says what the processes see that are started with `environment`, at once and while they run."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ahead_s = 0
        folder.mkdir()
        self.environment = {"PYTHONPATH": f"{HOOKS}", "OUTSIDE": f"{folder}"}

    def pass_time(self, duration_s: int) -> None:
        """Let so much time pass at once: by the service's clock, the wall's and the monotonic one."""
        self._ahead_s += duration_s
        self._say("ahead", f"{self._ahead_s * 1_000_000_000}")

    def resolve(self, name: str, address: str | None) -> None:
        """Give a name under `.invalid` an address, or (None) leave it to the real resolver, which knows none."""
        if address is None:
            (self._folder / name).unlink()
        else:
            self._say(name, address)

    def _say(self, name: str, text: str) -> None:
        """Write a file that is there whole or not at all: it is read all the time."""
        draft = self._folder / "draft"
        draft.write_text(text)
        os.replace(draft, self._folder / name)
