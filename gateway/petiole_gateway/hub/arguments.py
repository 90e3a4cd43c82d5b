"""Arguments of commands, against what the device's manifest says."""

from __future__ import annotations

import base64
from contextlib import suppress
from typing import Any

from petiole import cbor, wire

from .ports import CommandError
from .readings import Channels

_TYPES: dict[str, tuple[str, tuple[type, ...]]] = {
    "f": ("a number", (int, float)),
    "i": ("an integer", (int,)),
    "b": ("true or false", (bool,)),
    "s": ("a text", (str,)),
    "x": ("bytes, as base64 text", (str, bytes)),
}


def command_of(device: str, channels: Channels, command: str) -> tuple[int, list[list[Any]]]:
    """Number and declared arguments of a command of a device. CommandError 404 says which there are."""
    declared = channels.command(command)
    if declared is None:
        has = ", ".join(channels.command_names) or "none"
        raise CommandError(wire.NOT_FOUND, f"{device} has no command {command}; it has {has}")
    return declared


def encoded(fields: list[Any], head: int) -> bytes:
    """The record of a command, which has `head` more bytes. CommandError 400 or 413 if no message holds it."""
    try:
        data = cbor.encode(fields)
    except (TypeError, ValueError) as error:
        raise CommandError(wire.BAD_ARGUMENTS, f"arguments that no frame can hold: {error}") from error
    if head + len(data) > wire.MAX_MESSAGE:
        raise CommandError(wire.TOO_LARGE, f"arguments of more than {wire.MAX_MESSAGE} bytes")
    return data


def check(command: str, arguments: Any, declared: list[list[Any]]) -> list[Any] | dict[str, Any]:
    """Arguments as they go on the wire: a list, or a map by name. CommandError 400 says what does not fit."""
    if arguments is None:
        arguments = []
    names = [entry[0] for entry in declared]
    usage = f"{command}({', '.join(entry[0] if entry[2] else f'[{entry[0]}]' for entry in declared)})"
    checked: list[Any] | dict[str, Any]
    given: dict[Any, Any]
    if isinstance(arguments, list):
        if len(arguments) > len(declared):
            raise CommandError(400, f"{len(arguments)} arguments, {usage} takes at most {len(declared)}")
        checked = list(arguments)
        given = {name: position for position, name in enumerate(names[: len(checked)])}
    elif isinstance(arguments, dict):
        unknown = [str(name) for name in arguments if name not in names]
        if unknown:
            raise CommandError(400, f"no argument {', '.join(unknown)} in {usage}")
        checked = dict(arguments)
        given = {name: name for name in arguments}
    else:
        raise CommandError(400, f"arguments are an array or an object, for {usage}")
    for name, kind, is_required, *_ in declared:
        if name in given:
            checked[given[name]] = _value(name, kind, checked[given[name]])
        elif is_required:
            raise CommandError(400, f"{name} is missing, {usage}")
    return checked


def _value(name: str, kind: str, value: Any) -> Any:
    """A value as its type travels on the wire. CommandError 400."""
    if kind not in _TYPES:
        return value
    meant, types = _TYPES[kind]
    if isinstance(value, types) and (bool in types or not isinstance(value, bool)):
        if kind != "x" or not isinstance(value, str):
            return value
        with suppress(ValueError):
            return base64.b64decode(value, validate=True)
    raise CommandError(400, f"{name} is {meant}, got {value!r}")
