"""An event loop whose clock jumps to the next timer, and yet does real I/O: a day in seconds, against real servers.

Time stands still while the loop computes. It jumps when nothing is left to do now, but never past the moment at which
an answer of the world outside (a server, a thread) is due: whoever asks says so with `expect`, and the answer takes
effect exactly at its due time, however fast or slow the world was. So the order of events depends on the seed and on
what is answered, not on when. Before its due time an answer waits; after it the clock does.

While `is_real` the loop is an ordinary one: for start and stop, and for whatever is not announced by `expect`.
"""

from __future__ import annotations

import asyncio
import heapq
import selectors
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Any, TypeVar, TypeVarTuple

Result = TypeVar("Result")
Arguments = TypeVarTuple("Arguments")

# A server that has not answered by then was killed, or has nothing to say; virtual timeouts may run again.
PATIENCE_S = 5.0
# A barrier of a good SD card; an executor's work takes that long.
DISK_S = 0.02
# The loop looks outside when it has nothing to do, or after so many turns: whoever spins must not be deaf to Ctrl-C.
TURNS = 1000
_STARTED_AT = 1000.0  # no special value of a clock
BEGIN_AT = 10_000.0


class Expected:
    """An answer that takes effect at `due`. `patience_s`: for how long (real) it may hold up the clock."""

    __slots__ = ("due", "effects", "is_settled", "number", "patience_s")

    def __init__(self, due: float, number: int, patience_s: float) -> None:
        self.due = due
        self.number = number
        self.patience_s = patience_s
        self.effects: list[Callable[[], None]] = []
        self.is_settled = False

    def __lt__(self, other: Expected) -> bool:
        return (self.due, self.number) < (other.due, other.number)


class _Selector(selectors.DefaultSelector):
    """Asks the loop how to wait."""

    def __init__(self) -> None:
        super().__init__()
        self.wait: Callable[[float | None], Any] = super().select

    def select(self, timeout: float | None = None) -> Any:
        return self.wait(timeout)

    def look(self, timeout: float | None) -> Any:
        return super().select(timeout)


class VirtualLoop(asyncio.SelectorEventLoop):
    """Starts in real time. `waited_s` is the real time for which the clock stood still for an answer."""

    def __init__(self) -> None:
        self._selection = _Selector()
        self._now = _STARTED_AT
        self._real_since: float | None = time.monotonic()
        self._expected: list[Expected] = []
        self._number = 0
        self._held_since: float | None = None
        self._settling: asyncio.TimerHandle | None = None
        self._turns = 0
        self.jumps_total = 0
        self.forgotten_total = 0  # answers that never came
        self.waited_s = 0.0
        super().__init__(self._selection)
        self._selection.wait = self._wait

    # Time --------------------------------------------------------------------------------------------------

    def time(self) -> float:
        if self._real_since is None:
            return self._now
        return self._now + time.monotonic() - self._real_since

    @property
    def is_real(self) -> bool:
        """Time passes as it does outside."""
        return self._real_since is not None

    def set_real(self, is_real: bool) -> None:
        """Let time pass as it does outside, or jump. What is expected takes effect at once when it becomes real."""
        self._now = self.time()
        self._real_since = time.monotonic() if is_real else None
        self._held_since = None
        if is_real:
            for expected in self._expected:
                expected.due = min(expected.due, self._now)
            heapq.heapify(self._expected)
            self._settle()

    def begin(self) -> None:
        """Let time jump from here on, from the same moment in every run, whatever went before in real time."""
        self.set_real(False)
        assert self._now < BEGIN_AT, "hours of real time before"
        self._now = BEGIN_AT

    @contextmanager
    def real(self) -> Iterator[None]:
        """Real time inside of the block."""
        before = self.is_real
        self.set_real(True)
        try:
            yield
        finally:
            self.set_real(before)

    async def shutdown_default_executor(self, *timeout_s: float | None) -> None:
        """Threads end in real time: the patience of Python 3.12 and newer would be over in a jump."""
        self.set_real(True)
        await super().shutdown_default_executor(*timeout_s)

    # The world outside -------------------------------------------------------------------------------------

    def expect(self, delay_s: float, patience_s: float = PATIENCE_S) -> Expected:
        """Somebody outside was asked; the answer, given to `answer`, takes effect in `delay_s`."""
        self._number += 1
        expected = Expected(self.time() + (0.0 if self.is_real else delay_s), self._number, patience_s)
        heapq.heappush(self._expected, expected)
        self._arm()
        return expected

    def answer(self, expected: Expected, effect: Callable[[], None]) -> None:
        """The answer has come. A second one of the same question joins the first, or takes effect at once."""
        if expected.is_settled:
            effect()
            return
        expected.effects.append(effect)
        if self._expected and self._expected[0].due <= self.time():
            self._settle()

    def forget(self, expected: Expected) -> None:
        """No answer will come."""
        if not expected.is_settled:
            self.answer(expected, lambda: None)

    def _settle(self) -> None:
        """In the order in which they are due: an answer that is late holds up those after it."""
        now = self.time()
        while self._expected and self._expected[0].due <= now and self._expected[0].effects:
            expected = heapq.heappop(self._expected)
            expected.is_settled = True
            self._held_since = None
            for effect in expected.effects:
                effect()
            expected.effects.clear()
        self._arm()

    def _arm(self) -> None:
        if self._settling is not None:
            self._settling.cancel()
            self._settling = None
        if self._expected and self._expected[0].due > self.time():
            self._settling = self.call_at(self._expected[0].due, self._settle)

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Arguments], Result], *args: *Arguments
    ) -> asyncio.Future[Result]:
        """Work of a thread takes `DISK_S`."""
        outside = super().run_in_executor(executor, func, *args)
        if self.is_real:
            return outside
        inside: asyncio.Future[Result] = self.create_future()
        expected = self.expect(DISK_S, float("inf"))

        def copy() -> None:
            if inside.done():
                return
            error = outside.exception()
            if error is None:
                inside.set_result(outside.result())
            else:
                inside.set_exception(error)

        outside.add_done_callback(lambda _: self.answer(expected, copy))
        return inside

    # Waiting -----------------------------------------------------------------------------------------------

    def _wait(self, timeout: float | None) -> Any:
        if self._real_since is not None:
            return self._selection.look(timeout)
        if timeout is not None and timeout <= 0:
            # What is to be done now is done first: what comes from outside takes effect later anyway.
            self._turns = (self._turns + 1) % TURNS
            return () if self._turns else self._selection.look(0)
        head = self._expected[0] if self._expected else None
        if head is not None and head.due <= self._now:
            return self._hold(head)
        if timeout is None:
            return self._selection.look(None)  # only the world outside can do something, a signal for instance
        events = self._selection.look(0)
        if not events:
            self.jumps_total += 1
            self._now += timeout
            if head is not None:
                self._now = min(self._now, head.due)
        return events

    def _hold(self, head: Expected) -> Any:
        """Let real time pass, and no other, until something comes."""
        started_at = time.monotonic()
        if self._held_since is None:
            self._held_since = started_at
        left_s = self._held_since + head.patience_s - started_at
        if left_s <= 0:
            self.forgotten_total += 1
            self.forget(head)
            return []
        events = self._selection.look(min(left_s, 60.0))
        self.waited_s += time.monotonic() - started_at
        return events


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """Run to the end in a loop of its own, which begins in real time. Ctrl-C cancels the work."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work)


def running() -> VirtualLoop:
    """The running loop."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop
