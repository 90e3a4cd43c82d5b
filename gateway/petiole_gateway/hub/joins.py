"""The gateway's side of joins: who may, what they get, and how often (PROTOCOL.md, section 6)."""

from __future__ import annotations

import secrets
from collections import deque
from typing import TYPE_CHECKING

from petiole import join, wire
from petiole.session import Session

from ..aead import AesCcm
from .device import Device, DeviceSession
from .ports import Busy, CommandError, Logger, Place, Uplinks
from .roster import Roster
from .traffic import Traffic

if TYPE_CHECKING:
    from collections.abc import Callable

    from petiole.frame import Split

# PROTOCOL.md, section 14: 4 in 10 s let a node with a bad supply start over and over; 50 in a second are the power cut
# of a whole site.
DEVICE_JOINS_MS = 10_000
LINK_JOINS = 50
LINK_JOINS_MS = 1_000
# Lives of a node without a memory of its numbers that may have passed without a trace here: a power cut takes what the
# disk had not got within a second or so, and joins are limited to the four above.
FORGOTTEN_LIVES = 8


class JoinDesk:
    """Answers join requests with accepts. `clock` in ms that never goes back, `wall` in ms since 1970; `begun(device)`
    is called when a provisional session has begun."""

    def __init__(
        self,
        roster: Roster,
        uplinks: Uplinks,
        traffic: Traffic,
        logger: Logger,
        clock: Callable[[], int],
        wall: Callable[[], int],
        is_clock_doubtful: Callable[[], bool],
        begun: Callable[[Device], None],
    ) -> None:
        self._roster = roster
        self._traffic = traffic
        self._begun = begun
        self._uplinks = uplinks
        self._logger = logger
        self._clock = clock
        self._wall = wall
        self._is_clock_doubtful = is_clock_doubtful
        self._recent: dict[str, deque[int]] = {}
        self._last_time = 0
        self._answering: set[bytes] = set()

    async def receive(self, place: Place, part: Split, frame: bytes) -> None:
        """Answer a JOIN_REQUEST, or drop it."""
        now = self._clock()
        if part.header & 7 != wire.VERSION:
            self._traffic.reject(place, part, wire.REJECT_VERSION)
            self._traffic.drop(place, frame, "version")
            return
        recent = self._recent.setdefault(place.link.name, deque(maxlen=LINK_JOINS))
        if len(recent) == LINK_JOINS and now - recent[0] < LINK_JOINS_MS:
            self._traffic.drop(place, frame, "join_rate")
            return
        recent.append(now)
        device, request = self._open(frame)
        if device is None or request is None:
            self._traffic.reject(place, part, wire.REJECT_JOIN)
            self._traffic.drop(place, frame, "tag" if self._roster.with_id(frame[1:4]) else "unknown_device")
            return
        known = next((s for s in device.provisional if s.request == frame), None)
        if known is None and frame not in self._answering:
            if len(device.joins) == device.joins.maxlen and now - device.joins[0] < DEVICE_JOINS_MS:
                self._traffic.drop(place, frame, "join_rate", device)
                return
            device.joins.append(now)
        self._traffic.tap.frame(place.link.name, True, frame, device, None, None)
        if known is not None:
            self._traffic.send(place, known.accept, device)
        elif frame not in self._answering:  # else the answer to the first copy is on its way
            self._answering.add(frame)
            try:
                await self._answer(place, part, device, request)
            finally:
                self._answering.discard(frame)

    def _open(self, frame: bytes) -> tuple[Device | None, join.JoinRequest | None]:
        for device in self._roster.with_id(frame[1:4]):
            request = join.open_request(AesCcm, device.key, frame)
            if request is not None:
                return device, request
        return None, None

    async def _answer(self, place: Place, part: Split, device: Device, request: join.JoinRequest) -> None:
        try:
            device.uplinks.learn(await self._uplinks.last_sequence(device.name))
            if self._roster.devices.get(device.name) is not device:
                return  # removed meanwhile
            address = self._roster.free_address()
        except (Busy, CommandError) as error:
            self._logger.warning("join_postponed", device=device.name, reason=str(error))
            self._traffic.reject(place, part, wire.REJECT_LATER)
            return
        sequence = device.uplinks.durable
        if request.wants_full_sequence:
            # Numbers of an earlier life of the node may be on the way or held; its session still opens them.
            sequence = device.uplinks.taken
            if device.current is not None or device.provisional:
                sequence = max(sequence, device.told_sequence) + wire.MAX_SEQUENCES_AHEAD
            elif sequence or self._roster.has_lost_sessions:
                # The hub upstream may have numbers that a power cut took from the store here; it would take new
                # readings under them for repetitions.
                sequence += FORGOTTEN_LIVES * wire.MAX_SEQUENCES_AHEAD
            device.told_sequence = sequence
        nonce = self._next_time().to_bytes(6, "big") + secrets.token_bytes(1)
        accept, keys = join.accept(AesCcm, device.key, request, address, sequence, nonce, self._is_clock_doubtful())
        now = self._clock()
        session = DeviceSession(
            device,
            Session(keys, address, wire.WINDOW_DOWNLINK, now, defers_readings=True),
            request.frame,
            nonce,
            place,
            now,
            boot=request.boot,
            reset_reason=request.reset_reason,
            manifest_hash=request.manifest_hash,
            accept=accept,
        )
        self._roster.begin(session)
        self._traffic.send(place, accept, device)
        self._begun(device)

    def _next_time(self) -> int:
        """Strictly increasing, whatever the clock does, above what is stored from an earlier run too: it is part of
        what makes session keys unique."""
        self._last_time = max(self._last_time + 1, self._roster.last_accept_time + 1, self._wall())
        return self._last_time

    def expire(self, device: Device) -> None:
        """End provisional sessions that were never confirmed."""
        now = self._clock()
        for session in list(device.provisional):
            if now - session.created_at >= wire.PROVISIONAL_MS:
                self._roster.end(session)
