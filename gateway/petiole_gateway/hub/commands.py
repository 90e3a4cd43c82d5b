"""Commands to devices: sent, answered, or failed with a code that says why."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from petiole import wire
from petiole.items import Request
from petiole.session import Session

from . import arguments as declared_arguments
from . import readings
from .device import Device, DeviceSession, OpenRequest
from .ports import CommandError

MAX_TIMEOUT_S = 300.0
_WORST_ID = 0xFFFF  # no id takes more bytes


class Unreachable(CommandError):
    """Nothing was sent: the device cannot be reached now. `availability`: online, asleep, overdue or offline;
    `next_wake_s`: from now, None if it is not known."""

    def __init__(self, text: str, availability: str, next_wake_s: int | None = None) -> None:
        super().__init__(wire.NOT_NOW, text)
        self.availability = availability
        self.next_wake_s = next_wake_s


class CommandDesk:
    """`flush` sends what a session has to say. `clock` in ms that never goes back."""

    def __init__(self, clock: Callable[[], int], flush: Callable[[DeviceSession], None]) -> None:
        self._clock = clock
        self._flush = flush

    async def execute(self, device: Device, command: str, arguments: Any, timeout_s: float) -> Any:
        """Have a device execute a command of its manifest; return the result. CommandError otherwise."""
        timeout_s = min(timeout_s, MAX_TIMEOUT_S)
        entry, item = self._request(device, command, arguments, timeout_s)
        open_request = OpenRequest(item, asyncio.get_running_loop().create_future(), entry.session)
        device.open_requests.append(open_request)
        try:
            entry.session.send(item)
            entry.session.silent_timeouts = 0  # whoever asks wants it tried
            self._flush(entry)
            return await asyncio.wait_for(open_request.answered, timeout_s)
        except TimeoutError:
            raise CommandError(wire.TIMED_OUT, f"{device.name} did not answer within {timeout_s:g} s") from None
        finally:
            item.is_done = True
            if open_request in device.open_requests:
                device.open_requests.remove(open_request)

    def _request(self, device: Device, command: str, arguments: Any, timeout_s: float) -> tuple[DeviceSession, Request]:
        name, now = device.name, self._clock()
        entry = device.current
        state = device.state(now)
        if device.manifest is None:
            known = "has not said yet what it can do" if entry else "has not joined"
            raise Unreachable(f"{name} {known}", state)
        number, declared = declared_arguments.command_of(name, device.channels, command)
        checked = declared_arguments.check(command, arguments, declared)
        timeout_ms = max(1, int(timeout_s * 1000))
        declared_arguments.encoded([_WORST_ID, number, checked, timeout_ms], 1)
        if entry is None:
            raise Unreachable(f"{name} has not joined", state)
        if state == "asleep" and not device.is_listening(now):
            wake_at = device.presence.next_wake
            if wake_at is None:
                raise Unreachable(f"{name} is asleep", state)
            wake_s = max(0, wake_at - now) // 1000
            raise Unreachable(f"{name} is asleep, next wake in {wake_s} s", state, wake_s)
        if not device.may_be_reached(now):
            raise Unreachable(f"{name} is {state}", state)
        if entry.place is not None and entry.place.link.absence:
            raise Unreachable(f"{name} cannot be reached now: {entry.place.link.absence}", state)
        if len(device.open_requests) >= wire.MAX_OPEN_REQUESTS:
            raise CommandError(wire.TOO_MANY, f"{name} has {wire.MAX_OPEN_REQUESTS} commands open")
        return entry, Request(number, checked, timeout_ms, now)

    def take_reply(self, device: Device, session: Session, value: Any) -> None:
        """A REPLY has come: end the command that it answers. One that answers nothing is ignored."""
        if not isinstance(value, list) or len(value) != 3 or not isinstance(value[1], int):
            device.count_drop("malformed_record")
            return
        id, status, result = value
        for entry in device.open_requests:
            if entry.session is session and entry.item.id is not None and entry.item.id == id:
                device.open_requests.remove(entry)
                if entry.answered.done():
                    return
                if status == wire.OK:
                    entry.answered.set_result(readings.plain(result))
                else:
                    code = status if 400 <= status <= 599 else wire.HANDLER_FAILED
                    entry.answered.set_exception(CommandError(code, str(readings.plain(result))))
                return

    def fail(self, device: Device, ended: DeviceSession | None, text: str) -> None:
        """End the open commands of a session, or of all: their outcome is not known."""
        for entry in list(device.open_requests):
            if ended is None or entry.session is ended.session:
                device.open_requests.remove(entry)
                if not entry.answered.done():
                    entry.answered.set_exception(CommandError(wire.NOT_NOW, f"{device.name}: {text}"))
