"""Uplinks of one device on their way into the stream. Values only: no connection, no clock."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from .subjects import SEQUENCE_HEADER


class Uplink(NamedTuple):
    """One confirmed reading. `sequence` is the node's, from 1 up, and never used twice by a device."""

    device: str
    sequence: int
    subject: str
    payload: bytes

    @property
    def headers(self) -> dict[str, str]:
        """The message id makes a repetition recognisable for minutes, the sequence number for ever."""
        return {
            "Nats-Msg-Id": f"{self.device}-{self.sequence}",
            SEQUENCE_HEADER: str(self.sequence),
        }

    @property
    def stored_size(self) -> int:
        """Upper bound of the bytes it takes in the stream: record head and checksum (30), the two headers with
        32 characters of device and 2 numbers of up to 20 digits (126), rounded up."""
        return 192 + len(self.subject) + len(self.payload)


@dataclass(slots=True, eq=False)
class Lane:
    """Order of one device.

    At most one message of a lane is in flight: so whatever the server refuses, loses or answers late, a later
    message of the same device can never be stored before an earlier one. Speed comes from many lanes.
    """

    device: str
    submitted: int = 0  # highest sequence taken from the caller
    stored: int = 0  # highest known to be in the stream
    durable: int = 0  # highest known to be on disk
    stored_at: int = 0  # stream sequence of the newest stored message, 0 if unknown
    is_known: bool = False  # `stored` was read from the stream and nothing has made it doubtful since
    in_flight: bool = False
    is_ready: bool = False  # stands in the store's queue of lanes that may send
    resolved: int = 0  # `stored` as of the last reading from the stream
    waiting: deque[Uplink] = field(default_factory=deque)  # not known to be stored; the head may be in flight
    unsynced: deque[Uplink] = field(default_factory=deque)  # stored, not yet durable
    readers: list[asyncio.Future[int]] = field(default_factory=list)  # callers of last_sequence()

    def resolve(self, stored: int, stored_at: int) -> None:
        """The stream's newest message of this device is `stored`: keep, re-send or call stored accordingly."""
        while self.unsynced and self.unsynced[-1].sequence > stored:  # the leaf's store lost it
            self.waiting.appendleft(self.unsynced.pop())
        while self.waiting and self.waiting[0].sequence <= stored:
            self.unsynced.append(self.waiting.popleft())
        self.stored = self.resolved = stored
        self.stored_at = stored_at
        self.submitted = max(self.submitted, stored)
        self.is_known = True

    def acknowledge(self, stored_at: int) -> Uplink:
        """The head of `waiting` is stored; returns it."""
        uplink = self.waiting.popleft()
        self.unsynced.append(uplink)
        self.stored = uplink.sequence
        self.stored_at = max(self.stored_at, stored_at)
        return uplink

    def sync(self, sequence: int) -> list[Uplink]:
        """All that is stored up to `sequence` is on disk; returns what became durable by that, in order."""
        done: list[Uplink] = []
        limit = min(sequence, self.stored)
        while self.unsynced and self.unsynced[0].sequence <= limit:
            done.append(self.unsynced.popleft())
        self.durable = max(self.durable, limit)
        return done

    @property
    def is_idle(self) -> bool:
        """Nothing of this lane is on its way."""
        return not (self.waiting or self.unsynced or self.in_flight)
