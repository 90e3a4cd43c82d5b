"""Ending tasks that speak to NATS."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

# A cancellation that was swallowed is noticed after this.
AGAIN_S = 0.1


async def end_tasks(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel them until they have ended. Until Python 3.12 `asyncio.wait_for`, through which the client waits for every
    answer, loses a cancellation that comes together with the answer."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=AGAIN_S)
