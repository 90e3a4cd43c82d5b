"""Tells which devices are there: when it changes, to whoever asks, and over a restart of the gateway."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from .availability import ASLEEP, OFFLINE, ONLINE_MS, OVERDUE, Availability, Presence
from .device import Device
from .ports import Logger, Presences
from .readings import timestamp

# While the state stays the same, what is told of a device is as old as so many of its periods, and at least 15 min: a
# write per device in that time, whatever it sends.
REFRESH_PERIODS = 10
REFRESH_MIN_MS = 15 * 60_000
MAX_FIRMWARE = 64  # a node may call its version what it likes


class PresenceDesk:
    """`look` after every event of a device. `gone(device)` is called when one is offline. Times in ms of `clock`, which
    never goes back; `wall` in ms since 1970."""

    def __init__(
        self,
        devices: Mapping[str, Device],
        presences: Presences | None,
        logger: Logger,
        clock: Callable[[], int],
        wall: Callable[[], int],
        own_name: str,
        gone: Callable[[Device], None],
    ) -> None:
        self._devices = devices
        self._presences = presences
        self._logger = logger
        self._clock = clock
        self._wall = wall
        self._own_name = own_name
        self._gone = gone
        self._availability = Availability(self._changed)
        self._timer: asyncio.TimerHandle | None = None
        self._untold_timer: asyncio.TimerHandle | None = None
        self._is_stopped = False

    def stop(self) -> None:
        """Tell nothing more."""
        self._is_stopped = True
        for timer in (self._timer, self._untold_timer):
            if timer is not None:
                timer.cancel()

    def resume(self) -> None:
        """Go on with what an earlier run has stored. Of a device that was awake then, nothing is known until it is
        heard or has been silent for too long, and nothing is told until then."""
        now, wall = self._clock(), self._wall()
        untold: list[tuple[Device, Presence]] = []
        for device in self._devices.values():
            kept = device.kept_presence
            if device.is_elsewhere:
                continue
            if kept is None or kept.get("state") == OFFLINE:
                self._tell(device, OFFLINE)
            elif device.is_sleepy or kept.get("state") in (ASLEEP, OVERDUE):
                self._presume_asleep(device, kept, now, wall)
            else:
                untold.append((device, device.presence))
        if untold:
            loop = asyncio.get_running_loop()
            self._untold_timer = loop.call_later(ONLINE_MS / 1000, self._tell_unheard, untold)

    def _presume_asleep(self, device: Device, kept: Mapping[str, Any], now: int, wall: int) -> None:
        presence = device.presence
        sleep_ms = int(kept.get("sleep_ms") or device.period_ms)
        heard_at = now - max(0, wall - device.last_seen_at) if device.last_seen_at is not None else now
        wakes_at = heard_at + int(kept.get("rest_ms", 0))
        if wakes_at < now and kept.get("state") != OVERDUE:
            wakes_at = now + sleep_ms  # it may have kept its promise while nobody was here to hear it
        presence.heard_at, presence.sleep_ms, presence.asleep_since = heard_at, sleep_ms, wakes_at - sleep_ms
        presence.state, presence.since = ASLEEP, heard_at
        self._tell(device, ASLEEP)
        self.look(device, now)

    def _tell_unheard(self, untold: list[tuple[Device, Presence]]) -> None:
        for device, presence in untold:
            if device.presence is presence and presence.told_at is None and device is self._devices.get(device.name):
                self._tell(device, OFFLINE)

    def look(self, device: Device, now: int) -> None:
        """Judge a device anew."""
        presence = device.presence
        self._availability.look(device.name, presence, now)
        is_settled = presence.asleep_since is not None or not device.is_sleepy
        if is_settled and presence.told_at is not None and now - presence.told_at >= self._refresh_ms(device):
            self._tell(device, presence.state)
        self._arm()

    def refresh(self, device: Device) -> None:
        """Something else than its state has changed."""
        if device.presence.told_at is not None:
            self._tell(device, device.presence.state)

    def added(self, device: Device) -> None:
        """There is a new device."""
        self._tell(device, OFFLINE)

    def removed(self, name: str) -> None:
        """There is no such device any more."""
        if self._presences is not None:
            self._presences.forget(name)

    def document(self, device: Device) -> dict[str, Any]:
        """What is told of a device. `next_wake_at` is that after `last_seen_at`: of a device that keeps its promise
        seldom anything is told."""
        presence, now, wall = device.presence, self._clock(), self._wall()
        place = device.current.place_key if device.current else None

        def at(moment: int | None) -> str | None:
            return None if moment is None else timestamp(wall - (now - moment))

        period_ms = presence.sleep_ms or (device.period_ms if device.is_sleepy else 0)
        return {
            "device": device.name,
            "state": device.state(now),
            "since_at": at(presence.since) if presence.heard_at is not None else None,
            "last_seen_at": None if device.last_seen_at is None else timestamp(device.last_seen_at),
            "next_wake_at": at(presence.next_wake),
            "period_s": period_ms // 1000 or None,
            "gateway": self._own_name,
            "link": (place[0] or None) if place else None,
            "firmware": device.channels.firmware[:MAX_FIRMWARE] or None,
            "boot_count": device.boot_count,
        }

    @staticmethod
    def _refresh_ms(device: Device) -> int:
        return max(REFRESH_PERIODS * (device.presence.sleep_ms or device.period_ms), REFRESH_MIN_MS)

    def _tell(self, device: Device, was: str) -> None:
        device.presence.told_at = self._clock()
        if self._presences is not None:
            self._presences.tell(device.name, self.document(device), was)

    def _arm(self) -> None:
        deadline, timer = self._availability.deadline, self._timer
        if self._is_stopped or deadline is None:
            return
        loop = asyncio.get_running_loop()
        delay_s = max(0, deadline - self._clock()) / 1000
        if timer is None or timer.cancelled() or loop.time() + delay_s < timer.when():
            if timer is not None:
                timer.cancel()
            self._timer = loop.call_later(delay_s, self._due)

    def _due(self) -> None:
        self._timer = None
        self._availability.expire(self._clock())
        self._arm()

    def _changed(self, name: str, old: str, presence: Presence) -> None:
        device = self._devices.get(name)
        if device is None or device.presence is not presence:
            return  # removed, or at another gateway
        self._logger.info("device_availability", device=name, state=presence.state, was=old)
        if presence.state == OFFLINE:
            self._gone(device)
        self._tell(device, old)
