"""Frames as they pass: counted, shown to whoever looks on, dropped with a reason, rejected seldom."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from petiole import frame as frames
from petiole import wire
from petiole.frame import Split

from .device import Device
from .ports import Place
from .tap import TYPES, Seen, Tap

# PROTOCOL.md, section 6: enough for a site whose gateway was replaced, too little to be an amplifier.
REJECTS = 4
REJECTS_MS = 1_000


class Traffic:
    """All frames of all links. `clock` in ms that never goes back, `wall` in ms since 1970."""

    def __init__(self, clock: Callable[[], int], wall: Callable[[], int]) -> None:
        self.tap = Tap(wall)
        self.frames_total = {"up": 0, "down": 0}
        self.links: dict[str, dict[str, int]] = {}  # name → frames each way, and those without effect
        self.dropped: dict[str, int] = {}
        self.types_total: dict[tuple[str, str], int] = {}  # (up or down, type of the frame)
        self.joins_total = 0  # sessions that became current
        self._clock = clock
        self._rejected_at: dict[str, deque[int]] = {}

    def heard(self, place: Place, frame: bytes) -> None:
        """A frame has come."""
        self.frames_total["up"] += 1
        self._count_type("up", frame)
        self._counters(place)["up"] += 1

    def _counters(self, place: Place) -> dict[str, int]:
        # A site has as many links as settings name, so this stays small.
        return self.links.setdefault(place.link.name, {"up": 0, "down": 0, "dropped": 0})

    def _count_type(self, direction: str, frame: bytes) -> None:
        key = (direction, TYPES.get(frame[0] & wire.TYPE_MASK, "unknown") if frame else "unknown")
        self.types_total[key] = self.types_total.get(key, 0) + 1

    def drop(
        self, place: Place, frame: bytes, reason: str, device: Device | None = None, seen: Seen | None = None
    ) -> None:
        """A frame has no effect, for this reason. `device`: whose it certainly is; `seen`: what is inside."""
        self._counters(place)["dropped"] += 1
        self.dropped[reason] = self.dropped.get(reason, 0) + 1
        if device is not None:
            device.count_drop(reason)
        self.tap.frame(place.link.name, True, frame, device, seen, reason)

    def send(self, place: Place, frame: bytes, device: Device | None = None, seen: Seen | None = None) -> None:
        """Send a frame to a place. `seen`: what is inside."""
        self.frames_total["down"] += 1
        self._count_type("down", frame)
        self._counters(place)["down"] += 1
        self.tap.frame(place.link.name, False, frame, device, seen, None)
        place.send(frame)

    def reject(self, place: Place, part: Split, reason: int) -> None:
        """Send a REJECT, unless the link has had enough of them."""
        now = self._clock()
        recent = self._rejected_at.setdefault(place.link.name, deque(maxlen=REJECTS))
        if len(recent) == REJECTS and now - recent[0] < REJECTS_MS:
            return
        recent.append(now)
        self.send(place, frames.reject(part, reason))
