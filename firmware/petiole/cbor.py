"""CBOR (RFC 8949), the part with one spelling per value (§4.2.1): no tags, indefinite lengths, `undefined`.

Values: None, bool, int (64 bits of magnitude), float, bytes, str, list, dict with int or str as keys.
A float is written as the shortest of half, single and double that is exact, and read in any of the three.
"""

from struct import pack, unpack

MAX_DEPTH = 8  # a CircuitPython board has 1.5 KB of stack for Python frames
MAX_ITEMS = 1024  # a message of 4096 bytes with a full manifest

_INDEFINITE = 31
_NAN = b"\xf9\x7e\x00"


class CborError(ValueError):
    """`offset` into the data where `reason` was found."""

    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(reason)
        self.offset = offset
        self.reason = reason


def encode(value: object) -> bytes:
    """Return the deterministic encoding. TypeError: no CBOR value here. ValueError: too large, too deep, too many."""
    out = bytearray()
    _encode(out, value, MAX_DEPTH, [MAX_ITEMS])
    return bytes(out)


def _encode(out: bytearray, value: object, depth: int, budget: list[int]) -> None:
    budget[0] -= 1
    if budget[0] < 0:
        raise ValueError("cbor: too many items")
    if value is None:
        out.append(0xF6)
    elif value is True:
        out.append(0xF5)
    elif value is False:
        out.append(0xF4)
    elif isinstance(value, int):
        if value < 0:
            _encode_head(out, 0x20, -1 - value)
        else:
            _encode_head(out, 0, value)
    elif isinstance(value, float):
        out.extend(_encode_float(value))
    elif isinstance(value, (bytes, bytearray)):
        _encode_head(out, 0x40, len(value))
        out.extend(value)
    elif isinstance(value, str):
        text = value.encode()
        _encode_head(out, 0x60, len(text))
        out.extend(text)
    elif not isinstance(value, (list, tuple, dict)):
        raise TypeError("cbor: " + type(value).__name__)
    elif not depth:
        raise ValueError("cbor: too deep")
    elif isinstance(value, dict):
        _encode_head(out, 0xA0, len(value))
        entries = []
        for key in value:
            if isinstance(key, bool) or not isinstance(key, (int, str)):
                raise TypeError("cbor key: " + type(key).__name__)
            entries.append((encode(key), key))
        budget[0] -= len(entries)
        for head, key in sorted(entries, key=_first):
            out.extend(head)
            _encode(out, value[key], depth - 1, budget)
    else:
        _encode_head(out, 0x80, len(value))
        for item in value:
            _encode(out, item, depth - 1, budget)


def _first(entry: "tuple[bytes, int | str]") -> bytes:
    return entry[0]


def _encode_head(out: bytearray, major: int, argument: int) -> None:
    if argument < 24:
        out.append(major | argument)
        return
    size = 1
    while argument >> 8 * size:
        size *= 2
    if size > 8:
        raise ValueError("cbor: more than 64 bits")
    # 1, 2, 4, 8 bytes are 24, 25, 26, 27.
    out.append(major | 24 + (size > 1) + (size > 2) + (size > 4))
    out.extend(argument.to_bytes(size, "big"))


def _encode_float(value: float) -> bytes:
    if value != value:  # noqa: PLR0124 - NaN, without importing math
        return _NAN
    try:
        single = pack(">f", value)
    except OverflowError:
        # CPython refuses what MicroPython turns into infinity; both are not exact.
        return b"\xfb" + pack(">d", value)
    if unpack(">f", single)[0] != value:
        return b"\xfb" + pack(">d", value)
    bits = unpack(">I", single)[0]
    sign = bits >> 16 & 0x8000
    mantissa = bits & 0x7FFFFF
    exponent = (bits >> 23 & 0xFF) - 112  # the bias of a half is 15, that of a single 127
    half = -1
    if not bits & 0x7FFFFFFF:
        half = 0
    elif exponent == 143:
        half = 0x7C00
    elif 0 < exponent < 31:
        if not mantissa & 0x1FFF:
            half = exponent << 10 | mantissa >> 13
    elif -10 < exponent <= 0:
        # A half without an implicit leading one, in units of 2**-24.
        mantissa |= 0x800000
        if not mantissa & (1 << 14 - exponent) - 1:
            half = mantissa >> 14 - exponent
    if half < 0:
        return b"\xfa" + single
    return b"\xf9" + pack(">H", sign | half)


