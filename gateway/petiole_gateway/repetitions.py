"""What is wrong for hours is said in the same words for hours: a log that repeats it fills a card and hides the rest.

A server that is away is tried four times a second, a store that fails as often. Whoever works with cables sees each
time what that did.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from structlog import DropEvent
from structlog.typing import EventDict, WrappedLogger

LEVELS = frozenset({"warning", "error", "critical"})
# Of a warning in the same words in a minute: as often as a person repeats something by hand.
FREE = 5
PERIOD_S = 60.0
# Then once in two minutes, in four, ...: 30 lines a day of what stays.
MAX_PERIOD_S = 3600.0
# Different warnings that are remembered, those of the last occurrence longest ago are forgotten: a few hundred KB.
MAX_KNOWN = 1000


@dataclass(slots=True)
class _Said:
    began_at: float
    period_s: float
    free: int  # times that it is still said in this period
    unsaid: int = 0


class Repetitions:
    """A processor of structlog: passes a warning or an error on, or drops it. One that is said after others were
    dropped has their number, as `repeated`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._said: dict[str, _Said] = {}

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        if method not in LEVELS:
            return event
        now = self._clock()
        key = repr(sorted(event.items(), key=lambda field: field[0]))
        said = self._said.pop(key, None) or _Said(now, PERIOD_S, FREE)
        self._said[key] = said
        if len(self._said) > MAX_KNOWN:
            del self._said[next(iter(self._said))]
        if now - said.began_at >= said.period_s:
            self._begin(said, now)
        if not said.free:
            said.unsaid += 1
            raise DropEvent
        said.free -= 1
        if said.unsaid:
            event["repeated"], said.unsaid = said.unsaid, 0
        return event

    @staticmethod
    def _begin(said: _Said, now: float) -> None:
        """Another period: a longer one if it went on all the time."""
        goes_on = said.unsaid > 0 and now - said.began_at < 2 * said.period_s
        said.period_s = min(2 * said.period_s, MAX_PERIOD_S) if goes_on else PERIOD_S
        said.free = 1 if goes_on else FREE
        said.began_at = now
