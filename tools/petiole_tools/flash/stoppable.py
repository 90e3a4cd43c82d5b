"""Work in a thread that Ctrl-C ends in order, or leaves alone."""

from __future__ import annotations

import asyncio
import contextlib
import functools
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


async def abandonable(work: Callable[[], T]) -> T:
    """Like `to_thread`, for work that changes nothing: neither Ctrl-C nor the end of the program waits for it."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(act: Callable[[], None]) -> None:
        if not done.done():
            act()

    def run() -> None:
        try:
            act = functools.partial(done.set_result, work())
        except Exception as error:
            act = functools.partial(done.set_exception, error)
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, act)

    threading.Thread(target=run, daemon=True).start()
    return await done
