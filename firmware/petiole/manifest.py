"""The manifest: what a node says about itself, once (PROTOCOL.md, section 13)."""

from hashlib import sha256

from petiole import cbor, wire
from petiole.errors import LocalError

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
TYPES = "fibsxa"  # number, integer, boolean, text, bytes, any


def is_token(name: str) -> bool:
    """Whether a name may be part of a subject: `[A-Za-z0-9_-]{1,32}`."""
    return 0 < len(name) <= wire.MAX_NAME and all(letter in _LETTERS for letter in name)


def check_token(what: str, name: str) -> None:
    """Raises LocalError unless the name may be part of a subject."""
    if not is_token(name):
        raise LocalError(what, "1 to 32 of A-Z a-z 0-9 _ -, got " + repr(name))


def encode(firmware: str, channels: list[object], commands: list[object], power: list[int]) -> bytes:
    """`channels`: [number, name, unit, type, period_s]; `commands`: [number, name, [[argument, type, required]]]."""
    return cbor.encode({"fw": firmware, "ch": channels, "cmd": commands, "p": power})


def digest(manifest: bytes) -> bytes:
    """The 3 bytes in the join that tell whether the gateway knows the manifest."""
    return sha256(manifest).digest()[: wire.MANIFEST_HASH_LENGTH]


def check(manifest: object) -> str:
    """What is wrong with a received manifest, or ""."""
    if not isinstance(manifest, dict) or not isinstance(manifest.get("fw"), str):
        return "not a map with fw"
    for key in ("ch", "cmd", "p"):
        if not isinstance(manifest.get(key, []), list):
            return key + ": not an array"
    numbers = []
    for entry in manifest.get("ch", []):
        if not isinstance(entry, list) or len(entry) < 5 or not _is_number(entry[0]):
            return "channel: not [number, name, unit, type, period]"
        if not isinstance(entry[1], str) or not is_token(entry[1]):
            return "channel " + str(entry[0]) + ": name"
        if not isinstance(entry[2], str) or len(entry[2].encode()) > wire.MAX_UNIT:
            return "channel " + str(entry[0]) + ": unit"
        if not _is_type(entry[3]):
            return "channel " + str(entry[0]) + ": type"
        numbers.append(entry[0])
    if len(numbers) > wire.MAX_CHANNELS or len(set(numbers)) != len(numbers):
        return "channels: more than 64, or a number twice"
    numbers = []
    for entry in manifest.get("cmd", []):
        if not isinstance(entry, list) or len(entry) < 3 or not _is_number(entry[0]):
            return "command: not [number, name, arguments]"
        if not isinstance(entry[1], str) or not is_token(entry[1]) or not isinstance(entry[2], list):
            return "command " + str(entry[0]) + ": name or arguments"
        for argument in entry[2]:
            if not isinstance(argument, list) or len(argument) < 3 or not isinstance(argument[0], str):
                return "command " + str(entry[0]) + ": not [name, type, required]"
            if not is_token(argument[0]) or not _is_type(argument[1]):
                return "command " + str(entry[0]) + ": name or type of an argument"
        numbers.append(entry[0])
    if len(numbers) > wire.MAX_COMMANDS or len(set(numbers)) != len(numbers):
        return "commands: more than 64, or a number twice"
    return ""


def _is_number(value: object) -> bool:
    """0 to 255: a reading has a byte for its channel."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 255


def _is_type(value: object) -> bool:
    return isinstance(value, str) and len(value) == 1 and value in TYPES
