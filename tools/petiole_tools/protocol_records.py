"""Records of PROTOCOL.md written a second time, on `cbor2`, for the test vectors. Nothing here comes from the core."""

from typing import Any

import cbor2

NOW, AGE, AT, AFTER = 0, 1, 2, 3


def varint(value: int) -> bytes:
    out = []
    while True:
        value, group = value >> 7, value & 127
        out.append(group | (128 if value else 0))
        if not value:
            return bytes(out)


def cbor(value: Any) -> bytes:
    """Deterministic for all that the vectors hold: their map keys have one length or one order in both rules."""
    return cbor2.dumps(value, canonical=True)


def reading(
    channel: int, form: int, value: Any, *, moment: int = 0, low: int | None = None, is_confirmed: bool = False
) -> bytes:
    """`moment`: age, time or distance, by form. `low`: the byte of the sequence number; the first confirmed only."""
    confirmed = is_confirmed or low is not None
    out = bytes((0x80 | min(channel, 15) << 3 | form << 1 | confirmed,))
    if channel >= 15:
        out += bytes((channel,))
    if low is not None:
        out += bytes((low,))
    if form == AT:
        out += moment.to_bytes(6, "big")
    elif form != NOW:
        out += varint(moment)
    return out + cbor(value)


def acks(highest: int, bitmap: int = 0) -> bytes:
    return bytes((0x40, highest % 256, bitmap))


def fragment(message: int, index: int, total: int, data: bytes) -> bytes:
    return bytes((0x41, message, index)) + total.to_bytes(2, "big") + data


def fragments(message: int, data: bytes) -> list[bytes]:
    pieces = [data[start : start + 224] for start in range(0, len(data), 224)]
    return [fragment(message, index, len(data), piece) for index, piece in enumerate(pieces)]


def time(milliseconds: int, is_doubtful: bool = False) -> bytes:
    return bytes((0x42, is_doubtful)) + milliseconds.to_bytes(6, "big")


def floor(sequence: int, dropped: int) -> bytes:
    return b"\x46" + sequence.to_bytes(4, "big") + varint(dropped)


def sequence(number: int) -> bytes:
    return b"\x47" + number.to_bytes(4, "big")


def counter_floor(counter: int) -> bytes:
    return b"\x48" + counter.to_bytes(4, "big")


def seconds(kind: int, value: int) -> bytes:
    return bytes((kind,)) + varint(value)


def extension(kind: int, value: Any) -> bytes:
    return bytes((kind,)) + cbor(value)


TIME_REQUEST, PING, MANIFEST_REQUEST = b"\x43", b"\x49", b"\x4a"
SLEEP, BUSY, PENDING, AWAKE = 0x44, 0x45, 0x4B, 0x4C
REQUEST, REPLY, MANIFEST, LOG, MAIL, MAIL_RESULT, MAIL_RETURN, POLICY = 1, 2, 3, 4, 9, 10, 11, 16


def message_taken(message: int) -> bytes:
    return bytes((0x4D, message))
