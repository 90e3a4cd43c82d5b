"""What must be known of numbers of readings beyond the RAM of a node (DESIGN.md, "The durable outbox").

`State` is one small file in flash that is overwritten in place; a note is what retained memory holds beside readings.
Both have a magic byte and a CRC-32, so garbage and what another firmware wrote are nothing.

    note     A7 ∥ u16 length ∥ u32 next number ∥ u32 number of the first reading, 0: none ∥ u32 readings dropped
             ∥ u32 id and u16 size of the last segment at that time ∥ batches ∥ u32 CRC-32
"""

from binascii import crc32

MYPY = False  # the type checker takes it for true
if MYPY:
    from typing import Protocol

    class Retained(Protocol):
        """Memory that sleep and a reset leave as it is, and loss of power does not."""

        size: int

        def read(self) -> bytes: ...
        def write(self, data: bytes) -> None: ...


NOTE = 25  # bytes of a note beside the readings
_MAGIC = 0xB5
_HEADER = 14
_NOTE_MAGIC = 0xA7
_NOTE_HEADER = NOTE - 4
_CLOCKS = 4  # boots whose readings may wait for their time; of those before it is known how far they are apart
_CLOCK_MS = 1000  # what a clock is corrected by from one round trip to the next is not worth a write
_OFFSET = (1 << 64) - 1


class State:
    """What is known of numbers. `limit`: none above it was ever given. `clocks`: [boot, ms from the clock of that boot
    to ms since 1970], the newest last."""

    def __init__(self) -> None:
        self.limit = 0
        self.acked = 0
        self.dropped = 0
        self.clocks: list[list[int]] = []

    def set_clock(self, boot: int, offset: int) -> bool:
        """True: it is another clock, or was set by more than what is measured badly."""
        for clock in self.clocks:
            if clock[0] == boot:
                is_news = abs(clock[1] - offset) > _CLOCK_MS
                clock[1] = offset
                return is_news
        self.clocks = self.clocks[1 - _CLOCKS :]
        self.clocks.append([boot, offset])
        return True

    def encode(self) -> bytes:
        data = bytearray((_MAGIC,))
        for value in (self.limit, self.acked, self.dropped):
            data.extend(value.to_bytes(4, "big"))
        data.append(len(self.clocks))
        for boot, offset in self.clocks:
            data.extend(boot.to_bytes(4, "big"))
            data.extend((offset & _OFFSET).to_bytes(8, "big"))
        return _sealed(data)


def _sealed(data: bytearray) -> bytes:
    """`data` and its CRC-32."""
    return bytes(data) + (crc32(data) & 0xFFFFFFFF).to_bytes(4, "big")


def _opened(data: bytes, magic: int, header: int) -> bytes:
    """What was sealed, or b"" if it is not whole."""
    if len(data) < header + 4 or data[0] != magic:
        return b""
    if crc32(data[:-4]) & 0xFFFFFFFF != int.from_bytes(data[-4:], "big"):
        return b""
    return data[:-4]


def decode(data: bytes) -> "State | None":
    """What `State.encode` made; None if it is not whole."""
    data = _opened(data, _MAGIC, _HEADER)
    if not data:
        return None
    state = State()
    state.limit, state.acked, state.dropped = [int.from_bytes(data[at : at + 4], "big") for at in (1, 5, 9)]
    for at in range(_HEADER, min(_HEADER + 12 * data[_HEADER - 1], len(data) - 11), 12):
        offset = int.from_bytes(data[at + 4 : at + 12], "big")
        state.clocks.append([int.from_bytes(data[at : at + 4], "big"), offset - (offset >> 63 << 64)])
    return state


class Note:
    """What retained memory holds. `first`: number of its first reading, 0 if it has none; `place`: (id, size) of the
    last segment when it was written."""

    def __init__(self, following: int, first: int, dropped: int, place: "tuple[int, int]", kept: bytes) -> None:
        self.following = following
        self.first = first
        self.dropped = dropped
        self.place = place
        self.kept = kept

    def encode(self) -> bytes:
        data = bytearray((_NOTE_MAGIC,))
        data.extend((NOTE + len(self.kept)).to_bytes(2, "big"))
        for value in (self.following, self.first, self.dropped, self.place[0]):
            data.extend(value.to_bytes(4, "big"))
        data.extend(self.place[1].to_bytes(2, "big"))
        data.extend(self.kept)
        return _sealed(data)


def decode_note(data: bytes) -> "Note | None":
    """What a region of retained memory begins with; None if that is no whole note."""
    data = _opened(data[: int.from_bytes(data[1:3], "big")], _NOTE_MAGIC, _NOTE_HEADER)
    if not data:
        return None
    following, first, dropped, id = [int.from_bytes(data[at : at + 4], "big") for at in (3, 7, 11, 15)]
    return Note(following, first, dropped, (id, int.from_bytes(data[19:_NOTE_HEADER], "big")), data[_NOTE_HEADER:])
