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
    numbers = []
    for entry in manifest.get("ch", ()) or ():
        if not isinstance(entry, list) or len(entry) < 5 or not isinstance(entry[0], int):
            return "channel: not [number, name, unit, type, period]"
        if not isinstance(entry[1], str) or not is_token(entry[1]):
            return "channel " + str(entry[0]) + ": name"
        if not isinstance(entry[2], str) or len(entry[2].encode()) > wire.MAX_UNIT:
            return "channel " + str(entry[0]) + ": unit"
        if not isinstance(entry[3], str) or entry[3] not in TYPES:
            return "channel " + str(entry[0]) + ": type"
        numbers.append(entry[0])
    if len(numbers) > wire.MAX_CHANNELS or len(set(numbers)) != len(numbers):
        return "channels: more than 64, or a number twice"
    commands = manifest.get("cmd", ()) or ()
    if len(commands) > wire.MAX_COMMANDS:
        return "commands: more than 64"
    for entry in commands:
        if not isinstance(entry, list) or len(entry) < 3 or not isinstance(entry[0], int):
            return "command: not [number, name, arguments]"
        if not isinstance(entry[1], str) or not is_token(entry[1]) or not isinstance(entry[2], list):
            return "command " + str(entry[0]) + ": name or arguments"
        for argument in entry[2]:
            if not isinstance(argument, list) or len(argument) < 3 or not isinstance(argument[0], str):
                return "command " + str(entry[0]) + ": not [name, type, required]"
    return ""
