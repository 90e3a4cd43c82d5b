"""Confirmed readings of one device: in order, once, and acknowledged when durable. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from petiole import wire

from .ports import Busy

if TYPE_CHECKING:
    from collections.abc import Callable

    from petiole.gateway_session import GatewaySession
    from petiole.incoming import Incoming

# Frames that wait for their readings. A node has 8 in flight; given-up ones whose readings came again may wait as well.
MAX_WAITING = 64
# Readings that wait for their turn. A node has 127 on the wire; what it sent before it gave up others may wait as well,
# while the store is busy or the manifest is not here. What is beyond comes again.
MAX_HELD = 2 * wire.MAX_SEQUENCES_AHEAD
# Readings that the store has had for so long are repeated by their node, which hears nothing. It repeats after 250, 750
# and 1750 ms at the earliest and takes the gateway for lost at 3750: two of these it is told. An SD card takes 500 ms.
STALLED_MS = 500
# Then it asks again so often, one frame each time.
STALLED_RETRY_MS = 1000


@dataclass(frozen=True, slots=True)
class Taken:
    """A reading ready for the stream."""

    channel: str
    payload: bytes


@dataclass(slots=True)
class _Waiting:
    sequence: int  # the highest in the frame
    session: GatewaySession
    incoming: Incoming


class DeviceUplinks:
    """Order of one device. `taken`: the highest number submitted, everything below it too. `durable`: on disk."""

    def __init__(self, submit: Callable[[int, Taken], None]) -> None:
        self.is_known = False  # whether `taken` was read from the store
        self.is_open = False  # whether the manifest is known: names are part of what is stored
        self.taken = 0
        self.durable = 0
        self.dropped_by_node = 0  # in the life of its outbox, as last told
        self.busy_until: int | None = None  # the store is not asked before; then by whoever owns this
        self._submit = submit
        self._unmoved_since: int | None = None  # the store has readings, and none has become durable since
        self._floor = 0  # no number below it will come that is not here
        self._held: dict[int, Callable[[], Taken]] = {}  # ahead of a gap, or before the manifest came
        self._waiting: list[_Waiting] = []

    def learn(self, sequence: int) -> None:
        """The store has everything up to `sequence`."""
        self.is_known = True
        self.busy_until = None
        self.durable = max(self.durable, sequence)
        self.taken = max(self.taken, sequence)
        self._held = {number: held for number, held in self._held.items() if number > self.taken}

    def offer(self, sequence: int, build: Callable[[], Taken]) -> str:
        """A reading has come; `build` makes what is stored, when its turn comes. Returns a drop reason or ""."""
        if sequence <= self.taken or sequence in self._held:
            return ""
        is_far = sequence - max(self.taken, self._floor - 1) > wire.MAX_SEQUENCES_AHEAD
        if is_far or len(self._held) >= MAX_HELD:
            return "sequence_range"
        self._held[sequence] = build
        return ""

    def begin_outbox(self) -> None:
        """The node has an outbox that remembers nothing: what it throws away is counted from 0."""
        self.dropped_by_node = 0

    def close_gap(self, floor: int, dropped: int) -> None:
        """The node says that no number below `floor` will come any more."""
        self.dropped_by_node = max(self.dropped_by_node, dropped)
        self._floor = max(self._floor, floor)

    def flush(self, now: int) -> None:
        """Submit all that is in order. What the store does not take now is kept; `busy_until` says how long."""
        if not self.is_open or (self.busy_until is not None and now < self.busy_until):
            return
        self.busy_until = None
        while True:
            following = self.taken + 1
            build = self._held.get(following)
            if build is not None:
                try:
                    self._submit(following, build())
                except Busy as busy:
                    self.busy_until = now + max(1, int(1000 * busy.retry_after_s))
                    return
                del self._held[following]
                self.taken = following
                if self._unmoved_since is None:
                    self._unmoved_since = now
            elif following < self._floor:
                self.taken = min((n for n in self._held if n < self._floor), default=self._floor) - 1
            else:
                return

    def wait(self, session: GatewaySession, incoming: Incoming, sequence: int) -> None:
        """The frame is to be acknowledged when `sequence` is durable. Of too many, the oldest are forgotten: the node
        sends their readings again."""
        self._waiting.append(_Waiting(sequence, session, incoming))
        del self._waiting[:-MAX_WAITING]

    def is_waiting(self, session: GatewaySession) -> bool:
        """Whether frames of the session wait to be acknowledged."""
        return any(entry.session is session for entry in self._waiting)

    def became_durable(self, sequence: int, now: int) -> None:
        self.durable = max(self.durable, sequence)
        self._unmoved_since = now if self.durable < self.taken else None

    def busy_ms(self, sequence: int, now: int) -> int:
        """How long the node should send no readings, as it has sent `sequence`; 0 if it need not wait. It is heard, and
        has to know that also while there is nothing to acknowledge."""
        if sequence > self.taken:
            return max(1, self.busy_until - now) if self.busy_until is not None else 0
        is_stalled = self._unmoved_since is not None and now - self._unmoved_since >= STALLED_MS
        return STALLED_RETRY_MS if sequence > self.durable and is_stalled else 0

    def acknowledge(self, now: int) -> bool:
        """Acknowledge the frames whose readings are all durable. True if there were any."""
        ready = [entry for entry in self._waiting if entry.sequence <= self.durable]
        if ready:
            self._waiting = [entry for entry in self._waiting if entry.sequence > self.durable]
            for entry in ready:
                entry.session.acknowledge(entry.incoming, now)
        return bool(ready)

    def forget_session(self, session: GatewaySession) -> None:
        """The session has ended; what it sent is still stored, but not acknowledged."""
        self._waiting = [entry for entry in self._waiting if entry.session is not session]
