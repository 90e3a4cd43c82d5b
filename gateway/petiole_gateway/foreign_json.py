"""JSON that others wrote: the one way in. What is let through can be written back, and its values are those of CBOR."""

from __future__ import annotations

import json
import re
from typing import Any

# CBOR on the wire is at most 8 deep (petiole.cbor); descriptions and answers of services are deeper. Far below the
# thousand or so at which the parser, or whoever writes the value back, runs out of stack.
MAX_NESTING = 32
# A command has at most 4,096 bytes of CBOR, six times that if each letter is written as \u0000.
MAX_TEXT = 32 * 1024
# CBOR on the wire has at most 1,024 values, of which two bytes of JSON may be one. Arrays and objects are what takes
# time, in the loop that carries frames: so many of them 3 ms on a server, some 15 on a Pi.
BYTES_PER_BRACKET = 16
# Whole numbers of CBOR: 64 bits and a sign.
_LEAST, _MOST = -(2**64), 2**64 - 1
_MOST_DIGITS = 20
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


class JsonError(ValueError):
    """A text that is not taken. `is_json`: it is JSON, but no value that can be handed on."""

    def __init__(self, reason: str, *, is_json: bool = True) -> None:
        super().__init__(reason)
        self.reason = reason
        self.is_json = is_json


def parse(data: bytes, *, most: int = MAX_TEXT) -> Any:
    """The value of a JSON text of at most `most` bytes (RFC 8259, UTF-8), a sixteenth of that in arrays and objects.

    JsonError, and no other error, for what is none, and for a value that is nested deeper than MAX_NESTING, has a
    number beyond those of CBOR, half a surrogate pair, or a name twice in one object: two readers would not read the
    same.
    """
    if len(data) > most:
        raise JsonError(f"longer than {most} bytes")
    brackets = data.count(b"[") + data.count(b"{")
    if brackets > most // BYTES_PER_BRACKET:
        raise JsonError(f"more than {most // BYTES_PER_BRACKET} arrays and objects")
    try:
        text = data.decode("utf-8-sig")
        value = _DECODER.decode(text)
    except RecursionError:
        raise _too_deep() from None
    except JsonError:
        raise
    except ValueError as error:
        raise JsonError(str(error), is_json=False) from error
    # Most texts have fewer brackets than they may be deep.
    if brackets > MAX_NESTING:
        _check_nesting(value)
    if _SURROGATE.search(text) is not None:
        _check_text(value)
    return value


def parse_object(data: bytes, *, most: int = MAX_TEXT) -> dict[str, Any]:
    """The same of a text that has to be an object. JsonError."""
    value = parse(data, most=most)
    if not isinstance(value, dict):
        raise JsonError("not a JSON object")
    return value


def _check_nesting(value: Any) -> None:
    level, depth = [value], 0
    while containers := [each for each in level if isinstance(each, (list, dict))]:
        depth += 1
        if depth > MAX_NESTING:
            raise _too_deep()
        level = [part for each in containers for part in (each.values() if isinstance(each, dict) else each)]


def _check_text(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise JsonError("half of a surrogate pair") from None


def _too_deep() -> JsonError:
    return JsonError(f"nested more than {MAX_NESTING} deep")


def _float(text: str) -> float:
    number = float(text)
    if number - number != 0:
        raise JsonError(f"the number {text[:40]} is beyond those of 64 bits")
    return number


def _integer(text: str) -> int:
    # Longer ones take a time that grows with the square of their length.
    if len(text.lstrip("-")) > _MOST_DIGITS or not _LEAST <= (number := int(text)) <= _MOST:
        raise JsonError(f"the whole number {text[:40]} has more than 64 bits")
    return number


def _constant(text: str) -> Any:
    raise JsonError(f"{text} is not JSON", is_json=False)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise JsonError(f"the name {name[:40]!r} is twice in one object")
            seen.add(name)
    return found


_DECODER = json.JSONDecoder(parse_float=_float, parse_int=_integer, parse_constant=_constant, object_pairs_hook=_object)
