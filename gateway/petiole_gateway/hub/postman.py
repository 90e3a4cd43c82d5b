"""Brings mail to devices that listen, and their answers back (PROTOCOL.md, section 17)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from petiole import wire
from petiole.errors import QueueFull
from petiole.items import Encoded
from petiole.records import varint

from ..foreign_json import JsonError, parse
from . import arguments, readings
from .ports import CommandError

if TYPE_CHECKING:
    from .device import Device, DeviceSession
    from .mailbox_item import Item
    from .ports import Mail

# Of one device at a time: what a board with little memory has room for, and a 115,200 baud line carries in 0.2 s.
ROOM = 2048
# What fits a frame beside its header, tag, acks and the time.
ONE_FRAME = wire.MAX_FRAME - 40


class Postman:
    """`feed` before frames are made for a device, `withdraw` when it is no more to be reached, `result` for what it
    says. Without `mail` there is none."""

    def __init__(self, mail: Mail | None) -> None:
        self._mail = mail

    def feed(self, entry: DeviceSession, now: int) -> None:
        """Give the session of a device that can be reached what waits for it, and say how much more there is."""
        device = entry.device
        if self._mail is None or not device.uplinks.is_open or not device.is_listening(now):
            return
        waiting = self._mail.waiting(device.name)
        fresh: list[Encoded] = []
        if waiting and not self.is_early(entry, now):
            fresh = self._take(entry)
            waiting = self._mail.waiting(device.name)
        if device.is_sleepy and entry.session.has_due_acks:
            left = waiting + sum(not letter.is_done for letter in entry.letters.values())
            if left > len(fresh) or sum(len(letter.data) for letter in fresh) > ONE_FRAME:
                entry.session.notify(bytes((wire.PENDING,)) + varint(left))

    def is_early(self, entry: DeviceSession, now: int) -> bool:
        """Whether the ack of the frame that woke the device is still to come, so that mail can travel with it."""
        return (
            entry.device.is_sleepy
            and entry.device.uplinks.is_waiting(entry.session)
            and now - entry.woke_at < wire.MAIL_WAIT_MS
        )

    def has_mail(self, device: Device) -> bool:
        """Whether anything is still to be sent to the device."""
        return self._mail is not None and self._mail.waiting(device.name) > 0

    def _take(self, entry: DeviceSession) -> list[Encoded]:
        assert self._mail is not None
        device = entry.device
        written: dict[int, bytes | CommandError] = {}

        def size(item: Item) -> int:
            try:
                data = written[item.number] = _letter(device, item)
            except CommandError as error:
                written[item.number] = error
                return 0
            return len(data)

        out: list[Encoded] = []
        for item in self._mail.take(device.name, ROOM, size):
            data = written[item.number]
            if isinstance(data, CommandError):
                self._mail.result(device.name, item.number, data.code, data.text)
                continue
            letter = entry.letters[item.number] = Encoded(data)
            try:
                entry.session.send(letter)
                out.append(letter)
            except QueueFull:
                device.count_drop("queue_full")  # it waits again when the device has slept
        return out

    def result(self, entry: DeviceSession, value: Any) -> None:
        """A MAIL_RESULT record. One of an item that is not here is ignored: it was heard before."""
        device = entry.device
        if not isinstance(value, list) or len(value) != 3 or type(value[0]) is not int or type(value[1]) is not int:
            device.count_drop("malformed_record")
            return
        number, status, result = value
        letter = entry.letters.pop(number, None)
        if letter is not None:
            letter.is_done = True  # whatever became of the ack of its frame
        if self._mail is not None:
            self._mail.result(device.name, number, status, readings.plain(result))

    def withdraw(self, entry: DeviceSession) -> None:
        """The device does not listen, or its session has ended: what it has not answered waits again."""
        if self._mail is None or not entry.letters:
            return
        unsent = frozenset(number for number, letter in entry.letters.items() if not letter.tries)
        for letter in entry.letters.values():
            letter.is_done = True
        entry.letters.clear()
        self._mail.stopped(entry.device.name, unsent)


def _letter(device: Device, item: Item) -> bytes:
    """The MAIL record of an item. CommandError if the device could not carry it out."""
    number, declared = arguments.command_of(device.name, device.channels, item.command)
    try:
        given = parse(item.arguments) if item.arguments.strip() else None
    except JsonError as error:
        raise CommandError(wire.BAD_ARGUMENTS, f"the arguments are not JSON: {error}") from error
    checked = arguments.check(item.command, given, declared)
    fields: list[Any] = [item.number, number, checked]
    if item.attempts:
        fields.append(item.attempts + 1)
    return bytes((wire.MAIL,)) + arguments.encoded(fields, 1)
