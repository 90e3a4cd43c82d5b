"""Other gateways of the site: which of them has a device, and what they tell each other.

The stored session of a device names its gateway, so the document that was written last says who has it. News is for
speed: whoever misses some finds the truth in the documents.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from .device import DeviceSession
from .ports import Busy, Logger, Records
from .roster import Roster

HELD = "held"  # the device has joined at the gateway that says so
CHANGED = "changed"  # the device was added or removed
POLICY = "policy"  # what is wanted of its wakes


class Neighbours:
    """`own`: this gateway's name. `tell(kind, device)` tells the others; `let_go(session)` is called when a device is
    somewhere else now."""

    def __init__(
        self,
        own: str,
        roster: Roster,
        registry: Records,
        sessions: Records,
        logger: Logger,
        clock: Callable[[], int],
        tell: Callable[[str, str], None],
        let_go: Callable[[DeviceSession], None],
        refresh_policy: Callable[[str], Awaitable[None]],
    ) -> None:
        self.tell = tell
        self._own = own
        self._roster = roster
        self._registry = registry
        self._sessions = sessions
        self._logger = logger
        self._clock = clock
        self._let_go = let_go
        self._refresh_policy = refresh_policy

    def has(self, name: str) -> bool:
        """Whether a command for this device is for this gateway, as far as it knows by itself."""
        device = self._roster.devices.get(name)
        if device is None:
            return False
        now = self._clock()
        return device.may_be_reached(now) or device.state(now) != "offline"

    async def holder(self, name: str) -> str | None:
        """The other gateway that has the device, or None."""
        try:
            document = await self._sessions.get(name)
        except Busy:
            return None  # the caller gets what is known here
        owner = document.get("gateway") if document else None
        return owner if isinstance(owner, str) and owner not in ("", self._own) else None

    async def hear(self, kind: str, name: str) -> None:
        """Another gateway says this of a device."""
        device = self._roster.devices.get(name)
        if kind == HELD and device is not None:
            if device.current is not None:
                self._let_go(device.current)
                self._logger.info("device_moved", device=name)
            device.is_elsewhere = True
        elif kind in (CHANGED, POLICY):
            try:
                if kind == CHANGED:
                    self._roster.refresh(name, await self._registry.get(name))
                await self._refresh_policy(name)
            except Busy as busy:
                self._logger.warning("device_not_read", device=name, reason=busy.reason)
