"""After a restart: what a device sends waits until it is known what is stored of it."""

from __future__ import annotations

from collections.abc import Callable

from .device import MAX_STASHED, Device
from .ports import Busy, Logger, Place, Uplinks
from .tasks import Tasks


class Resumption:
    """Reads the numbers of devices from the store. `receive` takes a frame that has waited, `busy(device, retry_s)`
    is called where the store does not answer."""

    def __init__(self, uplinks: Uplinks, tasks: Tasks, logger: Logger, receive: Callable[[Place, bytes], None]) -> None:
        self._uplinks = uplinks
        self._tasks = tasks
        self._logger = logger
        self._receive = receive

    def hold(self, device: Device, place: Place, frame: bytes) -> bool:
        """Keep a frame until the device's numbers are known. False: too many wait, it is lost."""
        has_room = len(device.stashed) < MAX_STASHED
        if has_room:
            device.stashed.append((place, frame))
        if not device.is_learning:
            device.is_learning = True
            self._tasks.spawn(self._learn(device))
        return has_room

    async def _learn(self, device: Device) -> None:
        try:
            await self.learn(device)
        finally:
            device.is_learning = False
            stashed, device.stashed = device.stashed, []
        if device.uplinks.is_known:  # else the node sends again
            for place, frame in stashed:
                self._receive(place, frame)

    async def learn(self, device: Device) -> float | None:
        """Read what is stored of a device. Returns None, or after how many seconds to ask again."""
        try:
            device.uplinks.learn(await self._uplinks.last_sequence(device.name))
        except Busy as busy:
            self._logger.warning("sequence_unknown", device=device.name, reason=busy.reason)
            return busy.retry_after_s
        return None
