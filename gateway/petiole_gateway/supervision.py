"""Tasks that have to run as long as the gateway does: one that ends is told, counted, and started again.

A task ends by a defect only; everything that is to be expected (a link that is down, a full disk) it waits for itself.
So an end is never normal, and never silent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from .hub.ports import Logger

# The first defect may be one of the moment; one that stays must not fill the log.
FIRST_BACKOFF_S = 0.5
MAX_BACKOFF_S = 30.0
# Who has run for so long has got over it.
SETTLED_S = 60.0
# Ends in a row after which starting the task again is no cure: 0.5 + 1 + 2 + 4 + 8 s after the first.
STUCK_AFTER = 6
# A failure is shown for so long after it was the last one: a person looks once a day.
SHOWN_S = 86_400.0
# Whoever ends a task asks again after this (nats/task_end.py).
AGAIN_S = 0.1
# Links have names from the settings, all others from the code. More are counted together.
MAX_NAMES = 256
OTHERS = "others"


@dataclass(slots=True)
class Failures:
    """Of one task. `in_a_row`: since it has last run for SETTLED_S."""

    total: int = 0
    in_a_row: int = 0
    error: str = ""
    at: float = 0.0  # of the loop's clock
    is_vital: bool = False


class Supervisor:
    """`keep` what has to run on, `once` what ends by itself, `failed` for what was caught elsewhere."""

    def __init__(self, logger: Logger) -> None:
        self.failures: dict[str, Failures] = {}
        self.kept: dict[str, asyncio.Task[None]] = {}  # by name, those that run now
        self._logger = logger
        self._once: set[asyncio.Task[None]] = set()

    def keep(
        self,
        name: str,
        run: Callable[[], Coroutine[Any, Any, None]],
        *,
        is_vital: bool = False,
        may_end: bool = False,
    ) -> asyncio.Task[None]:
        """Run `run()` until the returned task is cancelled; when it ends by itself, once more after a pause.

        `is_vital`: while it cannot run a restart of the process is the cure. `may_end`: returning is no failure.
        """
        outer = asyncio.get_running_loop().create_task(self._keep(name, run, is_vital, may_end), name=name)
        self.kept[name] = outer
        outer.add_done_callback(lambda task: self._ended(name, task))
        return outer

    def once(self, name: str, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a coroutine to its end; what it raises is a failure."""
        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        self._once.add(task)
        task.add_done_callback(self._ended_once)
        return task

    def failed(self, name: str, error: BaseException | None, *, is_vital: bool = False, in_a_row: int = 1) -> None:
        """Count and tell that something ended which must not; `error` None if it just ended."""
        if name not in self.failures and len(self.failures) >= MAX_NAMES:
            name = OTHERS
        found = self.failures.setdefault(name, Failures())
        found.total += 1
        found.in_a_row = in_a_row
        found.error = "it ended" if error is None else repr(error)[:300]
        found.at = asyncio.get_running_loop().time()
        found.is_vital = is_vital
        trace: dict[str, Any] = {} if error is None else {"exc_info": error}
        self._logger.error("task_failed", task=name, error=found.error, in_a_row=in_a_row, **trace)

    def stuck(self) -> list[str]:
        """Vital tasks that do not come to run, though they were started again."""
        now = asyncio.get_running_loop().time()
        return [
            f"{name} has failed {found.in_a_row} times in a row: {found.error}"
            for name, found in self.failures.items()
            if found.is_vital and found.in_a_row >= STUCK_AFTER and now - found.at < SETTLED_S
        ]

    def document(self) -> list[dict[str, Any]]:
        """What has failed within SHOWN_S: JSON values."""
        now = asyncio.get_running_loop().time()
        return [
            {"name": name, "failures_total": found.total, "error": found.error, "ago_s": round(now - found.at, 1)}
            for name, found in self.failures.items()
            if now - found.at < SHOWN_S
        ]

    def handle(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """For `loop.set_exception_handler`: what timers and callbacks raise is a failure, too."""
        error = context.get("exception")
        self.failed("a callback", error if error is not None else RuntimeError(str(context.get("message", ""))))

    async def _keep(
        self, name: str, run: Callable[[], Coroutine[Any, Any, None]], is_vital: bool, may_end: bool
    ) -> None:
        loop = asyncio.get_running_loop()
        in_a_row = 0
        while True:
            began_at = loop.time()
            # A task of its own: a cancellation that nobody asked for (a library drops a future) ends that one only.
            inner = loop.create_task(run(), name=name)
            try:
                await asyncio.wait({inner})
            except asyncio.CancelledError:
                await _end(inner)
                raise
            error = asyncio.CancelledError() if inner.cancelled() else inner.exception()
            if error is None and may_end:
                return
            in_a_row = 1 if loop.time() - began_at > SETTLED_S else in_a_row + 1
            self.failed(name, error, is_vital=is_vital, in_a_row=in_a_row)
            await asyncio.sleep(min(FIRST_BACKOFF_S * 2 ** (in_a_row - 1), MAX_BACKOFF_S))

    def _ended(self, name: str, task: asyncio.Task[None]) -> None:
        if self.kept.get(name) is task:
            del self.kept[name]
        if not task.cancelled() and (error := task.exception()) is not None:
            self.failed(name, error, is_vital=True, in_a_row=STUCK_AFTER)  # a defect of this file

    def _ended_once(self, task: asyncio.Task[None]) -> None:
        self._once.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.failed(task.get_name(), error)


async def _end(inner: asyncio.Task[None]) -> None:
    """Cancel until it has ended: a library may swallow one cancellation (nats/task_end.py)."""
    while not inner.done():
        inner.cancel()
        try:
            await asyncio.wait({inner}, timeout=AGAIN_S)
        except asyncio.CancelledError:  # our own, once more
            continue
    if not inner.cancelled():
        inner.exception()  # it was to end; what it says in doing so is not asked for
