"""Whether devices listen (PROTOCOL.md, section 17). A device that sleeps hears what is sent between its first frame and
the moment when everything is answered; nothing is sent to it at other times."""

from __future__ import annotations

from collections.abc import Callable

from petiole import wire

from .device import Device, DeviceSession
from .postman import Postman


class Listening:
    """`changed(device, now)` is called when a device was heard or has fallen asleep."""

    def __init__(self, postman: Postman, changed: Callable[[Device, int], None]) -> None:
        self._postman = postman
        self._changed = changed

    def opened(self, entry: DeviceSession, now: int) -> None:
        """An authentic frame has come."""
        if not entry.is_listening:
            entry.is_listening = True
            entry.woke_at = now
        elif entry.device.is_sleepy:
            entry.session.recovery.wake(now)  # its period may be shorter than our patience
        entry.device.presence.heard(now)
        self._changed(entry.device, now)

    def told(self, entry: DeviceSession, value: int) -> None:
        """A SLEEP record."""
        entry.announced_ms = 1000 * (value >> 1)
        entry.device.presence.awake_until = 0
        if not value & 1:
            entry.is_leaving = True

    def returned(self, entry: DeviceSession, value: object, now: int) -> None:
        """A MAIL_RETURN record: what the device has not answered is not there any more, and comes again at once."""
        if type(value) is not int:
            entry.device.count_drop("malformed_record")
            return
        self._postman.withdraw(entry)
        entry.woke_at = now  # so that it travels with the ack

    def settle(self, entry: DeviceSession, now: int) -> None:
        """All that could be sent was sent. A device that sleeps and is answered listens no more."""
        if entry.is_listening and (entry.is_leaving or (entry.device.is_sleepy and self._is_over(entry, now))):
            self._stop(entry, now)

    def _is_over(self, entry: DeviceSession, now: int) -> bool:
        if now < entry.device.presence.awake_until:
            return False
        device, session = entry.device, entry.session
        if now - session.opened_at >= wire.LISTENING_MS:
            return True
        return (
            session.is_settled(now)
            and not device.uplinks.is_waiting(session)
            and not entry.answering
            and not device.open_requests
            and not entry.letters
            and not self._postman.has_mail(device)
        )

    def _stop(self, entry: DeviceSession, now: int) -> None:
        device = entry.device
        entry.is_listening = entry.is_leaving = False
        entry.session.suspend()
        self._postman.withdraw(entry)
        sleep_ms = device.period_ms if entry.announced_ms is None else entry.announced_ms
        entry.announced_ms = None
        device.presence.sleeps(now, sleep_ms)
        self._changed(device, now)

    def deadline(self, entry: DeviceSession, now: int) -> int | None:
        """When `settle` is to be called again without any other event."""
        if not entry.is_listening or not entry.device.is_sleepy:
            return None
        if self._postman.is_early(entry, now):
            return entry.woke_at + wire.MAIL_WAIT_MS
        return max(entry.session.opened_at + wire.LISTENING_MS, entry.device.presence.awake_until)
