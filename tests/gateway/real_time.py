"""Waiting for events of real sockets, ports and processes."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable

PATIENCE_S = 30.0  # a bound for hangs on a busy machine, never a pace


async def until(condition: Callable[[], object | Awaitable[object]], timeout_s: float = PATIENCE_S) -> None:
    """Wait until a condition holds."""
    give_up_at = time.monotonic() + timeout_s
    while True:
        result = condition()
        if inspect.isawaitable(result):
            result = await result
        if result:
            return
        assert time.monotonic() < give_up_at, f"not within {timeout_s:g} s: {inspect.getsource(condition).strip()}"
        await asyncio.sleep(0.005)
