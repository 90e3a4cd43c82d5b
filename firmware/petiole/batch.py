"""Readings as bytes, in which a node keeps them beyond its RAM (DESIGN.md, "The durable outbox").

    batch    B1 ∥ u16 length of the batch ∥ u16 count ∥ u32 boot ∥ u48 base ∥ count readings ∥ u32 CRC-32 of all that
    reading  u8 channel ∥ varint: ms after base ∥ value, one CBOR item

boot 0: base is a time, ms since 1970. Otherwise ms of the clock of that boot, which did not know the time.
Batches follow each other without anything between; what is not a whole one with the right CRC ends them.
"""

from binascii import crc32

from petiole import cbor
from petiole.errors import MalformedRecord
from petiole.records import read_varint, varint

MYPY = False  # the type checker takes it for true
if MYPY:
    from petiole.items import Measured

MAGIC = 0xB1
HEADER = 15
OVERHEAD = HEADER + 4
_MAX_VARINT = 0xFFFFFFFF


class Batch:
    """A cursor over the readings of a batch: each `step` sets `channel`, `delta` and where the value is."""

    def __init__(self, data: bytes, start: int, end: int) -> None:
        self.data = data
        self.start = start
        self.end = end  # offset of what follows the batch
        self.count = int.from_bytes(data[start + 3 : start + 5], "big")
        self.boot = int.from_bytes(data[start + 5 : start + 9], "big")
        self.base = int.from_bytes(data[start + 9 : start + HEADER], "big")
        self.channel = self.delta = self.value_at = 0
        self.next_at = start + HEADER

    def step(self) -> bool:
        """Go to the next reading. False: there is none."""
        offset = self.next_at
        if offset >= self.end - 4:
            return False
        self.channel = self.data[offset]
        try:
            self.delta, self.value_at = read_varint(self.data, offset + 1)
            self.next_at = cbor.skip(self.data, self.value_at)
        except (MalformedRecord, cbor.CborError):
            # The CRC is right, so it was written like this: by another version.
            self.next_at = self.end
            return False
        return True

    def value(self) -> bytes:
        return self.data[self.value_at : self.next_at]


def length(header: bytes) -> int:
    """Of the batch that begins so; 0 if none does."""
    if len(header) < OVERHEAD - 4 or header[0] != MAGIC:
        return 0
    size = int.from_bytes(header[1:3], "big")
    return size if size >= OVERHEAD else 0


def parse(data: bytes, start: int = 0) -> "Batch | None":
    """The batch at `start`, or None if no whole one with the right CRC is there."""
    size = length(data[start : start + HEADER])
    end = start + size
    if not size or end > len(data):
        return None
    if crc32(data[start : end - 4]) & 0xFFFFFFFF != int.from_bytes(data[end - 4 : end], "big"):
        return None
    return Batch(data, start, end)


def build(boot: int, base: int, count: int, readings: "bytes | bytearray") -> bytes:
    """A batch of encoded readings."""
    head = bytearray((MAGIC,))
    head.extend((len(readings) + OVERHEAD).to_bytes(2, "big"))
    head.extend(count.to_bytes(2, "big"))
    head.extend(boot.to_bytes(4, "big"))
    head.extend(base.to_bytes(6, "big"))
    head.extend(readings)
    head.extend((crc32(head) & 0xFFFFFFFF).to_bytes(4, "big"))
    return bytes(head)


def encode(channel: int, delta: int, value: bytes) -> bytes:
    """One reading."""
    return bytes((channel,)) + varint(max(0, min(delta, _MAX_VARINT))) + value


def extend(data: bytes, items: "list[Measured]", boot: int, offset: int | None) -> bytes:
    """`data`, whole batches, and after them these readings, in the order of their `taken`.

    `offset` makes a time of a moment of the clock; without it, moments are told with the number of this boot.
    """
    if not items:
        return data
    if offset is not None:
        boot = 0
    shift = offset or 0
    start = _last(data)
    last = parse(data, start)
    base = max(0, items[0].taken + shift)
    body = bytearray()
    count = 0
    if last is None or last.boot != boot or base < last.base:
        start = len(data)
    else:
        base = last.base
        count = last.count
        body.extend(data[start + HEADER : last.end - 4])
    for item in items:
        body.extend(encode(item.channel, item.taken + shift - base, item.value))
    return data[:start] + build(boot, base, count + len(items), body)


def count(data: bytes) -> int:
    """Readings of the batches in `data`."""
    total = offset = 0
    part = parse(data)
    while part is not None:
        total += part.count
        offset = part.end
        part = parse(data, offset)
    return total


def _last(data: bytes) -> int:
    """Where the last batch begins."""
    start = offset = 0
    while offset < len(data):
        start = offset
        offset += length(data[offset : offset + HEADER]) or len(data)
    return start
