"""Frames as a capture file that Wireshark reads: pcapng, one interface for each link (draft-ietf-opsawg-pcapng).

The link type is USER0; what stands in front of each frame is written down in `tools/wireshark/petiole.lua`.
"""

from __future__ import annotations

import struct
from typing import Any, BinaryIO

from petiole_tools.output import parse_time

LINK_TYPE = 147  # USER0
SNAPLEN = 65535
HEADER_VERSION = 1
DOWN, WITH_PLAINTEXT, WITH_COUNTER, WITH_REFERENCE = 1, 2, 4, 8
# A gateway has as many links as its settings name; of whatever else says to be one, no more than these are believed.
MAX_INTERFACES = 256

_SECTION, _INTERFACE, _PACKET = 0x0A0D0D0A, 1, 6
_BYTE_ORDER = 0x1A2B3C4D
_IF_NAME, _APPLICATION, _FLAGS, _DROPPED = 2, 4, 2, 4
_INBOUND, _OUTBOUND = 1, 2


class CaptureWriter:
    """Writes to `stream` and flushes after each frame: the reader may be a pipe. OSError as the stream has it."""

    def __init__(self, stream: BinaryIO) -> None:
        self.frames_total = 0
        self._stream = stream
        self._interfaces: dict[str, int] = {}
        body = struct.pack("<IHHq", _BYTE_ORDER, 1, 0, -1)
        self._write(_block(_SECTION, body + _options((_APPLICATION, b"petiole tap"))))

    def frame(self, document: dict[str, Any]) -> None:
        """One frame, as `gw.<site>.tap` publishes it. ValueError if it is none."""
        data = pseudo_header(document) + bytes.fromhex(str(document.get("frame", "")))
        moment = parse_time(document.get("at"))
        at_us = 0 if moment is None else round(moment.timestamp() * 1_000_000)
        options = [(_FLAGS, struct.pack("<I", _OUTBOUND if document.get("direction") == "down" else _INBOUND))]
        if skipped := document.get("skipped"):
            options.append((_DROPPED, struct.pack("<Q", int(skipped))))
        body = struct.pack(
            "<IIIII", self._interface(str(document.get("link"))), at_us >> 32, at_us & 0xFFFFFFFF, len(data), len(data)
        )
        self._write(_block(_PACKET, body + _padded(data) + _options(*options)))
        self.frames_total += 1

    def _interface(self, link: str) -> int:
        known = self._interfaces.get(link)
        if known is not None:
            return known
        if len(self._interfaces) == MAX_INTERFACES:
            return 0
        self._interfaces[link] = number = len(self._interfaces)
        body = struct.pack("<HHI", LINK_TYPE, 0, SNAPLEN)
        self._stream.write(_block(_INTERFACE, body + _options((_IF_NAME, link.encode()[:255]))))
        return number

    def _write(self, block: bytes) -> None:
        self._stream.write(block)
        self._stream.flush()


def pseudo_header(document: dict[str, Any]) -> bytes:
    """What the gateway knows of a frame, in front of it. ValueError if the document is none of a frame."""
    counter, reference = document.get("counter"), document.get("reference")
    text = document.get("plaintext")
    plaintext = bytes.fromhex(text) if isinstance(text, str) else b""
    flags = (
        DOWN * (document.get("direction") == "down")
        | WITH_PLAINTEXT * isinstance(text, str)
        | WITH_COUNTER * isinstance(counter, int)
        | WITH_REFERENCE * isinstance(reference, int)
    )
    return b"".join(
        (
            bytes((HEADER_VERSION, flags)),
            (counter if isinstance(counter, int) else 0).to_bytes(4, "big"),
            (reference if isinstance(reference, int) else 0).to_bytes(4, "big"),
            _text(document.get("device")),
            _text(document.get("dropped")),
            len(plaintext).to_bytes(2, "big") + plaintext,
        )
    )


def _text(value: object) -> bytes:
    data = value.encode()[:255] if isinstance(value, str) else b""
    return bytes((len(data),)) + data


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _options(*options: tuple[int, bytes]) -> bytes:
    return b"".join(struct.pack("<HH", code, len(data)) + _padded(data) for code, data in options) + bytes(4)


def _block(kind: int, body: bytes) -> bytes:
    length = len(body) + 12
    return struct.pack("<II", kind, length) + body + struct.pack("<I", length)
