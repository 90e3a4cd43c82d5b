"""Work in a thread that Ctrl-C ends in order."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def in_thread(stop: threading.Event, work: Callable[[], T]) -> T:
    """Like `to_thread`, but Ctrl-C ends the work at its next step and waits for that."""
    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()
        raise
