"""Waiting for events instead of for time."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable

PATIENCE_S = 60.0  # for anything: a bound for hangs on a busy machine, never a pace


async def until(
    condition: Callable[[], object | Awaitable[object]],
    what: str,
    *,
    timeout_s: float = PATIENCE_S,
    every_s: float = 0.05,
) -> float:
    """Wait until `condition` holds; seconds it took. AssertionError naming `what`."""
    began = time.monotonic()
    while True:
        result = condition()
        if inspect.isawaitable(result):
            result = await result
        if result:
            return time.monotonic() - began
        if time.monotonic() - began > timeout_s:
            raise AssertionError(f"not within {timeout_s:g} s: {what}")
        await asyncio.sleep(every_s)