def decode(data: bytes | bytearray | memoryview, offset: int = 0) -> "tuple[object, int]":
    """Return (value, offset after it). CborError for all that `encode` would not write, except wider floats
    and another order of keys."""
    return _decode(data, offset, MAX_DEPTH, [MAX_ITEMS])


def _decode(data: bytes | bytearray | memoryview, offset: int, depth: int, budget: list[int]) -> "tuple[object, int]":
    start = offset
    major, argument, offset = _decode_head(data, offset)
    budget[0] -= 1
    if budget[0] < 0:
        raise CborError(start, "items")
    if major == 0:
        return argument, offset
    if major == 1:
        return -1 - argument, offset
    if major == 7:
        return _decode_simple(data, start, offset), offset
    if major < 4:
        raw = memoryview(data)[offset : offset + argument]
        offset += argument
        if major == 2:
            return bytes(raw), offset
        try:
            return str(raw, "utf-8"), offset
        except ValueError:
            raise CborError(start, "utf-8")
    if not depth:
        raise CborError(start, "depth")
    if major == 4:
        items = []
        for _ in range(argument):
            item, offset = _decode(data, offset, depth - 1, budget)
            items.append(item)
        return items, offset
    entries: "dict[object, object]" = {}
    for _ in range(argument):
        at = offset
        if at < len(data) and data[at] >> 5 not in (0, 1, 3):
            # JSON has no other keys, containers cannot be keys, and True would be the same key as 1.
            raise CborError(at, "key")
        key, offset = _decode(data, offset, 0, budget)
        if key in entries:
            raise CborError(at, "duplicate")
        entries[key], offset = _decode(data, offset, depth - 1, budget)
    return entries, offset


def skip(data: bytes | bytearray | memoryview, offset: int) -> int:
    """Return the offset after the item at `offset` without building it: only lengths are checked."""
    pending = 1
    while pending:
        start = offset
        major, argument, offset = _decode_head(data, offset)
        pending -= 1
        if major in (2, 3):
            offset += argument
        elif major == 4:
            pending += argument
        elif major == 5:
            pending += 2 * argument
        if pending > len(data) - offset:
            raise CborError(start, "length")
    return offset


def _decode_head(data: bytes | bytearray | memoryview, offset: int) -> tuple[int, int, int]:
    """Return (major type, argument, next offset); the length of what follows is already known to fit."""
    left = len(data) - offset - 1
    if left < 0 or offset < 0:
        raise CborError(offset, "length")
    major = data[offset] >> 5
    argument = data[offset] & 31
    start = offset
    offset += 1
    if argument == _INDEFINITE:
        raise CborError(start, "indefinite")
    if argument > 27:
        raise CborError(start, "reserved")
    if major == 6:
        raise CborError(start, "tag")
    if argument > 23:
        size = 1 << argument - 24
        left -= size
        if left < 0:
            raise CborError(start, "length")
        argument = int.from_bytes(data[offset : offset + size], "big")
        offset += size
        if major == 7 and size == 1:
            raise CborError(start, "simple")
        # A float is no integer: its leading bytes may be zero.
        if major != 7 and argument < (24 if size == 1 else 1 << 4 * size):
            raise CborError(start, "not shortest")
    if (1 < major < 5 and argument > left) or (major == 5 and 2 * argument > left):
        raise CborError(start, "length")
    return major, argument, offset


def _decode_simple(data: bytes | bytearray | memoryview, start: int, end: int) -> object:
    kind = data[start]
    if kind == 0xF9:
        return _decode_half(unpack(">H", data[start + 1 : end])[0])
    if kind == 0xFA:
        return unpack(">f", data[start + 1 : end])[0]
    if kind == 0xFB:
        return unpack(">d", data[start + 1 : end])[0]
    if kind == 0xF6:
        return None
    if kind not in (0xF4, 0xF5):
        raise CborError(start, "simple")
    return kind == 0xF5


def _decode_half(half: int) -> float:
    # MicroPython has no struct code "e".
    exponent = half >> 10 & 31
    mantissa = half & 0x3FF
    if not exponent:
        value = mantissa / 16777216.0
    else:
        exponent = 255 if exponent == 31 else exponent + 112
        value = unpack(">f", pack(">I", exponent << 23 | mantissa << 13))[0]
    return -value if half & 0x8000 else value
