"""Frames: headers, addresses, sealing and opening (PROTOCOL.md, sections 3 to 5)."""

from petiole import counter as counters
from petiole import oscore, wire
from petiole.errors import LocalError

MYPY = False  # the type checker takes it for true
if MYPY:
    from petiole.contracts import Aead


class Keys:
    """What seals and opens the frames of one session at one end.

    `sender` and `recipient` are AEADs with `seal(nonce, aad, plaintext)` and `open(nonce, aad, data)`.
    """

    __slots__ = ("common_iv", "own_id", "peer_id", "recipient", "sender", "tag_length")

    def __init__(
        self,
        sender: "Aead",
        recipient: "Aead",
        common_iv: bytes,
        own_id: bytes,
        peer_id: bytes,
        tag_length: int,
    ) -> None:
        self.sender = sender
        self.recipient = recipient
        self.common_iv = common_iv
        self.own_id = own_id
        self.peer_id = peer_id
        self.tag_length = tag_length


class Split:
    """A frame taken apart, nothing verified yet.

    `header` has bit A cleared (it is the associated data), `address` is None where the frame has none,
    `body` is what follows the address.
    """

    __slots__ = ("address", "body", "echo", "header")

    def __init__(self, header: int, address: int | None, body: bytes, echo: bytes) -> None:
        self.header = header
        self.address = address
        self.body = body
        self.echo = echo

    @property
    def type(self) -> int:
        return self.header & wire.TYPE_MASK


# Shortest body and reserved bits of each type.
_SHAPES = {
    wire.DATA: (1 + wire.JOIN_TAG_LENGTH, 0x07),
    wire.ACK: (wire.JOIN_TAG_LENGTH, 0x08),
    wire.JOIN_REQUEST: (3 + 4 + 1 + 4 + 4, 0x08),
    wire.JOIN_ACCEPT: (7 + 3 + 8, 0x00),
    wire.REJECT: (wire.ECHO_LENGTH, 0x00),
}


def split(frame: bytes) -> "Split | str":
    """Take a frame apart. A string is the reason for which the frame is dropped."""
    length = len(frame)
    if not length:
        return "empty"
    if length > wire.MAX_FRAME:
        return "oversize"
    header = frame[0]
    kind = header & wire.TYPE_MASK
    shape = _SHAPES.get(kind)
    if shape is None:
        return "unknown_type"
    if header & shape[1]:
        return "reserved_bits"
    start = 1
    address = None
    if header & wire.ADDRESSED and kind in (wire.DATA, wire.ACK, wire.REJECT):
        header &= ~wire.ADDRESSED
        if length < 2:
            return "short"
        address = frame[1]
        start = 2
        if address & 0x80:
            if length < 3:
                return "short"
            address = (address & 0x7F) << 8 | frame[2]
            start = 3
            if address < 128:
                return "address_form"
    if length - start < shape[0]:
        return "short"
    return Split(header, address, bytes(frame[start:]), bytes(frame[-wire.ECHO_LENGTH :]))


def encode_address(address: int) -> bytes:
    """One byte below 128, else two with the top bit set."""
    if address < 128:
        return bytes((address,))
    if address > wire.MAX_ADDRESS:
        raise LocalError("address", "0 to 32767")
    return bytes((0x80 | address >> 8, address & 0xFF))


def _assemble(header: int, address: int | None, shown: bytes, body: bytes) -> bytes:
    if address is None:
        return bytes((header,)) + shown + body
    return bytes((header | wire.ADDRESSED,)) + encode_address(address) + shown + body


def _partial_iv(counter: int) -> bytes:
    """RFC 8613, section 6.1: big-endian, as short as possible, at least one byte."""
    data = counter.to_bytes(4, "big")
    start = 0
    while start < 3 and not data[start]:
        start += 1
    return data[start:]


def seal_data(keys: Keys, counter: int, plaintext: bytes, address: int | None, long: bool) -> bytes:
    """A DATA frame. `address` None leaves the address out. The caller never uses a counter twice."""
    header = wire.DATA | (wire.LONG_COUNTER if long else 0)
    nonce = oscore.nonce(keys.common_iv, keys.own_id, _partial_iv(counter))
    sealed = keys.sender.seal(nonce, bytes((header,)), plaintext)
    shown = counter.to_bytes(4, "big") if long else bytes((counter & 0xFF,))
    return _assemble(header, address, shown, sealed)


def data_counter(part: Split) -> tuple[int, int, int]:
    """(value, bits, offset of the ciphertext in the body) of a DATA frame; bits 0 if it is too short."""
    if not part.header & wire.LONG_COUNTER:
        return (part.body[0], 8, 1)
    if len(part.body) < 4 + wire.JOIN_TAG_LENGTH:
        return (0, 0, 0)
    return (int.from_bytes(part.body[:4], "big"), 32, 4)


def open_data(keys: Keys, part: Split, counter: int, offset: int) -> bytes | None:
    """The plaintext of a DATA frame under this full counter, or None if the tag is wrong."""
    nonce = oscore.nonce(keys.common_iv, keys.peer_id, _partial_iv(counter))
    return keys.recipient.open(nonce, bytes((part.header,)), part.body[offset:])


def open_near(
    keys: Keys, part: Split, value: int, bits: int, offset: int, expected: int, floor: int
) -> tuple[int, bytes | None]:
    """(counter, plaintext) of a DATA frame that shows `bits` bits of its counter, `value`.

    `floor`: 0, or the bound with which an end has resumed from storage. It is up to 256 ahead of what was really
    opened, so the counter may also be the highest congruent one at or below it.
    """
    counter = counters.reconstruct(value, bits, expected) if bits < 32 else value
    plaintext = open_data(keys, part, counter, offset)
    if plaintext is None and bits < 32 and floor:
        stale = floor - (floor - value & 255)
        if stale == counter:
            stale -= 256
        if stale > 0:
            return stale, open_data(keys, part, stale, offset)
    return counter, plaintext


def seal_ack(keys: Keys, counter: int, address: int | None) -> bytes:
    """The ACK frame of the peer's `counter`: always the same bytes for the same counter."""
    header = wire.ACK | counter & 7
    nonce = oscore.nonce(keys.common_iv, keys.peer_id, _partial_iv(counter))
    return _assemble(header, address, b"", keys.sender.seal(nonce, bytes((header,)), b""))


def opens_ack(keys: Keys, part: Split, counter: int) -> bool:
    """Whether the ACK frame acknowledges our `counter`."""
    nonce = oscore.nonce(keys.common_iv, keys.own_id, _partial_iv(counter))
    return keys.recipient.open(nonce, bytes((part.header,)), part.body) is not None


def reject(part: Split, reason: int) -> bytes:
    """The REJECT of a frame that was taken apart. It proves nothing but that its sender saw the frame."""
    return _assemble(wire.REJECT | reason, part.address, b"", part.echo)
