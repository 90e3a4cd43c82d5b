"""What devices say, record by record, and what is answered."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from petiole import cbor, wire
from petiole.errors import QueueFull
from petiole.incoming import Incoming
from petiole.items import Encoded
from petiole.records import Reading, Record, varint

from . import readings
from .commands import CommandDesk
from .device import Device, DeviceSession
from .listening import Listening
from .node_log import NodeLog
from .policy import Policy
from .ports import CommandError, Logger, Requester
from .postman import Postman
from .tasks import Tasks
from .uplinks import Taken

DEFAULT_TIMEOUT_MS = 5000
MAX_TIMEOUT_MS = 60_000
# An error's text on its way to a node, which has to hold it in memory.
MAX_ERROR_TEXT = 160
_LEVELS = {10: "debug", 20: "info", 30: "warning", 40: "error"}


class Conversation:
    """Takes the records of opened frames. `flush` sends what a session has to say, `changed` stores a device."""

    def __init__(
        self,
        requester: Requester,
        policy: Policy,
        commands: CommandDesk,
        tasks: Tasks,
        logger: Logger,
        clock: Callable[[], int],
        wall: Callable[[], int],
        is_clock_doubtful: Callable[[], bool],
        flush: Callable[[DeviceSession], None],
        changed: Callable[[Device], None],
        postman: Postman,
        listening: Listening,
        node_log: NodeLog,
    ) -> None:
        self._requester = requester
        self._policy = policy
        self._commands = commands
        self._tasks = tasks
        self._logger = logger
        self._clock = clock
        self._wall = wall
        self._is_clock_doubtful = is_clock_doubtful
        self._flush = flush
        self._changed = changed
        self._postman = postman
        self._listening = listening
        self._node_log = node_log

    def take(self, entry: DeviceSession, incoming: Incoming, now: int) -> None:
        """The records of a frame of the device's current session."""
        device = entry.device
        highest, asks_time = 0, False
        for record in incoming.records:
            if isinstance(record, Reading):
                self._reading(entry, record)
                if record.sequence is not None:
                    highest = max(highest, record.sequence)
            elif record.kind == wire.TIME_REQUEST:
                asks_time = True
            else:
                self._record(entry, record, incoming.counter, now)
        if asks_time:
            entry.is_time_doubtful = self._is_clock_doubtful()
            flags = 1 if entry.is_time_doubtful else 0
            entry.session.notify(bytes((wire.TIME, flags)) + self._wall().to_bytes(6, "big"))
        device.uplinks.flush(now)
        if incoming.is_deferred:
            device.uplinks.wait(entry.session, incoming, highest)
            device.uplinks.acknowledge(now)
            busy_ms = device.uplinks.busy_ms(highest, now)
            if busy_ms:
                entry.session.notify(bytes((wire.BUSY,)) + varint(min(300, -(-busy_ms // 1000))))

    def _say(self, entry: DeviceSession, data: bytes) -> None:
        """Records that are sent until the node acknowledges them. A node that acknowledges nothing gets no more."""
        try:
            entry.session.send(Encoded(data))
        except QueueFull:
            entry.device.count_drop("queue_full")

    def _reading(self, entry: DeviceSession, reading: Reading) -> None:
        device = entry.device
        # Nodes have their time from here, so a time that a node gives is no better than ours; nor than ours was.
        is_doubtful = self._is_clock_doubtful()
        if reading.at_ms is None:
            at = self._wall() - (reading.age_ms or 0)
        else:
            at = reading.at_ms
            is_doubtful = is_doubtful or entry.is_time_doubtful
        number, value, sequence = reading.channel, reading.value, reading.sequence

        def build() -> Taken:
            # Late, because names come from a manifest that may not be here yet.
            payload = readings.encode(device.name, device.channels, number, at, value, sequence, is_doubtful)
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

    def _record(self, entry: DeviceSession, record: Record, counter: int, now: int) -> None:
        device = entry.device
        kind, value = record.kind, record.value
        if kind == wire.FLOOR:
            device.uplinks.close_gap(*value)
        elif kind == wire.REQUEST:
            self._request(entry, value, counter)
        elif kind == wire.REPLY:
            self._commands.take_reply(device, entry.session, value)
        elif kind == wire.MANIFEST:
            self._manifest(entry, value)
        elif kind == wire.SLEEP:
            self._listening.told(entry, value)
        elif kind == wire.MAIL_RESULT:
            self._postman.result(entry, value)
        elif kind == wire.MAIL_RETURN:
            self._listening.returned(entry, value, now)
        elif kind == wire.LOG:
            self._log(device, value)
        elif kind < 0x40:
            device.count_drop("unknown_extension")

    def _log(self, device: Device, value: Any) -> None:
        if not isinstance(value, list) or [type(part) for part in value] != [int, str]:
            device.count_drop("malformed_record")
            return
        level = _LEVELS.get(value[0], "info")
        self._node_log.say(device.name, readings.printable(value[1]), level)

    # Manifest ----------------------------------------------------------------------------------------------

    def ask_manifest(self, entry: DeviceSession) -> None:
        """The device's manifest is not known; its readings wait for it."""
        self._say(entry, bytes((wire.MANIFEST_REQUEST,)))

    def _manifest(self, entry: DeviceSession, value: Any) -> None:
        device = entry.device
        problem = readings.check_manifest(value)
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

    # Requests ----------------------------------------------------------------------------------------------

    def _request(self, entry: DeviceSession, value: Any, counter: int) -> None:
        device = entry.device
        if not isinstance(value, list) or not 3 <= len(value) <= 4 or not isinstance(value[0], int):
            device.count_drop("malformed_record")
            return
        if value[0] in entry.remembered_requests:
            return
        entry.remembered_requests.append(value[0])
        first_counter = counter - (counter - value[0] & 0xFFFF)
        if entry.session.floor and first_counter <= entry.session.floor:
            # First sent before a restart of ours, perhaps carried out then. What ran once must not run twice.
            self._answer(entry, value[0], wire.NOT_NOW, "the gateway started anew; the outcome is unknown")
            return
        timeout_ms = value[3] if len(value) == 4 and isinstance(value[3], int) else DEFAULT_TIMEOUT_MS
        timeout_ms = max(1, min(timeout_ms, MAX_TIMEOUT_MS))
        if len(entry.answering) >= wire.MAX_OPEN_REQUESTS:
            self._answer(entry, value[0], wire.TOO_MANY, f"{wire.MAX_OPEN_REQUESTS} requests are open")
        elif not isinstance(value[1], str):
            self._answer(entry, value[0], wire.BAD_ARGUMENTS, "the target is a subject")
        elif not self._policy.may_request(value[1], device.allow):
            self._logger.warning("request_not_permitted", device=device.name, subject=readings.printable(value[1]))
            self._answer(entry, value[0], wire.NOT_PERMITTED, value[1][:MAX_ERROR_TEXT])
        else:
            task = self._tasks.spawn(self._ask(entry, value[0], value[1], value[2], timeout_ms / 1000))
            if task is not None:
                entry.answering.add(task)
                task.add_done_callback(entry.answering.discard)

    async def _ask(self, entry: DeviceSession, id: int, subject: str, arguments: Any, timeout_s: float) -> None:
        try:
            result = await self._requester.request(subject, readings.plain(arguments), timeout_s)
        except CommandError as error:
            self._answer(entry, id, error.code, error.text[:MAX_ERROR_TEXT])
        else:
            self._answer(entry, id, wire.OK, result)
        self._flush(entry)

    def _answer(self, entry: DeviceSession, id: int, status: int, value: Any) -> None:
        """Queue the reply to a request; whoever calls flushes."""
        try:
            data = cbor.encode([id, status, value])
        except (TypeError, ValueError):
            data = cbor.encode([id, wire.HANDLER_FAILED, "the answer does not fit CBOR"])
        if len(data) >= wire.MAX_MESSAGE:
            data = cbor.encode([id, wire.TOO_LARGE, f"the answer is longer than {wire.MAX_MESSAGE} bytes"])
        self._say(entry, bytes((wire.REPLY,)) + data)
