"""Consistent Overhead Byte Stuffing (Cheshire and Baker, IEEE/ACM Transactions on Networking 7(2), 1999).

An encoding contains no zero byte, so a zero byte delimits. It costs one byte for every started 254.
"""


def encode(data: bytes | bytearray) -> bytes:
    """Return `data` without zero bytes; the delimiter is not included."""
    out = bytearray()
    start = 0
    end = len(data)
    while True:
        zero = data.find(b"\0", start)
        stop = zero if zero >= 0 else end
        while stop - start > 253:
            out.append(255)
            out.extend(data[start : start + 254])
            start += 254
            if start == end:
                # A full block at the very end needs no block after it.
                return bytes(out)
        out.append(stop - start + 1)
        out.extend(data[start:stop])
        if zero < 0:
            return bytes(out)
        start = stop + 1


def decode(data: bytes | bytearray) -> bytes | None:
    """Return the decoded bytes, or None: `data` is empty, has a zero byte, or its last block is cut short."""
    end = len(data)
    if not end or data.find(b"\0") >= 0:
        return None
    out = bytearray()
    start = 0
    while start < end:
        code = data[start]
        stop = start + code
        if stop > end:
            return None
        out.extend(data[start + 1 : stop])
        start = stop
        if code < 255 and start < end:
            out.append(0)
    return bytes(out)
