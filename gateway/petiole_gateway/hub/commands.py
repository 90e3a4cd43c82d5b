"""Arguments of commands, against what the device's manifest says."""

from __future__ import annotations

from typing import Any

from .ports import CommandError

_TYPES: dict[str, tuple[str, tuple[type, ...]]] = {
    "f": ("a number", (int, float)),
    "i": ("an integer", (int,)),
    "b": ("true or false", (bool,)),
    "s": ("a text", (str,)),
    "x": ("bytes", (str, bytes)),
}


def check(command: str, arguments: Any, declared: list[list[Any]]) -> list[Any] | dict[str, Any]:
    """Arguments as they go on the wire: a list, or a map by name. CommandError 400 says what does not fit."""
    if arguments is None:
        arguments = []
    names = [entry[0] for entry in declared]
    usage = f"{command}({', '.join(entry[0] if entry[2] else f'[{entry[0]}]' for entry in declared)})"
    given: dict[str, Any]
    if isinstance(arguments, list):
        if len(arguments) > len(declared):
            raise CommandError(400, f"{len(arguments)} arguments, {usage} takes at most {len(declared)}")
        given = dict(zip(names, arguments, strict=False))
    elif isinstance(arguments, dict):
        unknown = [str(name) for name in arguments if name not in names]
        if unknown:
            raise CommandError(400, f"no argument {', '.join(unknown)} in {usage}")
        given = arguments
    else:
        raise CommandError(400, f"arguments are an array or an object, for {usage}")
    for name, kind, is_required, *_ in declared:
        if name not in given:
            if is_required:
                raise CommandError(400, f"{name} is missing, {usage}")
        elif kind in _TYPES:
            meant, types = _TYPES[kind]
            value = given[name]
            if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
                raise CommandError(400, f"{name} is {meant}, got {value!r}")
    return arguments if isinstance(arguments, list) else given
