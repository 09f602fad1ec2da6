"""Where calls that block or compute are sent: the only module that starts threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

T = TypeVar("T")


class Executor(Protocol):
    """Runs a call away from the event loop. Inline in simulations, because threads end determinism."""

    async def run(self, call: Callable[[], T]) -> T:
        """Return what `call()` returns, or raise what it raises."""
        ...


class ThreadExecutor:
    """Runs calls in a few threads: for fsync and for what releases the GIL (Arrow, codecs, ciphers, kernels)."""

    def __init__(self, *, threads: int, name: str) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)

    async def run(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, call)

    def close(self) -> None:
        """Wait for calls under way, start no more."""
        self._pool.shutdown(wait=True, cancel_futures=True)


class InlineExecutor:
    """Runs calls at once on the event loop: for simulations and one-shot commands."""

    async def run(self, call: Callable[[], T]) -> T:
        return call()
