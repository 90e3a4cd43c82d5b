"""What nodes say, for those who ask a little later, and for those who look on."""

from __future__ import annotations

import collections
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .ports import Logger

KEPT = 1000  # lines of all nodes: some 200 kB
MAX_TEXT = 400  # of a line; a traceback's are shorter
# Of one node in the gateway's log, which lies on a card: a start with its tracebacks, and then 9,000 lines a day.
BURST = 50
REFILL_MS = 10_000
MAX_SPEAKERS = 1000  # of whom that is known; who has been silent longest is forgotten


@dataclass(slots=True)
class _Speaker:
    left: int
    refilled_at: int
    unsaid: int = 0


class NodeLog:
    """`publish` gets each line as a document while it is set; `clock` in ms.

    In the gateway's log a node that says more than it may is cut short. `unsaid` is in its next line there: how many
    are missing before it. Whoever asks or looks on gets them all.
    """

    def __init__(self, logger: Logger, clock: Callable[[], int], now: Callable[[], str]) -> None:
        self._logger = logger
        self._clock = clock
        self._now = now
        self._lines: collections.deque[dict[str, Any]] = collections.deque(maxlen=KEPT)
        self._speakers: dict[str, _Speaker] = {}
        self.publish: Callable[[dict[str, Any]], None] | None = None

    def say(self, device: str | None, text: str, level: str = "info", link: str | None = None) -> None:
        """A line: of a record, or (`link`) of a console, where the device may not be known yet."""
        fields = {"device": device, "text": text[:MAX_TEXT]} | ({"link": link} if link is not None else {})
        speaker = self._heard(device or f"link {link}")
        if speaker.left:
            speaker.left -= 1
            unsaid = {"unsaid": speaker.unsaid} if speaker.unsaid else {}
            speaker.unsaid = 0
            getattr(self._logger, level)("node_log", **fields, **unsaid)
        else:
            speaker.unsaid += 1
        line = {"at": self._now(), "level": level, **fields}
        self._lines.append(line)
        if self.publish is not None:
            self.publish(line)

    def lines(self, device: str | None) -> list[dict[str, Any]]:
        """The last ones, of one device or of all; the oldest first."""
        return [line for line in self._lines if device is None or line["device"] == device]

    def _heard(self, name: str) -> _Speaker:
        now = self._clock()
        speaker = self._speakers.pop(name, None) or _Speaker(BURST, now)
        self._speakers[name] = speaker
        if len(self._speakers) > MAX_SPEAKERS:
            del self._speakers[next(iter(self._speakers))]
        more = (now - speaker.refilled_at) // REFILL_MS
        speaker.left = min(BURST, speaker.left + more)
        speaker.refilled_at += more * REFILL_MS
        return speaker
