"""An event loop whose clock jumps to the next timer: hours of protocol in milliseconds, the same in every run."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any

# Callbacks that call each other without any time between: far more than all nodes of a test have to say at one moment.
MAX_TURNS_AT_ONCE = 50_000


class _JumpingSelector(selectors.DefaultSelector):
    """Waits for nothing; says how long it was asked to wait."""

    def __init__(self) -> None:
        super().__init__()
        self.passed_s = 0.0
        self.selects = 0
        self._selects_now = 0

    def select(self, timeout: float | None = None) -> Any:
        self.selects += 1
        if timeout is None:
            raise AssertionError("nothing will ever happen: every task waits and no timer runs")
        self._selects_now = 0 if timeout > 0 else self._selects_now + 1
        if self._selects_now > MAX_TURNS_AT_ONCE:
            raise AssertionError("something spins: the loop turns and no time passes")
        self.passed_s += max(0.0, timeout)
        return super().select(0)


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """For code that knows no time but the loop's, no threads and no sockets."""

    def __init__(self) -> None:
        self.jumps = _JumpingSelector()
        super().__init__(self.jumps)

    def time(self) -> float:
        return 1000.0 + self.jumps.passed_s


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run to the end in a loop of its own."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(coroutine)


def now_ms() -> int:
    """The running loop's clock."""
    return round(asyncio.get_running_loop().time() * 1000)


def turns() -> int:
    """How often the running loop has looked for work."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    return loop.jumps.selects
