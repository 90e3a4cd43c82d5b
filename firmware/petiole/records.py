"""Records: what a frame says (PROTOCOL.md, sections 7 and 9)."""

from petiole import cbor, wire
from petiole.errors import MalformedRecord

MYPY = False  # the type checker takes it for true
if MYPY:
    from petiole.contracts import CborValue

_MAX_VARINT = 0xFFFFFFFF
NOW_MS = 10  # a reading younger than this says "now": half a scheduler tick of a busy node


class Record:
    """A record that is not a reading. `value` is an int, a tuple of ints, bytes, a CBOR value or None."""

    __slots__ = ("kind", "value")

    def __init__(self, kind: int, value: "CborValue") -> None:
        self.kind = kind
        self.value = value


class Reading:
    """A received reading. `sequence`: None for a live one. Either `age_ms` or `at_ms` is set."""

    __slots__ = ("age_ms", "at_ms", "channel", "sequence", "value")

    def __init__(
        self, channel: int, sequence: int | None, age_ms: int | None, at_ms: int | None, value: "CborValue"
    ) -> None:
        self.channel = channel
        self.sequence = sequence
        self.age_ms = age_ms
        self.at_ms = at_ms
        self.value = value


def varint(value: int) -> bytes:
    """LEB128 of 0 to 2**32 - 1."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(data: bytes | bytearray, offset: int) -> tuple[int, int]:
    """(value, next offset). Raises MalformedRecord."""
    value = shift = 0
    while True:
        if offset >= len(data) or shift > 28:
            raise MalformedRecord()
        byte = data[offset]
        offset += 1
        value |= (byte & 127) << shift
        if byte < 128:
            if value > _MAX_VARINT or (not byte and shift):
                raise MalformedRecord()
            return value, offset
        shift += 7


_FIXED = {  # kind: bytes after the kind byte
    wire.ACKS: 2,
    wire.TIME: 7,
    wire.TIME_REQUEST: 0,
    wire.COUNTER_FLOOR: 4,
    wire.PING: 0,
    wire.MANIFEST_REQUEST: 0,
    wire.MESSAGE_TAKEN: 1,
}
_VARINT = (wire.SLEEP, wire.BUSY, wire.PENDING, wire.AWAKE)
_QUIET = (
    wire.ACKS,
    wire.TIME,
    wire.SLEEP,
    wire.BUSY,
    wire.SEQUENCE,
    wire.COUNTER_FLOOR,
    wire.PENDING,
    wire.AWAKE,
    wire.MESSAGE_TAKEN,
    wire.LOG,
)


def asks_for_ack(records: "list[Reading | Record]") -> bool:
    """Whether a frame with these records (an empty one too) is to be acknowledged."""
    if not records:
        return True
    for record in records:
        if isinstance(record, Reading):
            if record.sequence is not None:
                return True
        elif record.kind not in _QUIET:
            return True
    return False


def parse(data: bytes | bytearray, reference: int = 0, in_message: bool = False) -> "list[Reading | Record]":
    """The records of a plaintext, or of a reassembled message.

    `reference` is the highest sequence number taken without a gap. SEQUENCE records are consumed.
    Raises MalformedRecord; then nothing of the frame counts.
    """
    try:
        return _Parser(data, reference, in_message).records()
    except cbor.CborError:
        raise MalformedRecord()


def taken(data: "bytes | bytearray", reference: int, in_message: bool = False) -> "list[Reading | Record] | str":
    """As `parse`; the reason for which the frame is dropped instead of an error, also if there is no memory for it."""
    try:
        return parse(data, reference, in_message)
    except MalformedRecord as error:
        return error.reason
    except MemoryError:
        return "memory"  # not acknowledged: it comes again


class _Parser:
    def __init__(self, data: bytes | bytearray, reference: int, in_message: bool) -> None:
        self._data = data
        self._reference = reference
        self._in_message = in_message
        self._next: int | None = None  # sequence of the next confirmed reading
        self._previous: Reading | None = None

    def records(self) -> "list[Reading | Record]":
        data = self._data
        out: list[Reading | Record] = []
        record: Reading | Record
        offset = 0
        while offset < len(data):
            kind = data[offset]
            offset += 1
            if kind >= wire.READING:
                record, offset = self._reading(kind, offset)
            elif kind >= 0x40:
                if kind == wire.SEQUENCE:
                    offset = self._sequence(offset)
                    continue
                record, offset = self._compact(kind, offset)
            elif kind:
                value, offset = cbor.decode(data, offset)
                record = Record(kind, value)
            else:
                raise MalformedRecord()
            out.append(record)
        return out

    def _sequence(self, offset: int) -> int:
        if offset + 4 > len(self._data):
            raise MalformedRecord()
        self._next = int.from_bytes(self._data[offset : offset + 4], "big")
        return offset + 4

    def _compact(self, kind: int, offset: int) -> tuple[Record, int]:
        data = self._data
        size = _FIXED.get(kind)
        if size is not None:
            end = offset + size
            if end > len(data):
                raise MalformedRecord()
            if kind == wire.ACKS:
                return Record(kind, (data[offset], data[offset + 1])), end
            if kind == wire.TIME:
                if data[offset] & 0xFE:
                    raise MalformedRecord()
                return Record(kind, (data[offset], int.from_bytes(data[offset + 1 : end], "big"))), end
            return Record(kind, int.from_bytes(data[offset:end], "big") if size else None), end
        if kind in _VARINT:
            value, offset = read_varint(data, offset)
            return Record(kind, value), offset
        if kind == wire.FLOOR:
            if offset + 4 > len(data):
                raise MalformedRecord()
            dropped, end = read_varint(data, offset + 4)
            return Record(kind, (int.from_bytes(data[offset : offset + 4], "big"), dropped)), end
        if kind == wire.FRAGMENT and not self._in_message:
            if offset + 4 > len(data):
                raise MalformedRecord()
            total = data[offset + 2] << 8 | data[offset + 3]
            part = (data[offset], data[offset + 1], total, bytes(data[offset + 4 :]))
            return Record(kind, part), len(data)
        raise MalformedRecord()

    def _byte(self, offset: int) -> int:
        if offset >= len(self._data):
            raise MalformedRecord()
        return self._data[offset]

    def _reading(self, kind: int, offset: int) -> tuple[Reading, int]:
        channel = kind >> 3 & 15
        if channel == 15:
            channel = self._byte(offset)
            offset += 1
        sequence = None
        if kind & 1:
            if self._next is None:
                if self._in_message:
                    # It may have been cut long ago: what it would be relative to is not known.
                    raise MalformedRecord()
                # The number with this lowest byte that is closest to the reference.
                low = self._byte(offset)
                offset += 1
                self._next = self._reference + ((low - self._reference + 128) & 255) - 128
                if self._next < 0:
                    self._next += 256
            sequence = self._next
            self._next = sequence + 1
        form = kind >> 1 & 3
        age: int | None = None
        at: int | None = None
        if form == wire.TAKEN_NOW:
            age = 0
        elif form == wire.TAKEN_AGE:
            age, offset = read_varint(self._data, offset)
        elif form == wire.TAKEN_AT:
            if offset + 6 > len(self._data):
                raise MalformedRecord()
            at = int.from_bytes(self._data[offset : offset + 6], "big")
            offset += 6
        else:
            after, offset = read_varint(self._data, offset)
            previous = self._previous
            if previous is None:
                raise MalformedRecord()
            if previous.at_ms is not None:
                at = previous.at_ms + after
            else:
                age = (previous.age_ms or 0) - after
                if age < 0:
                    raise MalformedRecord()
        value, end = cbor.decode(self._data, offset)
        if end - offset > wire.MAX_VALUE:
            raise MalformedRecord()
        reading = Reading(channel, sequence, age, at, value)
        self._previous = reading
        return reading, end


class Writer:
    """Builds one plaintext of at most `room` bytes. A method without room returns False and adds nothing.

    `acked_sequence`: the highest number that is acknowledged; None writes every number in full.
    """

    def __init__(self, room: int, acked_sequence: "int | None" = 0) -> None:
        self.data = bytearray()
        self.has_request = False  # a request that had not been sent before
        self._room = room
        self._acked = acked_sequence
        self._next: int | None = None
        self._form = wire.TAKEN_NOW  # what TAKEN_AFTER would continue
        self._moment = 0

    def add(self, data: bytes) -> bool:
        """Encoded records."""
        if len(self.data) + len(data) > self._room:
            return False
        self.data.extend(data)
        return True

    def reading(
        self, channel: int, sequence: int | None, taken: int, now: int, value: bytes, at: int | None = None
    ) -> bool:
        """A reading taken at `taken` in a frame sent at `now` (ms of one clock); `at` replaces both by a time.

        `value` is encoded CBOR.
        """
        prefix = b""
        shown = b""  # channel and sequence, where they have bytes of their own
        kind = wire.READING | min(channel, 15) << 3
        if channel >= 15:
            shown = bytes((channel,))
        if sequence is not None:
            kind |= 1
            if self._next != sequence:
                if self._is_short(sequence):
                    shown += bytes((sequence & 255,))
                else:
                    prefix = bytes((wire.SEQUENCE,)) + sequence.to_bytes(4, "big")
        form, moment, time = self._time(taken, now, at)
        if not self.add(prefix + bytes((kind | form << 1,)) + shown + time + value):
            return False
        if sequence is not None:
            self._next = sequence + 1
        self._moment = moment
        if form != wire.TAKEN_AFTER:
            self._form = form
        return True

    def _is_short(self, sequence: int) -> bool:
        """Whether the lowest byte of the number tells it."""
        acked = self._acked
        return acked is not None and self._next is None and 0 < sequence - acked <= wire.MAX_SEQUENCES_AHEAD

    def _time(self, taken: int, now: int, at: int | None) -> "tuple[int, int, bytes]":
        """(form, moment, encoded time), the shortest that says it."""
        # No age is more than a varint holds, 49 days.
        moment, form = (max(taken, now - _MAX_VARINT), wire.TAKEN_AGE) if at is None else (at, wire.TAKEN_AT)
        if at is None and now - taken < NOW_MS:
            return wire.TAKEN_NOW, moment, b""
        if self._form == form and 0 <= moment - self._moment <= _MAX_VARINT:
            return wire.TAKEN_AFTER, moment, varint(moment - self._moment)
        if at is None:
            return form, moment, varint(now - moment)
        return form, moment, at.to_bytes(6, "big")
