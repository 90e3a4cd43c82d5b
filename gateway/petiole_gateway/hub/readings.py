"""What a reading and an answer look like outside: JSON."""

from __future__ import annotations

import base64
import json
import struct
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from petiole import manifest as manifests

_SHORT = 8  # letters: at most 7 digits, which a single float has
_LEAST_DIGITS, _MOST_DIGITS = 6, 9  # all decimals of 6 digits are different singles, 9 tell all singles apart
UNSYNCHRONISED = "unsynchronised"  # a clock that no time source has set since the machine started
# One encoder for all readings: `json.dumps` with settings makes a new one for each call.
_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


def timestamp(time_ms: int) -> str:
    """RFC 3339 in UTC with milliseconds. A time outside of years 1 to 9999 is the nearest one inside."""
    time_ms = min(max(time_ms, -62135596800000), 253402300799999)
    return f"{_second(time_ms // 1000)}.{time_ms % 1000:03d}Z"


@lru_cache(maxsize=256)  # readings come in bursts of one second or another
def _second(time_s: int) -> str:
    return f"{datetime.fromtimestamp(time_s, UTC):%Y-%m-%dT%H:%M:%S}"


def plain(value: Any) -> Any:
    """A CBOR value as JSON has it: bytes as base64 text, keys as text, floats that JSON cannot hold as null, single
    floats in as few digits as tell them apart from other single floats."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {_key(key): plain(item) for key, item in value.items()}
    if isinstance(value, float):
        return _decimal(value) if value - value == 0 else None
    return value


def _decimal(value: float) -> float:
    """A board has single floats: its 21.7 is 21.700000762939453 as a double. Which width was on the wire follows from
    the value, for a sender uses the shortest (PROTOCOL.md, section 1)."""
    if len(repr(value)) <= _SHORT or _rounded("e", value) == value or _rounded("f", value) != value:
        return value
    for digits in range(_LEAST_DIGITS, _MOST_DIGITS):
        shorter = float(f"{value:.{digits}g}")
        if _rounded("f", shorter) == value:
            return shorter
    return float(f"{value:.{_MOST_DIGITS}g}")


def _rounded(width: str, value: float) -> float | None:
    """The nearest float of that width; None beyond them."""
    try:
        rounded: float = struct.unpack(width, struct.pack(width, value))[0]
    except OverflowError:
        return None
    return rounded


def _key(key: Any) -> str:
    return base64.b64encode(key).decode() if isinstance(key, bytes) else str(key)


class Channels:
    """Names and units of a device's channels and commands, from its manifest."""

    def __init__(self, manifest: dict[str, Any] | None) -> None:
        manifest = manifest or {}
        self.firmware: str = manifest.get("fw", "")
        self._channels = {entry[0]: (entry[1], entry[2]) for entry in manifest.get("ch", ())}
        self._commands = {entry[1]: (entry[0], entry[2]) for entry in manifest.get("cmd", ())}
        self._command_names = {entry[0]: entry[1] for entry in manifest.get("cmd", ())}
        self.power = manifest.get("p", [0, 0])
        self._around: dict[int, tuple[str, str]] = {}

    def name(self, number: int) -> str:
        """The channel's name; `ch7` for one that the manifest does not have."""
        known = self._channels.get(number)
        return known[0] if known else f"ch{number}"

    def unit(self, number: int) -> str:
        known = self._channels.get(number)
        return known[1] if known else ""

    def around(self, number: int) -> tuple[str, str]:
        """JSON of the channel's readings that is the same in all: their name, and what follows their value."""
        found = self._around.get(number)
        if found is None:
            found = _encode(self.name(number)), f',"unit":{_encode(self.unit(number))}'
            if number in self._channels:  # a node may invent any number of others
                self._around[number] = found
        return found

    def command(self, name: str) -> tuple[int, list[list[Any]]] | None:
        """(number, arguments) of a command, or None."""
        return self._commands.get(name)

    def command_name(self, number: object) -> str:
        return str(self._command_names.get(number, f"command {number}"))

    @property
    def command_names(self) -> list[str]:
        return sorted(self._commands)


def encode(
    device: str,
    channels: Channels,
    number: int,
    at_ms: int,
    value: Any,
    sequence: int | None,
    is_clock_doubtful: bool = False,
) -> bytes:
    """The JSON document of a reading. `is_clock_doubtful`: so was the clock that `at_ms` comes from."""
    name, rest = channels.around(number)
    value = plain(value)
    # By hand: an encoder is half of all the work for a reading here, and most of it is the same in the next one.
    text = repr(value) if type(value) in (float, int) else _encode(value)
    text = f'{{"device":"{device}","name":{name},"at":"{timestamp(at_ms)}","value":{text}{rest}'
    if sequence is not None:
        text = f'{text},"sequence":{sequence}'
    if is_clock_doubtful:
        text = f'{text},"clock":"{UNSYNCHRONISED}"'
    return f"{text}}}".encode()


def printable(text: str) -> str:
    """Text of a node for the log of a person: no control characters, which a terminal would obey."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)


def check_manifest(manifest: Any) -> str:
    """What is wrong with a received manifest, or ""."""
    if not isinstance(manifest, dict):
        return "not a map"
    for key in ("ch", "cmd", "p"):
        if not isinstance(manifest.get(key, []), list):
            return f"{key}: not an array"
    problem = manifests.check(manifest)
    if problem:
        return problem
    for command in manifest.get("cmd", ()):
        for name, kind, *_ in command[2]:
            if not manifests.is_token(name) or kind not in tuple(manifests.TYPES):
                return f"command {command[1]}: argument {name!r}: name or type"
    return ""
