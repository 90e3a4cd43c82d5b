"""Ends items at their deadlines."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from ..hub.mailbox import Mailbox
from ..hub.mailbox_item import Change

# A clock that is set, or a machine that slept, is noticed within this.
MAX_WAIT_S = 30.0


class DeadlineTimer:
    """`arm` whenever a deadline may be new. `wall` in ms since 1970."""

    def __init__(self, mailbox: Mailbox, wall: Callable[[], int], apply: Callable[[Sequence[Change]], None]) -> None:
        self._mailbox = mailbox
        self._wall = wall
        self._apply = apply
        self._handle: asyncio.TimerHandle | None = None
        self._due_at = 0  # ms since 1970, of the handle

    def arm(self) -> None:
        """Wake up at the next deadline."""
        deadline = self._mailbox.next_deadline
        if deadline is None:
            self.stop()
            return
        if self._handle is not None and self._due_at <= deadline:
            return  # it looks again when it fires
        self.stop()
        delay_s = min(max(deadline - self._wall(), 0) / 1000, MAX_WAIT_S)
        self._due_at = deadline
        self._handle = asyncio.get_running_loop().call_later(delay_s, self._fire)

    def stop(self) -> None:
        """Wake up no more."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _fire(self) -> None:
        self._handle = None
        try:
            self._apply(self._mailbox.expire(self._wall()))
        finally:
            self.arm()  # whatever became of these, the others have deadlines, too
