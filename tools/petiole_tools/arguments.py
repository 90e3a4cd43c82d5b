"""What people type as arguments: durations, percentages, the arguments of a command."""

from __future__ import annotations

import json
import re
from typing import Any

from petiole_tools.failure import CliError

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|min|h|d)?")
_FACTORS = {"ms": 0.001, None: 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_NAMED = re.compile(r"([A-Za-z_][A-Za-z0-9_-]*)=(.*)", re.DOTALL)


def seconds(option: str, text: str) -> float:
    """`5s`, `500ms`, `2m`, `1h`, `7d`; a bare number is seconds."""
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise CliError(f"{option}: {text!r} is not a duration", "for example 500ms, 5s, 2m, 1h")
    return float(found[1]) * _FACTORS[found[2]]


def share(option: str, text: str) -> float:
    """`5%` or `0.05`, as 0.05."""
    number, percent = (text[:-1], 100.0) if text.endswith("%") else (text, 1.0)
    try:
        value = float(number) / percent
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise CliError(f"{option}: {text!r} is not a share", "for example 5% or 0.05")
    return value


def command_arguments(words: list[str]) -> Any:
    """The payload of a command: `name=value ...` is an object, else each word is one JSON value of an array.

    A single JSON array or object is the payload itself; no words are no payload.
    """
    if not words:
        return None
    named = [_NAMED.fullmatch(word) for word in words]
    if all(named):
        return {match[1]: _loose(match[1], match[2]) for match in named if match}
    if any(named):
        plain = next(word for word, match in zip(words, named, strict=True) if not match)
        raise CliError(f"{plain!r} has no name and the others have", "name all arguments, or none")
    values = [_strict(number, word) for number, word in enumerate(words, 1)]
    if len(values) == 1 and isinstance(values[0], list | dict):
        return values[0]
    return values


def _strict(number: int, word: str) -> Any:
    try:
        return json.loads(word)
    except ValueError as error:
        meant = f"text needs quotes: '\"{word}\"'" if word.isprintable() and '"' not in word else "give one JSON value"
        raise CliError(f"argument {number} is not JSON: {word}", f"{meant}, or name it: name={word}") from error


def _loose(name: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        if text[:1] in ("{", "[", '"'):
            raise CliError(f"{name} is not JSON: {text} ({error})", "quotes and brackets come in pairs") from error
        return text
