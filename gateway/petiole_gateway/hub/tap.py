"""Looking on: every frame of a link, decoded with names, for as long as somebody asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from petiole import records, wire
from petiole.errors import MalformedRecord
from petiole.records import Reading, Record
from petiole.session import Session

from . import readings
from .device import Device

TYPES = {
    wire.DATA: "DATA",
    wire.ACK: "ACK",
    wire.JOIN_REQUEST: "JOIN_REQUEST",
    wire.JOIN_ACCEPT: "JOIN_ACCEPT",
    wire.REJECT: "REJECT",
}
_KINDS = {
    wire.ACKS: "ACK",
    wire.FRAGMENT: "FRAGMENT",
    wire.TIME: "TIME",
    wire.TIME_REQUEST: "TIME_REQUEST",
    wire.SLEEP: "SLEEP",
    wire.BUSY: "BUSY",
    wire.FLOOR: "FLOOR",
    wire.COUNTER_FLOOR: "COUNTER_FLOOR",
    wire.PING: "PING",
    wire.MANIFEST_REQUEST: "MANIFEST_REQUEST",
    wire.PENDING: "PENDING",
    wire.AWAKE: "AWAKE",
    wire.MESSAGE_TAKEN: "MESSAGE_TAKEN",
    wire.REQUEST: "REQUEST",
    wire.REPLY: "REPLY",
    wire.MANIFEST: "MANIFEST",
    wire.LOG: "LOG",
    wire.MAIL: "MAIL",
    wire.MAIL_RESULT: "MAIL_RESULT",
    wire.MAIL_RETURN: "MAIL_RETURN",
    wire.POLICY: "POLICY",
}


class Seen:
    """What a session did while it was watched."""

    def __init__(self) -> None:
        self.counter: int | None = None
        self.plaintext: bytes | None = None

    def __call__(self, is_received: bool, counter: int, plaintext: bytes) -> None:
        self.counter = counter
        self.plaintext = plaintext


_NOTHING = Seen()


class Tap:
    """`publish` gets a document for each frame while somebody looks; None costs nothing."""

    def __init__(self, wall: Callable[[], int]) -> None:
        self.publish: Callable[[dict[str, Any]], None] | None = None
        self._wall = wall

    @contextmanager
    def watching(self, session: Session) -> Iterator[Seen]:
        """See what the session opens or seals inside the block."""
        if self.publish is None:
            yield _NOTHING
            return
        seen = Seen()
        session.trace = seen
        try:
            yield seen
        finally:
            session.trace = None

    def frame(
        self, link: str, is_up: bool, frame: bytes, device: Device | None, seen: Seen | None, dropped: str | None
    ) -> None:
        """A frame went by; `seen` is what was inside, `dropped` why it was dropped."""
        if self.publish is None:
            return
        document: dict[str, Any] = {
            "at": readings.timestamp(self._wall()),
            "link": link,
            "direction": "up" if is_up else "down",
            "device": device.name if device else None,
            "frame": frame.hex(),
            "bytes": len(frame),
            "type": TYPES.get(frame[0] & wire.TYPE_MASK) if frame else None,
            "counter": seen.counter if seen else None,
            "reference": None,
            "plaintext": None,
            "records": [],
            "dropped": dropped,
        }
        if device is not None and seen is not None and seen.plaintext is not None:
            document["plaintext"] = seen.plaintext.hex()
            document["reference"] = device.uplinks.taken if is_up else None
            document["records"] = describe(device, seen.plaintext)
        self.publish(document)


def describe(device: Device, plaintext: bytes) -> list[dict[str, Any]]:
    """The records of a plaintext with the device's names. A part that does not parse is shown as hex."""
    try:
        found = records.parse(plaintext, device.uplinks.taken)
    except MalformedRecord as error:
        return [{"kind": error.reason.upper(), "hex": plaintext.hex()}]
    return [_describe(device, record) for record in found]


def _describe(device: Device, record: Reading | Record) -> dict[str, Any]:
    if isinstance(record, Reading):
        out: dict[str, Any] = {"kind": "READING", "channel": device.channels.name(record.channel)}
        out["value"] = readings.plain(record.value)
        out["unit"] = device.channels.unit(record.channel)
        if record.sequence is not None:
            out["sequence"] = record.sequence
        if record.at_ms is not None:
            out["at"] = readings.timestamp(record.at_ms)
        else:
            out["age_ms"] = record.age_ms
        return out
    kind, value = record.kind, record.value
    out = {"kind": _KINDS.get(kind, f"EXTENSION {kind:#04x}")}
    if kind == wire.ACKS:
        out["highest"], out["bitmap"] = value[0], f"{value[1]:08b}"
    elif kind == wire.FRAGMENT:
        out.update(message=value[0], index=value[1], total=value[2], bytes=len(value[3]))
    elif kind == wire.TIME:
        out.update(time=readings.timestamp(value[1]), doubtful=bool(value[0]))
    elif kind == wire.FLOOR:
        out.update(sequence=value[0], dropped=value[1])
    elif kind == wire.REQUEST and isinstance(value, list) and len(value) >= 3:
        target = device.channels.command_name(value[1]) if isinstance(value[1], int) else readings.plain(value[1])
        out.update(id=readings.plain(value[0]), target=target, arguments=readings.plain(value[2]))
    elif kind == wire.REPLY and isinstance(value, list) and len(value) == 3:
        out.update(zip(("id", "status", "value"), readings.plain(value), strict=True))
    elif kind == wire.MAIL and isinstance(value, list) and len(value) >= 3:
        target = device.channels.command_name(value[1]) if isinstance(value[1], int) else readings.plain(value[1])
        out.update(item=readings.plain(value[0]), target=target, arguments=readings.plain(value[2]))
        out["attempt"] = readings.plain(value[3]) if len(value) > 3 else 1
    elif kind == wire.MAIL_RESULT and isinstance(value, list) and len(value) == 3:
        out.update(zip(("item", "status", "value"), readings.plain(value), strict=True))
    elif kind == wire.SLEEP:
        out.update(seconds=value >> 1, listens=bool(value & 1))
    elif kind in (wire.BUSY, wire.AWAKE):
        out["seconds"] = value
    elif value is not None:
        out["value"] = readings.plain(value)
    return out
