"""What devices say, record by record, and what is answered."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Coroutine
from typing import Any

from petiole import cbor, wire
from petiole import manifest as manifests
from petiole.items import Encoded
from petiole.records import Reading, Record, varint
from petiole.session import Incoming, Session

from . import readings
from .device import Device, DeviceSession
from .policy import Policy
from .ports import CommandError, Logger, Requester
from .uplinks import Taken

DEFAULT_TIMEOUT_MS = 5000
MAX_TIMEOUT_MS = 60_000
_LEVELS = {10: "debug", 20: "info", 30: "warning", 40: "error"}


class Conversation:
    """Takes the records of opened frames. `spawn` runs a coroutine, `flush` sends what a session has to say,
    `changed` stores a device."""

    def __init__(
        self,
        requester: Requester,
        policy: Policy,
        logger: Logger,
        clock: Callable[[], int],
        wall: Callable[[], int],
        is_clock_doubtful: Callable[[], bool],
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        flush: Callable[[DeviceSession], None],
        changed: Callable[[Device], None],
    ) -> None:
        self._requester = requester
        self._policy = policy
        self._logger = logger
        self._clock = clock
        self._wall = wall
        self._is_clock_doubtful = is_clock_doubtful
        self._spawn = spawn
        self._flush = flush
        self._changed = changed

    def take(self, entry: DeviceSession, incoming: Incoming, now: int) -> None:
        """The records of a frame of the device's current session."""
        device = entry.device
        highest = 0
        for record in incoming.records:
            if isinstance(record, Reading):
                self._reading(device, record)
                if record.sequence is not None:
                    highest = max(highest, record.sequence)
            else:
                self._record(entry, record, now)
        self._submit(entry)
        if incoming.is_deferred:
            device.uplinks.wait(entry.session, incoming, highest)
            device.uplinks.acknowledge(now)

    def _submit(self, entry: DeviceSession) -> None:
        busy_s = entry.device.uplinks.flush()
        if busy_s is not None:
            entry.session.notify(bytes((wire.BUSY,)) + varint(max(1, min(300, round(busy_s)))))

    def _reading(self, device: Device, reading: Reading) -> None:
        at = reading.at_ms if reading.at_ms is not None else self._wall() - (reading.age_ms or 0)
        number, value, sequence = reading.channel, reading.value, reading.sequence

        def build() -> Taken:
            # Late, because names come from a manifest that may not be here yet.
            payload = readings.encode(device.name, device.channels, number, at, value, sequence)
            return Taken(device.channels.name(number), payload)

        if sequence is not None:
            reason = device.uplinks.offer(sequence, build)
            if reason:
                device.count_drop(reason)
        elif device.uplinks.is_open:
            taken = build()
            self._requester.publish_live(device.name, taken.channel, taken.payload)
        else:
            device.count_drop("no_manifest")

    def _record(self, entry: DeviceSession, record: Record, now: int) -> None:
        device = entry.device
        kind, value = record.kind, record.value
        if kind == wire.FLOOR:
            device.uplinks.close_gap(*value)
        elif kind == wire.REQUEST:
            self._request(entry, value)
        elif kind == wire.REPLY:
            self._reply(device, entry.session, value)
        elif kind == wire.MANIFEST:
            self._manifest(entry, value)
        elif kind == wire.TIME_REQUEST:
            flags = 1 if self._is_clock_doubtful() else 0
            entry.session.notify(bytes((wire.TIME, flags)) + self._wall().to_bytes(6, "big"))
        elif kind == wire.SLEEP:
            device.asleep_until = now + 1000 * value if value else 0
        elif kind == wire.LOG:
            self._log(device, value)
        elif kind < 0x40:
            device.count_drop("unknown_extension")

    def _log(self, device: Device, value: Any) -> None:
        if not isinstance(value, list) or len(value) != 2 or not isinstance(value[1], str):
            device.count_drop("malformed_record")
            return
        level = _LEVELS.get(value[0], "info")
        getattr(self._logger, level)("node_log", device=device.name, text=value[1])

    # Manifest ----------------------------------------------------------------------------------------------

    def ask_manifest(self, entry: DeviceSession) -> None:
        """The device's manifest is not known; its readings wait for it."""
        entry.session.send(Encoded(bytes((wire.MANIFEST_REQUEST,))))

    def _manifest(self, entry: DeviceSession, value: Any) -> None:
        device = entry.device
        problem = manifests.check(value)
        if problem:
            # The readings must not wait for ever: they get numbers for names.
            device.count_drop("malformed_manifest")
            self._logger.warning("manifest_refused", device=device.name, problem=problem)
            value = {"fw": "", "ch": [], "cmd": []}
            device.manifest_hash = entry.manifest_hash
        else:
            device.manifest_hash = hashlib.sha256(cbor.encode(value)).digest()[: wire.MANIFEST_HASH_LENGTH]
        device.manifest = readings.plain(value)
        device.channels = readings.Channels(value)
        device.uplinks.is_open = True
        self._logger.info("manifest_received", device=device.name, firmware=device.channels.firmware)
        self._changed(device)
        self._submit(entry)

    # Requests ----------------------------------------------------------------------------------------------

    def _reply(self, device: Device, session: Session, value: Any) -> None:
        if not isinstance(value, list) or len(value) != 3 or not isinstance(value[1], int):
            device.count_drop("malformed_record")
            return
        for entry in device.open_requests:
            if entry.session is session and entry.item.id is not None and entry.item.id == value[0]:
                device.open_requests.remove(entry)
                if entry.answered.done():
                    return
                if value[1] == wire.OK:
                    entry.answered.set_result(readings.plain(value[2]))
                else:
                    entry.answered.set_exception(CommandError(value[1], str(value[2])))
                return

    def _request(self, entry: DeviceSession, value: Any) -> None:
        device = entry.device
        if not isinstance(value, list) or not 3 <= len(value) <= 4 or not isinstance(value[0], int):
            device.count_drop("malformed_record")
            return
        if value[0] in device.remembered_requests:
            return
        device.remembered_requests.append(value[0])
        timeout_ms = value[3] if len(value) == 4 and isinstance(value[3], int) else DEFAULT_TIMEOUT_MS
        timeout_ms = max(1, min(timeout_ms, MAX_TIMEOUT_MS))
        if device.answering >= wire.MAX_OPEN_REQUESTS:
            self._answer(entry, value[0], wire.TOO_MANY, "8 requests are open")
        elif not isinstance(value[1], str):
            self._answer(entry, value[0], wire.BAD_ARGUMENTS, "the target is a subject")
        elif not self._policy.may_request(value[1], device.allow):
            self._logger.warning("request_not_permitted", device=device.name, subject=value[1])
            self._answer(entry, value[0], wire.NOT_PERMITTED, value[1])
        else:
            device.answering += 1
            self._spawn(self._ask(entry, value[0], value[1], value[2], timeout_ms / 1000))

    async def _ask(self, entry: DeviceSession, id: int, subject: str, arguments: Any, timeout_s: float) -> None:
        try:
            result = await self._requester.request(subject, readings.plain(arguments), timeout_s)
            self._answer(entry, id, wire.OK, result)
        except CommandError as error:
            self._answer(entry, id, error.code, error.text)
        finally:
            entry.device.answering -= 1

    def _answer(self, entry: DeviceSession, id: int, status: int, value: Any) -> None:
        if entry is not entry.device.current:
            return  # the request ended with its session
        try:
            data = cbor.encode([id, status, value])
        except (TypeError, ValueError):
            data = cbor.encode([id, wire.HANDLER_FAILED, "the answer does not fit CBOR"])
        if len(data) >= wire.MAX_MESSAGE:
            data = cbor.encode([id, wire.TOO_LARGE, "the answer is longer than 4096 bytes"])
        entry.session.send(Encoded(bytes((wire.REPLY,)) + data))
        self._flush(entry)
