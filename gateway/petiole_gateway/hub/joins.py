"""The gateway's side of joins: who may, what they get, and how often (PROTOCOL.md, section 6)."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from petiole import join, wire
from petiole.gateway_session import GatewaySession

from ..aead import AesCcm
from .allowance import Allowance
from .device import Device, DeviceSession
from .ports import Busy, CommandError, Logger, Place, Uplinks
from .roster import Roster
from .tasks import Tasks
from .traffic import Traffic

if TYPE_CHECKING:
    from collections.abc import Callable

    from petiole.frame import Split

# 4 in 10 s let a node with a bad supply start over and over.
DEVICE_JOINS_MS = 10_000
# After a power cut every device joins, all in the same second: each has one join saved up, and they are answered as
# fast as the machine can. In the long run a link gets so many: what recorded requests, sent again and again, may cost
# is a tenth of a Pi's core (some 2 ms each, with what is stored).
LINK_JOINS_PER_S = 50
# To look into a request costs 60 µs here, four times that on a Pi: forged ones get an eighth of a core.
LINK_OPENS_PER_S = 500
LEAST_SAVED = 50
COPIES = wire.JOIN_TRIES + 1  # of a request whose accept is lost, and the first of the next one
# Answered at the same time: enough for the store, which reads on while one answer is on its way. More wait here for
# their turn, so a storm goes as fast as the event loop and no faster.
AT_ONCE = 32
MAX_WAITING = 4096
# Whoever has heard nothing so long after the last copy of a request does not wait for its answer any more.
STALE_MS = wire.JOIN_RETRY_MS << wire.JOIN_TRIES - 1
# Lives of a node without a memory of its numbers that may have passed without a trace here: a power cut takes what the
# disk had not got within a second or so, and joins are limited to the four above.
FORGOTTEN_LIVES = 8
# The time of an accept is above all earlier ones; by more than this it is not our clock's. As far as a node takes an
# accept for one of a moment (PROTOCOL.md, section 12).
_AHEAD_MS = wire.TIMEOUT_MIN_MS


@dataclass(slots=True)
class _Waiting:
    place: Place
    part: Split
    device: Device
    request: join.JoinRequest
    heard_at: int


class JoinDesk:
    """Answers join requests with accepts. `clock` in ms that never goes back, `wall` in ms since 1970; `begun(device)`
    is called when a provisional session has begun."""

    def __init__(
        self,
        roster: Roster,
        uplinks: Uplinks,
        traffic: Traffic,
        tasks: Tasks,
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
        self._tasks = tasks
        self._opens: dict[str, Allowance] = {}  # by link, of which there are as many as settings name
        self._joins: dict[str, Allowance] = {}
        self._last_time = 0
        self._answering: set[bytes] = set()
        self._waiting: dict[bytes, _Waiting] = {}  # by frame; the one that came first is first

    def receive(self, place: Place, part: Split, frame: bytes) -> None:
        """Answer a JOIN_REQUEST, at once or in its turn, or drop it."""
        now = self._clock()
        if part.header & 7 != wire.VERSION:
            self._traffic.reject(place, part, wire.REJECT_VERSION)
            self._traffic.drop(place, frame, "version")
            return
        if not self._roster.with_id(frame[1:4]):  # not worth a limit
            self._traffic.reject(place, part, wire.REJECT_JOIN)
            self._traffic.drop(place, frame, "unknown_device")
            return
        if frame in self._waiting:
            self._waiting[frame].place, self._waiting[frame].heard_at = place, now
            return
        if frame in self._answering:
            return  # the answer to the first copy is on its way
        if not self._may(self._opens, LINK_OPENS_PER_S, COPIES, place, now):
            self._traffic.drop(place, frame, "join_rate")
            return
        device, request = self._open(frame)
        if device is None or request is None:
            self._traffic.reject(place, part, wire.REJECT_JOIN)
            self._traffic.drop(place, frame, "tag")
            return
        known = next((s for s in device.provisional if s.request == frame), None)
        if known is None:
            if len(device.joins) == device.joins.maxlen and now - device.joins[0] < DEVICE_JOINS_MS:
                self._traffic.drop(place, frame, "join_rate", device)
                return
            is_full = len(self._waiting) >= MAX_WAITING
            if is_full or not self._may(self._joins, LINK_JOINS_PER_S, 1, place, now):
                self._traffic.drop(place, frame, "join_rate", device)
                return
            device.joins.append(now)
        self._traffic.tap.frame(place.link.name, True, frame, device, None, None)
        if known is not None:
            self._traffic.send(place, known.accept, device)
        else:
            self._waiting[frame] = _Waiting(place, part, device, request, now)
            self._go_on()

    def _may(self, allowances: dict[str, Allowance], per_s: int, saved: int, place: Place, now: int) -> bool:
        """Each device has so many saved up."""
        most = max(LEAST_SAVED, saved * len(self._roster.devices))
        return allowances.setdefault(place.link.name, Allowance(per_s, most, now)).take(now, most)

    def _go_on(self) -> None:
        """Answer those whose turn it is."""
        while self._waiting and len(self._answering) < AT_ONCE:
            frame = next(iter(self._waiting))
            waiting = self._waiting.pop(frame)
            if self._clock() - waiting.heard_at >= STALE_MS:
                self._traffic.drop(waiting.place, frame, "join_rate", waiting.device)
                self._joins[waiting.place.link.name].give_back()
                continue
            self._answering.add(frame)
            if self._tasks.spawn(self._take_turn(frame, waiting)) is None:
                return

    async def _take_turn(self, frame: bytes, waiting: _Waiting) -> None:
        try:
            await self._answer(waiting.place, waiting.part, waiting.device, waiting.request)
        finally:
            self._answering.discard(frame)
            self._go_on()

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
            device.told_sequence = sequence = max(sequence, device.sequence_floor)
        time = self._next_time()
        # Set back, our clock is behind the time of the last accept: such a time is no time, and the node asks for one.
        is_doubtful = self._is_clock_doubtful() or time - self._wall() > _AHEAD_MS
        nonce = time.to_bytes(6, "big") + secrets.token_bytes(1)
        accept, keys = join.accept(AesCcm, device.key, request, address, sequence, nonce, is_doubtful)
        now = self._clock()
        session = DeviceSession(
            device,
            GatewaySession(keys, address, wire.WINDOW_DOWNLINK, now),
            request.frame,
            nonce,
            place,
            now,
            boot=request.boot,
            reset_reason=request.reset_reason,
            manifest_hash=request.manifest_hash,
            accept=accept,
            is_new_outbox=request.wants_full_sequence,
            is_time_doubtful=is_doubtful,
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
