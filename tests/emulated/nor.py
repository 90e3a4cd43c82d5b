"""What was done to the flash of an emulated chip, a record an operation: the flash as it was at any moment of it.

Also runs on MicroPython, which has the file system that is in this flash.
"""

import struct

ERASE = 1
PROGRAM = 2
SECTOR = 4096
_HEAD = "<BII"
_HEAD_BYTES = 9


def record(kind: int, address: int, data: bytes) -> bytes:
    """`data`: what is programmed, or as many bytes as are erased."""
    return struct.pack(_HEAD, kind, address, len(data)) + (data if kind == PROGRAM else b"")


def records(log: bytes) -> "list[tuple[int, int, bytes]]":
    """(kind, address, data) of each; one that is not whole was not begun."""
    found = []
    start = 0
    while start + _HEAD_BYTES <= len(log):
        kind, address, size = struct.unpack_from(_HEAD, log, start)
        start += _HEAD_BYTES
        if kind == ERASE:
            data = b"\xff" * size
        else:
            data = log[start : start + size]
            start += size
        if len(data) == size:
            found.append((kind, address, data))
    return found


def half(kind: int, data: bytes) -> bytes:
    """What of it is done when the power goes in the middle."""
    return data[: len(data) // 2]


def apply(flash: bytearray, kind: int, address: int, data: bytes) -> None:
    """To flash that begins at address 0. Programming clears bits and sets none."""
    if kind == PROGRAM:
        data = bytes([old & new for old, new in zip(flash[address : address + len(data)], data)])  # noqa: B905 - MicroPython
    flash[address : address + len(data)] = data
