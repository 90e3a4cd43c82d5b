"""Whether devices are there: online, asleep, overdue or offline, told when it changes.

Judged from authentic frames and from what each node announced, never from links. A device that sleeps and wakes as it
said stays `asleep`: a wake of a second is no change that anybody has to hear of.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from petiole import wire

ONLINE = "online"
ASLEEP = "asleep"
OVERDUE = "overdue"
OFFLINE = "offline"

# A node that stays awake says something every KEEPALIVE_MS. One keep-alive may be lost and its repetition late.
ONLINE_MS = 2 * wire.KEEPALIVE_MS + wire.TIMEOUT_MAX_MS
# It missed its promise then; after three in a row there is little hope.
MISSED = 3
# Boards keep time to some percent, boot, find their network, and may have to send their first frame twice.
GRACE_PART = 10  # a tenth of the period
GRACE_MIN_MS = 5_000
# A device that sleeps is online only when it has stayed awake longer than a wake takes, retransmissions included, or
# was asked to.
WAKE_MS = 20_000


@dataclass(slots=True)
class Presence:
    """What was heard of one device. Times in ms of the hub's clock; `sleep_ms` 0: for an unknown time."""

    heard_at: int | None = None
    awake_since: int | None = None
    awake_until: int = 0  # as it was asked in its session, and has heard (AWAKE)
    asleep_since: int | None = None
    sleep_ms: int = 0
    state: str = OFFLINE  # as last told
    since: int = 0  # when it became so
    looks_at: int | None = None  # when time alone may change it
    told_at: int | None = None

    def heard(self, now: int) -> None:
        """An authentic frame has come."""
        if self.asleep_since is not None or self.awake_since is None:
            self.awake_since = now
        self.heard_at = now
        self.asleep_since = None

    def sleeps(self, now: int, sleep_ms: int) -> None:
        """The device has said that it sleeps, or has been answered and sleeps as its manifest says."""
        self.asleep_since = now
        self.sleep_ms = sleep_ms
        self.awake_since = None

    @property
    def next_wake(self) -> int | None:
        """When a device that sleeps should be heard again, if it said so."""
        if self.asleep_since is None or not self.sleep_ms:
            return None
        return self.asleep_since + self.sleep_ms

    def kept(self) -> dict[str, Any]:
        """What a next run of the gateway goes on with; `rest_ms` from the last frame to the next wake."""
        wake = self.next_wake
        rest_ms = 0 if wake is None or self.heard_at is None else wake - self.heard_at
        return {"state": self.state, "sleep_ms": self.sleep_ms, "rest_ms": rest_ms}

    def judge(self, now: int) -> tuple[str, int | None]:
        """The state at `now`, and when time alone changes it."""
        if self.heard_at is None:
            return OFFLINE, None
        if self.asleep_since is None:
            return self._judge_awake(self.heard_at, now)
        wake = self.next_wake
        if wake is None:
            return ASLEEP, None
        grace = max(self.sleep_ms // GRACE_PART, GRACE_MIN_MS)
        if now <= wake + grace:
            return ASLEEP, wake + grace + 1
        gone = wake + (MISSED - 1) * self.sleep_ms + grace
        return (OVERDUE, gone + 1) if now <= gone else (OFFLINE, None)

    def _judge_awake(self, heard_at: int, now: int) -> tuple[str, int | None]:
        if now > heard_at + ONLINE_MS:
            return OFFLINE, None
        was_asleep = self.state == ASLEEP and now >= self.awake_until
        if was_asleep and self.awake_since is not None and now < self.awake_since + WAKE_MS:
            return ASLEEP, self.awake_since + WAKE_MS
        return ONLINE, heard_at + ONLINE_MS + 1


class Availability:
    """All devices. `changed(device, old, presence)` is called when a state is another one than before.

    `look` after every event of a device; `expire` at `deadline`, which is O(log n) per device that is due.
    """

    def __init__(self, changed: Callable[[str, str, Presence], None]) -> None:
        self._changed = changed
        self._due: list[tuple[int, int, str, Presence]] = []
        self._count = 0

    def look(self, device: str, presence: Presence, now: int) -> None:
        """Judge one device anew."""
        state, again = presence.judge(now)
        if again is not None and (presence.looks_at is None or again < presence.looks_at):
            # A later moment is found when the earlier one comes: a busy device costs no entry per frame.
            presence.looks_at = again
            self._count += 1
            heapq.heappush(self._due, (again, self._count, device, presence))
        if state != presence.state:
            old, presence.state, presence.since = presence.state, state, now
            self._changed(device, old, presence)

    @property
    def deadline(self) -> int | None:
        """When `expire` is to be called."""
        return self._due[0][0] if self._due else None

    def expire(self, now: int) -> None:
        """Judge every device for which time has run down."""
        while self._due and self._due[0][0] <= now:
            at, _, device, presence = heapq.heappop(self._due)
            if presence.looks_at == at:  # else an earlier look has taken its place
                presence.looks_at = None
                self.look(device, presence, now)
