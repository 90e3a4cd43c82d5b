"""What Ctrl-C does to work that is under way: ends it in order, leaves it alone, or comes too late."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from types import FrameType
from typing import Any, TypeVar

from petiole_tools.output import note
from petiole_tools.quiet_start import TERMINATED

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


async def finished(work: Coroutine[Any, Any, T]) -> T:
    """For what must not be left half done: Ctrl-C waits for its end, a second one does not."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()
        raise


async def completed(work: Coroutine[Any, Any, T]) -> T:
    """For the last step of a command, after which all is done and told: Ctrl-C or SIGTERM comes too late, a second one
    ends it all the same. Only where nobody else cancels."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if task.cancelled():
            raise
        note("too late to stop this: it is being completed")
        return await task


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """For what waits in the event loop itself, as a prompt for a password does: signals that the loop would hear of
    later raise at once. In the main thread."""

    def terminate(_number: int, _frame: FrameType | None) -> None:
        sys.exit(TERMINATED)

    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, signal.default_int_handler),
        signal.SIGTERM: signal.signal(signal.SIGTERM, terminate),
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
