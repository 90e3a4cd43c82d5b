"""What people want of a device's wakes: another period, more time between its frames, or that it stays awake.

Kept in the store until somebody takes it back. A device that sleeps is told at its next wake, and again after a join,
which makes it forget (PROTOCOL.md, section 17).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from petiole import cbor, wire
from petiole.errors import QueueFull
from petiole.items import Encoded
from petiole.records import varint

from .ports import Busy, CommandError, Logger, Records
from .readings import timestamp

if TYPE_CHECKING:
    from collections.abc import Callable

    from .device import Device, DeviceSession
    from .postman import Postman
    from .roster import Roster
    from .tasks import Tasks


@dataclass(frozen=True, slots=True)
class WakePolicy:
    """`asked_at` (ms since 1970) tells one from the next. `awake_s` is meant once and 0 when the device has heard it.
    `heard_at`: when the device acknowledged the rest; None until then, and again after a join."""

    asked_at: int
    period_s: int = 0  # 0: that of the manifest
    spacing_ms: int = 0  # 0: any
    awake_s: int = 0
    heard_at: int | None = None

    @property
    def is_empty(self) -> bool:
        """Nothing is wanted of the device."""
        return not (self.period_s or self.spacing_ms or self.awake_s)

    @property
    def period_ms(self) -> int:
        """How long the device sleeps by it; 0: as its manifest says."""
        return max(1000 * self.period_s, self.spacing_ms) if self.period_s else 0

    def record(self) -> bytes:
        """AWAKE and POLICY as they are sent. POLICY asks for an ack, for both."""
        awake = bytes((wire.AWAKE,)) + varint(self.awake_s) if self.awake_s else b""
        return awake + bytes((wire.POLICY,)) + cbor.encode([self.period_s, self.spacing_ms])

    def document(self) -> dict[str, Any]:
        """For people."""
        return {
            "period_s": self.period_s or None,
            "spacing_s": self.spacing_ms / 1000 or None,
            "awake_s": self.awake_s or None,
            "asked_at": timestamp(self.asked_at),
            "heard_at": None if self.heard_at is None else timestamp(self.heard_at),
        }

    def kept(self) -> dict[str, Any]:
        """For the store."""
        return {name: getattr(self, name) for name in self.__slots__}


def loaded(kept: dict[str, Any]) -> WakePolicy:
    """The policy of a stored document. ValueError if it is none."""
    numbers = {name: kept.get(name, 0) for name in ("asked_at", "period_s", "spacing_ms", "awake_s")}
    heard_at = kept.get("heard_at")
    if any(type(number) is not int or number < 0 for number in numbers.values()):
        raise ValueError("a wake policy without its numbers")
    return WakePolicy(**numbers, heard_at=heard_at if type(heard_at) is int else None)


def checked(period_s: int | None, spacing_ms: int | None, awake_s: int | None) -> None:
    """CommandError 400 for what no device may be asked."""
    for name, value, most in (
        ("period_s", period_s, wire.MAX_PERIOD_S),
        ("spacing_ms", spacing_ms, wire.MAX_SPACING_MS),
        ("awake_s", awake_s, wire.MAX_AWAKE_S),
    ):
        if value is not None and not 0 <= value <= most:
            raise CommandError(wire.BAD_ARGUMENTS, f"{name}: from 0 to {most}, got {value}")


class WakePolicies:
    """Policies of all devices. `feed` before frames are made for a device. `flush(session)` sends what a session has to
    say, `tell(device)` has the other gateways of the site call `refresh`, `changed(device, now)` says that a device has
    heard how long to stay awake. Without `records` there are none."""

    def __init__(
        self,
        records: Records | None,
        roster: Roster,
        tasks: Tasks,
        logger: Logger,
        wall: Callable[[], int],
        postman: Postman,
        flush: Callable[[DeviceSession], None],
        tell: Callable[[str], None],
        changed: Callable[[Device, int], None],
    ) -> None:
        self._records = records
        self._roster = roster
        self._tasks = tasks
        self._logger = logger
        self._wall = wall
        self._postman = postman
        self._flush = flush
        self._tell = tell
        self._changed = changed
        self._turn = asyncio.Lock()  # of writing: what a device has heard must not take the place of a newer wish

    async def load(self) -> None:
        """Read all. Busy if the store does not answer."""
        if self._records is None:
            return
        for name, kept in (await self._records.items()).items():
            device = self._roster.devices.get(name)
            if device is not None:
                self._set(device, kept)
            elif not self._roster.is_damaged(name):
                await self._records.delete(name)  # it was removed while the store did not answer
        for name, reason in self._records.unreadable.items():
            self._roster.unreadable.count("wake", name, reason)

    async def ask(
        self, device: Device, *, period_s: int | None = None, spacing_ms: int | None = None, awake_s: int | None = None
    ) -> WakePolicy:
        """Want this of a device from now on; None leaves a part as it is, 0 takes it back. CommandError 400, also for a
        device that never sleeps; Busy: nothing is wanted that was not before."""
        checked(period_s, spacing_ms, awake_s)
        if self._records is None:
            raise CommandError(wire.NOT_NOW, "this gateway keeps no wake policies")
        if device.manifest is not None and not device.is_sleepy:
            raise CommandError(wire.BAD_ARGUMENTS, f"{device.name} never sleeps, as its manifest says")
        async with self._turn:
            wanted = await self._want(device, period_s, spacing_ms, awake_s)
        self._tell(device.name)
        if device.current is not None:
            self._flush(device.current)
        return wanted

    async def _want(
        self, device: Device, period_s: int | None, spacing_ms: int | None, awake_s: int | None
    ) -> WakePolicy:
        assert self._records is not None
        old = device.wake_policy
        given = {"period_s": period_s, "spacing_ms": spacing_ms, "awake_s": awake_s}
        asked_at = max(self._wall(), old.asked_at + 1 if old is not None else 0)
        wanted = replace(
            old or WakePolicy(asked_at),
            asked_at=asked_at,
            heard_at=None,
            **{name: value for name, value in given.items() if value is not None},
        )
        has_heard = old is not None or (device.current is not None and device.current.heard_period_ms > 0)
        if wanted.is_empty and (device.current is None or not has_heard):
            # Whoever joins has forgotten what it was asked.
            await self._records.delete(device.name)
            device.wake_policy = None
            return wanted
        await self._records.put(device.name, wanted.kept())
        device.wake_policy = wanted
        return wanted

    async def forget(self, name: str) -> None:
        """The device was removed."""
        if self._records is not None:
            try:
                await self._records.delete(name)
            except Busy as busy:
                self._logger.warning("wake_policy_not_deleted", device=name, reason=busy.reason)

    async def refresh(self, name: str) -> None:
        """Another gateway of the site says that there is a new one; Busy."""
        device = self._roster.devices.get(name)
        if self._records is None or device is None:
            return
        kept = await self._records.get(name)
        if kept is None:
            device.wake_policy = None
        else:
            self._set(device, kept)
            if device.current is not None:
                self._flush(device.current)

    def _set(self, device: Device, kept: dict[str, Any]) -> None:
        try:
            found = loaded(kept)
        except ValueError as error:
            self._roster.unreadable.count("wake", device.name, str(error))
            return
        if device.wake_policy is None or found.asked_at >= device.wake_policy.asked_at:
            device.wake_policy = found

    # To the device -----------------------------------------------------------------------------------------

    def feed(self, entry: DeviceSession, now: int) -> None:
        """Give the session of a device that listens what it has not heard in it."""
        letter, wanted = entry.policy_letter, entry.device.wake_policy
        if letter is not None and letter.is_done:
            entry.policy_letter = letter = None
            self._heard(entry, now)
            wanted = entry.device.wake_policy
        if wanted is None or entry.policy_said == wanted:
            return
        if letter is not None:
            letter.is_done = True  # what it would have said is not wanted any more
            entry.policy_letter = None
        if not entry.device.is_listening(now) or self._postman.is_early(entry, now):
            return  # it travels with the ack of the frame that wakes the device
        fresh = Encoded(wanted.record())
        try:
            entry.session.send(fresh)
        except QueueFull:
            entry.device.count_drop("queue_full")  # said at the next wake
            return
        entry.policy_letter, entry.policy_said = fresh, wanted

    def _heard(self, entry: DeviceSession, now: int) -> None:
        said, device = entry.policy_said, entry.device
        if said is None:
            return
        if said.awake_s:
            device.presence.awake_until = now + 1000 * said.awake_s
            self._changed(device, now)
        entry.heard_period_ms = said.period_ms
        self._logger.info(
            "wake_policy_heard",
            device=device.name,
            period_s=said.period_s,
            spacing_ms=said.spacing_ms,
            awake_s=said.awake_s,
        )
        if device.wake_policy is not said:
            return  # a newer one is to be said
        done = replace(said, awake_s=0, heard_at=self._wall())
        device.wake_policy = None if done.is_empty else done
        entry.policy_said = device.wake_policy
        self._tasks.spawn(self._store(device, done))

    async def _store(self, device: Device, done: WakePolicy) -> None:
        assert self._records is not None
        try:
            async with self._turn:
                if device.wake_policy is not (None if done.is_empty else done):
                    return  # a newer one is stored
                if done.is_empty:
                    await self._records.delete(device.name)
                else:
                    await self._records.put(device.name, done.kept())
            self._tell(device.name)
        except Busy as busy:
            # A next run says it once more; a device that is asked twice to stay awake does so twice.
            self._logger.warning("wake_policy_not_stored", device=device.name, reason=busy.reason)
