"""What sessions have to say: sent as soon as it may be, under counters that were reserved before."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from petiole import counter as counters
from petiole import frame as frames
from petiole import wire
from petiole.frame import Split

from .device import RESERVE, RESERVE_AHEAD, Device, DeviceSession
from .listening import Listening
from .ports import Busy, Logger
from .postman import Postman
from .roster import Roster
from .tasks import Tasks
from .traffic import Traffic
from .wake_policy import WakePolicies

_MAX_COUNTER = 0xFFFFFFFF
# What a node does not acknowledge is sent again so often, doubling to 10 s apart: over 45 to 75 s. A node that is there
# has sent a keep-alive by then, so it is gone; with its next frame it starts anew.
SILENT_TIMEOUTS = 9
STORED_AT_ONCE = 64  # at the end; more requests in flight would only wait for the store


class Downlinks:
    """Sends, reserves counters, and comes back in time. `due(device)` is called when a timer of a device has run down,
    `exhausted(entry)` when a session has used up its counters."""

    def __init__(
        self,
        roster: Roster,
        traffic: Traffic,
        tasks: Tasks,
        logger: Logger,
        clock: Callable[[], int],
        due: Callable[[Device], None],
        exhausted: Callable[[DeviceSession], None],
        postman: Postman,
        listening: Listening,
        wake_policies: WakePolicies,
    ) -> None:
        self._roster = roster
        self._traffic = traffic
        self._tasks = tasks
        self._logger = logger
        self._clock = clock
        self._due = due
        self._exhausted = exhausted
        self._postman = postman
        self._listening = listening
        self._wake_policies = wake_policies
        self._is_stopped = False

    def stop(self) -> None:
        """Send nothing more and forget all timers."""
        self._is_stopped = True
        for device in self._roster.devices.values():
            self.disarm(device)

    # Sending -----------------------------------------------------------------------------------------------

    def flush(self, entry: DeviceSession) -> None:
        """Send what the session has to say now, and come back when it has more. A node that stays silent gets nothing
        more until it is heard."""
        device, session, place = entry.device, entry.session, entry.place
        if self._is_stopped or entry is not device.current:
            return
        if place is not None:
            now = self._clock()
            self._wake_policies.feed(entry, now)
            self._postman.feed(entry, now)
            while entry.may_send and session.silent_timeouts < SILENT_TIMEOUTS:
                with self._traffic.tap.watching(session) as seen:
                    frame = session.next_frame(now)
                if frame is None:
                    break
                self._traffic.send(place, frame, device, seen)
            self.reserve(entry)
            self._listening.settle(entry, now)
        if session.send_counter >= wire.COUNTER_LIMIT or session.replay.highest >= wire.COUNTER_LIMIT:
            self._exhausted(entry)
        self.arm(device)

    # Counters ----------------------------------------------------------------------------------------------

    def may_open(self, entry: DeviceSession, part: Split) -> bool:
        """Whether a DATA frame may be taken: its counter is reserved, so that it is refused after a restart, or it is
        none of this session."""
        session = entry.session
        value, bits, offset = frames.data_counter(part)
        counter = value if bits == 32 else counters.reconstruct(value, bits, session.replay.highest + 1)
        if not entry.reserved_receive or not bits or counter <= entry.reserved_receive:
            return True
        if frames.open_data(session.keys, part, counter, offset) is None:
            return True
        entry.heard_counter = max(entry.heard_counter, counter)
        self.reserve(entry)
        return False

    def reserve(self, entry: DeviceSession) -> None:
        """Store counters ahead of their use, so that a restart neither repeats one nor takes one twice."""
        session = entry.session
        heard = max(session.replay.highest, entry.heard_counter)
        is_short = (
            not entry.is_stored
            or entry.reserved_send - session.send_counter < RESERVE_AHEAD
            or entry.reserved_receive - heard < RESERVE_AHEAD
            or entry.has_unstored_place(self._clock())
        )
        if is_short and not entry.is_storing and not self._is_stopped:
            entry.is_storing = True
            self._tasks.spawn(self._store(entry))

    async def store_all(self) -> None:
        """Store all current sessions as they stand. After `stop`, when no counter is used any more: what a next run
        loads are then no bounds, but the counters themselves."""
        entries = [device.current for device in self._roster.devices.values() if device.current is not None]
        for start in range(0, len(entries), STORED_AT_ONCE):
            try:
                await asyncio.gather(*(self._store_exactly(entry) for entry in entries[start : start + STORED_AT_ONCE]))
            except Busy as busy:
                # What is stored are bounds from earlier; they hold.
                self._logger.warning("sessions_not_stored", reason=busy.reason)
                return

    async def _store_exactly(self, entry: DeviceSession) -> None:
        session = entry.session
        is_other = session.send_counter != entry.reserved_send or entry.device.has_unstored_presence
        if session.replay.highest > 0 and is_other:
            await self._roster.store_session(entry, session.send_counter, session.replay.highest)

    async def _store(self, entry: DeviceSession) -> None:
        session = entry.session
        send = session.send_counter + RESERVE
        receive = min(max(session.replay.highest, entry.heard_counter) + RESERVE, _MAX_COUNTER)
        if not entry.reserved_send:
            # A document that was not acknowledged may have been written all the same: the bounds hold from here on.
            entry.reserved_send, entry.reserved_receive = send, receive
        place = entry.place_key
        entry.place_stored_at = self._clock()
        try:
            await self._roster.store_session(entry, send, receive)
            entry.is_stored = True
            entry.stored_place = place
            entry.reserved_send, entry.reserved_receive = send, receive
        except Busy as busy:
            self._logger.warning("session_not_stored", device=entry.device.name, reason=busy.reason)
            await asyncio.sleep(busy.retry_after_s)
        finally:
            entry.is_storing = False
        self.flush(entry)

    # Time --------------------------------------------------------------------------------------------------

    def arm(self, device: Device) -> None:
        """Have `due` called when time alone changes something."""
        self.disarm(device)
        if self._is_stopped:
            return
        now = self._clock()
        times = [entry.created_at + wire.PROVISIONAL_MS for entry in device.provisional]
        if device.uplinks.busy_until is not None:
            times.append(device.uplinks.busy_until)
        entry = device.current
        # Without reserved counters nothing can be sent; whoever stores them comes back.
        if (
            entry is not None
            and entry.place is not None
            and entry.may_send
            and entry.session.silent_timeouts < SILENT_TIMEOUTS
        ):
            deadline = entry.session.deadline(now)
            if deadline is not None:
                times.append(deadline)
        if entry is not None:
            deadline = self._listening.deadline(entry, now)
            if deadline is not None:
                times.append(deadline)
        if times:
            delay_s = max(0, min(times) - now) / 1000
            device.timer = asyncio.get_running_loop().call_later(delay_s, self._ran_down, device)

    def disarm(self, device: Device) -> None:
        """No timer runs for the device any more."""
        if device.timer is not None:
            device.timer.cancel()
            device.timer = None

    def _ran_down(self, device: Device) -> None:
        device.timer = None
        self._due(device)
